package gc

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"time"

	"cubby/gc/policy"
	"cubby/store"
	"cubby/store/oci"
)

// A TagItem is a tag about which a rule decided, or that goes with the manifest that it belongs to.
type TagItem struct {
	store.TagUse
	policy.Decision
}

// address is where the history says that a move came from which nobody asked for.
const address = "collection"

// actor is whom the history names for the removal of a tag.
func (t *TagItem) actor() store.Actor {
	if t.Rule == "" {
		return store.Actor{Name: "collection", Address: address}
	}
	return store.Actor{Name: fmt.Sprintf("rule %q", t.Rule), Address: address}
}

// tags decides about tags: those that rules select, and those of a subject that was deleted.
func (p *Plan) tags(v *store.View) error {
	if err := p.retain(v, false); err != nil {
		return err
	}
	for t, err := range v.TagsOfDeleted() {
		if err != nil {
			return err
		}
		if !p.Options.selects(t.Repository) {
			continue
		}
		why := fmt.Sprintf("belongs to a manifest that was deleted %s", day(t.SubjectGone))
		p.Tags = append(p.Tags, TagItem{t, policy.Decision{Decided: true, Why: why}})
	}
	return nil
}

// retain applies the rules of the policy. Tags that belong to a subject are not among what they select from: they live
// and go with it. With subjects set, those are whose subject is not in the repository.
func (p *Plan) retain(v *store.View, subjects bool) error {
	all := v.Repositories()
	byName := func(a, b oci.Name) int { return cmp.Compare(a.String(), b.String()) }
	for _, name := range slices.SortedFunc(maps.Keys(all), byName) {
		if !p.Options.Policy.Retains(name) || !p.Options.selects(name) {
			continue
		}
		var tags []store.TagUse
		for t, err := range v.Tags(all[name]) {
			if err != nil {
				return err
			}
			subject, ok := oci.Subject(t.Tag)
			if ok && subjects {
				// What belongs to a manifest that stays here for a while stays as long.
				ok, err = v.HasManifest(all[name], subject)
				if err != nil {
					return err
				}
			}
			if !ok {
				tags = append(tags, t)
			}
		}
		for i, d := range p.Options.Policy.Decide(name, tags, p.Options.Now, p.recorded) {
			switch {
			case d.Decided && d.Keep && !p.Options.KeptTags:
			case d.Decided && d.Keep:
				p.KeptTags = append(p.KeptTags, TagItem{tags[i], d})
			case d.Decided:
				p.Tags = append(p.Tags, TagItem{tags[i], d})
			}
		}
	}
	return nil
}

// losing returns the manifests that have no tag once those of the plan are gone. From then on they are like all others
// without one, with the keep time before them.
func (p *Plan) losing(v *store.View) ([]*node, error) {
	going := make(map[int64]int64)
	for _, t := range p.Tags {
		going[t.Manifest]++
	}
	var nodes []*node
	for _, manifest := range slices.Sorted(maps.Keys(going)) {
		n, err := v.TagCount(manifest)
		if err != nil {
			return nil, err
		}
		if n > going[manifest] {
			continue
		}
		m, err := v.Losing(manifest, p.Options.Now)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, &node{UntaggedManifest: m})
	}
	return nodes, nil
}

// collectTags removes tags in small transactions, and tells of each whether it went.
func collectTags(ctx context.Context, st *store.Store, items []store.TagRemoval, each func(i int, gone bool)) error {
	run := st.CollectTags()
	for i := 0; i < len(items); {
		if err := ctx.Err(); err != nil {
			return err
		}
		removed, err := run.Remove(items[i:min(len(items), i+batchMax)])
		if err != nil {
			return err
		}
		for _, gone := range removed {
			each(i, gone)
			i++
		}
	}
	return nil
}

func (p *Plan) executeTags(ctx context.Context, st *store.Store, r *Result, report func(int)) error {
	items := make([]store.TagRemoval, len(p.Tags))
	for i, t := range p.Tags {
		items[i] = store.TagRemoval{TagUse: t.TagUse, By: t.actor()}
	}
	return collectTags(ctx, st, items, func(i int, gone bool) {
		if gone {
			r.Tags++
		} else {
			r.Spared++
		}
		report(i + 1)
	})
}

// A Selection is which tags somebody wants removed at once: those that the rule selects and does not keep.
type Selection struct {
	policy.Rule
	// Subjects selects also tags that belong to a subject which is not here; others live and go with it.
	Subjects bool
	// Protected selects also what the policy protects.
	Protected bool
}

// ParseSelection reads a selection from the parameters of a command.
func ParseSelection(query url.Values) (s Selection, err error) {
	repositories, err := oci.ParseNameGlob(query.Get("repositories"))
	if err != nil {
		return s, err
	}
	tags, err := oci.ParseTagGlob(query.Get("tags"))
	if err != nil {
		return s, err
	}
	s.Selector = policy.Selector{Repositories: []oci.Glob{repositories}, Tags: []oci.Glob{tags}}
	s.Subjects, s.Protected = query.Get("subjects") == "true", query.Get("protected") == "true"
	if v := query.Get("older"); v != "" {
		if s.Pushed, err = store.ParseAge(v); err != nil {
			return s, err
		}
	}
	if v := query.Get("keep"); v != "" {
		keep, err := strconv.ParseUint(v, 10, 31)
		if err != nil {
			return s, err
		}
		s.Newest = int(keep)
	}
	return s, nil
}

// A Removal is the plan of tags that somebody wants removed at once.
type Removal struct {
	Tags     []TagItem // that go
	KeptTags []TagItem // that were selected and stay, with the reason
}

// PlanRemoval decides which of the selected tags go.
func PlanRemoval(ctx context.Context, st *store.Store, now time.Time, p *policy.Policy, s Selection) (*Removal, error) {
	if s.Protected {
		p = nil
	}
	plan := &Plan{Options: Options{Now: now, Policy: p.Removing(s.Rule), KeptTags: true}}
	err := st.View(ctx, func(v *store.View) error { return plan.retain(v, s.Subjects) })
	if err != nil {
		return nil, fmt.Errorf("plan removal: %w", err)
	}
	return &Removal{Tags: plan.Tags, KeptTags: plan.KeptTags}, nil
}

// Fingerprint names what the removal would do: two that remove the same tags from the same manifests have the same.
func (m *Removal) Fingerprint() string {
	h := sha256.New()
	for _, t := range m.Tags {
		fmt.Fprintf(h, "%s:%s@%s\n", t.Repository, t.Tag, t.Digest)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Execute removes the tags and tells of each whether it went: one that moved meanwhile is spared.
func (m *Removal) Execute(ctx context.Context, st *store.Store, by store.Actor, each func(t TagItem, gone bool)) error {
	items := make([]store.TagRemoval, len(m.Tags))
	for i, t := range m.Tags {
		items[i] = store.TagRemoval{TagUse: t.TagUse, By: by, EvenIfUsed: true}
	}
	return collectTags(ctx, st, items, func(i int, gone bool) { each(m.Tags[i], gone) })
}
