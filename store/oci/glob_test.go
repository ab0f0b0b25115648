package oci

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern string
		yes, no []string
	}{
		{"**", []string{"a", "a/b", "a/b/c"}, nil},
		{"*", []string{"a", "v1.2"}, []string{"a/b"}},
		{"team/*", []string{"team/a"}, []string{"team", "team/a/b", "teams/a", "x/team/a"}},
		{"team/**", []string{"team", "team/a", "team/a/b"}, []string{"teams", "teams/a", "x/team/a"}},
		{"team*/**", []string{"team", "teams", "team/a", "teams/a"}, []string{"tea", "x/team"}},
		{"a{b*,c}/**", []string{"ab", "abc", "ac", "ac/x"}, []string{"a", "ad"}},
		{"**/cache", []string{"cache", "a/cache", "a/b/cache"}, []string{"a/caches", "mycache"}},
		{"pr-?", []string{"pr-1"}, []string{"pr-", "pr-12"}},
		{"v[0-9]*", []string{"v1", "v1.2"}, []string{"vx"}},
		{"{dev,test}/*", []string{"dev/a", "test/b"}, []string{"prod/a"}},
		{"a.b", []string{"a.b"}, []string{"axb"}},
	} {
		g, err := ParseGlob(c.pattern)
		if err != nil {
			t.Errorf("ParseGlob(%q): %v", c.pattern, err)
		}
		for _, s := range c.yes {
			if !g.Match(s) {
				t.Errorf("%q does not match %q", c.pattern, s)
			}
		}
		for _, s := range c.no {
			if g.Match(s) {
				t.Errorf("%q matches %q", c.pattern, s)
			}
		}
	}
	for _, bad := range []string{"", "[a", "{a", "[!a]", `a\*`, strings.Repeat("a", 256), strings.Repeat("*a", 17)} {
		if _, err := ParseGlob(bad); !errors.Is(err, ErrGlobInvalid) {
			t.Errorf("ParseGlob(%q): %v, want ErrGlobInvalid", bad, err)
		}
	}
	if (Glob{}).Match("") {
		t.Error("the zero Glob matches")
	}
}

// TestGlobIsBounded: the worst pattern that is allowed does not hang on the longest name.
func TestGlobIsBounded(t *testing.T) {
	for _, pattern := range []string{strings.Repeat("*a", 16) + "b", strings.Repeat("**/", 8) + "b", strings.Repeat("{a,a}", 8) + "b"} {
		g, err := ParseGlob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		g.Match(strings.Repeat("a", NameMax))
		g.Match(strings.Repeat("a/", NameMax/2))
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%q took %s", pattern, took)
		}
	}
}
