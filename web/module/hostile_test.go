package module

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"cubby/scripts/figures"
)

// patience is how long the worst of the modules may take, on a machine that is busy.
const patience = 20 * time.Second

// bombs are configuration files that are small, and cost a reader without limits its stack, its memory or its time.
func bombs() map[string]string {
	deep := func(open, end string, n int) string {
		return "a = " + strings.Repeat(open, n) + "1" + strings.Repeat(end, n) + "\n"
	}
	return map[string]string{
		"brackets":             deep("[", "]", 10_000),
		"parentheses":          deep("(", ")", 10_000),
		"braces":               deep("{a=", "}", 5_000),
		"blocks":               strings.Repeat("a {\n", 5_000) + strings.Repeat("}\n", 5_000),
		"open brackets":        "a = " + strings.Repeat("[", 22_000),
		"open blocks":          strings.Repeat("a {\n", 7_000),
		"templates":            deep(`"${`, `}"`, 5_000),
		"templates in one":     `a = "` + strings.Repeat("${", 10_000) + `"`,
		"control templates":    `a = "` + strings.Repeat("%{if a}", 2_000) + `"`,
		"nots":                 "a = " + strings.Repeat("!", 22_000) + "b\n",
		"minuses":              "a = " + strings.Repeat("-", 22_000) + "1\n",
		"conditions":           "a = " + strings.Repeat("a?b:", 5_000) + "c\n",
		"sums":                 "a = 1" + strings.Repeat("+1", 5_000) + "\n",
		"calls":                deep("f(", ")", 7_000),
		"traversals":           "a = b" + strings.Repeat(".c", 10_000) + strings.Repeat("[0]", 2_000) + "\n",
		"splats":               "a = b" + strings.Repeat("[*]", 7_000) + "\n",
		"for":                  deep("[for x in ", ": x]", 2_000),
		"a number":             "variable \"a\" { default = 1e999999999 }\n",
		"a long number":        "variable \"a\" { default = " + strings.Repeat("9", 400_000) + " }\n",
		"heredocs":             "a = " + strings.Repeat("<<A\n${", 3_000) + "\n",
		"open heredocs":        strings.Repeat("x=<<A\n", 4_000),
		"open comments":        strings.Repeat("/* ", 100_000),
		"open comments after":  "/* x */" + strings.Repeat("\"/*\" /* ", 50_000),
		"points":               "a = 1" + strings.Repeat(".", 22_000),
		"labels":               "variable " + strings.Repeat("a ", 22_000) + "\n",
		"lines":                strings.Repeat("\n", 500_000),
		"words":                strings.Repeat("a\n", 50_000),
		"arguments":            "variable \"a\" {\n" + strings.Repeat("b=1\n", 6_000) + "}\n",
		"combining characters": "a = \"" + strings.Repeat("e\u0301\u0301", 10_000) + "\"\n",
		"joined characters":    "a = \"" + strings.Repeat("\U0001F468\u200d", 12_000) + "\"\n",
		"quotes":               strings.Repeat(`"`, 22_000),
		"curly quotes":         strings.Repeat("“", 22_000),
		"backticks":            strings.Repeat("`", 22_000),
		"line ends in quotes":  `a = "` + strings.Repeat("x\n", 10_000) + `"`,
		"keys":                 "terraform { \nrequired_providers { a = {" + strings.Repeat("b=1,", 5_000) + "} \n} \n}",
		"empty keys":           "terraform { \nrequired_providers { a = {" + strings.Repeat(",", 20_000) + "} \n} \n}",
	}
}

// TestBombs loads each of them beside a harmless file, and all of them together.
func TestBombs(t *testing.T) {
	t.Parallel()
	var all []entry
	for what, src := range bombs() {
		var m *Module
		took := figures.Processor(t, func() { m = load(t, "bomb.tf", src, "main.tf", "variable \"harmless\" {}\n") })
		if took > patience {
			t.Errorf("%s took %v", what, took)
		}
		found := false
		for _, i := range m.Inputs {
			found = found || i.Name == "harmless"
			if len(i.Default) > textMax+3 {
				t.Errorf("%s: a default of %d bytes", what, len(i.Default))
			}
		}
		if !found {
			t.Errorf("%s hides the other file: %+.300v", what, m)
		}
		for i := range 3 {
			all = append(all, entry{fmt.Sprintf("%s-%d.tf", what, i), src, stored})
		}
	}
	var m *Module
	var err error
	took := figures.Processor(t, func() { m, err = open(t, archive(t, all...)).Load("") })
	if err != nil || took > patience || !m.Partial || !strings.Contains(strings.Join(m.Problems, " "), "all files together have more than") {
		t.Errorf("all together: %v after %v; %q", err, took, m.Problems)
	}
}

