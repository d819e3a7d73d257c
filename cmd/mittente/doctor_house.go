package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"mittente/internal/account"
	"mittente/internal/db"
	"mittente/internal/id"
	"mittente/internal/mail"
	"mittente/internal/queue"
	"mittente/internal/record"
	"mittente/internal/signer"
)

func (d *doctor) seesConfiguration(context.Context) finding {
	where := d.cfg.file
	if where == "" {
		where = "no file: the defaults"
	}
	if len(d.cfg.unknown) > 0 {
		return warning("Look at the names: mittente config print shows every key.",
			"valid (%s), but these variables name no key: %v", where, d.cfg.unknown)
	}
	return fine("valid (%s)", where)
}

// seesPorts asks what the running relay has written of itself.
func (d *doctor) seesPorts(ctx context.Context) finding {
	if d.house == nil {
		return skipped("there is no database yet")
	}
	report, err := d.house.report(ctx)
	if err != nil {
		return failure("Start it: mittente serve", "no relay runs over %s", d.cfg.DataDir)
	}
	missed := 0
	var why string
	for _, p := range report.Ports {
		if p.State != "bound" {
			missed += p.Count
			why = fmt.Sprintf("%s port %s: %s", p.Address, p.Ports, p.Reason)
		}
	}
	if missed > 0 {
		return warning("See all of them: mittente ports", "%d ports bound, %d not (%s)", report.bound(), missed, why)
	}
	return fine("%d ports bound", report.bound())
}

// seesCertificate looks at the certificate of the SMTP door, as clients would.
func (d *doctor) seesCertificate(context.Context) finding {
	pair := d.cfg.TLS
	own := pair == KeyPairConfig{}
	if own {
		pair = selfSignedPair(d.cfg.DataDir)
	}
	c, err := readCertificate(pair)
	switch {
	case own && errors.Is(err, fs.ErrNotExist):
		return skipped("none yet: a self-signed one is made at the first start")
	case err != nil:
		return failure("Set [tls] cert and key to PEM files that can be read.", "%v", err)
	}
	left := time.Until(c.NotAfter)
	switch {
	case left <= 0:
		return failure("Renew it; the files are read again when they change.", "%s ended on %s", pair.Cert, when(c.NotAfter))
	case own:
		return warning("Set [tls] cert and key to a certificate that clients trust.",
			"self-signed, made for trying out; it ends on %s", when(c.NotAfter))
	case c.VerifyHostname(d.cfg.Hostname) != nil:
		return failure("Get one for that name, or set hostname to one of its names.",
			"%s is for %v, not for %s", pair.Cert, c.DNSNames, d.cfg.Hostname)
	case left < 14*day:
		return warning("Renew it; the files are read again when they change.", "%s ends in %d days", pair.Cert, int(left/day))
	}
	return fine("%s, for %v, ends in %d days", pair.Cert, c.DNSNames, int(left/day))
}

func readCertificate(pair KeyPairConfig) (*x509.Certificate, error) {
	loaded, err := loadKeyPair(pair)
	if err != nil {
		return nil, err
	}
	return loaded.Leaf, nil
}

func (d *doctor) seesSecret(context.Context) finding {
	if d.cfg.secret != "" {
		return fine("in MITTENTE_SECRET_KEY; keep a copy apart from the backups of the database")
	}
	path := d.cfg.secretPath()
	if errors.Is(d.trouble, signer.ErrOtherSecret) {
		return failure("Bring back the one that belongs to this database.", "%s is not the key with which the database was sealed", path)
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && d.house == nil && errors.Is(d.trouble, errNotFound):
		return skipped("none yet: it is made at the first start")
	case err != nil:
		return failure("Bring it back from where you keep it: the DKIM keys can't be read without it.", "%v", err)
	case info.Mode().Perm()&0o077 != 0:
		return warning("chmod 600 "+shellWord(path), "%s can be read by others (mode %04o)", path, info.Mode().Perm())
	}
	return fine("%s; keep a copy apart from the backups of the database", path)
}

