package main

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

const envPrefix = "MITTENTE_"

// envName is the variable that overrides a key: smtp.max_recipients → MITTENTE_SMTP_MAX_RECIPIENTS.
func envName(key string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// applyEnv lays MITTENTE_<KEY> and MITTENTE_<KEY>_FILE over the configuration.
func (l *loaded) applyEnv(environ []string) []fault {
	env := map[string]string{}
	for _, kv := range environ {
		if name, value, ok := strings.Cut(kv, "="); ok && strings.HasPrefix(name, envPrefix) {
			env[name] = value
		}
	}
	growBlocks(reflect.ValueOf(&l.Config).Elem(), env)
	var faults []fault
	known := map[string]bool{}
	for _, s := range settings(&l.Config) {
		name := envName(s.key)
		known[name], known[name+"_FILE"] = true, true
		value, from, err := lookup(env, name)
		switch {
		case err != nil:
			faults = append(faults, fault{Where: "environment " + from, Key: s.key, Text: err.Error()})
		case from == "":
		default:
			if err := setText(s.value, value); err != nil {
				faults = append(faults, fault{Where: "environment " + from, Key: s.key, Text: err.Error()})
			}
			l.origin[s.key] = "environment " + from
		}
	}
	l.secret = env["MITTENTE_SECRET_KEY"]
	for name := range env {
		if !known[name] && !slices.Contains(otherVariables(), name) {
			l.unknown = append(l.unknown, name)
		}
	}
	slices.Sort(l.unknown)
	return faults
}

// otherVariables are read elsewhere, or belong to the tests.
func otherVariables() []string {
	return []string{"MITTENTE_CONFIG", "MITTENTE_OUTPUT", "MITTENTE_SECRET_KEY", "MITTENTE_TEST_ALL"}
}

// growBlocks makes room for blocks ([[route]], [[site]]) that are in the environment
// only: they go on from the number of the file's last.
func growBlocks(c reflect.Value, env map[string]string) {
	for i := range c.NumField() {
		blocks := c.Field(i)
		if !isBlocks(blocks.Type()) {
			continue
		}
		name := envName(c.Type().Field(i).Tag.Get("toml"))
		for hasPrefix(env, fmt.Sprintf("%s_%d_", name, blocks.Len()+1)) {
			blocks.Set(reflect.Append(blocks, reflect.Zero(blocks.Type().Elem())))
		}
	}
}

func hasPrefix(env map[string]string, prefix string) bool {
	for name := range env {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// lookup returns a variable's value, or what is in the file that NAME_FILE names,
// without the newline at its end; from is the variable found, "" when none is set.
func lookup(env map[string]string, name string) (value, from string, err error) {
	value, set := env[name]
	path := env[name+"_FILE"]
	inFile := path != ""
	switch {
	case set && inFile:
		return "", name, errors.New("is set, and " + name + "_FILE as well: keep one of them")
	case set:
		return value, name, nil
	case !inFile:
		return "", "", nil
	}
	text, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return "", name + "_FILE", err
	}
	return strings.TrimRight(string(text), "\r\n"), name + "_FILE", nil
}

// setText stores the text form of a value: lists are separated by commas.
func setText(v reflect.Value, text string) error {
	switch {
	case v.Kind() == reflect.String:
		v.SetString(text)
	case v.Kind() == reflect.Slice:
		items := []string{}
		for item := range strings.SplitSeq(text, ",") {
			if item = strings.TrimSpace(item); item != "" {
				items = append(items, item)
			}
		}
		v.Set(reflect.ValueOf(items))
	default:
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("want %s, got %q", wants(v.Type()), text)
		}
		v.SetInt(n)
	}
	return nil
}
