package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"mittente/internal/db"
	"mittente/internal/event"
)

// pipe is the argument of backup and restore that means standard output or input.
const pipe = "-"

type backupCmd struct {
	File string `arg:"" help:"Where to; must not exist yet. \"-\" is standard output." placeholder:"FILE"`
}

type backupView struct {
	File      string  `json:"file"`
	Bytes     int64   `json:"bytes"`
	Seconds   float64 `json:"seconds"`
	SecretKey string  `json:"secret_key"` // not in the backup; to be kept apart
}

// Run writes a backup of the database while the relay runs on.
func (c backupCmd) Run(ctx context.Context, a *app) error {
	out, err := c.open(a)
	if err != nil {
		return err
	}
	begun := time.Now()
	err = a.with(ctx, reads, func(h *house) error {
		v := backupView{File: c.File, SecretKey: h.cfg.secretPath()}
		if v.Bytes, err = h.backup(ctx, a, c.File, out); err != nil {
			return err
		}
		v.Seconds = time.Since(begun).Seconds()
		if c.File == pipe {
			return nil // the data has gone there
		}
		return emitOne(a, v, func(w io.Writer) {
			fmt.Fprintf(w, "%s holds the database: %d bytes, read through once and found sound, in %.1f s.\n", v.File, v.Bytes, v.Seconds)
			fmt.Fprintf(w, "The secret key is not in it. Keep a copy of %s apart from it: without that key a backup can't be used.\n", v.SecretKey)
			fmt.Fprintln(w, a.hint("Bring it back, here or elsewhere: mittente restore "+shellWord(v.File)))
		})
	})
	if err != nil && out != nil && c.File != pipe {
		err = errors.Join(err, out.Close(), os.Remove(c.File))
		return err
	}
	return err
}

// open makes the file while the process has still the rights of who called it:
// the database is opened as its owner, who may not write there.
func (c backupCmd) open(a *app) (*os.File, error) {
	if c.File == pipe {
		out, ok := a.out.(*os.File)
		if ok && a.color {
			return nil, fmt.Errorf("%w: a backup is not for a terminal; name a file, or pipe it on", errUsage)
		}
		return out, nil
	}
	out, err := os.OpenFile(c.File, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil, fmt.Errorf("%w: %s is there already, and a backup overwrites nothing: name another file", errConflict, c.File)
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: there is no folder %s", errNotFound, filepath.Dir(c.File))
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errUnavailable, err)
	}
	return out, nil
}

// backup writes the copy beside the database, where its owner may, and from there
// into out. The detour costs its size on that disk for a while, and lets root
// back up into a folder of root's, and into a pipe.
func (h *house) backup(ctx context.Context, a *app, name string, out *os.File) (int64, error) {
	if err := h.roomForBackup(); err != nil {
		return 0, err
	}
	scratch, err := os.MkdirTemp(h.cfg.DataDir, scratchPrefix)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errUnavailable, err)
	}
	defer os.RemoveAll(scratch)
	copied := filepath.Join(scratch, "copy.db")
	if err := h.db.Backup(ctx, copied, a.pages("backing up")); err != nil {
		return 0, fmt.Errorf("back up the database: %w", err)
	}
	in, err := os.Open(copied) //nolint:gosec // just written
	if err != nil {
		return 0, err
	}
	defer in.Close()
	target := a.out
	if out != nil {
		target = out
	}
	n, err := io.Copy(target, contextReader{ctx, in})
	if err != nil {
		return n, fmt.Errorf("write %s: %w", name, err)
	}
	if name == pipe {
		return n, nil
	}
	return n, errors.Join(out.Sync(), out.Close())
}

const (
	scratchPrefix = "backup-"
	scratchOld    = 24 * time.Hour
)

