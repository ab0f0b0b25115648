package chart

import (
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A Key is a key on the first level of the values.
type Key struct {
	Name string
	Line int // where it stands, from 1 on
}

// An Image is one that the values name.
type Image struct {
	Registry   string // "" where the values do not say it
	Repository string
	Tag        string
	Digest     string
	Where      string // the key, with those around it
}

// String returns the reference, as far as the values say it.
func (i Image) String() string {
	s := i.Repository
	if i.Registry != "" {
		s = i.Registry + "/" + s
	}
	if i.Tag != "" {
		s += ":" + i.Tag
	}
	if i.Digest != "" {
		s += "@" + i.Digest
	}
	return s
}

const (
	imagesMax = 200
	keysMax   = 500
)

// readValues finds the keys and the images in the values.
func (c *Chart) readValues() {
	if c.Values.Text == "" {
		return
	}
	doc, problem := parseYAML([]byte(c.Values.Text))
	if problem != "" {
		c.Values.Problem = "It cannot be read as YAML: " + problem
		return
	}
	v := valueWalk{walk: walk{nodesMax}}
	doc = v.resolve(doc)
	if doc != nil && doc.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(doc.Content) && len(c.Keys) < keysMax; i += 2 {
			if key := doc.Content[i]; key.Kind == yaml.ScalarNode && key.Value != "" {
				c.Keys = append(c.Keys, Key{shorten(key.Value, 100), key.Line})
			}
		}
	}
	v.visit(doc, "", 0)
	c.Images = v.images
}

type valueWalk struct {
	walk
	images []Image
}

func (v *valueWalk) visit(n *yaml.Node, where string, depth int) {
	if n == nil || depth > nestingMax || len(v.images) >= imagesMax || v.left <= 0 {
		return
	}
	if n.Kind == yaml.SequenceNode {
		for _, item := range n.Content {
			v.visit(v.resolve(item), where+"[]", depth+1)
		}
		return
	}
	if n.Kind != yaml.MappingNode {
		return
	}
	v.parts(n, where)
	v.pairs(n, func(key string, value *yaml.Node) {
		if len(where)+len(key) > textMax {
			return
		}
		at := strings.TrimPrefix(where+"."+key, ".")
		if value.Kind == yaml.ScalarNode {
			if key == "image" || strings.HasSuffix(key, "Image") {
				v.add(reference(value.Value), at)
			}
			return
		}
		v.visit(value, at, depth+1)
	})
}

// parts takes a map that names an image by its parts.
func (v *valueWalk) parts(n *yaml.Node, where string) {
	f := make(map[string]string)
	for i := 0; i+1 < len(n.Content); i += 2 {
		switch key := n.Content[i].Value; key {
		case "registry", "repository", "tag", "digest":
			f[key] = scalar(v.resolve(n.Content[i+1]))
		}
	}
	_, tagged := f["tag"]
	last := where[strings.LastIndexByte(where, '.')+1:]
	if f["repository"] == "" || !tagged && !strings.Contains(strings.ToLower(last), "image") {
		return
	}
	i := reference(f["repository"])
	if f["registry"] != "" && i.Registry == "" {
		i.Registry = f["registry"]
	}
	if f["tag"] != "" {
		i.Tag = f["tag"]
	}
	if f["digest"] != "" {
		i.Digest = f["digest"]
	}
	v.add(i, where)
}

var (
	repositoryForm = regexp.MustCompile(`^[a-z0-9]+([._/-]+[a-z0-9]+)*$`)
	registryForm   = regexp.MustCompile(`^[A-Za-z0-9.-]+(:[0-9]{1,5})?$`)
	tagForm        = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}$`)
	digestForm     = regexp.MustCompile(`^[a-z0-9]+:[0-9a-f]{32,128}$`)
)

// add takes an image, if it is one: values hold texts that only look so, and templates.
func (v *valueWalk) add(i Image, where string) {
	if len(i.Repository) > 255 || !repositoryForm.MatchString(i.Repository) || i.Registry != "" && !registryForm.MatchString(i.Registry) ||
		i.Tag != "" && !tagForm.MatchString(i.Tag) || i.Digest != "" && !digestForm.MatchString(i.Digest) {
		return
	}
	i.Where = shorten(where, 200)
	if len(v.images) < imagesMax && !slices.Contains(v.images, i) {
		v.images = append(v.images, i)
	}
}

// reference takes HOST/NAME:TAG@DIGEST apart.
func reference(s string) (i Image) {
	if len(s) > textMax {
		return i
	}
	s, i.Digest, _ = strings.Cut(strings.TrimSpace(s), "@")
	if at := strings.LastIndexByte(s, ':'); at > strings.LastIndexByte(s, '/') {
		s, i.Tag = s[:at], s[at+1:]
	}
	// As docker has it: the first part is a host when it looks like none of a name.
	if first, rest, ok := strings.Cut(s, "/"); ok && (strings.ContainsAny(first, ".:") || first == "localhost") {
		i.Registry, s = first, rest
	}
	i.Repository = s
	return i
}
