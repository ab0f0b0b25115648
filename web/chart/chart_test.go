package chart

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	c := read(t, pack(t, shop()...))
	want := Meta{
		APIVersion: "v2", Name: "shop", Version: "1.2.3+build.4", AppVersion: "4.5", KubeVersion: ">= 1.28.0", Description: "Sells things", Type: "application", Home: "https://example.com/",
		Icon: "https://example.com/icon.png", Deprecated: true, Sources: []string{"https://example.com/source"}, Keywords: []string{"shop", "web"},
		Maintainers:  []Maintainer{{"Ada", "ada@example.com", "https://example.com/ada"}},
		Dependencies: []Dependency{{"redis", "^18", "oci://registry.example.com/charts", "redis.enabled", ""}},
	}
	if got := fmt.Sprintf("%+v", c.Meta); got != fmt.Sprintf("%+v", want) {
		t.Errorf("got %s\nwant %+v", got, want)
	}
	if len(c.Problems) > 0 || c.Values.Problem != "" || c.Schema.Problem != "Not all of it is shown: it is too deep, or refers to itself." {
		t.Errorf("problems %q, values %q, schema %q", c.Problems, c.Values.Problem, c.Schema.Problem)
	}
	names := func(all []File) (names []string) {
		for _, f := range all {
			names = append(names, f.Name)
		}
		return names
	}
	for _, tt := range []struct {
		what      string
		got, want []string
	}{
		{"templates", names(c.Templates), []string{"templates/deployment.yaml", "templates/tests/test.yaml"}},
		{"CRDs", names(c.CRDs), []string{"crds/order.yaml"}},
		{"subcharts", c.Subcharts, []string{"local", "redis-18.0.0.tgz"}},
		{"files", names(c.Files)[:3], []string{".helmignore", "Chart.yaml", "README.md"}},
	} {
		if !slices.Equal(tt.got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.what, tt.got, tt.want)
		}
	}
	if c.Readme.Text != "# Shop\n\nSells things.\n" || c.Notes.Text != "Thank you" || c.Templates[0].Text != "kind: Deployment\n" {
		t.Errorf("README %q, notes %q, template %q", c.Readme.Text, c.Notes.Text, c.Templates[0].Text)
	}
	if f, ok := c.File("charts/redis-18.0.0.tgz"); !ok || f.Text != "" || f.Problem != "It is not a text." || f.Size != 2 {
		t.Errorf("the subchart is %+v, %v", f, ok)
	}
	if keys := fmt.Sprint(c.Keys[:4]); keys != "[{replicas 2} {image 3} {sidecars 7} {metrics 10}]" {
		t.Errorf("keys %s", keys)
	}
}

func TestImages(t *testing.T) {
	c := read(t, pack(t, shop()...))
	var got []string
	for _, i := range c.Images {
		got = append(got, i.Where+" "+i.String())
	}
	want := []string{
		"image registry.example.com:5000/team/shop:4.5", "sidecars[].image ghcr.io/team/log:1.0@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		"metrics.image exporter", "initImage busybox",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for s, want := range map[string]Image{
		"nginx": {Repository: "nginx"}, "team/x:1": {Repository: "team/x", Tag: "1"}, "localhost/x": {Registry: "localhost", Repository: "x"},
		"h:5000/a/b:c": {Registry: "h:5000", Repository: "a/b", Tag: "c"}, "a@sha256:1": {Repository: "a", Digest: "sha256:1"}, "": {},
	} {
		if got := reference(s); got != want {
			t.Errorf("%q is %+v, want %+v", s, got, want)
		}
	}
}

