package oci

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// ErrGlobInvalid says that a pattern cannot be used.
var ErrGlobInvalid = errors.New("pattern invalid")

// Limits of a pattern: how long it may be in bytes, and how many wildcards it may have, because matching tries them all.
const (
	globMax          = 255
	globWildcardsMax = 16
)

// A Glob is a valid pattern for repository names or tags. `*` stands for any characters but the slash, `?` for one of
// them, `[a-z]` for one of a class, `{a,b}` for alternatives, and `**` as a component for any number of components:
// `team/**` matches team and everything below it. The zero Glob matches nothing.
type Glob struct{ s string }

// ParseGlob returns the pattern that s spells. Its error wraps ErrGlobInvalid.
func ParseGlob(s string) (Glob, error) {
	switch {
	case s == "":
		return Glob{}, fmt.Errorf("%w: it is empty; ** matches everything", ErrGlobInvalid)
	case len(s) > globMax:
		return Glob{}, fmt.Errorf("%w: it has %d bytes, at most %d are allowed", ErrGlobInvalid, len(s), globMax)
	case strings.Count(s, "*")+strings.Count(s, "{")+strings.Count(s, ",") > globWildcardsMax:
		return Glob{}, fmt.Errorf("%w: %q has too many wildcards", ErrGlobInvalid, s)
	case strings.ContainsAny(s, `!^\`):
		return Glob{}, fmt.Errorf("%w: %q: there is no negation and no escaping", ErrGlobInvalid, s)
	case slices.ContainsFunc(strings.Split(s, "/"), func(c string) bool { return strings.Contains(c, "**") && c != "**" }):
		return Glob{}, fmt.Errorf("%w: %q: ** stands for whole components, as in team/**; within one it is *", ErrGlobInvalid, s)
	case !doublestar.ValidatePattern(s):
		return Glob{}, fmt.Errorf("%w: %q", ErrGlobInvalid, s)
	}
	return Glob{s}, nil
}

// globSigns are what a pattern may have besides the characters of what it matches.
const globSigns = "*?[]{},-"

// ParseNameGlob returns a pattern for repository names. One that no name can match is ErrGlobInvalid: a rule that is
// misspelt must not be taken for one that never applies.
func ParseNameGlob(s string) (Glob, error) {
	return parseGlobOf(s, "repository names have lower-case letters, digits and the signs . _ - / only, and no host in front",
		"abcdefghijklmnopqrstuvwxyz0123456789._-/"+globSigns)
}

// ParseTagGlob returns a pattern for tags, likewise.
func ParseTagGlob(s string) (Glob, error) {
	return parseGlobOf(s, "tags have letters, digits and the signs . _ - only",
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"+globSigns)
}

func parseGlobOf(s, rule, allowed string) (Glob, error) {
	g, err := ParseGlob(s)
	if err != nil {
		return g, err
	}
	if strings.IndexFunc(s, func(r rune) bool { return !strings.ContainsRune(allowed, r) }) >= 0 {
		return Glob{}, fmt.Errorf("%w: %q can match nothing: %s", ErrGlobInvalid, s, rule)
	}
	if strings.HasPrefix(s, "/") || strings.HasSuffix(s, "/") || strings.Contains(s, "//") {
		return Glob{}, fmt.Errorf("%w: %q can match nothing: a name neither begins nor ends with a slash", ErrGlobInvalid, s)
	}
	return g, nil
}

// IsGlob reports whether s has wildcards, so that it cannot be a name or a tag.
func IsGlob(s string) bool { return strings.ContainsAny(s, "*?[{") }

// Match reports whether the pattern matches the whole of a name or tag.
func (g Glob) Match(s string) bool {
	// doublestar forgets that a last ** may stand for nothing where a * before it does too: team*/** and team.
	if at, ok := strings.CutSuffix(g.s, "/**"); ok && (Glob{at}).Match(s) {
		return true
	}
	return g.s != "" && doublestar.MatchUnvalidated(g.s, s)
}

// String returns the pattern as it is spelled.
func (g Glob) String() string { return g.s }
