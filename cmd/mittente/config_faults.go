package main

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// fault is one thing wrong with a configuration: where, which key, what, and what to do.
type fault struct {
	Where string `json:"where,omitempty"` // "file:line", "environment NAME"
	Key   string `json:"key,omitempty"`   // "smtp.ports"
	Text  string `json:"text"`
	Fix   string `json:"fix,omitempty"`
}

// String returns one line.
func (f fault) String() string {
	var parts []string
	for _, p := range []string{f.Where, f.Key} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	s := strings.Join(append(parts, f.Text), ": ")
	if f.Fix != "" {
		s += " (" + f.Fix + ")"
	}
	return s
}

// line is the line of the file, and beyond all lines for what is not in the file.
func (f fault) line() int {
	_, text, _ := strings.Cut(f.Where, ":")
	if n, err := strconv.Atoi(text[strings.LastIndex(text, ":")+1:]); err == nil {
		return n
	}
	return math.MaxInt
}

// sorted puts faults in the order of the file.
func sorted(faults []fault) []fault {
	slices.SortStableFunc(faults, func(a, b fault) int { return cmp.Compare(a.line(), b.line()) })
	return faults
}

// configError is everything wrong with a configuration.
type configError []fault

// Error returns one line per fault.
func (e configError) Error() string {
	lines := make([]string, 0, len(e))
	for _, f := range e {
		lines = append(lines, f.String())
	}
	return strings.Join(lines, "\n")
}

// decodeFile lays the file's text over the defaults and notes the line of each key.
func (l *loaded) decodeFile(text []byte) []fault {
	for key, line := range keyLines(text) {
		l.origin[key] = fmt.Sprintf("%s:%d", l.file, line)
	}
	err := decode(text, &l.Config)
	if err == nil {
		return nil
	}
	if missing, ok := errors.AsType[*toml.StrictMissingError](err); ok {
		var faults []fault
		for i := range missing.Errors {
			faults = append(faults, l.unknownKey(&missing.Errors[i]))
		}
		return faults
	}
	if de, ok := errors.AsType[*toml.DecodeError](err); ok {
		return []fault{l.badValue(de)}
	}
	return []fault{{Where: l.file, Text: err.Error()}}
}

func (l *loaded) unknownKey(de *toml.DecodeError) fault {
	key := strings.Join(de.Key(), ".")
	row, _ := de.Position()
	f := fault{
		Where: fmt.Sprintf("%s:%d", l.file, row), Key: key, Text: "there is no such key",
		Fix: "all keys: mittente config print --default",
	}
	if near := nearest(key); near != "" {
		f.Fix = fmt.Sprintf("did you mean %s? all keys: mittente config print --default", near)
	}
	return f
}

// badValue puts a decoding error in the operator's words: what the key wants, not the Go type.
func (l *loaded) badValue(de *toml.DecodeError) fault {
	row, column := de.Position()
	f := fault{Where: fmt.Sprintf("%s:%d", l.file, row)}
	for key, where := range l.origin {
		if where != f.Where {
			continue
		}
		if s, ok := findSetting(&l.Config, key); ok && strings.Contains(de.Error(), "cannot") {
			return fault{Where: f.Where, Key: key, Text: "want " + wants(s.value.Type())}
		}
		f.Key = key
	}
	f.Text = strings.TrimPrefix(de.Error(), "toml: ")
	if f.Key == "" {
		f.Text = fmt.Sprintf("column %d: %s", column, f.Text)
	}
	return f
}

// wants says which kind of value a key takes.
func wants(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[Duration]():
		return `a duration in quotes, like "30s", "15m", "24h" or "90d"`
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String:
		return `a list of texts, like ["a", "b"]`
	case t.Kind() == reflect.Slice:
		return "blocks with double brackets, like [[route]]"
	case t.Kind() == reflect.Struct:
		return "a section in brackets"
	case t.Kind() == reflect.String:
		return `a text in quotes, like "text"`
	case t.Kind() == reflect.Bool:
		return "true or false, without quotes"
	default:
		return "a whole number, without quotes"
	}
}

// keyLines returns the line of each key and table of a TOML text; a block [[route]]
// counts from 1: "route.1.domain". Text that can't be read ends the search.
func keyLines(text []byte) map[string]int {
	lines := map[string]int{}
	blocks := map[string]int{}
	prefix := ""
	var p unstable.Parser
	p.Reset(text)
	for p.NextExpression() {
		e := p.Expression()
		key, line := expressionKey(&p, e)
		if e.Kind == unstable.KeyValue {
			lines[prefix+key] = line
			continue
		}
		if e.Kind == unstable.ArrayTable {
			blocks[key]++
			key = fmt.Sprintf("%s.%d", key, blocks[key])
		}
		lines[key] = line // a table
		prefix = key + "."
	}
	return lines
}

func expressionKey(p *unstable.Parser, e *unstable.Node) (key string, line int) {
	var parts []string
	it := e.Key()
	for it.Next() {
		n := it.Node()
		parts = append(parts, string(n.Data))
		if line == 0 {
			line = p.Shape(n.Raw).Start.Line
		}
	}
	return strings.Join(parts, "."), line
}

// nearest returns the known key most like an unknown one, or "".
func nearest(key string) string {
	c := Config{Routes: make([]RouteConfig, 1), Sites: make([]SiteConfig, 1)}
	best, bestDistance := "", 3
	_, name := splitKey(key)
	for _, s := range settings(&c) {
		known := strings.Replace(s.key, ".1.", ".", 1)
		if d := distance(key, known); d < bestDistance {
			best, bestDistance = known, d
		}
		// The right name in the wrong section.
		if _, n := splitKey(known); n == name && bestDistance == 3 {
			best = known
		}
	}
	return best
}

func splitKey(key string) (section, name string) {
	i := strings.LastIndexByte(key, '.')
	if i < 0 {
		return "", key
	}
	return key[:i], key[i+1:]
}

// distance is the number of letters to add, drop or change between two texts (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := last
			if a[i] != b[j] {
				change++
			}
			last = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// setting is one key of the configuration and its place in memory.
type setting struct {
	key    string // "smtp.ports", "route.1.domain"
	value  reflect.Value
	secret string // "", "yes", or "url": only its password
}

// settings lists every key that holds a value, in the order of the documentation.
func settings(c *Config) []setting { return appendSettings(nil, "", reflect.ValueOf(c).Elem()) }

func appendSettings(all []setting, prefix string, v reflect.Value) []setting {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		key := prefix + field.Tag.Get("toml")
		switch f := v.Field(i); {
		case f.Kind() == reflect.Struct:
			all = appendSettings(all, key+".", f)
		case isBlocks(f.Type()):
			for n := range f.Len() {
				all = appendSettings(all, fmt.Sprintf("%s.%d.", key, n+1), f.Index(n))
			}
		default:
			all = append(all, setting{key, f, field.Tag.Get("secret")})
		}
	}
	return all
}

// isBlocks reports whether a field is a list of blocks, such as [[route]].
func isBlocks(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct
}

func findSetting(c *Config, key string) (setting, bool) {
	all := settings(c)
	i := slices.IndexFunc(all, func(s setting) bool { return s.key == key })
	if i < 0 {
		return setting{}, false
	}
	return all[i], true
}
