package markdown

import (
	"bytes"
	"html"
	"net/url"
	"strconv"
	"strings"

	"github.com/yuin/goldmark/ast"
	extension "github.com/yuin/goldmark/extension/ast"
)

// A writer writes a parsed text. Everything in b is a constant of this file or went through text.
type writer struct {
	b       strings.Builder
	src     []byte
	level   int               // of the highest heading
	open    []int             // levels of the headings that enclose what follows, as the text has them
	anchors map[string]string // the ids of headings by what links call them
	taken   map[string]bool   // ids
	inLink  bool
	codes   int
	tables  int
	depth   int
	failed  bool // it became too deep or too long
}

// idPrefix keeps the ids of headings apart from those of the page around them.
const idPrefix = "readme-"

// text writes a stranger's text.
func (w *writer) text(s string) { w.b.WriteString(html.EscapeString(s)) }

func (w *writer) children(n ast.Node) {
	if w.depth++; w.depth > depthMax {
		w.failed = true
	}
	for c := n.FirstChild(); c != nil && !w.failed; c = c.NextSibling() {
		w.node(c)
		w.failed = w.failed || w.b.Len() > outputMax
	}
	w.depth--
}

// around writes what is in a node between two tags.
func (w *writer) around(open string, n ast.Node, end string) {
	w.b.WriteString(open)
	w.children(n)
	w.b.WriteString(end)
}

// node writes a node, or of one that it does not know what is in it.
func (w *writer) node(n ast.Node) {
	switch n := n.(type) {
	case *ast.Heading:
		w.heading(n)
	case *ast.Paragraph:
		w.around("<p>", n, "</p>\n")
	case *ast.Blockquote:
		w.around("<blockquote>\n", n, "</blockquote>\n")
	case *ast.List:
		w.list(n)
	case *ast.ListItem:
		w.around("<li>", n, "</li>\n")
	case *ast.TextBlock:
		w.children(n)
		if n.NextSibling() != nil {
			w.b.WriteString("\n")
		}
	case *ast.ThematicBreak:
		w.b.WriteString("<hr>\n")
	case *ast.CodeBlock, *ast.FencedCodeBlock:
		w.codeBlock(n)
	case *ast.HTMLBlock:
		w.htmlBlock(n)
	case *ast.LinkReferenceDefinition:
	case *extension.Table:
		w.table(n)
	default:
		w.inline(n)
	}
}

func (w *writer) inline(n ast.Node) {
	switch n := n.(type) {
	case *ast.Text:
		w.text(w.textOf(n))
		if n.HardLineBreak() {
			w.b.WriteString("<br>\n")
		} else if n.SoftLineBreak() {
			w.b.WriteString("\n")
		}
	case *ast.String:
		w.text(string(n.Value))
	case *ast.CodeSpan:
		w.b.WriteString("<code>")
		w.text(w.said(n))
		w.b.WriteString("</code>")
	case *ast.Emphasis:
		if n.Level == 2 {
			w.around("<strong>", n, "</strong>")
		} else {
			w.around("<em>", n, "</em>")
		}
	case *extension.Strikethrough:
		w.around("<s>", n, "</s>")
	case *ast.Link:
		w.link(unescape(string(n.Destination)), n)
	case *ast.Image:
		w.image(n)
	case *ast.AutoLink:
		w.autoLink(n)
	case *ast.RawHTML:
		if tag := n.Segments.Value(w.src); len(tag) < 8 && strings.HasPrefix(strings.ToLower(string(tag)), "<br") {
			w.b.WriteString("<br>\n")
		}
	default:
		w.children(n)
	}
}

// heading writes a heading a level below those that enclose it, however many levels the text leaves out.
func (w *writer) heading(n *ast.Heading) {
	for len(w.open) > 0 && w.open[len(w.open)-1] >= n.Level {
		w.open = w.open[:len(w.open)-1]
	}
	if strings.TrimSpace(w.said(n)) == "" {
		return
	}
	w.open = append(w.open, n.Level)
	level := strconv.Itoa(min(w.level+len(w.open)-1, 6))
	w.b.WriteString("<h" + level)
	if id, ok := n.AttributeString("id"); ok {
		w.b.WriteString(` id="`)
		w.text(id.(string))
		w.b.WriteString(`"`)
	}
	w.around(">", n, "</h"+level+">\n")
}

