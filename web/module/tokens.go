package module

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// A file of configuration is taken apart into tokens by the lexer of HCL, and into arguments and blocks by what is here.
// The parser of HCL is not asked: it calls itself for each bracket, operator and template, and Go ends the whole program
// when that goes too deep; it makes numbers of a text like 1e999999999; and nothing here needs what an expression means.

// A measure is what the lexer may still cost for a module.
type measure struct {
	tokens int // words and signs
	steps  int // bytes that are read twice
}

// take bounds what the lexer will cost for a text, before it is asked. The lexer has no bound of its own.
func (m *measure) take(src []byte) error {
	if !utf8.Valid(src) {
		return errors.New("it is not UTF-8")
	}
	tokens := tokensOf(src)
	if tokens > tokensMax {
		return fmt.Errorf("it has more than %d words and signs", tokensMax)
	}
	if m.tokens -= tokens; m.tokens < 0 {
		return fmt.Errorf("all files together have more than %d words and signs", allMax)
	}
	// Where a comment begins that never ends, the lexer goes to the end of the text before it finds out, and then goes on
	// one byte further: 60 KB of them take it 16 seconds.
	last := max(bytes.LastIndex(src, []byte("*/")), 0)
	for rest := src[last:]; ; {
		i := bytes.Index(rest, []byte("/*"))
		if i < 0 {
			return nil
		}
		rest = rest[i+2:]
		if m.steps -= len(rest); m.steps < 0 {
			return errors.New("it opens too many comments that never end")
		}
	}
}

// tokensOf returns at least how many tokens the lexer makes of a text: a word is one, and so is each sign. Of a word that
// begins with digits it makes two, each letter that is not ASCII may be a sign, and spaces count in strings, behind a
// quote or what could begin a template.
func tokensOf(src []byte) (n int) {
	inWord := false
	for _, c := range src {
		digit := c >= '0' && c <= '9'
		word := c == '_' || digit || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		switch {
		case word && inWord, c == ' ', c == '\t', c >= utf8.RuneSelf && !utf8.RuneStart(c):
		case digit, c == '"', c == '$', c == '%':
			n += 2
		default:
			n++
		}
		inWord = word
	}
	return n
}

// lex returns the tokens of a text without comments that stand inside a line; one that ends a line is its end.
func (m *measure) lex(src []byte) (tokens hclsyntax.Tokens, err error) {
	if err := m.take(src); err != nil {
		return nil, err
	}
	defer func() {
		if p := recover(); p != nil { // the lexer has reasons of its own to give up
			tokens, err = nil, fmt.Errorf("the lexer of HCL gave up: %v", p)
		}
	}()
	all, _ := hclsyntax.LexConfig(src, "", hcl.InitialPos) // what it does not like becomes tokens that nothing fits
	for _, t := range all {
		switch {
		case t.Type == hclsyntax.TokenEOF:
			continue
		case t.Type == hclsyntax.TokenComment && !bytes.HasSuffix(t.Bytes, []byte("\n")):
			continue
		case t.Type == hclsyntax.TokenComment:
			t.Type = hclsyntax.TokenNewline
		}
		tokens = append(tokens, t)
	}
	return tokens, nil
}

// depth returns how much deeper in brackets one is behind a token.
func depth(t hclsyntax.Token) int {
	switch t.Type {
	case hclsyntax.TokenOParen, hclsyntax.TokenOBrack, hclsyntax.TokenOBrace, hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl, hclsyntax.TokenOQuote, hclsyntax.TokenOHeredoc:
		return 1
	case hclsyntax.TokenCParen, hclsyntax.TokenCBrack, hclsyntax.TokenCBrace, hclsyntax.TokenTemplateSeqEnd, hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc:
		return -1
	}
	return 0
}

// An item of a body is an argument or a block.
type item struct {
	name   string
	labels []string         // of a block
	block  bool             // else it is an argument
	tokens hclsyntax.Tokens // the value, or what is between the braces
}

// A body is walked through item by item.
type body struct {
	tokens  hclsyntax.Tokens
	problem string // what is wrong at the first place that is
}

// next returns the next item. What is none is skipped to the end of its line.
func (b *body) next() (it item, ok bool) {
	for len(b.tokens) > 0 {
		t := b.tokens[0]
		if t.Type == hclsyntax.TokenNewline {
			b.tokens = b.tokens[1:]
			continue
		}
		if t.Type == hclsyntax.TokenIdent {
			if it, n := b.item(); n > 0 {
				b.tokens = b.tokens[n:]
				return it, true
			}
		}
		b.fail(t, "this is neither an argument nor a block")
		b.tokens = b.tokens[lineEnd(b.tokens):]
	}
	return item{}, false
}