// TestMeasure: the lexer never makes more tokens than was counted before.
func TestMeasure(t *testing.T) {
	for what, src := range bombs() {
		src = strings.ToValidUTF8(src[:min(len(src), 4_000)], "")
		want := tokensOf([]byte(src))
		m := measure{tokensMax, stepsMax}
		tokens, err := m.lex([]byte(src))
		if len(tokens) > want || err == nil && want > tokensMax {
			t.Errorf("%s: %d tokens, %d were counted, %v", what, len(tokens), want, err)
		}
	}
}

// lie returns an archive whose directory has other bytes at a place of its first entry.
func lie(b []byte, at int, replacement ...byte) []byte {
	return with(b, directoryOf(b)+at, replacement...)
}

// TestHostileArchives: each gives a sentence that says what is wrong, and nothing is read of it.
func TestHostileArchives(t *testing.T) {
	plain := archive(t, entry{name: "main.tf", content: "variable \"a\" {}\n"})
	two := archive(t, entry{name: "a.tf", content: "a = 1\n"}, entry{name: "b.tf", content: "b = 2\n"})
	end, second := endOf(two), directoryOf(two)+headerSize+len("a.tf")
	many := func(n int) []byte {
		var entries []entry
		for i := range n {
			entries = append(entries, entry{fmt.Sprint(i, ".tf"), "", stored})
		}
		return archive(t, entries...)
	}
	comment := func(b []byte, n uint16, s string) []byte {
		b = with(b, endOf(b)+20, byte(n), byte(n>>8))
		return append(b, s...)
	}
	overlap := bytes.Clone(two) // the second entry is the first one, under its name
	copy(overlap[second+42:], overlap[directoryOf(two)+42:directoryOf(two)+46])
	large := with(plain, endOf(plain)+12, 1, 0, 0x41, 0)
	for _, tt := range []struct {
		what   string
		b      []byte
		is     error
		reason string
	}{
		{"nothing", nil, ErrNotZip, ""},
		{"text", []byte("variable"), ErrNotZip, ""},
		{"a long text", bytes.Repeat([]byte("variable "), 20_000), ErrNotZip, ""},
		{"its beginning", plain[:len(plain)-30], ErrDamaged, "its end is missing"},
		{"a cut end", plain[:len(plain)-1], ErrDamaged, "its end is missing"},
		{"something behind it", append(bytes.Clone(plain), "more"...), ErrDamaged, "4 bytes follow after its end"},
		{"a comment that is cut", comment(plain, 10, "short"), ErrDamaged, "its comment is cut off"},
		{"something in front of it", append([]byte("#!/bin/sh\n"), plain...), ErrDamaged, "its directory is not where its end says"},
		{"zip64 by its numbers", with(plain, endOf(plain)+8, 0xff, 0xff, 0xff, 0xff), ErrLimit, "zip64"},
		{"zip64 by its records", append(append(bytes.Clone(plain[:endOf(plain)]), append([]byte(end64Sign), make([]byte, 16)...)...), plain[endOf(plain):]...), ErrLimit, "zip64"},
		{"zip64 in an entry", lie(plain, 24, 0xff, 0xff, 0xff, 0xff), ErrLimit, "zip64"},
		{"too many entries", many(entriesMax + 1), ErrLimit, "it has 10001 entries"},
		{"too few entries", with(two, end+8, 1, 0, 1, 0), ErrDamaged, "does not have the 1 entries"},
		{"fewer entries than said", with(two, end+8, 3, 0, 3, 0), ErrDamaged, "does not have the 3 entries"},
		{"a part of several", with(two, end+4, 1), ErrDamaged, "one part of several"},
		{"a large directory", large, ErrLimit, "its directory has"},
		{"a directory elsewhere", with(plain, endOf(plain)+16, 1), ErrDamaged, "not where its end says"},
		{"a long name", lie(plain, 28, 0xff, 0xff), ErrDamaged, "its directory is cut off"},
		{"no header", lie(plain, 0, 'X'), ErrDamaged, "does not have the 1 entries"},
		{"the same name twice", archive(t, entry{name: "a.tf"}, entry{name: "a.tf"}), ErrDamaged, `"a.tf" is there twice`},
		{"another name inside", lie(plain, headerSize, 'X'), ErrDamaged, `something else of "Xain.tf"`},
		{"another method inside", lie(plain, 10, 0), ErrDamaged, "something else of"},
		{"a place outside", lie(plain, 42, 0, 0, 0, 0x7f), ErrDamaged, "is not where its directory says"},
		{"a place in the directory", lie(plain, 42, byte(directoryOf(plain))), ErrDamaged, "is not where its directory says"},
		{"a content that is too long", lie(plain, 20, 0xff), ErrDamaged, "share bytes"},
		{"an entry that is another", overlap, ErrDamaged, "something else of"},
		{"contents that overlap", lie(two, 20, 0xff), ErrDamaged, "share bytes"},
	} {
		p, err := Open(t.Context(), bytes.NewReader(tt.b), int64(len(tt.b)))
		if p != nil || !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.reason) {
			t.Errorf("%s: %v, want %v, %s", tt.what, err, tt.is, tt.reason)
		}
	}
	commented := comment(plain, 5, "short")
	if m, err := open(t, commented).Load(""); err != nil || len(m.Inputs) != 1 {
		t.Errorf("with a comment: %+v, %v", m, err)
	}
	if p := open(t, archive(t)); len(p.Files) != 0 {
		t.Errorf("an empty archive has %v", p.Files)
	}
	if p := open(t, many(entriesMax)); len(p.Files) != entriesMax {
		t.Errorf("%d files of %d", len(p.Files), entriesMax)
	}
}

