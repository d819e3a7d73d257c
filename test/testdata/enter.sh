#!/bin/sh
# Runs a mail server that is not installed, in namespaces of its own:
#
#   unshare --mount --pid --fork --kill-child sh enter.sh FOLDER UNPACKED COMMAND...
#
# FOLDER/passwd and FOLDER/group are added to those of the machine, FOLDER/root is
# copied into the fresh /var/lib, /var/spool and /run that it sees, UNPACKED/usr/libexec
# is its /usr/libexec. This shell is process 1 there: when it ends, all end.
set -e
folder=$1 unpacked=$2
shift 2
for name in passwd group; do
	cat "/etc/$name" "$folder/$name" > "$folder/$name.all"
	mount --bind "$folder/$name.all" "/etc/$name"
done
for fresh in /var/lib /var/spool /run; do
	mount -t tmpfs -o mode=755 mittente-test "$fresh"
done
[ ! -d "$folder/root" ] || cp -R "$folder/root/." /
[ ! -d "$unpacked/usr/libexec" ] || mount --bind "$unpacked/usr/libexec" /usr/libexec
"$@"
