package chart

import (
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// These bound what is read of a YAML file.
const (
	yamlMax    = 512 << 10 // bytes: parsing takes a second for a MiB
	nodesMax   = 200_000   // that are looked at, with those that aliases stand for
	nestingMax = 50        // levels
	listMax    = 200       // entries of a list
	textMax    = 4 << 10   // bytes of a text
)

// parseYAML returns the first document of a file, or a sentence about what is wrong with it. Its aliases are not expanded:
// who walks over it counts.
func parseYAML(b []byte) (node *yaml.Node, problem string) {
	if len(b) > yamlMax {
		return nil, fmt.Sprintf("it has more than %d KiB.", yamlMax>>10)
	}
	// A parser that breaks on a stranger's file must not break the page.
	defer func() {
		if recover() != nil {
			node, problem = nil, "it is not YAML."
		}
	}()
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return nil, yamlProblem(err)
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) == 0 {
		return nil, ""
	}
	return doc.Content[0], ""
}

func yamlProblem(err error) string {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if _, ok := errors.AsType[*yaml.TypeError](err); ok {
		text = "it is not YAML"
	}
	return shorten(text, 200) + "."
}

// A walk counts the nodes that it looks at.
type walk struct{ left int }

// resolve returns what a node stands for, or nil when enough was looked at.
func (w *walk) resolve(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode && w.left > 0 {
		w.left--
		n = n.Alias
	}
	if w.left--; w.left < 0 || n == nil || n.Kind == yaml.AliasNode {
		return nil
	}
	return n
}

// pairs calls f for each key of a map that is a text.
func (w *walk) pairs(n *yaml.Node, f func(key string, value *yaml.Node)) {
	if n == nil || n.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(n.Content) && w.left > 0; i += 2 {
		if key, value := w.resolve(n.Content[i]), w.resolve(n.Content[i+1]); key != nil && value != nil && key.Kind == yaml.ScalarNode {
			f(key.Value, value)
		}
	}
}

// scalar returns a text, a number and so on as it is written.
func scalar(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return ""
	}
	return shorten(n.Value, textMax)
}

// shorten cuts a text behind n bytes.
func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
