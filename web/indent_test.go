package web

import (
	"strings"
	"testing"
)

func TestIndent(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"object", `{"a":[1,2],"b":{}}`, "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": {}\n}"},
		{"brackets in a text", `{"a":"[[[[\"{{{"}`, "{\n  \"a\": \"[[[[\\\"{{{\"\n}"},
		{"several lines", "{\n\"a\":1}", "{\n\"a\":1}"},
		{"no JSON", `{"a"`, `{"a"`},
		{"text", "hello", "hello"},
	} {
		if got := indent(tt.in); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	// 90 KB that would become 400 MB.
	deep := strings.Repeat("[", 5000) + strings.Repeat("1,", 40_000) + "1" + strings.Repeat("]", 5000)
	if got := indent(deep); got != deep {
		t.Errorf("deeply nested JSON of %d bytes became %d", len(deep), len(got))
	}
	if n := indentedSize(`{"a":[1,2],"b":{}}`); n < len(indent(`{"a":[1,2],"b":{}}`)) {
		t.Errorf("the size is estimated as %d", n)
	}
}