// collect gives each heading an id, before links to them are written.
func (w *writer) collect(doc ast.Node) {
	w.taken = make(map[string]bool)
	for n := doc.FirstChild(); n != nil; n = n.NextSibling() {
		if h, ok := n.(*ast.Heading); ok {
			w.anchor(h)
		}
	}
}

func (w *writer) anchor(h *ast.Heading) {
	name := slug(w.said(h))
	if name == "" || len(name) > idMax {
		return
	}
	id := idPrefix + name
	for i := 1; w.taken[id]; i++ {
		if i > sameMax {
			return
		}
		id = idPrefix + name + "-" + strconv.Itoa(i)
	}
	w.taken[id] = true
	w.anchors[strings.TrimPrefix(id, idPrefix)] = id
	h.SetAttributeString("id", id)
}

const (
	idMax   = 200 // bytes of a heading's name
	sameMax = 20  // headings of the same name that can be linked to
)

func (w *writer) list(n *ast.List) {
	if !n.IsOrdered() {
		w.around("<ul>\n", n, "</ul>\n")
		return
	}
	open := "<ol>\n"
	if n.Start != 1 && n.Start >= 0 {
		open = `<ol start="` + strconv.Itoa(n.Start) + "\">\n"
	}
	w.around(open, n, "</ol>\n")
}

// codeBlock writes lines that scroll by themselves, so they can be focused and have a name.
func (w *writer) codeBlock(n ast.Node) {
	w.codes++
	w.b.WriteString(`<pre class="code" tabindex="0" role="group" aria-label="Code ` + strconv.Itoa(w.codes) + `"><code>`)
	w.text(string(n.Lines().Value(w.src)))
	w.b.WriteString("</code></pre>\n")
}

// htmlBlock writes what a block of HTML says, without its tags and comments.
func (w *writer) htmlBlock(n *ast.HTMLBlock) {
	block := n.Lines().Value(w.src)
	if n.HasClosure() {
		block = append(bytes.Clone(block), n.ClosureLine.Value(w.src)...)
	}
	if said := strings.TrimSpace(html.UnescapeString(withoutTags(string(block)))); said != "" {
		w.b.WriteString("<p>")
		w.text(said)
		w.b.WriteString("</p>\n")
	}
}

// withoutTags drops everything between < and >, and comments. What is left is not safe, only readable.
func withoutTags(s string) string {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(s, "<")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		end := ">"
		if strings.HasPrefix(rest, "!--") {
			end = "-->"
		}
		if _, s, ok = strings.Cut(rest, end); !ok {
			return b.String()
		}
	}
}

func (w *writer) table(n *extension.Table) {
	w.tables++
	name := "Table " + strconv.Itoa(w.tables)
	w.b.WriteString(`<div class="scroll" tabindex="0" role="group" aria-label="` + name + `"><table><caption class="hide">` + name + "</caption>\n")
	body := false
	for row := n.FirstChild(); row != nil && !w.failed; row = row.NextSibling() {
		if _, ok := row.(*extension.TableHeader); ok {
			w.b.WriteString("<thead>")
			w.row(row, true)
			w.b.WriteString("</thead>\n")
			continue
		}
		if !body {
			w.b.WriteString("<tbody>\n")
			body = true
		}
		w.row(row, false)
	}
	if body {
		w.b.WriteString("</tbody>")
	}
	w.b.WriteString("</table></div>\n")
}

func (w *writer) row(row ast.Node, head bool) {
	w.b.WriteString("<tr>")
	for cell := row.FirstChild(); cell != nil && !w.failed; cell = cell.NextSibling() {
		if head && cell.HasChildren() {
			w.around(`<th scope="col">`, cell, "</th>")
		} else {
			w.around("<td>", cell, "</td>")
		}
	}
	w.b.WriteString("</tr>\n")
}

