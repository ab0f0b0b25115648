package chart

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Schema is values.schema.json as a table.
type Schema struct {
	Title, Description string
	Properties         []Property
	Problem            string // a sentence
	There              bool   // there is one
}

// A Property is a value that a chart takes.
type Property struct {
	Name        string // with those around it: a.b, a[].b
	Type        string
	Default     string // as JSON, or ""
	Required    bool
	Description string
}

const (
	propertiesMax  = 2000
	schemaDepthMax = 16     // properties in properties
	schemaNodesMax = 50_000 // parts of the file
)

// An object is a JSON object with its keys in order; a list has none.
type object struct {
	keys   []string
	fields map[string]any // *object, []any, json.Number, string, bool or nil
}

func readSchema(f File) (s Schema) {
	s.There = true
	if f.Problem != "" {
		s.Problem = f.Problem
		return s
	}
	d := json.NewDecoder(bytes.NewReader([]byte(f.Text)))
	d.UseNumber()
	p := schemaParser{d: d}
	root, err := p.value(0)
	if err != nil {
		s.Problem = "The schema cannot be read: " + shorten(err.Error(), 200) + "."
		return s
	}
	o, ok := root.(*object)
	if !ok {
		s.Problem = "The schema is no object."
		return s
	}
	s.Title, s.Description = o.text("title"), o.text("description")
	w := schemaWalk{root: o, schema: &s, steps: schemaNodesMax}
	w.properties(o, "", 0, nil)
	if len(s.Properties) == propertiesMax {
		s.Problem = fmt.Sprintf("Only the first %d properties are shown.", propertiesMax)
	} else if w.deep {
		s.Problem = "Not all of it is shown: it is too deep, or refers to itself."
	}
	return s
}

type schemaParser struct {
	d     *json.Decoder
	nodes int
}

var (
	errDeep = errors.New("it is nested too deeply")
	errLong = errors.New("it has too many parts")
)