// TestHostileEntries: each is listed with what is wrong, and not read.
func TestHostileEntries(t *testing.T) {
	mode := func(m fs.FileMode) func(h *zip.FileHeader) { return func(h *zip.FileHeader) { h.SetMode(m) } }
	for _, tt := range []struct {
		name    string
		content string
		change  func(h *zip.FileHeader)
		lie     func(b []byte) []byte
		problem string
	}{
		{name: "../main.tf", problem: "leads out"},
		{name: "/main.tf", problem: "leads out"},
		{name: "a/../../main.tf", problem: "leads out"},
		{name: "./main.tf", problem: "leads out"},
		{name: "a//main.tf", problem: "leads out"},
		{name: "", problem: "leads out"},
		{name: `..\main.tf`, problem: "backslash"},
		{name: "a\x00.tf", problem: "control characters"},
		{name: "a\n.tf", problem: "control characters"},
		{name: "\xff.tf", problem: "not UTF-8"},
		{name: strings.Repeat("n", nameMax+1), problem: "too long"},
		{name: "link.tf", content: "/etc/passwd", change: mode(fs.ModeSymlink | 0o777), problem: "a link"},
		{name: "pipe.tf", change: mode(fs.ModeNamedPipe | 0o777), problem: "not a file"},
		{name: "secret.tf", lie: func(b []byte) []byte { return lie(b, 8, b[directoryOf(b)+8]|1) }, problem: "encrypted"},
		{name: "odd.tf", lie: func(b []byte) []byte { return with(lie(b, 10, 99), 8, 99) }, problem: "method 99"},
		{name: "large.tf", content: strings.Repeat("x", FileMax+1), problem: "1048577 bytes"},
		{name: "bomb.tf", content: strings.Repeat("\x00", FileMax), problem: "400 times"},
	} {
		b := archive(t, entry{tt.name, tt.content, tt.change})
		if tt.lie != nil {
			b = tt.lie(b)
		}
		p := open(t, b)
		if len(p.Files) != 1 || !strings.Contains(p.Files[0].Problem, tt.problem) || p.Files[0].Name != tt.name {
			t.Errorf("%q: %+v, want %q", tt.name, p.Files, tt.problem)
		}
		if _, err := p.Read(tt.name); !errors.Is(err, ErrNotRead) {
			t.Errorf("%q is read: %v", tt.name, err)
		}
		if m, err := p.Load(""); err != nil || len(m.Problems) == 0 {
			t.Errorf("%q: %+v, %v", tt.name, m, err)
		}
	}
}

