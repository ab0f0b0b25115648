package chart

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"cubby/scripts/figures"
)

// A hostile archive is one with what the chart says of it, or "" for nothing.
type hostile struct {
	archive []byte
	problem string
}

// corpus are archives that are made to do harm, or that are damaged, by what they are.
func corpus(t testing.TB) map[string]hostile {
	t.Helper()
	plain := tarOf(t, shop()...)
	good := zip(t, plain)
	all := map[string]hostile{
		"empty":             {nil, "not compressed with gzip"},
		"a byte":            {[]byte{0x1f}, "not compressed with gzip"},
		"magic only":        {[]byte{0x1f, 0x8b}, "does not begin as gzip does"},
		"a zip":             {[]byte("PK\x03\x04 and so on"), "not compressed with gzip"},
		"a tar":             {plain, "not compressed with gzip"},
		"gzip of text":      {zip(t, []byte(strings.Repeat("text ", 1000))), "holds no tar"},
		"gzip of gzip":      {zip(t, good), "holds no tar"},
		"an empty gzip":     {zip(t, nil), "no Chart.yaml"},
		"cut":               {good[:len(good)*3/4], "damaged"},
		"cut in the header": {good[:12], "holds no tar"},
		"wrong checksum":    {slices.Concat(good[:len(good)-8], []byte{1, 2, 3, 4, 5, 6, 7, 8}), ""},
		"trailing bytes":    {append(slices.Clone(good), "more"...), ""},
		"no tar end":        {zip(t, plain[:len(plain)-1024]), ""},
		"directories only":  {pack(t, entry{name: "shop/", kind: tar.TypeDir}), "no Chart.yaml"},
		"no directory":      {pack(t, files("Chart.yaml", "name: a\nversion: 1\n")...), "1 of its entries are not shown"},
		"too deep":          {pack(t, files("a/b/Chart.yaml", "name: a\nversion: 1\n")...), "no Chart.yaml"},
		"two of each":       {pack(t, append(shop(), files("shop/Chart.yaml", "name: second\nversion: 2\n", "other/values.yaml", "b: c\n")...)...), "Chart.yaml twice"},
		"not UTF-8":         {pack(t, shop("shop/Chart.yaml", "name: \xff\n", "shop/README.md", "\xfe", "shop/values.yaml", "a: \xff\n")...), "It is not a text."},
		"bad YAML":          {pack(t, files("a/Chart.yaml", "name: [\n", "a/values.yaml", "a: [\n", "a/values.schema.json", "{")...), "Chart.yaml cannot be read"},
		"alias bomb":        {pack(t, files("a/Chart.yaml", laughs(), "a/values.yaml", laughs())...), "Chart.yaml cannot be read"},
	}
	traversal := shop()
	for _, name := range []string{"../../etc/passwd", "/etc/passwd", `shop\..\..\x`, "shop/../../x", "C:/x/y", "shop/..", "shop/a\x01b", "shop/\u202eb", "shop/a\nb", "shop/" + strings.Repeat("n/", 300) + "x", strings.Repeat("a/", 50_000) + "b"} {
		traversal = append(traversal, entry{name: name, text: "x"})
	}
	for _, kind := range []byte{tar.TypeSymlink, tar.TypeLink, tar.TypeChar, tar.TypeFifo} {
		traversal = append(traversal, entry{name: fmt.Sprintf("shop/templates/odd%c", kind), text: "/etc/passwd", kind: kind})
	}
	all["odd names"] = hostile{pack(t, traversal...), "15 of its entries are not shown"}
	return all
}

// large adds those that are large when they are opened.
func large(t testing.TB, all map[string]hostile) {
	t.Helper()
	long := strings.Repeat("# a long text\n", fileMax/14)
	all["too large"] = hostile{make([]byte, CompressedMax+1), "more than 20 MiB"}
	all["a bomb"] = hostile{zip(t, tarOf(t, append(shop(), entry{name: "shop/zeros", text: strings.Repeat("\x00", 6<<20)})...)), "grows more than 200 times"}
	all["large README"] = hostile{zipLevel(t, tarOf(t, shop("shop/README.md", strings.Repeat(long, 10))...), gzip.NoCompression), ""}
	all["deep schema"] = hostile{pack(t, shop("shop/values.schema.json", strings.Repeat(`{"properties":{"a":`, 10_000))...), ""}
	var many []entry
	for i := range entriesMax + 1 {
		many = append(many, entry{name: fmt.Sprintf("a/templates/%d.yaml", i), text: "a"})
	}
	all["many entries"] = hostile{pack(t, many...), "more than 10000 entries"}
	var texts []entry
	for i := range 12 {
		texts = append(texts, entry{name: fmt.Sprintf("a/templates/%d.yaml", i), text: long})
	}
	all["many texts"] = hostile{zipLevel(t, tarOf(t, append(shop(), texts...)...), gzip.NoCompression), ""}
}

