package markdown

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cubby/scripts/figures"
)

// tangles are texts that are made to be slow, of about n bytes.
func tangles(n int) map[string]string {
	fill := func(s string) string { return strings.Repeat(s, n/len(s)) }
	all := make(map[string]string)
	for _, s := range []string{
		"[", "]", "[]", "![", "[a](", "[a](b \"", "[a](<b", "[a][", "[a][b] ", "[[a]", "[a](b) ", "[a]: b\n", "[a]: b\n\n", "[a]: b\n\"x\n", "[a]:\nb\n'", "[![a](b)](c) ", "[a](b)]", "(", "http://a(", "(www.a",
		"*a ", "a* ", "*a_ ", "**a *b ", "_a", "*a", "~a", "~~a ", "*a**b", "a**b_c ", "***", "*_", "_*a", "a*_b_*", "**", "*~", "*", "_", "~",
		"`", "`a", "`a``b", "```a\n", "``a` ", "~~~\n", "<", "<a", "<a b=\"", "<!--", "<!-- a --> ", "<?", "<!A", "<![CDATA[", "</a", "<a>", "<div>\n", "<div>\n\n", "<http://a", "<a@b", "<script>\n",
		"&", "&a", "&amp;", "&#1;", "\\", "\\[", "\\`",
		">", "> ", "> a\n", ">\n", "- ", "- a\n", "* a\n\n", "-\n", "1. ", "1. a\n", "1) a\n\n", "- a\n  - b\n", "- a\n> b\n", "> - ", "-\ta\n",
		"| a | b |\n|---|---|\n", "|", "|a", "||||||||\n", "| a |\n|---|\n| `", "-|-\n", "|-|-|-|-|-|-|-|-|\n",
		"a\n", "\n", "a\n=\n", "a\n-\n", "# a\n", "# a #", "###### a\n", "a  \n", "\t", "\ta\n", "   a", "    a\n\n", " ", "\x00", "\xff", "é", "http://a.b ", "www.a.b ", "a@b.c ", "a@", "a.", "_a@b", "*a@b.c", "a_@_", "http:", "ftp://a ",
		"#", "# ", "#\n", "[x]\n", "- [ ] a\n", "\r", "a\r\n", "\\\n", "* * ", "- - -\n", "[a]: <b> (", "[a]: b (\n",
	} {
		all[s] = fill(s)
	}
	var runs, deep, mixed strings.Builder
	for i := 1; runs.Len() < n; i++ {
		runs.WriteString(strings.Repeat("`", i) + "a")
	}
	for i := 0; deep.Len() < n; i++ {
		deep.WriteString(strings.Repeat("  ", min(i, 60)) + "- a\n")
	}
	for i := 0; mixed.Len() < n; i++ {
		fmt.Fprintf(&mixed, "[a%d]: http://example.com/%d 'x'\n", i, i)
	}
	all["runs of backquotes"], all["deep list by indent"], all["many definitions"] = runs.String(), deep.String(), mixed.String()
	all["deep list, blank lines"] = deep.String()[:min(n, 8<<10)] + fill("\n")
	all["used definitions"] = mixed.String()[:n/2] + strings.Repeat("[a1] ", n/10)
	header := strings.Repeat("|a", 90) + "\n" + strings.Repeat("|-", 90) + "\n"
	all["wide table"] = header + strings.Repeat("|\n", n/2)
	all["wide tables"] = strings.Repeat(header+strings.Repeat("|\n", 100)+"\n", n/700)
	all["wide table of code"] = header + strings.Repeat(strings.Repeat("|`", 90)+"\n", n/181)
	half := strings.Repeat("*", n/4)
	all["nested emphasis"] = half + "a" + half
	all["opening and closing"] = strings.Repeat("*a ", n/6) + strings.Repeat("a* ", n/6)
	all["brackets"] = strings.Repeat("[", n/2) + strings.Repeat("]", n/2)
	all["images"] = strings.Repeat("![", n/8) + "a" + strings.Repeat("](b)", n/8)
	all["quotes in quotes"] = strings.Repeat(strings.Repeat(">", 30)+"a\n", n/32)
	all["lazy quotes"] = strings.Repeat(">", 30) + "a\n" + fill("a\n")
	all["lists in a line"] = strings.Repeat(strings.Repeat("- ", 15)+"a\n", n/32)
	all["fences in lists"] = strings.Repeat(strings.Repeat("- ", 15)+"```\n", n/34)
	all["one long line"] = fill("a")
	return all
}

// TestCost: no text takes long, whether it is laid out or not.
func TestCost(t *testing.T) {
	for name, src := range tangles(SourceMax / 2) {
		took := figures.Processor(t, func() {
			if out, _ := Render([]byte(src), 3); len(out) > 2*outputMax {
				t.Errorf("%q became %d bytes", name, len(out))
			}
		})
		if took > costMax {
			t.Errorf("%q took %v", name, took)
		}
	}
}

// costMax is some twenty times of what it takes, for the race detector. Without the limits some take much longer.
const costMax = 2 * time.Second

// TestUsual: what people write is laid out, also when there is much of it.
func TestUsual(t *testing.T) {
	var b strings.Builder
	for i := range 400 {
		fmt.Fprintf(&b, "## Section %d\n\nSome *text* with `code`, a [link](https://example.com/%d) and (more) text, over\nlines that are_not_ too long.\n\n1. one\n   - in one\n     - in that\n\n```yaml\n%s# key: |\n```\n\n------------------------------------------\n\n", i, i, strings.Repeat(" ", 60))
		b.WriteString("Key | Description | Default\n------------------------ | -------------------------- | ---\n")
		for j := range 5 {
			fmt.Fprintf(&b, "| `image.tag%d` | the tag of the image | `1.2.3` |\n", j)
		}
		b.WriteString("\n")
	}
	if b.Len() > SourceMax {
		t.Fatalf("%d bytes", b.Len())
	}
	if _, ok := Render([]byte(b.String()), 3); !ok {
		t.Error("it is not laid out")
	}
}