func TestSchema(t *testing.T) {
	c := read(t, pack(t, shop()...))
	want := []Property{
		{"replicas", "integer", "2", false, "how many"},
		{"image", "object", "", true, "which"},
		{"image.tag", "string", `"4.5"`, true, ""},
		{"image.base", "object", "", false, ""},
		{"ports", "array of object", "", false, ""},
		{"ports[].name", "string or null", "", false, ""},
		{"mode", `"a" | 1 | null`, "{…}", false, ""},
	}
	if !slices.Equal(c.Schema.Properties, want) || c.Schema.Title != "Shop" || c.Schema.Description != "What it takes" {
		t.Errorf("got %+v", c.Schema)
	}
	for _, tt := range []struct{ schema, problem string }{
		{"", "The schema cannot be read"}, {"[]", "no object"}, {"{", "cannot be read"}, {`{"properties": 1}`, ""}, {`{"properties": {"a": 1, "b": {"type": {}}}}`, ""},
		{`{"$ref": "#"}`, "refers to itself"}, {`{"$ref": "#/a", "a": {"$ref": "#/b"}, "b": {"$ref": "#/a"}}`, "refers to itself"}, {`{"properties": {"a": {"$ref": "#"}}}`, "refers to itself"},
		{`{"$ref": "https://example.com/x"}`, ""}, {`{"$ref": "#/none"}`, ""}, {`{"$ref": "#` + strings.Repeat("/a", 1000) + `"}`, ""},
		{strings.Repeat(`{"a":`, 1000), "nested too deeply"}, {strings.Repeat("[", 100_000), "nested too deeply"}, {`{"a":[` + strings.Repeat("1,", 60_000) + `1]}`, "too many parts"},
		{strings.Repeat(`{"properties":{"a":`, 20) + "{}" + strings.Repeat("}}", 20), "too deep"},
		{`{"allOf": [{"properties": {"a": {}}}, {"$ref": "#/x"}], "x": {"allOf": [{"$ref": "#/y"}, {"$ref": "#/y"}]}, "y": {"allOf": [{"$ref": "#/z"}, {"$ref": "#/z"}]}, "z": {}}`, ""},
	} {
		if got := readSchema(File{Text: tt.schema}); tt.problem == "" && got.Problem != "" || !strings.Contains(got.Problem, tt.problem) {
			t.Errorf("%.60s: problem %q, want %q", tt.schema, got.Problem, tt.problem)
		}
	}
	// Each refers to the next twice.
	var wide strings.Builder
	for i := range 15 {
		fmt.Fprintf(&wide, `"d%d": {"allOf": [{"$ref": "#/d%d"}, {"$ref": "#/d%d"}, {"$ref": "#/d%d"}]}, `, i, i+1, i+1, i+1)
	}
	if got := readSchema(File{Text: `{` + wide.String() + `"$ref": "#/d0", "d15": {"properties": {"a": {}}}}`}); !strings.Contains(got.Problem, "Only the first") {
		t.Errorf("a tree of references: %d properties, %q", len(got.Properties), got.Problem)
	}
}

func TestMeta(t *testing.T) {
	for _, tt := range []struct{ text, problem string }{
		{`{"name":"web","version":"1.2.3"}`, ""}, {"name: a\nversion: 1", ""}, {"", "it has no keys"}, {"a", "it has no keys"}, {"- a", "it has no keys"}, {"name: a", "both a name and a version"},
		{"name: [a\n", "line 1"}, {"\tname: a", "character that cannot start"}, {"name: *x\nversion: 1", "unknown anchor"}, {"name: &a [*a]\nversion: 1", "both a name"},
		{"name: {a: b}\nversion: 1\nsources: a\nkeywords: {a: b}\nmaintainers: [1, [a]]\ndependencies: 3\ndeprecated: [x]", "both a name"},
		{strings.Repeat("a", yamlMax+1), "KiB"}, {laughs(), "both a name"}, {strings.Repeat("[", 50_000), "depth"}, {strings.Repeat("- ", 50_000), "depth"},
	} {
		m, problem := ReadMeta([]byte(tt.text))
		if tt.problem == "" && (problem != "" || m.Name == "") || !strings.Contains(problem, tt.problem) {
			t.Errorf("%.60q: %q, want %q; %+v", tt.text, problem, tt.problem, m)
		}
	}
}

// laughs is YAML that stands for a billion of texts.
func laughs() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [image, image]\n")
	for i := 1; i < 30; i++ {
		fmt.Fprintf(&b, "a%d: &a%d {image: nginx%d, b: [%s]}\n", i, i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	return b.String()
}

func TestLaughs(t *testing.T) {
	c := read(t, pack(t, files("a/Chart.yaml", "name: a\nversion: 1\nkeywords: &k [a]\nmaintainers: [{name: *k}]\n", "a/values.yaml", laughs())...))
	if len(c.Images) == 0 || len(c.Images) > imagesMax || len(c.Keys) != 30 {
		t.Errorf("%d images, %d keys", len(c.Images), len(c.Keys))
	}
}

// TestSchemaReferences: a reference that is made to be long costs nothing, however often it is followed.
func TestSchemaReferences(t *testing.T) {
	long := strings.Repeat("~0", refMax)
	text := `{"a":{"$ref":"#/` + long + `"},"allOf":[` + strings.TrimSuffix(strings.Repeat(`{"$ref":"#/a"},`, 2000), ",") + `]}`
	w := schemaWalk{steps: 10}
	root := &object{fields: map[string]any{"$ref": "#/" + long}}
	w.root = root
	if w.follow(root) != nil || !w.deep || w.steps != 9 {
		t.Errorf("followed: deep %v, %d steps left", w.deep, w.steps)
	}
	if s := readSchema(File{Name: "values.schema.json", Text: text, Size: int64(len(text))}); s.Problem == "" {
		t.Errorf("%+v", s)
	}
}
