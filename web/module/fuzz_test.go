package module

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// FuzzConfig compares what is read here with what the parser of HCL reads, where that finds nothing wrong.
func FuzzConfig(f *testing.F) {
	f.Add(example)
	for _, s := range []string{
		"a = 1", "a {\n}", "a \"b\" c {}", "a { b = 1 }", "a = <<X\nb ${c}\nX\n", "a = <<-X\n  b\n  X\nb = 2\n", "a = [\n1,\n2\n]\n", "a = { b = \"}\" }", "a = \"$${b}%%{c}\\n\\u00e9\"",
		"a = 1 // b\nc = 2 # d\n/* e */ f = 3", "a = b ? c : d", "a = \"${b}${c}\"\n", "a = \"%{ if b }c%{ endif }\"\n", "\uFEFFa = 1\r\nb = 2\r\n", "a = (\n1\n)\n", "a = f(<<X\nx\nX\n)\n",
	} {
		f.Add(s)
	}
	for _, s := range bombs() {
		f.Add(s[:min(len(s), 2000)])
	}
	f.Fuzz(func(t *testing.T, src string) {
		m := measure{tokensMax, stepsMax}
		tokens, err := m.lex([]byte(src))
		if err != nil {
			return
		}
		if n := tokensOf([]byte(src)); len(tokens) > n {
			t.Fatalf("%d tokens, %d were counted", len(tokens), n)
		}
		l := loader{m: &Module{}, left: textsMax, measure: measure{allMax, stepsMax}}
		l.config("main.tf", []byte(src))
		if tokensOf([]byte(src)) > 1000 {
			return // the parser has no bound of its own
		}
		file, diags := hclsyntax.ParseConfig([]byte(src), "", hcl.InitialPos)
		if diags.HasErrors() {
			return
		}
		b := body{tokens: tokens}
		got := shape(&b, src)
		if want := shapeOf(file.Body.(*hclsyntax.Body), src); b.problem != "" || !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q; %s", src, got, want, b.problem)
		}
	})
}

// shape returns what a body has, one argument or block at a time.
func shape(b *body, src string) (all []string) {
	for it, ok := b.next(); ok; it, ok = b.next() {
		if !it.block {
			text := ""
			if n := len(it.tokens); n > 0 {
				text = src[it.tokens[0].Range.Start.Byte:it.tokens[n-1].Range.End.Byte]
			}
			all = append(all, it.name+" = "+text)
			continue
		}
		in := body{tokens: it.tokens}
		all = append(all, fmt.Sprintf("%s %q %q", it.name, it.labels, shape(&in, src)))
		if b.problem == "" {
			b.problem = in.problem
		}
	}
	slices.Sort(all)
	return all
}

func shapeOf(b *hclsyntax.Body, src string) (all []string) {
	for _, a := range b.Attributes {
		r := a.Expr.Range()
		all = append(all, a.Name+" = "+strings.TrimSuffix(src[r.Start.Byte:r.End.Byte], "\n"))
	}
	for _, block := range b.Blocks {
		all = append(all, fmt.Sprintf("%s %q %q", block.Type, block.Labels, shapeOf(block.Body, src)))
	}
	slices.Sort(all)
	return all
}
