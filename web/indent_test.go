package web

import (
	"strings"
	"testing"
)

// TestIndentStaysSmall lays out 90 KB that would become 400 MB: each level of nesting moves every line.
func TestIndentStaysSmall(t *testing.T) {
	deep := strings.Repeat("[", 5000) + strings.Repeat("1,", 40_000) + "1" + strings.Repeat("]", 5000)
	if got := indent(deep); got != deep {
		t.Errorf("deeply nested JSON of %d bytes became %d", len(deep), len(got))
	}
	// Brackets in a text do not count.
	text := `{"a":"` + strings.Repeat("[", 5000) + `\"` + strings.Repeat("{,", 5000) + `"}`
	if got := indent(text); got == text {
		t.Error("brackets in a text kept it from being laid out")
	}
	for _, s := range []string{`{"a":[1,2],"b":{}}`, `[[[[1,[2]]]],{"x":{"y":[1,2,3]}}]`} {
		if n := indentedSize(s); n < len(indent(s))-len(s) {
			t.Errorf("%s: its size is estimated as %d, it is %d", s, n, len(indent(s)))
		}
	}
}
