package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"cubby/store"
	"cubby/store/oci"

	"go.yaml.in/yaml/v3"
)

// ErrInvalid says that a file is not a policy; the text tells the line.
var ErrInvalid = errors.New("configuration invalid")

// A document is the file as it is written.
type document struct {
	Keep []struct {
		Repositories names `yaml:"repositories"`
		Untagged     *age  `yaml:"untagged"`
		Used         *age  `yaml:"used"`
		Cache        *age  `yaml:"cache"`
	} `yaml:"keep"`
	Protected []selector `yaml:"protected"`
	Immutable []selector `yaml:"immutable"`
	Retention []struct {
		Name         string `yaml:"name"`
		Repositories names  `yaml:"repositories"`
		Tags         tags   `yaml:"tags"`
		Keep         *struct {
			Newest *count `yaml:"newest"`
			Pushed *age   `yaml:"pushed"`
			Used   *age   `yaml:"used"`
			Tags   tags   `yaml:"tags"`
		} `yaml:"keep"`
	} `yaml:"retention"`
}

type selector struct {
	Name         string `yaml:"name"`
	Repositories names  `yaml:"repositories"`
	Tags         tags   `yaml:"tags"`
}

// names and tags are one pattern or a list of them.
type (
	names []oci.Glob
	tags  []oci.Glob
)

func (g *names) UnmarshalYAML(n *yaml.Node) (err error) {
	*g, err = parseGlobs(n, oci.ParseNameGlob)
	return err
}

func (g *tags) UnmarshalYAML(n *yaml.Node) (err error) {
	*g, err = parseGlobs(n, oci.ParseTagGlob)
	return err
}

func parseGlobs(n *yaml.Node, parse func(string) (oci.Glob, error)) (all []oci.Glob, err error) {
	list := n.Content
	if n.Kind == yaml.ScalarNode {
		list = []*yaml.Node{n}
	} else if n.Kind != yaml.SequenceNode || len(list) == 0 {
		return nil, fmt.Errorf("line %d: a pattern or a list of patterns is wanted here", n.Line)
	}
	for _, item := range list {
		if item.Kind != yaml.ScalarNode || item.Tag == "!!null" {
			return nil, fmt.Errorf("line %d: a pattern is wanted here", item.Line)
		}
		glob, err := parse(item.Value)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", item.Line, err)
		}
		all = append(all, glob)
	}
	return all, nil
}

// A count is a number as people write it: YAML would take 2.5 for 2 and 010 for 8.
type count int

func (c *count) UnmarshalYAML(n *yaml.Node) error {
	v, err := strconv.ParseUint(n.Value, 10, 31)
	if err != nil || n.Value != strconv.FormatUint(v, 10) {
		return fmt.Errorf("line %d: %.40q is no number", n.Line, n.Value)
	}
	*c = count(v)
	return nil
}

type age time.Duration

func (a *age) UnmarshalYAML(n *yaml.Node) error {
	d, err := store.ParseAge(n.Value)
	if err != nil {
		return fmt.Errorf("line %d: %w", n.Line, err)
	}
	*a = age(d)
	return nil
}

// Parse reads a policy. An error wraps ErrInvalid and tells the line. Unknown keys are errors: a rule that is misspelt
// must not be taken for one that is not there. The warnings are for people.
func Parse(text []byte) (p *Policy, warnings []string, err error) {
	var d document
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	// A file that is just being written is empty for a moment: it must not end all rules.
	if err := decoder.Decode(&d); errors.Is(err, io.EOF) {
		return nil, nil, fmt.Errorf("%w: it is empty; without rules write {}", ErrInvalid)
	} else if err != nil {
		return nil, nil, yamlError(err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, nil, fmt.Errorf("%w: it holds more than one document", ErrInvalid)
	}
	var tree yaml.Node
	if err := yaml.Unmarshal(text, &tree); err != nil {
		return nil, nil, yamlError(err)
	}
	if line := nullLine(&tree); line > 0 {
		return nil, nil, fmt.Errorf("%w: line %d: a value is missing here", ErrInvalid, line)
	}
	b := builder{tree: &tree, names: make(map[string]bool)}
	p = b.build(&d)
	if len(b.problems) > 0 {
		return nil, nil, fmt.Errorf("%w: %s", ErrInvalid, strings.Join(b.problems, "; "))
	}
	return p, b.warnings, nil
}

// nullLine returns the line of a value that is missing, or 0: half a file must not be taken for fewer rules.
func nullLine(n *yaml.Node) int {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return n.Line
	}
	for _, child := range n.Content {
		if line := nullLine(child); line > 0 {
			return line
		}
	}
	return 0
}

// typeName is what the decoder tells about our types, which say nothing to people.
var typeName = regexp.MustCompile(` (in type|into) ((\[\])?struct \{[^\n]*\}|\S+)`)

// wrongKind is how the decoder tells that it wants a list, a mapping or a number.
var wrongKind = regexp.MustCompile("cannot unmarshal !![a-z]+( `[^`]*`)?")

