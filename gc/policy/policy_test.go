package policy

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"cubby/store"
	"cubby/store/oci"
)

func name(s string) oci.Name {
	n, err := oci.ParseName(s)
	if err != nil {
		panic(err)
	}
	return n
}

func parse(t *testing.T, text string) *Policy {
	t.Helper()
	p, _, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestParseInvalid: what is wrong with a file is told with its line, and in words of the file.
func TestParseInvalid(t *testing.T) {
	const rule = "retention:\n  - repositories: \"**\"\n    tags: \"*\"\n"
	for text, want := range map[string]string{
		"":                                "it is empty",
		"# nothing":                       "it is empty",
		"keep: [":                         "line 1",
		"{}\n---\n{}":                     "more than one document",
		"retain: []":                      "line 1: unknown key retain",
		rule + "    tagz: a":              "line 4: unknown key tagz",
		rule + "    keep: {new: 1}":       "line 4: unknown key new",
		rule:                              "line 2: rule 1 of retention: it says nothing to keep",
		rule + "    keep: {}":             "it says nothing to keep",
		rule + "    keep: {newest: -1}":   `line 4: "-1" is no number`,
		rule + "    keep: {pushed: 3x}":   `line 4: "3x" is no time`,
		rule + "    keep: {pushed: 200y}": `line 4: "200y" is no time`,
		rule + "    keep: {newest: 1, newest: 2}": "already",
		rule + "    keep: {newest: 1}\n    name: x\n  - {name: x, repositories: a, tags: a, keep: {newest: 1}}": `line 6: rule 2 of retention: there is another rule named "x"`,
		rule + "    keep: {newest: 1}\n    name: \"a\\nb\"":                                                     "control characters",
		"retention:\n  - tags: a\n    keep: {newest: 1}":                                                        "line 2: rule 1 of retention: repositories is missing",
		"immutable: [{repositories: a}]":                                                                        "tags is missing",
		"protected: [{tags: a}]":                                                                                "repositories is missing",
		"keep: [{repositories: a}]":                                                                             "it sets none of",
		"keep: 3":                                                                                               "line 1: this is not what belongs here `3`",
		"protected:\n  - repositories: *\n    tags: a":                                                          `must be in quotes`,
		"protected:\n  - repositories: \"[a\"\n    tags: a":                                                     "line 2: pattern invalid",
		"protected:\n  - repositories: []\n    tags: a":                                                         "line 2: a pattern or a list of patterns is wanted here",
		"protected:\n  - repositories: [a, ~]\n    tags: a":                                                     "line 2: a pattern is wanted here",
		"protected:\n  - repositories: \"!a\"\n    tags: a":                                                     "no negation",
	} {
		_, _, err := Parse([]byte(text))
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q:\n got %v\nwant %q", text, err, want)
		}
		if err != nil && (strings.Contains(err.Error(), "policy.") || strings.Contains(err.Error(), "struct")) {
			t.Errorf("%q: %v tells about our types", text, err)
		}
	}
}

// TestWarnings: a rule by use alone loses what nodes have cached.
func TestWarnings(t *testing.T) {
	for text, want := range map[string]int{
		`retention: [{repositories: a, tags: a, keep: {used: 30d}}]`:            1,
		`retention: [{repositories: a, tags: a, keep: {used: 30d, newest: 3}}]`: 0,
		`retention: [{repositories: a, tags: a, keep: {pushed: 30d}}]`:          0,
		`protected: [{repositories: "*", tags: a}]`:                             1,
	} {
		if _, warnings, err := Parse([]byte(text)); err != nil || len(warnings) != want {
			t.Errorf("%s: %q, %v; want %d warnings", text, warnings, err, want)
		}
	}
}

var now = time.Date(2026, 5, 12, 12, 0, 0, 0, time.UTC)

// uses returns tags that were pushed and used so many days ago; used is -1 for never.
func uses(days ...any) (tags []store.TagUse) {
	for i := 0; i < len(days); i += 3 {
		t := store.TagUse{Tag: days[i].(string), PushedAt: now.AddDate(0, 0, -days[i+1].(int))}
		if used := days[i+2].(int); used >= 0 {
			t.UsedAt = now.AddDate(0, 0, -used)
		}
		tags = append(tags, t)
	}
	return tags
}

