package main

import (
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
)

const masked = "********"

// printConfig writes the documented default file with the values of c in it, secrets masked.
func printConfig(w io.Writer, c *Config) error {
	var b strings.Builder
	section := ""
	for line := range strings.Lines(defaultFile) {
		name, isSection := strings.CutPrefix(line, "[")
		if isSection {
			section = strings.TrimRight(name, "]\n") + "."
		}
		key, _, isKey := strings.Cut(line, " = ")
		s, ok := findSetting(c, section+key)
		if !isKey || !ok {
			b.WriteString(line)
			if block := lastOfBlock(line); block != "" {
				writeBlocks(&b, c, block)
			}
			continue
		}
		fmt.Fprintf(&b, "%s = %s\n", key, tomlValue(s))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// configObject is c for programs: sections are objects, [[route]] is an array,
// secrets are masked.
func configObject(c *Config) map[string]any {
	object := map[string]any{}
	blocks := map[string][]map[string]any{"route": make([]map[string]any, len(c.Routes)), "site": make([]map[string]any, len(c.Sites))}
	for name, of := range blocks {
		for i := range of {
			of[i] = map[string]any{}
		}
		object[name] = of
	}
	for _, s := range settings(c) {
		in := object
		section, name := splitKey(s.key)
		if block, number, ok := strings.Cut(section, "."); ok {
			n, _ := strconv.Atoi(number) // settings counts them
			in = blocks[block][n-1]
		} else if section != "" {
			known, ok := object[section].(map[string]any)
			if !ok {
				known = map[string]any{}
				object[section] = known
			}
			in = known
		}
		in[name] = s.value.Interface()
		if text, ok := in[name].(string); ok {
			in[name] = mask(text, s.secret)
		}
	}
	return object
}

// lastOfBlock returns the name of the block whose example ends with this line of
// the default file: there its blocks are written.
func lastOfBlock(line string) string {
	switch {
	case strings.HasPrefix(line, "# password = "):
		return "route"
	case strings.HasPrefix(line, "# rate = "):
		return "site"
	}
	return ""
}

func writeBlocks(b *strings.Builder, c *Config, block string) {
	for n := 1; ; n++ {
		prefix := fmt.Sprintf("%s.%d.", block, n)
		found := false
		for _, s := range settings(c) {
			name, ok := strings.CutPrefix(s.key, prefix)
			if !ok {
				continue
			}
			if !found {
				fmt.Fprintf(b, "\n[[%s]]\n\n", block)
				found = true
			}
			if !s.value.IsZero() {
				fmt.Fprintf(b, "%s = %s\n", name, tomlValue(s))
			}
		}
		if !found {
			return
		}
	}
}

// tomlValue returns the value as it stands in a file, masked where it is a secret.
func tomlValue(s setting) string {
	switch v := s.value.Interface().(type) {
	case string:
		return tomlString(mask(v, s.secret))
	case Duration:
		return tomlString(string(v))
	case []string:
		quoted := make([]string, 0, len(v))
		for _, item := range v {
			quoted = append(quoted, tomlString(item))
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	default:
		return fmt.Sprint(v)
	}
}

// tomlString is a TOML basic string: quote, backslash and control characters escaped.
func tomlString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, "\\u%04X", r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func mask(text, secret string) string {
	switch {
	case text == "" || secret == "":
		return text
	case secret == "url":
		u, err := url.Parse(text)
		if err != nil {
			return masked
		}
		if _, ok := u.User.Password(); ok {
			u.User = url.UserPassword(u.User.Username(), masked)
		}
		return u.String()
	default:
		return masked
	}
}