func yamlError(err error) error {
	text := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "yaml: "), "unmarshal errors:\n")
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		line = typeName.ReplaceAllString(strings.TrimSpace(line), "")
		lines[i] = strings.Replace(line, "field ", "unknown key ", 1)
		lines[i] = strings.TrimSuffix(lines[i], " not found")
		lines[i] = wrongKind.ReplaceAllString(lines[i], "this is not what belongs here$1")
		if strings.Contains(line, "cannot start any token") {
			lines[i] += "; YAML is indented with spaces, not tabs"
		}
		if strings.Contains(line, "alphabetic or numeric character") || strings.Contains(line, "unknown anchor") {
			lines[i] += `; a pattern that begins with * must be in quotes: "*"`
		}
	}
	return fmt.Errorf("%w: %s", ErrInvalid, strings.Join(lines, "; "))
}

// A builder makes the policy of a document and collects what is wrong with it.
type builder struct {
	tree     *yaml.Node
	names    map[string]bool
	problems []string
	warnings []string
}

func (b *builder) build(d *document) *Policy {
	p := &Policy{}
	for i, r := range d.Keep {
		b.want("keep", i, "repositories", len(r.Repositories) > 0)
		if r.Untagged == nil && r.Used == nil && r.Cache == nil {
			b.problem("keep", i, "it sets none of untagged, used and cache")
		}
		keep := DefaultKeep
		set(&keep.Untagged, r.Untagged)
		set(&keep.Used, r.Used)
		set(&keep.Cache, r.Cache)
		p.keep = append(p.keep, keepRule{r.Repositories, keep})
	}
	for i, s := range d.Protected {
		p.protected = append(p.protected, b.selector("protected", i, s))
	}
	for i, s := range d.Immutable {
		p.immutable = append(p.immutable, b.selector("immutable", i, s))
	}
	for i, r := range d.Retention {
		rule := Rule{Selector: b.selector("retention", i, selector{r.Name, r.Repositories, r.Tags})}
		if r.Keep == nil || r.Keep.Newest == nil && r.Keep.Pushed == nil && r.Keep.Used == nil && len(r.Keep.Tags) == 0 {
			b.problem("retention", i, "it says nothing to keep; a rule that keeps nothing has keep: {newest: 0}")
			continue
		}
		if r.Keep.Newest != nil {
			rule.Newest = int(*r.Keep.Newest)
		}
		set(&rule.Pushed, r.Keep.Pushed)
		set(&rule.Used, r.Keep.Used)
		rule.Named = r.Keep.Tags
		if rule.Used > 0 && rule.Newest == 0 {
			b.warn("retention", i, rule.Name, "it keeps by use without newest: a node that has an image cached never asks for it again, and its tag would go")
		}
		p.retention = append(p.retention, rule)
	}
	return p
}

func set(to *time.Duration, from *age) {
	if from != nil {
		*to = time.Duration(*from)
	}
}

// selector completes a selector; one without a name is called by its place.
func (b *builder) selector(section string, i int, s selector) Selector {
	b.want(section, i, "repositories", len(s.Repositories) > 0)
	b.want(section, i, "tags", len(s.Tags) > 0)
	if s.Name == "" {
		s.Name = fmt.Sprintf("%s %d", section, i+1)
	}
	if key := section + "\x00" + s.Name; b.names[key] {
		b.problem(section, i, fmt.Sprintf("there is another rule named %q", s.Name))
	} else {
		b.names[key] = true
	}
	if len(s.Name) > nameMax || strings.ContainsFunc(s.Name, func(r rune) bool { return r < ' ' }) {
		b.problem(section, i, "its name is too long or has control characters")
	}
	if slices.ContainsFunc(s.Repositories, func(g oci.Glob) bool { return g.String() == "*" }) {
		b.warn(section, i, s.Name, `repositories "*" are only those without a slash in their name; "**" are all`)
	}
	return Selector{Name: s.Name, Repositories: s.Repositories, Tags: s.Tags}
}

// nameMax bounds the name of a rule in bytes: it is written into each tag's history.
const nameMax = 100

func (b *builder) want(section string, i int, key string, there bool) {
	if !there {
		b.problem(section, i, fmt.Sprintf("%s is missing; %q is all of them", key, "**"))
	}
}

func (b *builder) warn(section string, i int, name, text string) {
	b.warnings = append(b.warnings, fmt.Sprintf("line %d: rule %q: %s", b.line(section, i), name, text))
}

func (b *builder) problem(section string, i int, text string) {
	b.problems = append(b.problems, fmt.Sprintf("line %d: rule %d of %s: %s", b.line(section, i), i+1, section, text))
}

// line returns where rule i of a section begins.
func (b *builder) line(section string, i int) int {
	if len(b.tree.Content) > 0 {
		top := b.tree.Content[0].Content
		for j := 0; j+1 < len(top); j += 2 {
			if top[j].Value == section && i < len(top[j+1].Content) {
				return top[j+1].Content[i].Line
			}
		}
	}
	return 0
}