func (b *body) fail(t hclsyntax.Token, what string) {
	if b.problem == "" {
		b.problem = fmt.Sprintf("line %d: %s", t.Range.Start.Line, what)
	}
}

// item reads an item and returns how many tokens it has; 0: there is none.
func (b *body) item() (it item, n int) {
	it.name = string(b.tokens[0].Bytes)
	if len(b.tokens) > 1 && b.tokens[1].Type == hclsyntax.TokenEqual {
		end := 2 + lineEnd(b.tokens[2:])
		it.tokens = b.tokens[2:end]
		return it, end
	}
	it.block = true
	for i := 1; i < len(b.tokens); {
		switch t := b.tokens[i]; t.Type {
		case hclsyntax.TokenIdent:
			it.labels = append(it.labels, string(t.Bytes))
			i++
		case hclsyntax.TokenOQuote:
			end := i + closing(b.tokens[i:])
			label, ok := literal(b.tokens[i:end])
			if !ok {
				return it, 0
			}
			it.labels = append(it.labels, label)
			i = end
		case hclsyntax.TokenOBrace:
			end := i + closing(b.tokens[i:])
			if b.tokens[end-1].Type != hclsyntax.TokenCBrace {
				b.fail(t, "this brace is never closed")
				it.tokens = b.tokens[i+1 : end]
				return it, end
			}
			it.tokens = b.tokens[i+1 : end-1]
			return it, end
		default:
			return it, 0
		}
	}
	return it, 0
}

// lineEnd returns how many tokens there are up to the end of a line that is in no bracket.
func lineEnd(tokens hclsyntax.Tokens) int {
	deep := 0
	for i, t := range tokens {
		if deep <= 0 && t.Type == hclsyntax.TokenNewline {
			return i
		}
		deep += depth(t)
	}
	return len(tokens)
}

// closing returns how many tokens there are up to the one that closes the first, with it; all if none does.
func closing(tokens hclsyntax.Tokens) int {
	deep := 0
	for i, t := range tokens {
		if deep += depth(t); deep <= 0 {
			return i + 1
		}
	}
	return len(tokens)
}

// literal returns the text that a string stands for, if it is one without templates.
func literal(tokens hclsyntax.Tokens) (string, bool) {
	if len(tokens) < 2 {
		return "", false
	}
	first, last := tokens[0], tokens[len(tokens)-1]
	heredoc := first.Type == hclsyntax.TokenOHeredoc && last.Type == hclsyntax.TokenCHeredoc
	if !heredoc && (first.Type != hclsyntax.TokenOQuote || last.Type != hclsyntax.TokenCQuote) {
		return "", false
	}
	var b strings.Builder
	for _, t := range tokens[1 : len(tokens)-1] {
		if t.Type != hclsyntax.TokenQuotedLit && t.Type != hclsyntax.TokenStringLit {
			return "", false
		}
		s, _ := hclsyntax.ParseStringLiteralToken(t)
		b.WriteString(s)
	}
	if heredoc && bytes.HasPrefix(first.Bytes, []byte("<<-")) {
		return dedent(b.String(), 0), true
	}
	return b.String(), true
}

// written returns a value as it stands in the text, without the indentation that all its lines have.
func written(src []byte, tokens hclsyntax.Tokens) string {
	if len(tokens) == 0 {
		return ""
	}
	from, to := tokens[0].Range.Start.Byte, tokens[len(tokens)-1].Range.End.Byte
	return dedent(string(src[from:to]), 1)
}

// dedent removes the spaces that all lines from one on begin with.
func dedent(s string, from int) string {
	lines := strings.Split(strings.ReplaceAll(s, "\r\n", "\n"), "\n")
	least := -1
	for i, l := range lines {
		if trimmed := strings.TrimLeft(l, " "); i >= from && trimmed != "" && (least < 0 || len(l)-len(trimmed) < least) {
			least = len(l) - len(trimmed)
		}
	}
	if least <= 0 {
		return strings.Join(lines, "\n")
	}
	for i, l := range lines {
		if i >= from {
			lines[i] = l[min(least, len(l)-len(strings.TrimLeft(l, " "))):]
		}
	}
	return strings.Join(lines, "\n")
}