// TestHostileContents: what is wrong with a content is found when it is read.
func TestHostileContents(t *testing.T) {
	b := archive(t, entry{name: "main.tf", content: strings.Repeat("a = 1\n", 100)})
	at := localSize + len("main.tf")
	for _, tt := range []struct {
		what string
		b    []byte
	}{
		{"a checksum", lie(b, 16, 1, 2, 3, 4)},
		{"a size that is less", lie(b, 24, 10, 0)},
		{"a size that is more", lie(b, 24, 0xff, 0xff, 0)},
		{"a content", with(b, at, 0xff, 0xff, 0xff)},
	} {
		p := open(t, tt.b)
		if got, err := p.Read("main.tf"); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %d bytes, %v", tt.what, len(got), err)
		}
		if m, err := p.Load(""); err != nil || !m.Partial || !strings.HasPrefix(m.Problems[0], "main.tf is not read: ") {
			t.Errorf("%s: %+v, %v", tt.what, m, err)
		}
	}
}

// TestTotal: a package is not read for ever.
func TestTotal(t *testing.T) {
	b := archive(t, entry{name: "a.txt", content: strings.Repeat("0123456789abcdef", FileMax/16/2), change: stored})
	p := open(t, b)
	for i := range 3 * totalMax / FileMax {
		if _, err := p.Read("a.txt"); err != nil {
			if !errors.Is(err, ErrLimit) || i < totalMax/FileMax {
				t.Errorf("after %d reads: %v", i, err)
			}
			return
		}
	}
	t.Error("it is read for ever")
}

// A failing reader cannot be read from a place on.
type failing struct {
	b    []byte
	from int64
}

var errDisk = errors.New("the disk is gone")

func (f failing) ReadAt(b []byte, at int64) (int, error) {
	if at >= f.from {
		return 0, errDisk
	}
	return bytes.NewReader(f.b).ReadAt(b, at)
}

// TestFailure: a blob that cannot be read is no fault of the package.
func TestFailure(t *testing.T) {
	b := archive(t, entry{name: "main.tf", content: "a = 1"})
	if _, err := Open(t.Context(), failing{b, 0}, int64(len(b))); !errors.Is(err, errDisk) || errors.Is(err, ErrDamaged) {
		t.Errorf("open: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	p, err := Open(ctx, bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := p.Load(""); !errors.Is(err, context.Canceled) || errors.Is(err, ErrDamaged) {
		t.Errorf("load: %v", err)
	}
	if _, err := Open(ctx, bytes.NewReader(b), int64(len(b))); !errors.Is(err, context.Canceled) {
		t.Errorf("open: %v", err)
	}
}

// TestEveryBit: with any byte changed a package is read or refused, and never more than its limits.
func TestEveryBit(t *testing.T) {
	t.Parallel()
	b := archive(t, entry{name: "main.tf", content: example}, entry{name: "README.md", content: "# Read\n"}, entry{name: "modules/a/main.tf", content: "a = 1"})
	for at := range b {
		for _, bit := range []byte{1, 0x80} {
			checkPackage(t, with(b, at, b[at]^bit))
		}
	}
	for n := range b {
		checkPackage(t, b[:n])
	}
}

// checkPackage does all that can be done with a package.
func checkPackage(t *testing.T, b []byte) {
	t.Helper()
	p, err := Open(t.Context(), bytes.NewReader(b), int64(len(b)))
	if err != nil {
		if !errors.Is(err, ErrNotZip) && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrLimit) {
			t.Fatalf("open: %v", err)
		}
		return
	}
	dirs, _ := p.Modules()
	for _, d := range append(dirs, "") {
		m, err := p.Load(d)
		if err != nil && !errors.Is(err, ErrLimit) || err == nil && (m.Bytes() > 8<<20 || len(m.Problems) > problemsMax) {
			t.Fatalf("load %q: %v", d, err)
		}
	}
	for _, f := range p.Files {
		content, err := p.Read(f.Name)
		if err == nil && (int64(len(content)) != f.Size || f.Problem != "") || err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNotRead) && !errors.Is(err, ErrLimit) || errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("read %q: %d bytes of %d, %v", f.Name, len(content), f.Size, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(archive(f, entry{name: "main.tf", content: example}, entry{name: "README.md", content: "# Read"}))
	f.Add(archive(f, entry{name: "a/"}, entry{name: "modules/x/main.tofu", content: "a = 1", change: stored}))
	f.Add(archive(f))
	f.Fuzz(func(t *testing.T, b []byte) { checkPackage(t, b) })
}
