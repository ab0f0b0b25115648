package markdown

import (
	"html/template"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

func TestRender(t *testing.T) {
	for _, tt := range []struct{ src, want string }{
		{"", ""},
		{"a *b* **c** ~~d~~ `e<f`", "<p>a <em>b</em> <strong>c</strong> <s>d</s> <code>e&lt;f</code></p>\n"},
		{"a  \nb\\\nc\nd", "<p>a<br>\nb<br>\nc\nd</p>\n"},
		{"# A\n### B\n## C\n#### D\n# A", `<h3 id="readme-a">A</h3>` + "\n" + `<h4 id="readme-b">B</h4>` + "\n" + `<h4 id="readme-c">C</h4>` + "\n" + `<h5 id="readme-d">D</h5>` + "\n" + `<h3 id="readme-a-1">A</h3>` + "\n"},
		{"###### A", `<h3 id="readme-a">A</h3>` + "\n"},
		{"#\n## !\nA\n=", "<h3>!</h3>\n" + `<h3 id="readme-a">A</h3>` + "\n"},
		{"[a](https://example.com/?x=1&y=2 \"title\")", `<p><a href="https://example.com/?x=1&amp;y=2" rel="nofollow noreferrer">a</a></p>` + "\n"},
		{"[a](mailto:a@b.c)", `<p><a href="mailto:a@b.c" rel="nofollow noreferrer">a</a></p>` + "\n"},
		{"[a](#B-c) [b](#none)\n# B c", `<p><a href="#readme-b-c">a</a> b</p>` + "\n" + `<h3 id="readme-b-c">B c</h3>` + "\n"},
		{"[a](docs/x.md) [b](/y) [c](//d) [e](ftp://f/)", "<p>a b c e</p>\n"},
		{"[](https://a/)", `<p><a href="https://a/" rel="nofollow noreferrer">https://a/</a></p>` + "\n"},
		{"[x]\n\n[x]: https://a/ 'b'", `<p><a href="https://a/" rel="nofollow noreferrer">x</a></p>` + "\n"},
		{"![an *image*](https://a/b.png) ![](https://a/)", `<p><a href="https://a/b.png" rel="nofollow noreferrer">an image</a> <a href="https://a/" rel="nofollow noreferrer">image</a></p>` + "\n"},
		{"![a](b.png)", "<p>a</p>\n"},
		{"[![a](https://b/)](https://c/)", `<p><a href="https://c/" rel="nofollow noreferrer">a</a></p>` + "\n"},
		{"[![](https://b/)](https://c/)", `<p><a href="https://c/" rel="nofollow noreferrer">image</a></p>` + "\n"},
		{"see https://a.bc/d, www.e.fg and a@b.cd <https://h/>", `<p>see <a href="https://a.bc/d" rel="nofollow noreferrer">https://a.bc/d</a>, <a href="http://www.e.fg" rel="nofollow noreferrer">www.e.fg</a> and <a href="mailto:a@b.cd" rel="nofollow noreferrer">a@b.cd</a> <a href="https://h/" rel="nofollow noreferrer">https://h/</a></p>` + "\n"},
		{"- a\n- b\n\n  c", "<ul>\n<li><p>a</p>\n</li>\n<li><p>b</p>\n<p>c</p>\n</li>\n</ul>\n"},
		{"3. a\n4. b", "<ol start=\"3\">\n<li>a</li>\n<li>b</li>\n</ol>\n"},
		{"> a", "<blockquote>\n<p>a</p>\n</blockquote>\n"},
		{"a\n\n---\n", "<p>a</p>\n<hr>\n"},
		{"```sh\n<a> &amp;\n```\n\n    x", `<pre class="code" tabindex="0" role="group" aria-label="Code 1"><code>&lt;a&gt; &amp;amp;` + "\n</code></pre>\n" + `<pre class="code" tabindex="0" role="group" aria-label="Code 2"><code>x` + "\n</code></pre>\n"},
		{"| a | |\n|--:|---|\n| b | `c\\|d` |", `<div class="scroll" tabindex="0" role="group" aria-label="Table 1"><table><caption class="hide">Table 1</caption>` + "\n<thead><tr><th scope=\"col\">a</th><td></td></tr>\n</thead>\n<tbody>\n<tr><td>b</td><td><code>c|d</code></td></tr>\n</tbody></table></div>\n"},
		{"a <b>c</b><br/>d <!-- e -->", "<p>a c<br>\nd </p>\n"},
		{"<!-- a -->\n<p align=\"center\">\n b &amp; <img src=x>\n</p>\n\n<!--\n\nx -->", "<p>b &amp;</p>\n"},
		{"<script>\nalert(1)\n</script>", "<p>alert(1)</p>\n"},
		{"&lt;b&gt; &#60;b> \\<b> &nosuch; &amp;lt;", "<p>&lt;b&gt; &lt;b&gt; &lt;b&gt; &amp;nosuch; &amp;lt;</p>\n"},
		{"a\xffb", "<p>a\uFFFDb</p>\n"},
	} {
		got, ok := Render([]byte(tt.src), 3)
		if !ok || string(got) != tt.want {
			t.Errorf("%q became %v\n%s\nwant\n%s", tt.src, ok, got, tt.want)
		}
		allowed(t, tt.src, got)
	}
}

// TestPlain: what would take too long is not laid out.
func TestPlain(t *testing.T) {
	for _, src := range []string{
		strings.Repeat("a", SourceMax+1), strings.Repeat("a\n", linesMax+1), strings.Repeat("> ", markedMax+1) + "a", strings.Repeat(" ", indentMax+1) + "- a",
		strings.Repeat("*", 200) + "a" + strings.Repeat("*", 200), strings.Repeat("|a", 200) + "\n" + strings.Repeat("|-", 200) + "\n" + strings.Repeat("|\n", 200), strings.Repeat("[a](b \"", 50_000), strings.Repeat("http://a ", linksMax+1),
	} {
		if got, ok := Render([]byte(src), 3); ok || got != "" {
			t.Errorf("%.40q… is laid out", src)
		}
	}
}

// elements are all that there may be, each with the attributes it may have.
var elements = map[string][]string{
	"p": nil, "blockquote": nil, "ul": nil, "li": nil, "hr": nil, "br": nil, "code": nil, "em": nil, "strong": nil, "s": nil, "table": nil, "thead": nil, "tbody": nil, "tr": nil, "td": nil,
	"ol": {"start"}, "a": {"href", "rel"}, "pre": {"class", "tabindex", "role", "aria-label"}, "div": {"class", "tabindex", "role", "aria-label"}, "caption": {"class"}, "th": {"scope"},
	"h3": {"id"}, "h4": {"id"}, "h5": {"id"}, "h6": {"id"},
}

// allowed fails the test when HTML has an element, an attribute or a link that may not be, or when a browser would see
// other elements than were written.
func allowed(t *testing.T, src string, out template.HTML) {
	t.Helper()
	root, err := html.Parse(strings.NewReader("<!doctype html><body><main>" + string(out) + "</main>"))
	if err != nil {
		t.Fatalf("%q: %v", src, err)
	}
	ids, level, count := make(map[string]bool), 2, 0
	for n := range root.Descendants() {
		if n.Type == html.CommentNode {
			t.Errorf("%q: a comment in %q", src, out)
		}
		if n.Type != html.ElementNode || slices.Contains([]string{"html", "head", "body", "main"}, n.Data) {
			continue
		}
		count++
		attributes, ok := elements[n.Data]
		if !ok {
			t.Errorf("%q: <%s> in %q", src, n.Data, out)
		}
		for _, a := range n.Attr {
			if !slices.Contains(attributes, a.Key) {
				t.Errorf("%q: <%s %s> in %q", src, n.Data, a.Key, out)
			}
			if a.Key == "id" && (ids[a.Val] || !strings.HasPrefix(a.Val, idPrefix)) {
				t.Errorf("%q: the id %q in %q", src, a.Val, out)
			}
			if a.Key == "id" {
				ids[a.Val] = true
			}
		}
		if n.Data[0] == 'h' && len(n.Data) == 2 && n.Data != "hr" {
			if at, _ := strconv.Atoi(n.Data[1:]); at > level+1 {
				t.Errorf("%q: <%s> below level %d in %q", src, n.Data, level, out)
			} else {
				level = at
			}
		}
		if n.Data == "a" {
			checkLink(t, src, n)
		}
	}
	if written := strings.Count(string(out), "<") - strings.Count(string(out), "</"); written != count {
		t.Errorf("%q: %d elements are written, a browser sees %d in %q", src, written, count, out)
	}
	for rest := string(out); ; {
		_, after, ok := strings.Cut(rest, "&")
		if !ok {
			break
		}
		if rest = after; !slices.ContainsFunc([]string{"lt;", "gt;", "amp;", "#34;", "#39;"}, func(e string) bool { return strings.HasPrefix(after, e) }) {
			t.Errorf("%q: an entity that may hide a character in %q", src, out)
		}
	}
}

func checkLink(t *testing.T, src string, n *html.Node) {
	t.Helper()
	attrs := make(map[string]string)
	for _, a := range n.Attr {
		attrs[a.Key] = a.Val
	}
	for p := range n.Ancestors() {
		if p.Data == "a" {
			t.Errorf("%q: a link in a link", src)
		}
	}
	if strings.HasPrefix(attrs["href"], "#"+idPrefix) {
		return
	}
	u, err := url.Parse(attrs["href"])
	if err != nil || !slices.Contains([]string{"http", "https", "mailto"}, u.Scheme) || u.Scheme != "mailto" && u.Host == "" || attrs["rel"] != "nofollow noreferrer" {
		t.Errorf("%q: the link %q, rel %q, %v", src, attrs["href"], attrs["rel"], err)
	}
}

// hostile are texts that would run, load or look like something if they could.
var hostile = []string{
	"<script>alert(1)</script>", "a <script>alert(1)</script>", "<img src=x onerror=alert(1)>", "a <img src=x onerror=alert(1)>", "<svg onload=alert(1)>", "<iframe src=javascript:alert(1)>",
	"[a](javascript:alert(1))", "[a](JaVaScRiPt:alert(1))", "[a](java\tscript:alert(1))", "[a](<java\nscript:alert(1)>)", "[a](&#106;avascript:alert(1))", "[a](javascript&colon;alert(1))", "[a](\\javascript:alert(1))", "[a](%6aavascript:alert(1))", "[a]( javascript:alert(1))", "[a](\x01javascript:alert(1))",
	"[a](data:text/html;base64,PHNjcmlwdD4=)", "[a](vbscript:x)", "[a](file:///etc/passwd)", "[a](blob:https://a/b)", "[a](https:evil)", "[a](https:///evil)", "[a](http://user:secret@host/)", "[a](//evil)", "[a](/\\evil)", "[a](\\\\evil)",
	"![a](javascript:alert(1))", "![a](x\" onerror=\"alert(1))", "![a\" onerror=\"alert(1)](https://x/)", "[a](https://x/\" onclick=\"alert(1))", "[a](https://x/ \"t\" onclick=alert(1))", "[a](<https://x/\" onclick=\"alert(1)>)", "[a](https://x/'onclick='alert(1))",
	"<javascript:alert(1)>", "<data:text/html,x>", "<https://x/\"onclick=alert(1)>", "http://x/\"onclick=\"alert(1)", "javascript://x/%0aalert(1)", "[a]: javascript:alert(1)\n\n[a]", "[a]: https://x/ \"\\\" onclick=alert(1)\"\n\n[a]",
	"# a {onclick=alert(1)}", "# a {#main .x style=x}", "# main", "# status\n# search", "# \"><script>alert(1)</script>", "[a](#main)", "[a](#\"><script>)", "# <b id=main>x</b>",
	"```\" onclick=\"alert(1)\nx\n```", "```<script>\n</code></pre><script>alert(1)</script>\n```", "    </code></pre><script>", "`</code><script>`", "| <script> |\n|---|\n| </table><script>alert(1)</script> |",
	"<!-- --><script>alert(1)</script>", "<!--><script>alert(1)</script>-->", "<![CDATA[<script>]]>", "<?php <script> ?>", "<!X <script>>", "<style>*{display:none}</style>", "<base href=//evil>", "<meta http-equiv=refresh content=0>", "<form action=//evil><input>", "<a href=javascript:alert(1)>x</a>", "<details open ontoggle=alert(1)>", "<br onclick=alert(1)>", "a<br onclick=x>", "<brx>",
	"<p style=position:fixed>x</p>", "</main></body><script>", "[x](https://a/?<script>)", "&#60;script&#62;alert(1)&#60;/script&#62;", "&lt;script&gt;", "\\<script\\>", "*<script>*", "[<script>](https://a/)", "[a](https://a\u202e/)", "&#x202e;x&rlm;", "a\u202eb", "https://a.b/\u202ec", "\x00", "<\x00script>", "[a](\x00javascript:x)",
	"[a](https://[::1]:80/ )", "[a](https://a b/)", "[a](https://a%zz/)", "[[a](https://x/)](https://y/)", "[a https://x.yz/](https://y/)", "![[a](https://x/)](https://y/)", "<http://a><http://b>",
}

func TestHostile(t *testing.T) {
	all := slices.Clone(hostile)
	for line := range strings.Lines(string(read(t, "../testdata/hostile.txt"))) {
		text, err := strconv.Unquote(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, text, "# "+text, "["+text+"]("+text+")", "![a]("+text+")", "[a](https://x/"+text+")", "[a](<"+text+">)", "`"+text+"`", "<"+text+">", "| "+text+" |\n|---|\n| "+text+" |", "[a]: "+text+"\n\n[a]", "```"+text+"\n"+text)
	}
	for _, src := range all {
		if out, ok := Render([]byte(src), 3); ok {
			allowed(t, src, out)
		}
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func FuzzRender(f *testing.F) {
	for _, src := range hostile {
		f.Add([]byte(src))
	}
	for _, src := range tangles(200) {
		f.Add([]byte(src))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		out, ok := Render(src, 3)
		if ok {
			allowed(t, string(src), out)
		} else if out != "" {
			t.Errorf("%q is not laid out, and became %q", src, out)
		}
	})
}
