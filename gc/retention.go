package gc

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
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
		why := fmt.Sprintf("belongs to a manifest that was deleted %s", day(t.SubjectGone))
		p.Tags = append(p.Tags, TagItem{t, policy.Decision{Decided: true, Why: why}})
	}
	return nil
}

// retain applies the rules of the policy. Tags that belong to a subject are not among what they select from, unless
// subjects is set: they live and go with it.
func (p *Plan) retain(v *store.View, subjects bool) error {
	tracked, err := v.TrackedSince()
	if err != nil {
		return err
	}
	all := v.Repositories()
	byName := func(a, b oci.Name) int { return cmp.Compare(a.String(), b.String()) }
	for _, name := range slices.SortedFunc(maps.Keys(all), byName) {
		if !p.Options.Policy.Retains(name) {
			continue
		}
		var tags []store.TagUse
		for t, err := range v.Tags(all[name]) {
			if err != nil {
				return err
			}
			if _, ok := oci.Subject(t.Tag); !ok || subjects {
				tags = append(tags, t)
			}
		}
		for i, d := range p.Options.Policy.Decide(name, tags, p.Options.Now, tracked) {
			switch {
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
	for i := 0; i < len(items); {
		if err := ctx.Err(); err != nil {
			return err
		}
		removed, err := st.CollectTags(items[i:min(len(items), i+batchMax)])
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
	// Subjects selects also tags that belong to a subject, which otherwise live and go with it.
	Subjects bool
	// Protected selects also what the policy protects.
	Protected bool
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
	plan := &Plan{Options: Options{Now: now, Policy: p.Removing(s.Rule)}}
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
