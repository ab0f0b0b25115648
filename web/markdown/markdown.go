// Package markdown turns a README that a client pushed into HTML.
//
// It is the only place where a stranger's text becomes template.HTML, so nothing of the text is ever copied: goldmark
// only parses, and this package writes each element itself, from the short list in render.go, and every text and
// attribute escaped. Raw HTML is not passed through: its tags are dropped, its text stays text. Links lead to http, https
// and mailto, or to a heading of the same text; what else a link or an image wants is shown as text. Images are links,
// because nothing remote may load.
//
// Characters that deceive are left to the page: package web replaces them in all that it sends, and no entity hides one
// from it, because entities of the text are resolved here and only those of escaping are written.
package markdown

import (
	"bytes"
	"html/template"
	"strings"

	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"

	"github.com/yuin/goldmark"
)

// SourceMax bounds the bytes of a text that is laid out.
const SourceMax = 512 << 10

// A text within these limits is parsed and written in about 100 ms for a MiB. Whoever writes for people keeps far below.
const (
	linesMax  = 10_000
	cellsMax  = 20_000     // of tables: a row has as many as its header, whatever it says itself
	markedMax = 16         // markers of quotes and lists that a line begins with
	indentMax = 96         // spaces among and before them: each list in a list takes two
	stepsMax  = 20_000_000 // bytes that are looked at by searches for the end of a link, of code and so on
	depthMax  = 64         // elements in elements
	outputMax = 2 << 20    // bytes
	linksMax  = 5000       // that are written without brackets
)

// Render returns a text as HTML whose highest heading has a level, such as 3 in a section of a page with h1 and h2. It is
// not ok when the text is too large or too tangled: then it is to be shown as it is.
func Render(src []byte, level int) (_ template.HTML, ok bool) {
	if len(src) > SourceMax || tangled(src) {
		return "", false
	}
	// The guard ends a parser that looks for too long. That goldmark breaks on some text must not break a page either.
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	src = bytes.ToValidUTF8(src, []byte("\uFFFD"))
	pc := parser.NewContext()
	pc.Set(stepsKey, new(int))
	doc := markdown.Parser().Parse(text.NewReader(src), parser.WithContext(pc))
	w := writer{src: src, level: min(max(level, 1), 6), anchors: make(map[string]string)}
	w.collect(doc)
	w.children(doc)
	if w.failed {
		return "", false
	}
	return template.HTML(w.b.String()), true
}

var markdown = goldmark.New(
	goldmark.WithExtensions(extension.Table, extension.Strikethrough, extension.Linkify),
	goldmark.WithParserOptions(parser.WithInlineParsers(util.Prioritized(guard{}, 0))),
)

// tangled reports whether the lines of a text are such that parsing them takes too long.
func tangled(src []byte) bool {
	if bytes.Count(src, []byte("@"))+bytes.Count(src, []byte("www."))+bytes.Count(src, []byte("://")) > linksMax {
		return true
	}
	lines, cells := 0, 0
	rows, columns := 0, 0 // since the last blank line: a table has none
	for line := range bytes.Lines(src) {
		if lines++; lines > linesMax || prefixed(line) {
			return true
		}
		if len(bytes.TrimSpace(line)) == 0 {
			rows, columns = 0, 0
			continue
		}
		cells -= rows * columns
		rows, columns = rows+1, max(columns, bytes.Count(line, []byte("|")))
		if cells += rows * columns; cells > cellsMax {
			return true
		}
	}
	return false
}

// prefixed reports whether a line begins with too many markers, or too far to the right.
func prefixed(line []byte) bool {
	line = bytes.TrimRight(line, " \t\r\n")
	marks, spaces := 0, 0
	for i, c := range line {
		switch {
		case c == '\t':
			spaces += 4
		case c == ' ':
			spaces++
		case c == '>', bytes.IndexByte([]byte("-+*.)"), c) >= 0 && (i+1 == len(line) || line[i+1] == ' ' || line[i+1] == '\t'):
			marks++
		case c < '*' || c > '9' || c == ',' || c == '/': // no part of a marker
			return false
		}
		if marks > markedMax || spaces > indentMax {
			return true
		}
	}
	return false
}

// A guard counts what other parsers of inline text may cost. At each character at which one of them begins to look for
// an end, it may look at all that is left of the block.
type guard struct{}

var stepsKey = parser.NewContextKey()

type tooLong struct{}

// Trigger is all that others are triggered by, but a space: from there they look at the next word only.
func (guard) Trigger() []byte { return []byte("[]!<`*_~(") }

func (guard) Parse(parent ast.Node, block text.Reader, pc parser.Context) ast.Node {
	steps := pc.Get(stepsKey).(*int)
	_, at := block.PeekLine()
	lines := parent.Lines()
	if *steps += lines.At(lines.Len()-1).Stop - at.Start; *steps > stepsMax {
		panic(tooLong{})
	}
	return nil
}

// slug returns the name of a heading as links to it are usually written.
func slug(heading string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c == ' ':
			return '-'
		case c >= 'A' && c <= 'Z':
			return c + 'a' - 'A'
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
			return c
		}
		return -1
	}, heading)
}
