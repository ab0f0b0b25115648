package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
)

// maxDepth bounds the nesting of a manifest. Real ones nest 4 deep; encoding/json alone would allow 10 000.
const maxDepth = 32

// maxValues and maxNested bound the strings, numbers and words, and the objects and arrays, of a manifest. Decoded, an
// empty object takes a hundred times its two bytes. An index of 10 000 entries has a tenth of this.
const (
	maxValues = 200_000
	maxNested = 30_000
)

// structural are the keys that decide what a manifest is. A key that differs from one of them only in case is
// refused: encoding/json would take it for the real one, other parsers would not (parser differentials).
var structural = []string{
	"schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "blobs", "subject",
	"annotations", "digest", "size", "urls", "platform", "fsLayers", "signatures",
}

// A walker checks one JSON document token by token and collects the digests it mentions.
type walker struct {
	dec *json.Decoder

	// strict refuses keys that differ only in case, from each other or from a structural key.
	strict bool
	// mentions is called for every string that is a supported digest, with the path of keys to it.
	mentions func(path []string, dgst digest.Digest)
	path     []string

	values, nested int // so far
}

// walkJSON checks that raw is one JSON object without duplicate keys, ambiguous keys, deep nesting or trailing data,
// and reports every digest it mentions.
func walkJSON(raw []byte, strict bool, mentions func(path []string, dgst digest.Digest)) error {
	// The decoder would replace invalid UTF-8 silently; another parser would not.
	if !utf8.Valid(raw) {
		return errors.New("it is not valid UTF-8")
	}
	w := &walker{dec: json.NewDecoder(bytes.NewReader(raw)), strict: strict, mentions: mentions}
	w.dec.UseNumber()
	t, err := w.dec.Token()
	if err != nil {
		return err
	}
	if t != json.Delim('{') {
		return errors.New("it is not a JSON object")
	}
	if err := w.object(1); err != nil {
		return err
	}
	if _, err := w.dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("it has trailing data")
	}
	return nil
}

func (w *walker) object(depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("it nests deeper than %d", maxDepth)
	}
	// Keys of annotations are free words, so only exact duplicates are wrong there.
	free := !w.strict && depth > 1 || len(w.path) > 0 && w.path[len(w.path)-1] == "annotations"
	seen := make(map[string]struct{})
	for w.dec.More() {
		t, err := w.dec.Token()
		if err != nil {
			return err
		}
		key := t.(string) // the decoder guarantees string keys
		folded := key
		if !free {
			if err := w.checkKey(key); err != nil {
				return err
			}
			if w.strict {
				folded = strings.ToLower(key)
			}
		}
		if _, ok := seen[folded]; ok {
			return fmt.Errorf("key %s appears twice", quoteShort(key))
		}
		seen[folded] = struct{}{}
		w.path = append(w.path, key)
		if err := w.value(depth); err != nil {
			return err
		}
		w.path = w.path[:len(w.path)-1]
	}
	_, err := w.dec.Token() // the closing brace
	return err
}

func (w *walker) array(depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("it nests deeper than %d", maxDepth)
	}
	for w.dec.More() {
		if err := w.value(depth); err != nil {
			return err
		}
	}
	_, err := w.dec.Token() // the closing bracket
	return err
}

func (w *walker) value(depth int) error {
	t, err := w.dec.Token()
	if err != nil {
		return err
	}
	if w.values++; w.values > maxValues {
		return fmt.Errorf("it holds more than %d values", maxValues)
	}
	switch t := t.(type) {
	case json.Delim:
		if w.nested++; w.nested > maxNested {
			return fmt.Errorf("it holds more than %d objects and arrays", maxNested)
		}
		if t == '{' {
			return w.object(depth + 1)
		}
		return w.array(depth + 1)
	case string:
		if dgst, err := ParseDigest(t); err == nil {
			w.mentions(w.path, dgst)
		}
	}
	return nil
}

func (w *walker) checkKey(key string) error {
	keys := structural
	if !w.strict {
		keys = []string{"mediaType"} // what decides how an unknown type is taken
	}
	for _, s := range keys {
		if key != s && strings.EqualFold(key, s) {
			return fmt.Errorf("key %s must be spelled %q", quoteShort(key), s)
		}
	}
	return nil
}
