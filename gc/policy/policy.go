// Package policy holds the rules of cubby.yaml: how long what has no tag is kept, which tags stay, which go, and which
// never move. It decides; package gc and the store act.
package policy

import (
	"slices"
	"time"

	"cubby/store/oci"
)

// A Keep says how long what has no tag is kept.
type Keep struct {
	Untagged time.Duration // after the last tag left
	Used     time.Duration // after the last GET or HEAD by digest: people pin digests
	Cache    time.Duration // for BuildKit cache manifests, instead of both
}

// DefaultKeep is a week for undo, and a month for those who pin digests.
var DefaultKeep = Keep{Untagged: 7 * 24 * time.Hour, Used: 30 * 24 * time.Hour, Cache: 24 * time.Hour}

// A Policy is what a file says. A nil one says nothing: everything stays, for the default times. It is immutable.
type Policy struct {
	keep      []keepRule
	protected []Selector
	immutable []Selector
	retention []Rule
}

type keepRule struct {
	repositories []oci.Glob
	keep         Keep
}

// A Selector selects tags by patterns of repository and tag.
type Selector struct {
	Name         string // for people
	Repositories []oci.Glob
	Tags         []oci.Glob
}

func (s *Selector) matches(name oci.Name, tag string) bool {
	return matchAny(s.Repositories, name.String()) && matchAny(s.Tags, tag)
}

func matchAny(globs []oci.Glob, s string) bool {
	return slices.ContainsFunc(globs, func(g oci.Glob) bool { return g.Match(s) })
}

// A Rule says which of the tags that it selects stay: those for which one of its reasons holds. A reason that is zero
// holds for none.
type Rule struct {
	Selector
	Newest int           // of the tags that it decides in a repository, by the time of the last push
	Pushed time.Duration // since the last push
	Used   time.Duration // since the last use, and a push is one
	Named  []oci.Glob
}

// Keep returns the keep times of a repository: those of the first rule that matches it.
func (p *Policy) Keep(name oci.Name) Keep {
	if p != nil {
		for _, r := range p.keep {
			if matchAny(r.repositories, name.String()) {
				return r.keep
			}
		}
	}
	return DefaultKeep
}

// Immutable returns the name of the rule that forbids to move a tag, or "". Tags that belong to a subject (oci.Subject)
// always move: clients add a signature by writing the tag anew.
func (p *Policy) Immutable(name oci.Name, tag oci.Tag) string {
	if _, ok := oci.Subject(tag.String()); p == nil || ok {
		return ""
	}
	return first(p.immutable, name, tag.String())
}

func first(selectors []Selector, name oci.Name, tag string) string {
	for i := range selectors {
		if selectors[i].matches(name, tag) {
			return selectors[i].Name
		}
	}
	return ""
}

// Counts returns how many rules there are, for people.
func (p *Policy) Counts() (keep, protected, immutable, retention int) {
	return len(p.keep), len(p.protected), len(p.immutable), len(p.retention)
}
