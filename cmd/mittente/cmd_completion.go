package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"${enum}."`
}

// Run prints a script that knows every command and flag of this binary.
func (c completionCmd) Run(a *app) error {
	words := completions(a.model.Node, nil)
	switch c.Shell {
	case "bash":
		return bashCompletion(a.out, words)
	case "zsh":
		return zshCompletion(a.out, words)
	default:
		return fishCompletion(a.out, words)
	}
}

// completion is what may follow a command: its subcommands and flags.
type completion struct {
	path  string // "user add", "" for mittente itself
	words []word
}

type word struct {
	text, help string
	short      string   // "-o" of --output; "" for none
	values     []string // of a flag or an argument with a fixed set
	takesValue bool
}

// pattern is what a case of the shell takes the flag by.
func (w word) pattern() string {
	if w.short == "" {
		return w.text
	}
	return w.short + "|" + w.text
}

// completions walks the commands; the flags of a parent hold for its children.
func completions(n *kong.Node, inherited []word) []completion {
	flags := slices.Clone(inherited)
	for _, f := range n.Flags {
		if !f.Hidden {
			w := word{text: "--" + f.Name, help: f.Help, values: enumOf(f.Value), takesValue: !f.IsBool()}
			if f.Short != 0 {
				w.short = "-" + string(f.Short)
			}
			flags = append(flags, w)
		}
	}
	c := completion{path: commandPath(n)}
	for _, child := range n.Children {
		if !child.Hidden {
			c.words = append(c.words, word{text: child.Name, help: child.Help})
		}
	}
	for _, p := range n.Positional {
		for _, v := range enumOf(p) {
			c.words = append(c.words, word{text: v, help: p.Help})
		}
	}
	c.words = append(c.words, flags...)
	all := []completion{c}
	for _, child := range n.Children {
		all = append(all, completions(child, flags)...)
	}
	return all
}

func enumOf(v *kong.Value) []string {
	if v.Enum == "" {
		return nil
	}
	return v.EnumSlice()
}

func commandPath(n *kong.Node) string {
	var names []string
	for ; n != nil && n.Type == kong.CommandNode; n = n.Parent {
		names = append(names, n.Name)
	}
	slices.Reverse(names)
	return strings.Join(names, " ")
}

// bashCompletion: the command is what remains of the line without flags and values.
func bashCompletion(w io.Writer, all []completion) error {
	var b strings.Builder
	b.WriteString("# bash completion of mittente: source <(mittente completion bash)\n_mittente() {\n" +
		"  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} path= next i w\n  COMPREPLY=()\n" +
		"  case $prev in\n")
	for _, f := range valueFlags(all) {
		if len(f.values) > 0 {
			fmt.Fprintf(&b, "  %s) COMPREPLY=($(compgen -W '%s' -- \"$cur\")); return ;;\n", f.pattern(), strings.Join(f.values, " "))
		} else {
			fmt.Fprintf(&b, "  %s) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n", f.pattern())
		}
	}
	b.WriteString("  esac\n  for ((i = 1; i < COMP_CWORD; i++)); do\n    w=${COMP_WORDS[i]}; next=\"${path:+$path }$w\"\n    case $next in\n")
	var paths []string
	for _, c := range all[1:] {
		paths = append(paths, "'"+c.path+"'")
	}
	fmt.Fprintf(&b, "    %s) path=$next ;;\n    esac\n  done\n  case $path in\n", strings.Join(paths, "|"))
	for _, c := range all {
		fmt.Fprintf(&b, "  '%s') COMPREPLY=($(compgen -W '%s' -- \"$cur\")) ;;\n", c.path, texts(c.words))
	}
	b.WriteString("  esac\n}\ncomplete -F _mittente mittente\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// zshCompletion offers each word with its help.
func zshCompletion(w io.Writer, all []completion) error {
	var b strings.Builder
	b.WriteString("#compdef mittente\n# zsh completion of mittente: put this into a file _mittente in $fpath\n_mittente() {\n" +
		"  local path= next w\n  local -a found\n  case ${words[CURRENT-1]} in\n")
	for _, f := range valueFlags(all) {
		if len(f.values) > 0 {
			fmt.Fprintf(&b, "  %s) compadd -- %s; return ;;\n", f.pattern(), strings.Join(f.values, " "))
		} else {
			fmt.Fprintf(&b, "  %s) _files; return ;;\n", f.pattern())
		}
	}
	b.WriteString("  esac\n  for w in ${words[2,CURRENT-1]}; do\n    next=\"${path:+$path }$w\"\n    case $next in\n")
	var paths []string
	for _, c := range all[1:] {
		paths = append(paths, "'"+c.path+"'")
	}
	fmt.Fprintf(&b, "    %s) path=$next ;;\n    esac\n  done\n  case $path in\n", strings.Join(paths, "|"))
	for _, c := range all {
		fmt.Fprintf(&b, "  '%s') found=(", c.path)
		for _, w := range c.words {
			fmt.Fprintf(&b, " '%s:%s'", w.text, shellText(w.help))
		}
		b.WriteString(" ) ;;\n")
	}
	b.WriteString("  esac\n  _describe mittente found\n}\n" +
		"if [ \"$funcstack[1]\" = _mittente ]; then _mittente \"$@\"; else compdef _mittente mittente; fi\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// fishCompletion is one line for each word under each command.
func fishCompletion(w io.Writer, all []completion) error {
	var b strings.Builder
	b.WriteString("# fish completion of mittente: mittente completion fish | source\n" +
		"function __mittente_at\n  set -l path\n  for w in (commandline -opc)[2..]\n    set -l next (string join ' ' $path $w)\n    switch $next\n")
	for _, c := range all[1:] {
		fmt.Fprintf(&b, "      case '%s'\n        set path $path $w\n", c.path)
	}
	b.WriteString("    end\n  end; test \"$path\" = \"$argv\"\nend\ncomplete -c mittente -f\n")
	for _, c := range all {
		for _, w := range c.words {
			name, isFlag := strings.CutPrefix(w.text, "--")
			if letter, ok := strings.CutPrefix(w.short, "-"); ok {
				name += " -s " + letter
			}
			kind := "-a " + name
			switch {
			case isFlag && len(w.values) > 0:
				kind = fmt.Sprintf("-x -l %s -a '%s'", name, strings.Join(w.values, " "))
			case isFlag && w.takesValue:
				kind = "-r -F -l " + name
			case isFlag:
				kind = "-l " + name
			}
			fmt.Fprintf(&b, "complete -c mittente -n '__mittente_at %s' %s -d '%s'\n", c.path, kind, shellText(w.help))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// valueFlags lists the flags that a value follows, each once.
func valueFlags(all []completion) []word {
	var flags []word
	for _, c := range all {
		for _, w := range c.words {
			known := slices.ContainsFunc(flags, func(f word) bool { return f.text == w.text })
			if w.takesValue && !known {
				flags = append(flags, w)
			}
		}
	}
	return flags
}

func texts(words []word) string {
	var s []string
	for _, w := range words {
		s = append(s, w.text)
	}
	return strings.Join(s, " ")
}

// shellText makes a help text safe between single quotes.
func shellText(s string) string {
	return strings.NewReplacer("'", "’", ":", " -", "\n", " ").Replace(s)
}