func (p *schemaParser) value(depth int) (any, error) {
	if p.nodes++; p.nodes > schemaNodesMax {
		return nil, errLong
	}
	t, err := p.d.Token()
	if err != nil {
		return nil, err
	}
	delim, ok := t.(json.Delim)
	if !ok {
		return t, nil
	}
	if depth > 4*schemaDepthMax {
		return nil, errDeep
	}
	if delim == '[' {
		var list []any
		for p.d.More() {
			v, err := p.value(depth + 1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := p.d.Token()
		return list, err
	}
	o := &object{fields: make(map[string]any)}
	for p.d.More() {
		key, err := p.d.Token()
		if err != nil {
			return nil, err
		}
		name, _ := key.(string)
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		if _, again := o.fields[name]; !again {
			o.keys = append(o.keys, name)
		}
		o.fields[name] = v
	}
	_, err = p.d.Token()
	return o, err
}

func (o *object) text(key string) string {
	s, _ := o.fields[key].(string)
	return shorten(s, textMax)
}

func (o *object) object(key string) *object {
	sub, _ := o.fields[key].(*object)
	return sub
}

type schemaWalk struct {
	root   *object
	schema *Schema
	steps  int
	deep   bool
}

// properties adds what an object has. around are the schemas that this one is in: one that refers to itself ends there.
func (w *schemaWalk) properties(o *object, prefix string, depth int, around []*object) {
	if o = w.follow(o); o == nil {
		return
	}
	if depth > schemaDepthMax || slices.Contains(around, o) {
		w.deep = true
		return
	}
	around = append(slices.Clip(around), o)
	required, _ := o.fields["required"].([]any)
	required = required[:min(len(required), requiredMax)]
	if all, ok := o.fields["allOf"].([]any); ok {
		for _, part := range all {
			if sub, ok := part.(*object); ok {
				w.properties(sub, prefix, depth+1, around)
			}
		}
	}
	props := o.object("properties")
	if props == nil {
		return
	}
	for _, name := range props.keys {
		sub, ok := props.fields[name].(*object)
		if !ok {
			continue
		}
		if len(w.schema.Properties) == propertiesMax || len(prefix) > textMax {
			w.deep = true
			return
		}
		from := w.follow(sub)
		if from == nil {
			from = sub
		}
		p := Property{Name: shorten(prefix+name, 300), Type: typeOf(from), Default: valueText(sub, from), Required: slices.Contains(required, any(name)), Description: sub.text("description")}
		if p.Description == "" {
			p.Description = from.text("description")
		}
		w.schema.Properties = append(w.schema.Properties, p)
		w.properties(sub, prefix+name+".", depth+1, around)
		if items := from.object("items"); items != nil {
			w.properties(items, prefix+name+"[].", depth+1, around)
		}
	}
}

const (
	// refsMax bounds how many references lead from one to the next, and refMax the bytes of one: it is taken apart each time
	// that it is followed.
	refsMax = 10
	refMax  = 4 << 10
	// requiredMax bounds the names that a schema requires: they are gone through for each property.
	requiredMax = 1000
)

// follow returns what a schema refers to within the file, itself when it does not, and nil when that leads nowhere.
func (w *schemaWalk) follow(o *object) *object {
	for range refsMax {
		if w.steps--; w.steps < 0 || o == nil {
			w.deep = true
			return nil
		}
		ref, ok := o.fields["$ref"].(string)
		if !ok {
			return o
		}
		if len(ref) > refMax {
			w.deep = true
			return nil
		}
		pointer, ok := strings.CutPrefix(ref, "#")
		if !ok {
			return o // another file: nothing is loaded
		}
		if o = w.find(pointer); o == nil {
			return nil
		}
	}
	w.deep = true
	return nil
}

// find returns the part of the file at a JSON pointer.
func (w *schemaWalk) find(pointer string) *object {
	var at any = w.root
	if pointer == "" {
		return w.root
	}
	parts := strings.Split(strings.TrimPrefix(pointer, "/"), "/")
	if len(parts) > 4*schemaDepthMax {
		return nil
	}
	for _, part := range parts {
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		switch v := at.(type) {
		case *object:
			at = v.fields[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(v) {
				return nil
			}
			at = v[i]
		default:
			return nil
		}
	}
	o, _ := at.(*object)
	return o
}

// typeOf returns the type of a value in words.
func typeOf(o *object) string {
	var types []string
	switch t := o.fields["type"].(type) {
	case string:
		types = append(types, t)
	case []any:
		for _, v := range t {
			if s, ok := v.(string); ok && len(types) < 8 {
				types = append(types, s)
			}
		}
	}
	text := strings.Join(types, " or ")
	if items := o.object("items"); items != nil && text == "array" {
		if of, ok := items.fields["type"].(string); ok {
			text = "array of " + of
		}
	}
	if list, ok := o.fields["enum"].([]any); ok && len(list) > 0 {
		var all []string
		for _, v := range list[:min(len(list), 20)] {
			all = append(all, jsonText(v))
		}
		text = strings.TrimSpace(text + " " + strings.Join(all, " | "))
	}
	if text == "" {
		for _, key := range []string{"oneOf", "anyOf"} {
			if _, ok := o.fields[key].([]any); ok {
				return "one of several"
			}
		}
		if ref, ok := o.fields["$ref"].(string); ok {
			text = ref
		}
	}
	return shorten(text, 300)
}

func valueText(all ...*object) string {
	for _, o := range all {
		if v, ok := o.fields["default"]; ok {
			return jsonText(v)
		}
	}
	return ""
}

// jsonText returns a value as JSON, of large ones only that there is one.
func jsonText(v any) string {
	switch v := v.(type) {
	case *object:
		if len(v.keys) > 0 {
			return "{…}"
		}
		return "{}"
	case []any:
		if len(v) == 0 {
			return "[]"
		}
		var items []string
		for _, item := range v[:min(len(v), 10)] {
			if _, ok := item.([]any); ok {
				return "[…]"
			}
			items = append(items, jsonText(item))
		}
		return shorten("["+strings.Join(items, ", ")+"]", 200)
	case string:
		return strconv.Quote(shorten(v, 200))
	case json.Number:
		return shorten(v.String(), 50)
	}
	if v == nil {
		return "null"
	}
	return fmt.Sprint(v)
}
