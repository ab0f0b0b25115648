// Package module looks into module packages of OpenTofu: a zip archive of configuration files. It tells what a module
// wants and gives, without running or evaluating any of it.
//
// A package is a stranger's. Nothing of it reaches the disk, and every cost is bounded before it is spent: what the
// directory of the archive says is checked before anything is read, what is read is bounded whatever was said, and a
// configuration file is measured before it is taken apart.
//
// Limitations: configuration in JSON (.tf.json, .tofu.json) is not read, and override files are read as any other.
// Both are said in Module.Problems.
package module

import (
	"errors"
	"path"
	"slices"
	"strings"
)

// Limits of a package.
const (
	entriesMax   = 10_000   // entries of an archive
	directoryMax = 4 << 20  // bytes of its directory
	nameMax      = 512      // bytes of a name
	FileMax      = 1 << 20  // bytes of a file that is read
	totalMax     = 64 << 20 // bytes that are read of a package, uncompressed
	ratioMax     = 400      // uncompressed bytes for each compressed one; text has about 5
	ratioFrom    = 64 << 10 // bytes of a file from which on the ratio counts: an empty page compresses well
)

// Limits of a module, which is one directory of a package.
const (
	filesMax    = 500       // configuration files
	configMax   = 512 << 10 // bytes of one
	tokensMax   = 100_000   // words and signs of one: the lexer takes 100 bytes for each
	allMax      = 300_000   // words and signs of all
	stepsMax    = 16 << 20  // bytes that the lexer may read twice, see measure
	itemsMax    = 1000      // of each kind
	textMax     = 8 << 10   // bytes of a description, a type or a default value
	textsMax    = 1 << 20   // bytes of all of them
	readmeMax   = 512 << 10 // bytes of a README
	problemsMax = 20
	dirsMax     = 500 // modules and examples beside the root
)

// These errors say why a package is not shown. The text of what wraps them is for the page.
var (
	ErrNotZip  = errors.New("this is not a zip archive")
	ErrLimit   = errors.New("this package is too much to look into")
	ErrDamaged = errors.New("this package is damaged")
	// ErrFileUnknown says that there is no such file or directory in a package.
	ErrFileUnknown = errors.New("the package has nothing of this name")
	// ErrNotRead says that there is such a file, but it is not read.
	ErrNotRead = errors.New("this file is not read")
)

// A File is an entry of a package that is no directory.
type File struct {
	Name    string
	Size    int64  // bytes, as the archive says
	Problem string // why it is not read, or ""
}

// A Module is what a directory of a package says.
type Module struct {
	Path       string // of the directory, "" for the root
	ReadmeName string
	Readme     string // "" when there is none that can be read
	Versions   []string
	Inputs     []Input
	Outputs    []Output
	Providers  []Provider
	Resources  []Resource
	Calls      []Call
	Problems   []string // sentences on what could not be read
	// Partial is whether there is configuration that is not told of here.
	Partial bool
}

// An Input is a variable. Type and Default are as they were written.
type Input struct {
	Name        string
	Type        string
	Default     string
	Description string
	Required    bool // it has no default
	Sensitive   bool
}

// An Output is a value that a module gives.
type Output struct {
	Name        string
	Description string
	Sensitive   bool
}

// A Provider is one that a module requires.
type Provider struct{ Name, Source, Version string }

// A Resource is one that a module manages, or data that it reads.
type Resource struct {
	Kind string // resource, data or ephemeral
	Type string
	Name string
}

// A Call is another module that a module uses.
type Call struct{ Name, Source, Version string }

// Bytes returns about how much memory the module takes.
func (m *Module) Bytes() int64 {
	n := 1024 + len(m.Readme) + len(m.Path)
	for _, s := range slices.Concat(m.Versions, m.Problems) {
		n += 32 + len(s)
	}
	for _, i := range m.Inputs {
		n += 96 + len(i.Name) + len(i.Type) + len(i.Default) + len(i.Description)
	}
	for _, o := range m.Outputs {
		n += 64 + len(o.Name) + len(o.Description)
	}
	for _, p := range m.Providers {
		n += 64 + len(p.Name) + len(p.Source) + len(p.Version)
	}
	for _, r := range m.Resources {
		n += 64 + len(r.Type) + len(r.Name)
	}
	for _, c := range m.Calls {
		n += 64 + len(c.Name) + len(c.Source) + len(c.Version)
	}
	return int64(n)
}

// IsConfig reports whether a file is configuration in the language of OpenTofu.
func IsConfig(name string) bool {
	return strings.HasSuffix(name, ".tf") || strings.HasSuffix(name, ".tofu")
}

func isJSONConfig(name string) bool {
	return strings.HasSuffix(name, ".tf.json") || strings.HasSuffix(name, ".tofu.json")
}

func isOverride(name string) bool {
	base := strings.TrimSuffix(strings.TrimSuffix(path.Base(name), ".tf"), ".tofu")
	return base == "override" || strings.HasSuffix(base, "_override")
}

// dir returns the directory of a file, "" for the root.
func dir(name string) string {
	if d := path.Dir(name); d != "." {
		return d
	}
	return ""
}
