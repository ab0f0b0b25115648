package cli

import "testing"

// TestParseRemoval: what rm is told to remove, and that nothing is taken for something else.
func TestParseRemoval(t *testing.T) {
	for s, want := range map[string]removalArg{
		"a/b:x":                      {exact: true, repo: "a/b", tags: "x"},
		"localhost:5000/a/b:x":       {exact: true, repo: "a/b", tags: "x"},
		"a/b":                        {all: true, repo: "a/b", tags: "*"},
		"host:5000/a":                {all: true, repo: "a", tags: "*"},
		"team/*:pr-*":                {repo: "team/*", tags: "pr-*"},
		"h:1/team/*:pr-*":            {repo: "team/*", tags: "pr-*"},
		"{a,b}/**:{x,y}-[0-9]*":      {repo: "{a,b}/**", tags: "{x,y}-[0-9]*"},
		"a:*":                        {repo: "a", tags: "*"},
		"team:*/team/a":              {},
		"x:[/team/a":                 {},
		"team/*":                     {},
		"team/*@sha256:00":           {},
		"team/api:*:x":               {},
		"Team/*:x":                   {},
		"team**:x":                   {},
		"a:x y*":                     {},
		":x*":                        {},
		"":                           {},
		"a:":                         {},
		"a@sha256:0":                 {},
		"nas:port/team/a:x":          {},
		"host:5000/":                 {},
		"[":                          {},
		"a:b/c*":                     {},
		"registry.example.com/a*:b":  {repo: "registry.example.com/a*", tags: "b"},
		"a/b:sha256-0000000000*.sig": {repo: "a/b", tags: "sha256-0000000000*.sig"},
	} {
		got, err := parseRemoval(s)
		if (err != nil) != (want.repo == "") {
			t.Errorf("%q: %+v, %v", s, got, err)
			continue
		}
		if err == nil && (got.exact != want.exact || got.all != want.all || got.repo != want.repo || got.tags != want.tags) {
			t.Errorf("%q: %+v, want %+v", s, got, want)
		}
	}
}
