package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"cubby/store"
	"cubby/store/oci"
)

// Removing returns a policy of one rule, for tags that somebody wants removed at once. What p protects stays.
func (p *Policy) Removing(r Rule) *Policy {
	one := &Policy{retention: []Rule{r}}
	if p != nil {
		one.protected = p.protected
	}
	return one
}

// Retains reports whether a rule may decide about tags of a repository.
func (p *Policy) Retains(name oci.Name) bool {
	return p != nil && slices.ContainsFunc(p.retention, func(r Rule) bool { return matchAny(r.Repositories, name.String()) })
}

// A Decision tells whether a tag stays, and by which rule. Decided is unset when no rule selects it; it stays.
type Decision struct {
	Decided bool
	Keep    bool
	Rule    string
	Why     string
}

// Decide decides about all tags of a repository: which stay depends on the others. Tags that belong to a subject
// (oci.Subject) must not be among them. recorded is when use was: what was not recorded does not count as not used.
//
// The first rule that selects a tag decides about it. What is protected stays and is not counted by any rule.
func (p *Policy) Decide(name oci.Name, tags []store.TagUse, now time.Time, recorded store.Recording) []Decision {
	decisions := make([]Decision, len(tags))
	selected := make([][]int, len(p.retention))
	for i, t := range tags {
		r := slices.IndexFunc(p.retention, func(r Rule) bool { return r.matches(name, t.Tag) })
		if r < 0 {
			continue
		}
		if rule := first(p.protected, name, t.Tag); rule != "" {
			decisions[i] = Decision{Decided: true, Keep: true, Rule: rule, Why: "protected"}
			continue
		}
		selected[r] = append(selected[r], i)
	}
	for r, indexes := range selected {
		slices.SortFunc(indexes, func(a, b int) int { return newestFirst(tags[a], tags[b]) })
		for rank, i := range indexes {
			decisions[i] = p.retention[r].decide(tags[i], rank, now, recorded)
		}
	}
	return decisions
}

// newestFirst orders by the last push. Of tags of the same second, v1.10 is taken for newer than v1.9.
func newestFirst(a, b store.TagUse) int {
	return cmp.Or(b.PushedAt.Compare(a.PushedAt), naturalOrder(b.Tag, a.Tag))
}

// naturalOrder compares texts with the numbers in them as numbers.
func naturalOrder(a, b string) int {
	for a != "" && b != "" {
		an, bn := digits(a), digits(b)
		if an == "" || bn == "" {
			if a[0] != b[0] {
				return cmp.Compare(a[0], b[0])
			}
			a, b = a[1:], b[1:]
			continue
		}
		x, y := strings.TrimLeft(an, "0"), strings.TrimLeft(bn, "0")
		if c := cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y)); c != 0 {
			return c
		}
		a, b = a[len(an):], b[len(bn):]
	}
	return cmp.Compare(len(a), len(b))
}

// digits returns the number that s begins with, or "".
func digits(s string) string {
	return s[:len(s)-len(strings.TrimLeft(s, "0123456789"))]
}

// decide decides about the tag of a rank, from 0 for the newest.
func (r *Rule) decide(t store.TagUse, rank int, now time.Time, recorded store.Recording) Decision {
	d := Decision{Decided: true, Keep: true, Rule: r.Name}
	used := t.PushedAt
	if t.UsedAt.After(used) {
		used = t.UsedAt
	}
	switch {
	case rank < r.Newest:
		d.Why = fmt.Sprintf("number %d of the %d newest", rank+1, r.Newest)
	case r.Pushed > 0 && t.PushedAt.Add(r.Pushed).After(now):
		d.Why = fmt.Sprintf("pushed %s, within %s", minute(t.PushedAt), store.FormatAge(r.Pushed))
	case matchAny(r.Named, t.Tag):
		d.Why = "named so"
	case r.Used > 0 && used.Add(r.Used).After(now):
		d.Why = fmt.Sprintf("used %s, within %s", minute(used), store.FormatAge(r.Used))
	case r.Used > 0 && used.Add(r.Used+recorded.Missing(used, now)).After(now):
		d.Why = fmt.Sprintf("used %s, and use was not recorded for %s since", minute(used), store.FormatAge(recorded.Missing(used, now).Round(time.Hour)))
	case r.Used > 0 && recorded.Since.Add(r.Used+recorded.Missing(recorded.Since, now)).After(now):
		d.Why = fmt.Sprintf("the rule waits until use has been recorded for %s; it is since %s", store.FormatAge(r.Used), minute(recorded.Since))
	default:
		d.Keep, d.Why = false, r.reasons(t)
	}
	return d
}

// reasons tells why none of the rule's reasons to keep a tag holds.
func (r *Rule) reasons(t store.TagUse) string {
	var not []string
	if r.Newest > 0 {
		not = append(not, fmt.Sprintf("not among the %d newest", r.Newest))
	}
	if r.Pushed > 0 {
		not = append(not, "pushed "+minute(t.PushedAt))
	}
	if r.Used > 0 && t.UsedAt.After(t.PushedAt) {
		not = append(not, "last used "+minute(t.UsedAt))
	} else if r.Used > 0 {
		not = append(not, "not used since its push "+minute(t.PushedAt))
	}
	if len(not) == 0 {
		return "selected, and nothing keeps it"
	}
	return strings.Join(not, ", ")
}

func minute(t time.Time) string { return t.Local().Format("2006-01-02 15:04") }