// roomForBackup makes sure that the copy leaves the reserve alone, which settling
// lives on, and removes copies that a killed backup has left.
func (h *house) roomForBackup() error {
	left, err := filepath.Glob(filepath.Join(h.cfg.DataDir, scratchPrefix+"*"))
	if err != nil {
		return err
	}
	for _, dir := range left {
		if info, err := os.Stat(dir); err == nil && info.IsDir() && time.Since(info.ModTime()) > scratchOld {
			_ = os.RemoveAll(dir) // what can't be removed shows in the free space
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(h.cfg.DataDir, &st); err != nil {
		return fmt.Errorf("%w: %w", errUnavailable, err)
	}
	free := int64(st.Bavail) * int64(st.Bsize) //nolint:gosec,unconvert // no disk has 2^63 bytes; other systems have other types
	file := filepath.Join(h.cfg.DataDir, "mittente.db")
	need := fileSize(file) + fileSize(file+"-wal") + max(1, h.cfg.Storage.ReserveBytes)
	if free < need {
		return fmt.Errorf("%w: a copy is made in %s first, which takes %s with the reserve, and %s are free", errUnavailable, h.cfg.DataDir, size(need), size(free))
	}
	return nil
}

// contextReader ends with its context: a large file is long in copying.
type contextReader struct {
	ctx context.Context //nolint:containedctx // lives as long as one copy
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// pages tells a person at a terminal how far a copy has come, once a second.
func (a *app) pages(what string) db.Progress {
	if !a.person {
		return nil
	}
	begun := time.Now()
	last := begun
	return func(done, all int) {
		now := time.Now()
		if now.Sub(last) < time.Second || done == 0 || all == 0 {
			return
		}
		last = now
		left := time.Duration(float64(now.Sub(begun)) / float64(done) * float64(all-done))
		fmt.Fprintf(a.err, "%s: %d %%, about %s to go\n", what, 100*done/all, left.Round(time.Second))
	}
}

type restoreCmd struct {
	File string `arg:"" help:"A file that mittente backup wrote. \"-\" is standard input." placeholder:"FILE"`
	Yes  bool   `help:"The data folder has a database already: put it aside."`
}

type restoreView struct {
	Database string `json:"database"`
	Aside    string `json:"aside,omitempty"` // the database that stood there
	Waiting  int    `json:"waiting"`         // recipients that serve will attempt
	Held     int    `json:"held"`
}

// Run puts a backup in the place of the database; no relay may run.
func (c restoreCmd) Run(ctx context.Context, a *app) error {
	l, err := a.load()
	if err != nil {
		return err
	}
	in, err := c.open(a)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := makeDataDir(l.DataDir); err != nil {
		return fmt.Errorf("%w: %w", errUnavailable, err)
	}
	who := actor()
	if err := becomeOwner(l.DataDir); err != nil {
		return err
	}
	release, err := takeLock(l.DataDir)
	if err != nil {
		return err
	}
	defer release()
	target := filepath.Join(l.DataDir, "mittente.db")
	if _, err := os.Stat(target); err == nil && !c.Yes {
		return fmt.Errorf("%w: %s is there already; with --yes it is put aside, not removed", errConflict, target)
	}
	v := restoreView{Database: target}
	if err := (&restoration{c.File, a, l, who, &v}).run(ctx, in); err != nil {
		return err
	}
	return emitOne(a, v, func(w io.Writer) {
		fmt.Fprintf(w, "%s is restored: %d recipients wait to be attempted, %d are held.\n", v.Database, v.Waiting, v.Held)
		if v.Aside != "" {
			fmt.Fprintf(w, "What stood there is kept as %s.\n", v.Aside)
		}
		fmt.Fprintln(w, "What was delivered after the backup was made is in it as waiting, and would be delivered a second time.")
		fmt.Fprintln(w, a.hint("If the old server went on meanwhile, first: mittente queue hold --all. Then: mittente serve"))
	})
}

func (c restoreCmd) open(a *app) (io.ReadCloser, error) {
	if c.File == pipe {
		return io.NopCloser(a.in), nil
	}
	in, err := os.Open(c.File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: there is no file %s", errNotFound, c.File)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errUnavailable, err)
	}
	return in, nil
}

// restoration is one restore, from what to where.
type restoration struct {
	from string
	app  *app
	cfg  *loaded
	who  string
	seen *restoreView
}

// run copies the backup into the data folder, whose owner may not be able to
// read where it lies, looks whether it is this house's, and puts it in place.
func (r *restoration) run(ctx context.Context, in io.Reader) error {
	scratch, err := os.MkdirTemp(r.cfg.DataDir, "restore-")
	if err != nil {
		return fmt.Errorf("%w: %w", errUnavailable, err)
	}
	defer os.RemoveAll(scratch)
	copied := filepath.Join(scratch, "copy.db")
	if err := writeFile(copied, contextReader{ctx, in}); err != nil {
		return fmt.Errorf("copy %s: %w", r.from, err)
	}
	if r.from != pipe && isFile(r.from+"-wal") {
		return fmt.Errorf("%w: beside %s lies a log, so it is a database in use or a plain copy of one: use mittente backup", db.ErrNotABackup, r.from)
	}
	r.seen.Aside, err = db.Restore(ctx, copied, r.cfg.DataDir, r.app.pages("restoring"), func(dir string) error {
		return r.inspect(ctx, dir)
	})
	return err
}

func writeFile(path string, in io.Reader) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // in the data folder
	if err != nil {
		return err
	}
	_, err = io.Copy(f, in)
	return errors.Join(err, f.Close())
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// inspect opens the copy with the rooms: it is migrated, and refused when
// it was sealed with another secret key than this folder's.
func (r *restoration) inspect(ctx context.Context, dir string) error {
	there := *r.cfg
	there.SecretKeyFile, there.DataDir = r.cfg.secretPath(), dir
	h, err := openHouse(ctx, &there, houseDeps{})
	if err != nil {
		return err
	}
	err = h.db.Batch(ctx, func(tx *db.Tx) error {
		depth, err := h.queue.Depth(tx, time.Now())
		if err != nil {
			return err
		}
		r.seen.Waiting, r.seen.Held = depth.Pending+depth.Leased, depth.Held
		return event.Record(tx, event.Audit{Actor: r.who, Action: "restore", Object: r.from})
	})
	return errors.Join(err, h.close())
}
