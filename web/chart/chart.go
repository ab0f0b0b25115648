// Package chart reads the archive of a Helm chart for pages: what it is, its values, their schema, its templates and its
// README. Nothing is extracted, and nothing is evaluated.
//
// The archive is a stranger's. Everything is bounded before it is paid for, and what is wrong with a part is a sentence
// in that part: the others are still there.
package chart

import (
	"slices"
	"strings"
)

// These limit what a chart may cost. They are above those of helm itself: no file that it installs is larger than 5 MiB.
const (
	CompressedMax   = 20 << 20  // bytes of the archive
	UncompressedMax = 100 << 20 // bytes of what it holds
	ratioMax        = 200       // how many times larger it may become, from ratioFrom bytes on
	ratioFrom       = 4 << 20   // bytes
	entriesMax      = 10_000    // files, directories and so on
	nameMax         = 500       // bytes of a path
	fileMax         = 1 << 20   // bytes of a file whose text is kept
	keptMax         = 8 << 20   // bytes of all texts that are kept
	timeMax         = 10        // seconds
)

// A Chart is what an archive holds.
type Chart struct {
	Meta      Meta
	Problems  []string // sentences about the archive
	Values    File     // values.yaml; the zero File when there is none
	Keys      []Key    // of the values, in order
	Images    []Image  // that the values name
	Schema    Schema
	Readme    File
	Notes     File
	Templates []File // by name
	CRDs      []File
	Subcharts []string // that are packed in it
	Files     []File   // all, by name
}

// A File is a file of a chart.
type File struct {
	Name    string // without the directory that the whole chart is in
	Size    int64  // bytes
	Text    string
	Problem string // a sentence: why there is no text, or what is wrong with it
}

// File returns the file of a name.
func (c *Chart) File(name string) (File, bool) {
	i, ok := slices.BinarySearchFunc(c.Files, name, func(f File, name string) int { return strings.Compare(f.Name, name) })
	if !ok {
		return File{}, false
	}
	return c.Files[i], true
}

// Bytes returns about how much memory the chart takes.
func (c *Chart) Bytes() int64 {
	n := int64(4 << 10)
	for _, f := range c.Files {
		n += int64(len(f.Name)+len(f.Text)) + 200
	}
	for _, p := range c.Schema.Properties {
		n += int64(len(p.Name)+len(p.Description)+len(p.Default)) + 200
	}
	return n + 200*int64(len(c.Images)+len(c.Keys))
}

// arrange fills the parts from the files.
func (c *Chart) arrange() {
	slices.SortFunc(c.Files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	packed := make(map[string]bool)
	for _, f := range c.Files {
		dir, rest, _ := strings.Cut(f.Name, "/")
		switch {
		case f.Name == "values.yaml":
			c.Values = f
		case f.Name == "values.schema.json":
			c.Schema = readSchema(f)
		case f.Name == "templates/NOTES.txt":
			c.Notes = f
		case strings.EqualFold(f.Name, "README.md"):
			c.Readme = f
		case dir == "templates":
			c.Templates = append(c.Templates, f)
		case dir == "crds":
			c.CRDs = append(c.CRDs, f)
		case dir == "charts":
			if name, _, _ := strings.Cut(rest, "/"); name != "" && !strings.HasPrefix(name, ".") && !strings.HasPrefix(name, "_") && !packed[name] {
				packed[name] = true
				c.Subcharts = append(c.Subcharts, name)
			}
		}
	}
	if f, ok := c.File("Chart.yaml"); ok {
		meta, problem := ReadMeta([]byte(f.Text))
		if f.Problem != "" {
			problem = f.Problem
		}
		c.Meta = meta
		if problem != "" {
			c.Problems = append(c.Problems, "Chart.yaml cannot be read: "+problem)
		}
	} else {
		c.Problems = append(c.Problems, "The archive has no Chart.yaml, which helm wants.")
	}
	c.readValues()
}