// TestDecide: which tags go, and that each decision names its rule.
func TestDecide(t *testing.T) {
	long := now.AddDate(-1, 0, 0) // since when use is recorded
	for _, tt := range []struct {
		what, policy string
		tags         []store.TagUse
		tracked      time.Time
		goes         string // the tags that go, in order
		rules        string // of every tag, "-" when none decides
	}{
		{"no rules", `{}`, uses("a", 1, -1), long, "", "-"},
		{"another repository", `retention: [{repositories: "x/**", tags: "**", keep: {newest: 0}}]`, uses("a", 1, -1), long, "", "-"},
		{"nothing is kept", `retention: [{name: r, repositories: "team/*", tags: "*", keep: {newest: 0}}]`, uses("a", 0, 0), long, "a", "r"},
		{"newest by push", `retention: [{name: r, repositories: "**", tags: "*", keep: {newest: 2}}]`,
			uses("a", 5, -1, "b", 1, -1, "c", 3, 0), long, "a", "r r r"},
		{"the same second by number", `retention: [{name: r, repositories: "**", tags: "*", keep: {newest: 2}}]`,
			uses("v1.9", 1, -1, "v1.10", 1, -1, "v1.2", 1, -1), long, "v1.2", "r r r"},
		{"pushed within", `retention: [{name: r, repositories: "**", tags: "*", keep: {pushed: 3d}}]`, uses("a", 2, -1, "b", 3, -1, "c", 4, 0), long, "b c", "r r r"},
		{"used within, and a push is a use", `retention: [{name: r, repositories: "**", tags: "*", keep: {used: 3d}}]`,
			uses("a", 2, -1, "b", 9, 2, "c", 9, 4, "d", 9, -1), long, "c d", "r r r r"},
		{"use is not tracked for long enough", `retention: [{name: r, repositories: "**", tags: "*", keep: {used: 3d}}]`,
			uses("a", 9, -1), now.AddDate(0, 0, -2), "", "r"},
		{"any reason is enough", `retention: [{name: r, repositories: "**", tags: "*", keep: {newest: 1, pushed: 3d, tags: ["keep-*"]}}]`,
			uses("a", 1, -1, "b", 2, -1, "keep-c", 9, -1, "d", 9, -1), long, "d", "r r r r"},
		{"the first rule decides", `retention: [{name: one, repositories: "**", tags: "pr-*", keep: {newest: 9}}, {name: two, repositories: "**", tags: "*", keep: {newest: 0}}]`,
			uses("pr-1", 9, -1, "x", 0, -1), long, "x", "one two"},
		{"what another rule decides is not counted", `retention: [{name: one, repositories: "**", tags: "pr-*", keep: {newest: 1}}, {name: two, repositories: "**", tags: "*", keep: {newest: 1}}]`,
			uses("pr-1", 1, -1, "pr-2", 2, -1, "x", 3, -1, "y", 4, -1), long, "pr-2 y", "one one two two"},
		{"protected stays and is not counted", `{protected: [{name: p, repositories: "**", tags: latest}], retention: [{name: r, repositories: "**", tags: "*", keep: {newest: 1}}]}`,
			uses("latest", 1, -1, "a", 2, -1, "b", 3, -1), long, "b", "p r r"},
		{"protected elsewhere", `{protected: [{name: p, repositories: "x", tags: latest}], retention: [{name: r, repositories: "**", tags: "*", keep: {newest: 0}}]}`,
			uses("latest", 1, -1), long, "latest", "r"},
		{"rules without names are called by their place", `retention: [{repositories: "**", tags: "*", keep: {newest: 1}}]`, uses("a", 1, -1), long, "", "retention 1"},
	} {
		var gone, rules []string
		for i, d := range parse(t, tt.policy).Decide(name("team/api"), tt.tags, now, store.Recording{Since: tt.tracked}) {
			rule := d.Rule
			if !d.Decided {
				rule = "-"
			} else if d.Why == "" {
				t.Errorf("%s: no reason for %s", tt.what, tt.tags[i].Tag)
			}
			rules = append(rules, rule)
			if d.Decided && !d.Keep {
				gone = append(gone, tt.tags[i].Tag)
			}
		}
		if got := strings.Join(gone, " "); got != tt.goes {
			t.Errorf("%s: %q go, want %q", tt.what, got, tt.goes)
		}
		if got := strings.Join(rules, " "); got != tt.rules {
			t.Errorf("%s: rules %q, want %q", tt.what, got, tt.rules)
		}
	}
}