func TestCorpus(t *testing.T) {
	all := corpus(t)
	large(t, all)
	for name, tt := range all {
		var c *Chart
		if took := figures.Processor(t, func() { c = read(t, tt.archive) }); took > timeMax*time.Second {
			t.Errorf("%s took %v", name, took)
		}
		if said := strings.Join(c.Problems, " "); tt.problem == "" && said != "" || !strings.Contains(said, tt.problem) {
			t.Errorf("%s: it says %q, want %q", name, said, tt.problem)
		}
		check(t, name, c)
	}
	for name, want := range map[string]string{"two of each": "second", "cut": "shop", "a bomb": "shop", "odd names": "shop"} {
		if got := read(t, all[name].archive).Meta.Name; got != want {
			t.Errorf("%s: the chart is %q, want %q", name, got, want)
		}
	}
	if c := read(t, all["large README"].archive); c.Readme.Text != "" || !strings.Contains(c.Readme.Problem, "more than 1 MiB") || c.Meta.Name != "shop" {
		t.Errorf("a large README: %q, %q", c.Readme.Problem, c.Meta.Name)
	}
	if c := read(t, all["deep schema"].archive); !strings.Contains(c.Schema.Problem, "nested too deeply") || len(c.Images) == 0 {
		t.Errorf("a deep schema: %q", c.Schema.Problem)
	}
	if c := read(t, all["bad YAML"].archive); !strings.Contains(c.Values.Problem, "cannot be read as YAML") || c.Values.Text == "" || c.Schema.Problem == "" {
		t.Errorf("bad YAML: %q, %q", c.Values.Problem, c.Schema.Problem)
	}
}

// TestSparse: a file that says it is large is no reason to make it so.
func TestSparse(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range shop() {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Size: int64(len(f.text)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	// As GNU tar writes it, version 1.0: the map is in front of the data.
	sparse := make([]byte, 512)
	copy(sparse, "1\n0\n1\n")
	var pax strings.Builder
	for _, record := range []string{"major=1", "minor=0", "name=shop/sparse", "realsize=1099511627776"} {
		text := " GNU.sparse." + record + "\n"
		fmt.Fprint(&pax, len(text)+2, text)
	}
	raw := tarOf(t, entry{name: "x", text: pax.String()})
	raw[156] = tar.TypeXHeader
	b.Write(checksum(raw[:1024]))
	data := tarOf(t, entry{name: "shop/sparse", text: string(sparse) + "x"})
	b.Write(data)
	c := read(t, zip(t, b.Bytes()))
	check(t, "sparse", c)
	f, ok := c.File("sparse")
	if !ok || f.Text != "" {
		t.Errorf("the sparse file is %+v, %v; problems %q", f, ok, c.Problems)
	}
}

// checksum sets that of a header.
func checksum(block []byte) []byte {
	copy(block[148:156], "        ")
	sum := 0
	for _, c := range block[:512] {
		sum += int(c)
	}
	copy(block[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return block
}

// check fails the test when a chart holds more than it may, or what no page can show.
func check(t testing.TB, what string, c *Chart) {
	t.Helper()
	kept := 0
	for _, f := range c.Files {
		kept += len(f.Text)
		if !isText(f.Text) || len(f.Text) > fileMax || len(f.Name) > nameMax || strings.HasPrefix(f.Name, "/") || strings.Contains("/"+f.Name+"/", "/../") || strings.ContainsFunc(f.Name, deceives) {
			t.Errorf("%s: the file %.100q", what, f.Name)
		}
	}
	if kept > keptMax+fileMax || len(c.Files) > entriesMax || len(c.Images) > imagesMax || len(c.Keys) > keysMax || len(c.Schema.Properties) > propertiesMax {
		t.Errorf("%s: %d bytes of %d files, %d images, %d keys, %d properties", what, kept, len(c.Files), len(c.Images), len(c.Keys), len(c.Schema.Properties))
	}
	for _, p := range append(slices.Clone(c.Problems), c.Values.Problem, c.Schema.Problem, c.Readme.Problem) {
		if p != "" && (!strings.HasSuffix(p, ".") || len(p) > 600) {
			t.Errorf("%s: %q is no sentence", what, p)
		}
	}
	if n := c.Bytes(); n < int64(kept) {
		t.Errorf("%s: it says that it takes %d bytes, and keeps %d", what, n, kept)
	}
}

// TestSourceErrors: what is no fault of the archive is an error.
func TestSourceErrors(t *testing.T) {
	b := pack(t, shop()...)
	broken := errors.New("the disk is gone")
	if _, err := Read(t.Context(), io.MultiReader(bytes.NewReader(b[:len(b)/2]), iotest.ErrReader(broken)), int64(len(b))); !errors.Is(err, broken) {
		t.Errorf("a broken disk: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Read(ctx, bytes.NewReader(b), int64(len(b))); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	for _, c := range corpus(f) {
		if len(c.archive) < 100<<10 {
			if z, err := gzip.NewReader(bytes.NewReader(c.archive)); err == nil {
				if b, _ := io.ReadAll(io.LimitReader(z, 64<<10)); len(b) > 0 {
					f.Add(b, false)
				}
			}
			f.Add(c.archive, true)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, whole bool) {
		if !whole {
			b = zip(t, b) // what is in it, so that no checksum has to be found
		}
		check(t, "fuzz", read(t, b))
	})
}

// FuzzParts gives the parts any text.
func FuzzParts(f *testing.F) {
	for _, e := range shop() {
		f.Add(e.text)
	}
	f.Add(laughs())
	f.Fuzz(func(t *testing.T, text string) {
		c := &Chart{}
		for _, name := range []string{"Chart.yaml", "values.yaml", "values.schema.json", "README.md"} {
			if len(text) <= fileMax && isText(text) {
				c.Files = append(c.Files, File{Name: name, Text: text, Size: int64(len(text))})
			}
		}
		c.arrange()
		check(t, "fuzz", c)
		ReadMeta([]byte(text))
	})
}

// TestDamage: a chart with any byte changed is still a chart, or says why it is none.
func TestDamage(t *testing.T) {
	good := pack(t, shop()...)
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		b := slices.Clone(good)
		for range 1 + r.IntN(3) {
			b[r.IntN(len(b))] = byte(r.IntN(256))
		}
		check(t, "damaged", read(t, b[:len(b)-r.IntN(2)*r.IntN(len(b))]))
	}
}
