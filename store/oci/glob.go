package oci

import (
	"errors"
	"fmt"
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
	case strings.Contains(s, "!") || strings.Contains(s, `\`):
		return Glob{}, fmt.Errorf("%w: %q: there is no negation and no escaping", ErrGlobInvalid, s)
	case !doublestar.ValidatePattern(s):
		return Glob{}, fmt.Errorf("%w: %q", ErrGlobInvalid, s)
	}
	return Glob{s}, nil
}

// IsGlob reports whether s has wildcards, so that it cannot be a name or a tag.
func IsGlob(s string) bool { return strings.ContainsAny(s, "*?[{") }

// Match reports whether the pattern matches the whole of a name or tag.
func (g Glob) Match(s string) bool { return g.s != "" && doublestar.MatchUnvalidated(g.s, s) }

// String returns the pattern as it is spelled.
func (g Glob) String() string { return g.s }