func (d *doctor) seesDatabase(context.Context) finding {
	if d.house == nil {
		if errors.Is(d.trouble, errNotFound) {
			return failure("Start the relay, which makes it: mittente serve", "%v", d.trouble)
		}
		return failure("", "%v", d.trouble)
	}
	path := filepath.Join(d.cfg.DataDir, "mittente.db")
	return fine("%s, %s, its log %s", path, size(fileSize(path)), size(fileSize(path+"-wal")))
}

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// seesDurability says what has happened when a client reads 250.
func (d *doctor) seesDurability(context.Context) finding {
	kind, trusted, err := fileSystem(d.cfg.DataDir)
	switch {
	case err != nil:
		return skipped("%v", err)
	case !trusted:
		return failure("Move data_dir to a disk of this machine.",
			"data_dir lies on %s: what was acknowledged does not survive, or its locks can't be relied upon", kind)
	}
	return fine("the message is synced to this machine's disk (SQLite, fsync at every commit; %s); it is lost if that disk is", kind)
}

func (d *doctor) seesDisk(context.Context) finding {
	var st unix.Statfs_t
	if err := unix.Statfs(d.cfg.DataDir, &st); err != nil {
		return skipped("%v", err)
	}
	free := int64(st.Bavail) * int64(st.Bsize) //nolint:gosec,unconvert // no disk has 2^63 bytes; other systems have other types
	reserve := max(1, d.cfg.Storage.ReserveBytes)
	text := fmt.Sprintf("%s free in %s, of which %s are kept in reserve", size(free), d.cfg.DataDir, size(reserve))
	switch {
	case free < reserve:
		return failure("Free space there, or move data_dir; what was accepted is still delivered.", "%s: new mail is answered 452 4.3.1", text)
	case free < 4*reserve:
		return warning("Free space there, or move data_dir.", "%s", text)
	}
	return fine("%s", text)
}

// size is a number of bytes for people.
func size(n int64) string {
	const unit = 1024
	value, units := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for ; value >= unit && i < len(units)-1; i++ {
		value /= unit
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", value, units[i])
}

// seesClock asks the kernel whether it is kept in time, and the database whether
// it has been written by a clock ahead of this one.
func (d *doctor) seesClock(ctx context.Context) finding {
	if d.house != nil {
		if ahead := d.house.clockAhead(ctx); ahead > time.Minute {
			return failure("Set the clock; then restart the relay.", "the database was written %s in the future of this clock", ahead.Round(time.Second))
		}
	}
	synced, known := clockSynchronised()
	switch {
	case !known:
		return skipped("this system does not say whether its clock is kept in time")
	case !synced:
		return warning("Run a time service (systemd-timesyncd, chrony): signatures and certificates depend on the time.",
			"the kernel says that nothing keeps the clock in time")
	}
	return fine("kept in time")
}

// clockAhead is how far the latest sign of life of a node lies ahead of now.
func (h *house) clockAhead(ctx context.Context) time.Duration {
	var latest time.Time
	err := h.db.View(ctx, func(tx *db.Tx) error {
		reports, err := h.queue.Reports(tx)
		for _, r := range reports {
			if r.Heartbeat.After(latest) {
				latest = r.Heartbeat
			}
		}
		return err
	})
	if err != nil || latest.IsZero() {
		return 0
	}
	return time.Until(latest)
}

func (d *doctor) seesQueue(ctx context.Context) finding {
	if d.house == nil {
		return skipped("there is no database yet")
	}
	var depth queue.Depth
	err := d.house.db.View(ctx, func(tx *db.Tx) (err error) {
		depth, err = d.house.queue.Depth(tx, time.Now())
		return err
	})
	if err != nil {
		return failure("", "%v", err)
	}
	text := fmt.Sprintf("%d waiting, %d under way, %d held", depth.Pending, depth.Leased, depth.Held)
	if depth.Overdue > 10*time.Minute {
		return warning("Ask for one of them: mittente queue ls, then mittente queue why ID",
			"%s; the longest has been due for %s", text, depth.Overdue.Round(time.Second))
	}
	return fine("%s", text)
}

// hostRecords are the DKIM records of the server's own key; none: there is no key yet.
func (h *house) hostRecords(ctx context.Context) (found []record.Record, err error) {
	name, err := mail.ParseDomain(h.cfg.Hostname)
	if err != nil {
		return nil, err
	}
	err = h.db.View(ctx, func(tx *db.Tx) error {
		records, err := h.senders.Records(tx, id.Account{}, name)
		if isAny(err, account.ErrNotFound) {
			return nil
		}
		for _, r := range records {
			if r.Purpose == record.PurposeDKIM {
				found = append(found, r)
			}
		}
		return err
	})
	return found, err
}
