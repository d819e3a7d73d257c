#!/bin/sh
# install.sh installs what the tests of the project need on Debian and Ubuntu, and
# elsewhere says what is missing. No service is started by it. It may be run as
# often as one likes: when everything is there it only asks dpkg, once.
#
# Mail servers exclude one another as packages: Postfix is installed, the others are
# unpacked into .cache/peers, where only the tests find them. No user is made for
# them, nothing of them is setuid.
#
# MITTENTE_TEST_ALL=1 makes a missing package an error (as in .ci/run); without it
# the tests that need the package are skipped, each with its reason.
set -eu

# package: what it is needed for
needed() {
	cat <<'LIST'
gcc:the race detector (go test -race)
libc6-dev:the race detector (go test -race)
python3:the client smtplib, and a second process that locks the database
python3-dkim:the DKIM verifier dkimpy
python3-nacl:Ed25519 signatures in dkimpy
opendkim:the DKIM verifier OpenDKIM
swaks:the client swaks
libnet-ssleay-perl:STARTTLS in swaks
strace:the proof that fsync comes before 250
libsasl2-modules:Postfix as a client that authenticates
postfix:Postfix as a client and as the mail server that receives
curl:the client curl
msmtp:the client msmtp
gsasl:SCRAM-SHA-256 and -PLUS by a client that is not ours
nodejs:the client nodemailer
node-nodemailer:the client nodemailer
php-cli:the client PHPMailer
libphp-phpmailer:the client PHPMailer
git:the client git send-email
git-email:the client git send-email
libmailtools-perl:the client git send-email
libauthen-sasl-perl:AUTH in git send-email
libio-socket-ssl-perl:STARTTLS in git send-email
libgnutls-dane0:a library of Exim
libidn12:a library of Exim
libnsl2:a library of Exim
libdb5.3:a library of Exim and OpenSMTPD
libevent-2.1-7:a library of OpenSMTPD
postgresql:every SQL statement prepared on PostgreSQL
LIST
}

# package, the program it is unpacked for: what it is needed for
unpacked() {
	cat <<'LIST'
exim4-daemon-light usr/sbin/exim4:Exim as the mail server that receives, and as a client that sends in chunks
opensmtpd usr/sbin/smtpd:OpenSMTPD as the mail server that receives
LIST
}

peers=$(cd "$(dirname "$0")/.." && pwd)/.cache/peers
policy=/usr/sbin/policy-rc.d
root=

say() { printf '%s\n' "test/install.sh: $*" >&2; }

# missing prints the packages of the list that dpkg does not know as installed.
missing() {
	packages=$(needed | cut -d: -f1)
	# shellcheck disable=SC2086 # one word per package
	installed=$(dpkg-query -W -f='${Status} ${Package}\n' $packages 2>/dev/null | sed -n 's/^install ok installed //p') || true
	for package in $packages; do
		printf '%s\n' "$installed" | grep -qx "$package" || printf '%s\n' "$package"
	done
}

# absent prints the packages that are not unpacked.
absent() {
	unpacked | sed 's/:.*//' | while read -r package program; do
		[ -x "$peers/$package/$program" ] || printf '%s\n' "$package"
	done
}

# unpack takes a package apart beside its place and moves it there when it is whole.
unpack() {
	work="$peers/.$1.$$"
	rm -rf "$work" "${peers:?}/$1"
	mkdir -p "$work/whole"
	if (cd "$work" && apt-get -qq -o APT::Sandbox::User= download "$1" && dpkg -x "$1"_*.deb whole); then
		find "$work/whole" -type f -perm /6000 -exec chmod ug-s {} +
		mv "$work/whole" "$peers/$1"
	else
		say "could not unpack $1"
	fi
	rm -rf "$work"
}

# report names what is missing and what that costs, and ends.
report() {
	for package in $1; do
		say "missing: $package; skipped without it: $( (needed; unpacked) | sed -n "s/^$package[^:]*://p")"
	done
	[ "${MITTENTE_TEST_ALL:-}" = 1 ] && exit 1
	exit 0
}

# No maintainer script may start a service meanwhile; what stood there comes back.
forbid_services() {
	if [ -e "$policy" ]; then $root mv "$policy" "$policy.mittente"; fi
	printf '#!/bin/sh\nexit 101\n' | $root tee "$policy" >/dev/null
	$root chmod 755 "$policy"
}

allow_services() {
	$root rm -f "$policy"
	if [ -e "$policy.mittente" ]; then $root mv "$policy.mittente" "$policy"; fi
}

# install takes everything at once, and piece by piece when that fails: another
# mail server on this machine, say, must not go for the tests' sake (--no-remove).
install() {
	apt="$root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends --no-remove -o DPkg::Lock::Timeout=120 install"
	# shellcheck disable=SC2086 # words are wanted
	$apt $1 && return
	say "refreshing the package lists"
	$root apt-get -qq update || true
	# shellcheck disable=SC2086
	$apt $1 && return
	for package in $1; do
		# shellcheck disable=SC2086
		$apt "$package" || say "could not install $package"
	done
}

if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
	say "not Debian or Ubuntu: nothing is installed; tests whose peer is not found are skipped and say so:"
	needed | sed 's/^\([^:]*\):/  \1: /' >&2
	exit 0
fi

wanted=$(missing)
servers=$(absent)
[ -z "$wanted$servers" ] && exit 0

if [ -n "$wanted" ]; then
	if [ "$(id -u)" != 0 ]; then
		if ! sudo -n true 2>/dev/null; then
			say "neither root nor sudo without a password: nothing is installed"
			report "$wanted"
		fi
		root="sudo -n"
	fi
	say "installing: $(printf '%s ' $wanted)"
	trap allow_services EXIT
	trap 'exit 1' HUP INT TERM
	forbid_services
	install "$wanted" >&2
fi

if [ -n "$servers" ]; then
	say "unpacking: $(printf '%s ' $servers)"
	for package in $servers; do
		unpack "$package" >&2
	done
fi

wanted="$(missing) $(absent)"
[ -z "${wanted# }" ] || report "$wanted"
