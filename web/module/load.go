package module

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// Modules returns the directories below modules/ and examples/ that hold configuration, and how many more there are.
func (p *Package) Modules() (all []string, more int) {
	for _, f := range p.Files {
		d := dir(f.Name)
		if f.Problem != "" || !IsConfig(f.Name) || !strings.HasPrefix(d, "modules/") && !strings.HasPrefix(d, "examples/") {
			continue
		}
		all = append(all, d)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	more = max(0, len(all)-dirsMax)
	return all[:len(all)-more], more
}

// Load reads the module in a directory of the package, "" for the root. ErrFileUnknown says that there is no such
// directory. What is wrong with a single file stands in Problems; an error is as of Open.
func (p *Package) Load(dir string) (*Module, error) {
	files := p.in(dir)
	if len(files) == 0 && dir != "" {
		return nil, fmt.Errorf("%s: %w", short(dir), ErrFileUnknown)
	}
	l := loader{m: &Module{Path: dir}, left: textsMax, measure: measure{allMax, stepsMax}}
	configs := 0
	for _, f := range files {
		isConfig := IsConfig(f.Name)
		switch {
		case isReadme(f.Name) && l.m.ReadmeName == "":
			l.m.ReadmeName = f.Name
		case isJSONConfig(f.Name):
			l.skip("%s is configuration in JSON, which is not read here.", path.Base(f.Name))
			continue
		case !isConfig:
			continue
		case hidden(files, f.Name):
			continue // OpenTofu takes the file of the same name that ends in .tofu
		default:
			if configs++; configs > filesMax {
				l.skip("There are more than %d files of configuration; not all are read.", filesMax)
				return l.done(), nil
			}
		}
		src, err := p.Read(f.Name)
		if errors.Is(err, ErrLimit) || p.src.failed != nil {
			return nil, err
		}
		switch {
		case err != nil:
			l.skip("%s is not read: %s", path.Base(f.Name), reason(err, f))
		case !isConfig:
			l.readme(src)
		default:
			l.config(path.Base(f.Name), src)
		}
	}
	if configs == 0 {
		l.problem("There is no file of configuration in it that is read: none ends in .tf or .tofu.")
	}
	return l.done(), nil
}

// in returns the files that stand in a directory themselves.
func (p *Package) in(d string) (all []File) {
	for _, f := range p.Files {
		if (f.Problem == "" || IsConfig(f.Name) || isReadme(f.Name)) && dir(f.Name) == d {
			all = append(all, f)
		}
	}
	return all
}

func isReadme(name string) bool { return strings.EqualFold(path.Base(name), "README.md") }

// hidden reports whether OpenTofu takes another file instead of this one.
func hidden(files []File, name string) bool {
	base, ok := strings.CutSuffix(name, ".tf")
	return ok && slices.ContainsFunc(files, func(f File) bool { return f.Name == base+".tofu" })
}

func reason(err error, f File) string {
	if f.Problem != "" {
		return f.Problem
	}
	return strings.TrimPrefix(err.Error(), ErrDamaged.Error()+": ") + "."
}

// A loader fills a Module.
type loader struct {
	m       *Module
	left    int // bytes of texts
	measure measure
	src     []byte // of the file at hand
}

func (l *loader) problem(format string, args ...any) {
	if len(l.m.Problems) < problemsMax {
		l.m.Problems = append(l.m.Problems, fmt.Sprintf(format, args...))
	}
}

// skip notes a problem for which some of the configuration is not told of.
func (l *loader) skip(format string, args ...any) {
	l.m.Partial = true
	l.problem(format, args...)
}

func (l *loader) readme(src []byte) {
	if len(src) > readmeMax {
		src = src[:readmeMax]
		l.problem("%s is cut: %d bytes are the most that are shown.", path.Base(l.m.ReadmeName), readmeMax)
	}
	l.m.Readme = strings.ToValidUTF8(string(src), "\uFFFD")
}

// config reads a file of configuration.
func (l *loader) config(name string, src []byte) {
	src = bytes.TrimPrefix(src, []byte("\uFEFF"))
	if len(src) > configMax {
		l.skip("%s is not read: it has %d bytes, and %d are the most.", name, len(src), configMax)
		return
	}
	tokens, err := l.measure.lex(src)
	if err != nil {
		l.skip("%s is not read: %v.", name, err)
		return
	}
	if isOverride(name) {
		l.problem("%s overrides parts of other files; here it is shown as any other.", name)
	}
	l.src = src
	b := body{tokens: tokens}
	for it, ok := b.next(); ok; it, ok = b.next() {
		if it.block {
			l.block(it)
		}
	}
	if b.problem != "" {
		l.skip("%s, %s.", name, b.problem)
	}
}

// block takes over a block of a file.
func (l *loader) block(it item) {
	label := func(i int) string {
		if i < len(it.labels) {
			return l.cut(it.labels[i])
		}
		return ""
	}
	m := l.m
	switch n := len(it.labels); {
	case it.name == "variable" && n == 1 && l.room(len(m.Inputs), "variables"):
		m.Inputs = append(m.Inputs, l.input(label(0), it.tokens))
	case it.name == "output" && n == 1 && l.room(len(m.Outputs), "outputs"):
		a := arguments(it.tokens)
		m.Outputs = append(m.Outputs, Output{label(0), l.text(a["description"]), isTrue(a["sensitive"])})
	case (it.name == "resource" || it.name == "data" || it.name == "ephemeral") && n == 2 && l.room(len(m.Resources), "resources"):
		m.Resources = append(m.Resources, Resource{it.name, label(0), label(1)})
	case it.name == "module" && n == 1 && l.room(len(m.Calls), "modules"):
		a := arguments(it.tokens)
		m.Calls = append(m.Calls, Call{label(0), l.text(a["source"]), l.text(a["version"])})
	case it.name == "terraform" && n == 0:
		l.settings(it.tokens)
	}
}

func (l *loader) input(name string, tokens hclsyntax.Tokens) Input {
	a := arguments(tokens)
	in := Input{Name: name, Description: l.text(a["description"]), Sensitive: isTrue(a["sensitive"]), Required: a["default"] == nil}
	in.Type, in.Default = l.written(a["type"]), l.written(a["default"])
	if s, ok := literal(a["type"]); ok { // as it was written before OpenTofu
		in.Type = l.cut(s)
	}
	return in
}

// settings reads what a module says of OpenTofu itself.
func (l *loader) settings(tokens hclsyntax.Tokens) {
	b := body{tokens: tokens}
	for it, ok := b.next(); ok; it, ok = b.next() {
		switch {
		case it.name == "required_version" && !it.block && l.room(len(l.m.Versions), "versions"):
			l.m.Versions = append(l.m.Versions, l.text(it.tokens))
		case it.name == "required_providers" && it.block:
			in := body{tokens: it.tokens}
			for p, ok := in.next(); ok; p, ok = in.next() {
				if !p.block && l.room(len(l.m.Providers), "providers") {
					l.m.Providers = append(l.m.Providers, l.provider(p))
				}
			}
		}
	}
}

// provider reads NAME = { source = …, version = … }, or the older NAME = VERSION.
func (l *loader) provider(it item) Provider {
	p := Provider{Name: l.cut(it.name)}
	if len(it.tokens) < 2 || it.tokens[0].Type != hclsyntax.TokenOBrace {
		p.Version = l.text(it.tokens)
		return p
	}
	o := object(it.tokens)
	p.Source, p.Version = l.text(o["source"]), l.text(o["version"])
	return p
}

// room reports whether there is room for one more of a kind, and notes once when there is not.
func (l *loader) room(n int, what string) bool {
	if n < itemsMax {
		return true
	}
	l.m.Partial = true
	if note := fmt.Sprintf("There are more than %d %s; the others are not shown.", itemsMax, what); !slices.Contains(l.m.Problems, note) {
		l.problem("%s", note)
	}
	return false
}

// cut bounds a text, and what all of them have together.
func (l *loader) cut(s string) string {
	most := min(textMax, max(l.left, 0))
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	l.left -= len(s)
	return s
}

// text returns what a string says, or what was written where that is no plain string.
func (l *loader) text(tokens hclsyntax.Tokens) string {
	if s, ok := literal(tokens); ok {
		return l.cut(strings.TrimSpace(s))
	}
	return l.written(tokens)
}

func (l *loader) written(tokens hclsyntax.Tokens) string {
	if len(tokens) > 0 {
		// Only as much as is shown: a value may be a whole file.
		from := tokens[0].Range.Start.Byte
		for len(tokens) > 1 && tokens[len(tokens)-1].Range.Start.Byte-from > 2*textMax {
			tokens = tokens[:len(tokens)/2]
		}
	}
	return l.cut(written(l.src, tokens))
}

// arguments returns the arguments of a block by name.
func arguments(tokens hclsyntax.Tokens) map[string]hclsyntax.Tokens {
	all := make(map[string]hclsyntax.Tokens)
	b := body{tokens: tokens}
	for it, ok := b.next(); ok; it, ok = b.next() {
		if !it.block && len(it.tokens) > 0 {
			all[it.name] = it.tokens
		}
	}
	return all
}

// object returns the values of { key = value, … } by key, where a key is a word or a string.
func object(tokens hclsyntax.Tokens) map[string]hclsyntax.Tokens {
	all := make(map[string]hclsyntax.Tokens)
	for rest := tokens[1 : len(tokens)-1]; len(rest) > 0; {
		n, deep := len(rest), 0
		for i, t := range rest {
			if deep <= 0 && (t.Type == hclsyntax.TokenNewline || t.Type == hclsyntax.TokenComma) {
				n = i
				break
			}
			deep += depth(t)
		}
		entry := rest[:n]
		rest = rest[min(n+1, len(rest)):]
		i := slices.IndexFunc(entry, func(t hclsyntax.Token) bool {
			return t.Type == hclsyntax.TokenEqual || t.Type == hclsyntax.TokenColon
		})
		if i < 1 || i+1 == len(entry) {
			continue
		}
		key := string(entry[0].Bytes)
		if s, ok := literal(entry[:i]); ok {
			key = s
		}
		all[key] = entry[i+1:]
	}
	return all
}

func isTrue(tokens hclsyntax.Tokens) bool {
	s, ok := literal(tokens)
	return ok && s == "true" || len(tokens) == 1 && string(tokens[0].Bytes) == "true"
}

// done returns the module with its parts in order. Inputs that must be given come first.
func (l *loader) done() *Module {
	m := l.m
	if l.left < 0 {
		l.skip("All texts together are longer than %d bytes; what is behind is cut off.", textsMax)
	}
	slices.SortStableFunc(m.Inputs, func(a, b Input) int {
		if a.Required != b.Required {
			return map[bool]int{true: -1, false: 1}[a.Required]
		}
		return cmp.Compare(a.Name, b.Name)
	})
	slices.SortStableFunc(m.Outputs, func(a, b Output) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortStableFunc(m.Providers, func(a, b Provider) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortStableFunc(m.Calls, func(a, b Call) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortStableFunc(m.Resources, func(a, b Resource) int {
		return cmp.Or(cmp.Compare(b.Kind, a.Kind), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name))
	})
	return m
}
