package web

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestFileName(t *testing.T) {
	encoded := digest.Digest(testDigest).Encoded()
	for title, want := range map[string]string{
		"report.html": "report.html", "dir/report.html": "report.html", "../../etc/passwd": "passwd", "/etc/passwd": "passwd", `..\..\boot.ini`: "boot.ini", `C:\x\y.txt`: "y.txt",
		"a b.txt": "a b.txt", "é.txt": "é.txt", "日本.txt": "日本.txt", `a"b.txt`: "a_b.txt", "a\r\nX: y": "a__X_ y", "a\x00b": "a_b", "a\u202egnp.exe": "a_gnp.exe", "a\u200bb": "a_b", "a\xffb": "a_b",
		"": encoded, ".": encoded, "..": encoded, "/": encoded, "...": encoded, "a/..": encoded, ".bashrc": "bashrc", "..a": "a", "dir/": "dir", "<script>": "_script_", "a|b?c*d": "a_b_c_d", "_": encoded,
		strings.Repeat("a", 201): encoded, strings.Repeat("a", 200): strings.Repeat("a", 200),
	} {
		if got := fileName(title, testDigest); got != want {
			t.Errorf("fileName(%q) = %q, want %q", title, got, want)
		}
	}
}

func TestIsText(t *testing.T) {
	for s, want := range map[string]bool{
		"": true, "a\nb\tc\r\n": true, "é日本": true, "a\x00": false, "\x1b[31m": false, "\xff\xfe": false, "\x7fELF": true, "a\x08": false, "\u202e": true,
	} {
		if got := isText([]byte(s)); got != want {
			t.Errorf("isText(%q) = %v", s, got)
		}
	}
}

func TestIndent(t *testing.T) {
	for s, want := range map[string]string{
		`{"a":1}`: "{\n  \"a\": 1\n}", " [1] ": "[\n  1\n]", "{\n}": "{\n}", `{"a":1}x`: `{"a":1}x`, "": "", "text": "text", "{": "{", `"a"`: `"a"`, `{"a":"<b>"}`: "{\n  \"a\": \"<b>\"\n}",
	} {
		if got := indent(s); got != want {
			t.Errorf("indent(%q) = %q, want %q", s, got, want)
		}
	}
	deep := strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	if got := indent(deep); got != deep {
		t.Errorf("what lies %d deep becomes %d bytes", 5000, len(got))
	}
	if n := testing.AllocsPerRun(1, func() { indent(deep) }); n > 0 { // it must not be tried
		t.Errorf("what lies 5000 deep takes %.0f allocations", n)
	}
}

func TestWholeRunes(t *testing.T) {
	for s, want := range map[string]string{"": "", "a": "a", "é": "é", "é\xc3": "é", "日\xe6\x97": "日", "😀\xf0\x9f\x98": "😀", "a\xff": "a\xff", "\x80\x80\x80\x80": "\x80\x80\x80\x80"} {
		if got := string(wholeRunes([]byte(s))); got != want {
			t.Errorf("wholeRunes(%q) = %q, want %q", s, got, want)
		}
	}
}

func TestPieces(t *testing.T) {
	link := func(d digest.Digest) string { return "/" + d.Encoded()[:4] }
	long := "sha512:" + strings.Repeat("ab", 64)
	got := pieces(`"`+testDigest+`", `+long+` sha256:12 <b>`, link)
	want := []piece{{`"`, ""}, {testDigest, "/0123"}, {`", `, ""}, {long, "/abab"}, {" sha256:12 <b>", ""}}
	if len(got) != len(want) {
		t.Fatalf("%+v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("piece %d is %+v, want %+v", i, got[i], want[i])
		}
	}
}

// TestShow: what is shown of texts and of other bytes, and that there is more.
func TestShow(t *testing.T) {
	link := func(digest.Digest) string { return "" }
	for _, tt := range []struct {
		what  string
		b     string
		lines int
		hex   bool
		cut   bool
	}{
		{"nothing", "", 0, false, false},
		{"a line", "a", 1, false, false},
		{"a line with its end", "a\n", 1, false, false},
		{"two lines as on Windows", "a\r\nb\r\n", 2, false, false},
		{"JSON", `{"a":1}`, 3, false, false},
		{"many lines", strings.Repeat("\n", linesMax+1), linesMax, false, true},
		{"as many lines as there may be", strings.Repeat("a\n", linesMax), linesMax, false, false},
		{"bytes", "\x00", 0, true, false},
		{"many bytes", strings.Repeat("\x00", hexMax+1), 0, true, true},
	} {
		var d rawData
		d.show([]byte(tt.b), link)
		if len(d.Lines) != tt.lines || (d.Hex != "") != tt.hex || d.Cut != tt.cut {
			t.Errorf("%s: %d lines, hex %v, cut %v", tt.what, len(d.Lines), d.Hex != "", d.Cut)
		}
	}
}

// TestRawPages: text as text, other bytes in hexadecimal, large ones cut, empty ones said to be.
func TestRawPages(t *testing.T) {
	t.Parallel()
	s := newSite(t, withoutUsers)
	c := s.fill()
	large := s.blob("team/files", strings.Repeat("é", textMax/2+1)) // the limit is in a character
	empty := s.blob("team/files", "")
	for _, tt := range []struct {
		path  string
		texts []string
	}{
		{"/team/files/-/blob/" + sum("<script>alert(1)</script>\n").String(), []string{"<script>alert(1)</script>", "26 bytes"}},
		{"/team/files/-/blob/" + sum("\x00\x01\x02").String(), []string{"00000000 00 01 02", "3 bytes"}},
		{"/team/files/-/blob/" + large.String(), []string{"only the beginning is shown", "-\ufffd"}},
		{"/team/files/-/blob/" + empty.String(), []string{"It is empty.", "0 bytes"}},
		{"/team/api:1.0/-/raw", []string{"crane manifest", "laid out for reading", c.config.String()}},
		{"/team/api:2.0/-/raw", []string{missing.String()}},
	} {
		wants(t, tt.path, s.get(viewerLocal, tt.path), 200, tt.texts...)
	}
	wants(t, "a blob that is not there", s.get(viewerLocal, "/team/files/-/blob/"+missing.String()), 404)
	wants(t, "a file of another manifest", s.get(viewerLocal, "/team/files:v1/-/file/"+c.layer.String()), 404)
}