// TestRemoving: what somebody wants removed goes by one rule, but not what is protected.
func TestRemoving(t *testing.T) {
	p := parse(t, `{protected: [{name: p, repositories: "**", tags: latest}], retention: [{repositories: "**", tags: "*", keep: {newest: 9}}]}`)
	glob, err := oci.ParseGlob("**")
	if err != nil {
		t.Fatal(err)
	}
	rule := Rule{Selector: Selector{Repositories: []oci.Glob{glob}, Tags: []oci.Glob{glob}}, Newest: 1}
	tags := uses("latest", 1, -1, "a", 2, -1, "b", 3, -1)
	for _, tt := range []struct {
		p    *Policy
		want []bool
	}{{p, []bool{true, true, false}}, {nil, []bool{true, false, false}}} {
		var keep []bool
		for _, d := range tt.p.Removing(rule).Decide(name("a"), tags, now, store.Recording{Since: now}) {
			keep = append(keep, d.Keep)
		}
		if !slices.Equal(keep, tt.want) {
			t.Errorf("kept %v, want %v", keep, tt.want)
		}
	}
}

// TestKeep: the first rule that matches a repository sets its keep times, the defaults the rest of them.
func TestKeep(t *testing.T) {
	p := parse(t, `keep: [{repositories: "ci/**", untagged: 1d}, {repositories: ["**"], used: 2w, cache: 0s}]`)
	for _, tt := range []struct {
		p    *Policy
		name string
		want Keep
	}{
		{nil, "a", DefaultKeep},
		{&Policy{}, "a", DefaultKeep},
		{p, "ci/x/y", Keep{24 * time.Hour, DefaultKeep.Used, DefaultKeep.Cache}},
		{p, "ci", Keep{24 * time.Hour, DefaultKeep.Used, DefaultKeep.Cache}},
		{p, "a", Keep{DefaultKeep.Untagged, 14 * 24 * time.Hour, 0}},
	} {
		if got := tt.p.Keep(name(tt.name)); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// TestImmutable: by pattern, and never for what clients must write anew.
func TestImmutable(t *testing.T) {
	p := parse(t, `immutable: [{name: releases, repositories: "team/**", tags: "v*"}, {name: all, repositories: "frozen", tags: "*"}]`)
	signature := "sha256-" + strings.Repeat("0", 64)
	for _, tt := range []struct{ repo, tag, want string }{
		{"team/a", "v1", "releases"}, {"team/a", "latest", ""}, {"other", "v1", ""},
		{"frozen", "latest", "all"}, {"frozen", signature, ""}, {"frozen", signature + ".sig", ""}, {"frozen", signature + ".x", "all"},
	} {
		tag, err := oci.ParseTag(tt.tag)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Immutable(name(tt.repo), tag); got != tt.want {
			t.Errorf("%s:%s: %q, want %q", tt.repo, tt.tag, got, tt.want)
		}
		if got := (*Policy)(nil).Immutable(name(tt.repo), tag); got != "" {
			t.Errorf("without a policy: %q", got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("keep: [{repositories: \"**\", untagged: 1d}]")
	f.Add("protected:\n- {repositories: [a, 'b*'], tags: '*'}\nretention:\n- {name: x, repositories: a, tags: '*', keep: {newest: 1, used: 3d, tags: c}}")
	f.Add("a: &a [*a]")
	f.Fuzz(func(t *testing.T, text string) {
		p, _, err := Parse([]byte(text))
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		for _, d := range p.Decide(name("a"), uses("a", 1, -1, "b", 2, 1), now, store.Recording{Since: now}) {
			if d.Decided && d.Why == "" {
				t.Error("a decision without a reason")
			}
		}
		p.Keep(name("a"))
	})
}
