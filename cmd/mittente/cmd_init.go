package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"mittente/internal/mail"
)

type initCmd struct {
	Force    bool   `help:"Overwrite a configuration file that is there."`
	Hostname string `help:"Write this name into it."                      placeholder:"NAME"`
	DataDir  string `help:"Write this data folder into it."               placeholder:"DIR"`
}

type initView struct {
	Config    string `json:"config"`
	DataDir   string `json:"data_dir"`
	Hostname  string `json:"hostname"`
	SecretKey string `json:"secret_key"`
}

// Run writes the configuration file and makes the data folder.
func (c initCmd) Run(ctx context.Context, a *app) error {
	file := a.config
	switch file {
	case "":
		file = systemConfig
	case "-":
		return fmt.Errorf("%w: init writes a file: give its name with -c", errUsage)
	}
	file, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	c, err = c.completed()
	if err != nil {
		return err
	}
	if err := c.write(file); err != nil {
		return err
	}
	l, err := load(file, a.in, a.environ)
	if err != nil {
		return err
	}
	if err := makeDataDir(l.DataDir); err != nil {
		return fmt.Errorf("%w: %w", errUnavailable, err)
	}
	if err := becomeOwner(l.DataDir); err != nil {
		return err
	}
	h, err := openHouse(ctx, l, houseDeps{})
	if err != nil {
		return err
	}
	v := initView{Config: file, DataDir: l.DataDir, Hostname: l.Hostname, SecretKey: l.secretPath()}
	return errors.Join(emitOne(a, v, v.print), h.close())
}

// completed looks at the flags before anything is written. A data folder is
// relative to where the command is typed, not to where the file will be.
func (c initCmd) completed() (initCmd, error) {
	if c.Hostname != "" {
		if _, err := mail.ParseDomain(c.Hostname); err != nil {
			return c, fmt.Errorf("%w: --hostname: %q is not a full domain name: want something like \"mail.example.com\"", errUsage, c.Hostname)
		}
	}
	if c.DataDir == "" {
		return c, nil
	}
	dir, err := filepath.Abs(c.DataDir)
	c.DataDir = dir
	return c, err
}

// write writes the documented default file, never over another.
func (c initCmd) write(file string) error {
	text := defaultFile
	for _, value := range []struct{ key, text string }{{"hostname", c.Hostname}, {"data_dir", c.DataDir}} {
		if value.text != "" {
			text = strings.Replace(text, "\n"+value.key+" = \"\"\n", "\n"+value.key+" = "+tomlString(value.text)+"\n", 1)
		}
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil { //nolint:gosec // the configuration's folder is no secret
		return err
	}
	if !c.Force {
		f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640) //nolint:gosec // a service's group may read it
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%w: %s is there already (--force overwrites it)", errConflict, file)
		}
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return replaceFile(file, []byte(text), 0o640)
}

func (v initView) print(w io.Writer) {
	fields(w, "configuration", v.Config, "data folder", v.DataDir, "secret key", v.SecretKey, "hostname", v.Hostname)
	flag := ""
	if v.Config != systemConfig {
		flag = " -c " + shellWord(v.Config)
	}
	fmt.Fprintf(w, `
Next:
  1. look at hostname and ports in %[1]s, then: mittente%[2]s config check
  2. start it:               mittente%[2]s serve
  3. a domain to send from:  mittente%[2]s domain add example.com
     publish what it prints, then: mittente%[2]s domain verify example.com
  4. a user for your program: mittente%[2]s user add --domain example.com --active
  5. a first mail:           mittente%[2]s send --user s1_1 --from you@example.com --to someone@example.net
Keep a copy of the secret key apart from the database's: the DKIM keys are sealed with it.
`, v.Config, flag)
}