// link writes a link, or only what it says if it leads to nowhere that it may.
func (w *writer) link(to string, n ast.Node) {
	open := w.target(to)
	if open == "" || w.inLink {
		w.children(n)
		return
	}
	w.b.WriteString(open)
	w.inLink = true
	if strings.TrimSpace(w.said(n)) == "" && !has(n, ast.KindImage) {
		w.text(to)
	}
	w.around("", n, "</a>")
	w.inLink = false
}

// image writes a link to an image, named as who cannot see it would call it.
func (w *writer) image(n *ast.Image) {
	name := strings.TrimSpace(w.said(n))
	if name == "" {
		name = "image"
	}
	open := w.target(unescape(string(n.Destination)))
	if open == "" || strings.HasPrefix(open, `<a href="#`) || w.inLink {
		w.text(name)
		return
	}
	w.b.WriteString(open)
	w.text(name)
	w.b.WriteString("</a>")
}

func (w *writer) autoLink(n *ast.AutoLink) {
	label := string(n.Label(w.src))
	to := string(n.URL(w.src))
	if n.AutoLinkType == ast.AutoLinkEmail && !strings.HasPrefix(strings.ToLower(to), "mailto:") {
		to = "mailto:" + to
	}
	open := w.target(to)
	if open == "" || w.inLink {
		w.text(label)
		return
	}
	w.b.WriteString(open)
	w.text(label)
	w.b.WriteString("</a>")
}

// target returns the tag of a link that may be, else "".
func (w *writer) target(to string) string {
	if name, ok := strings.CutPrefix(to, "#"); ok {
		if id, ok := w.anchors[strings.ToLower(name)]; ok {
			return `<a href="#` + html.EscapeString(id) + `">`
		}
		return ""
	}
	u, err := url.Parse(to)
	if err != nil || u.User != nil {
		return ""
	}
	switch {
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
	case u.Scheme == "mailto" && u.Host == "" && strings.Contains(u.Opaque, "@"):
	default:
		return ""
	}
	return `<a href="` + html.EscapeString(u.String()) + `" rel="nofollow noreferrer">`
}

// said returns what a node says as text.
func (w *writer) said(n ast.Node) string {
	var b strings.Builder
	w.say(&b, n, depthMax)
	return b.String()
}

func (w *writer) say(b *strings.Builder, n ast.Node, depth int) {
	if depth == 0 {
		w.failed = true
		return
	}
	for c := n.FirstChild(); c != nil && !w.failed; c = c.NextSibling() {
		switch c := c.(type) {
		case *ast.Text:
			if _, ok := n.(*ast.CodeSpan); ok {
				b.WriteString(strings.ReplaceAll(string(c.Segment.Value(w.src)), "\n", " "))
				continue
			}
			b.WriteString(w.textOf(c))
			if c.SoftLineBreak() || c.HardLineBreak() {
				b.WriteString(" ")
			}
		case *ast.String:
			b.Write(c.Value)
		case *ast.AutoLink:
			b.Write(c.Label(w.src))
		default:
			w.say(b, c, depth-1)
		}
	}
}

func (w *writer) textOf(n *ast.Text) string {
	s := string(n.Segment.Value(w.src))
	if n.IsRaw() {
		return s
	}
	return unescape(s)
}

// has reports whether a node has a child of a kind.
func has(n ast.Node, kind ast.NodeKind) bool {
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		if c.Kind() == kind {
			return true
		}
	}
	return false
}

// unescape resolves backslashes and entities.
func unescape(s string) string {
	if !strings.ContainsAny(s, `\&`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s) && isPunct(s[i+1]):
			i++
			b.WriteByte(s[i])
		case s[i] == '&':
			end := strings.IndexByte(s[i:min(len(s), i+entityMax)], ';')
			if end > 0 {
				b.WriteString(html.UnescapeString(s[i : i+end+1]))
				i += end
				continue
			}
			b.WriteByte('&')
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// entityMax bounds the bytes of an entity: the longest is &CounterClockwiseContourIntegral;.
const entityMax = 34

func isPunct(c byte) bool {
	return c >= '!' && c <= '/' || c >= ':' && c <= '@' || c >= '[' && c <= '`' || c >= '{' && c <= '~'
}
