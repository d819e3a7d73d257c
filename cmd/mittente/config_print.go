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
			if strings.HasPrefix(line, `# password = `) {
				writeRoutes(&b, c)
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
	routes := make([]map[string]any, len(c.Routes))
	for i := range routes {
		routes[i] = map[string]any{}
	}
	object["route"] = routes
	for _, s := range settings(c) {
		in := object
		section, name := splitKey(s.key)
		if number, ok := strings.CutPrefix(section, "route."); ok {
			n, _ := strconv.Atoi(number) // settings counts them
			in = routes[n-1]
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

func writeRoutes(b *strings.Builder, c *Config) {
	for i := range c.Routes {
		b.WriteString("\n[[route]]\n\n")
		prefix := fmt.Sprintf("route.%d.", i+1)
		for _, s := range settings(c) {
			name, ok := strings.CutPrefix(s.key, prefix)
			if ok && s.value.String() != "" {
				fmt.Fprintf(b, "%s = %s\n", name, tomlValue(s))
			}
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
