// Package gc plans and executes collection: what nobody refers to goes, what lives is never touched, and every line
// says why. Before that, tags go for which a rule of the policy says so.
//
// Two keys must agree before anything is removed. Marking walks one snapshot from the roots: tagged manifests, untagged
// ones within their keep time, then whatever these name, and the referrers of what lives. Counting is done by the store
// in the transactions that change the references. An item goes when marking did not reach it, and in the very
// transaction that removes it its count is zero, no reference names it and no lease holds it. When the keys disagree on
// any item there is a bug: the run is refused.
package gc

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"cubby/gc/policy"
	"cubby/store"
	"cubby/store/oci"
)

// ErrRefused says that it was not safe to remove anything.
var ErrRefused = errors.New("refused, nothing was removed")

// keepUntil returns until when an untagged manifest is kept, and why.
func keepUntil(k policy.Keep, m store.UntaggedManifest, now time.Time, recorded store.Recording) (time.Time, string) {
	since := "untagged since " + day(m.Since)
	if m.IsLosing() {
		since = "loses its last tag now"
	}
	if m.Cache {
		return m.Since.Add(k.Cache), "a build cache, " + since
	}
	until, why := m.Since.Add(k.Untagged), since
	if m.LastUsed.IsZero() {
		until = until.Add(recorded.Missing(m.Since, now)) // as then, so now: nobody can know
	}
	// While use was not recorded, somebody may have used it.
	if used := m.LastUsed.Add(k.Used + recorded.Missing(m.LastUsed, now)); !m.LastUsed.IsZero() && used.After(until) {
		return used, since + ", used " + day(m.LastUsed)
	}
	return until, why
}

func day(t time.Time) string { return t.Local().Format("2006-01-02") }

// Options say what a plan is made for.
type Options struct {
	Now    time.Time
	Policy *policy.Policy // nil: tags stay, for the default keep times
	// Repository is the only one from which anything goes; zero: from all.
	Repository oci.Name
	// KeptTags lists also the tags that rules keep, which may be very many.
	KeptTags bool
	// End ends keep times, and leases older than an hour, of repositories that it reports true for. nil: of none.
	End func(oci.Name) bool
}

func (o *Options) selects(name oci.Name) bool {
	return o.Repository == oci.Name{} || name == o.Repository
}

func (o *Options) end(name oci.Name) bool { return o.End != nil && o.End(name) }

// until returns until when an untagged manifest is kept, and why. Also where keep times are ended, whoever was told that
// it is here may go on for an hour: an index that names it may be on its way.
func (p *Plan) until(m store.UntaggedManifest) (time.Time, string) {
	o := &p.Options
	if !o.end(m.Repository) {
		return keepUntil(o.Policy.Keep(m.Repository), m, o.Now, p.recorded)
	}
	if told := slices.MaxFunc([]time.Time{m.PushedAt, m.LastUsed}, time.Time.Compare).Add(time.Hour); told.After(o.Now) {
		return told, "pushed or used within the hour"
	}
	_, why := keepUntil(o.Policy.Keep(m.Repository), m, o.Now, p.recorded)
	return o.Now, why
}

// leasesEnded returns the time up to which leases count as ended. A lease that was granted more than an hour ago has
// less than the rest of store.Lease left.
func (o *Options) leasesEnded(name oci.Name) time.Time {
	if o.end(name) {
		return o.Now.Add(store.Lease - time.Hour)
	}
	return o.Now
}

// A ManifestItem is a manifest that goes.
type ManifestItem struct {
	store.UntaggedManifest
	Why string
	// Group is shared by neighbours that can only go together, because each is held by another of them.
	Group int
}

// A BlobItem is a blob that goes from a repository. Its file goes when it is in no other.
type BlobItem struct {
	store.LooseBlob
	Why string
}

// A KeptItem is a manifest that stays for a while.
type KeptItem struct {
	store.UntaggedManifest
	Until time.Time
	Why   string
}

// A Plan is what a collection would do, and why. It is made on one snapshot and changes nothing.
type Plan struct {
	Options  Options
	Tags     []TagItem // that go; the rest of the plan is made for the time after
	KeptTags []TagItem // that a rule keeps, when Options ask for them

	recorded  store.Recording
	Manifests []ManifestItem // what names comes before what is named, a subject before its referrers
	Blobs     []BlobItem
	Kept      []KeptItem // without those that only hang on others

	Frees     int64     // bytes that would be freed: of files, and of manifests in the database
	KeptBytes int64     // bytes that would be free if nothing were kept for undo
	KeptUntil time.Time // when the last of them may go; zero when nothing is kept

	// Disagreements are items on which the two keys disagree. A plan that has any must not be executed.
	Disagreements []string
}

// Fingerprint names what the plan would remove: two that remove the same have the same.
func (p *Plan) Fingerprint() string {
	h := sha256.New()
	for _, t := range p.Tags {
		fmt.Fprintf(h, "tag %s:%s@%s\n", t.Repository, t.Tag, t.Digest)
	}
	for _, m := range p.Manifests {
		fmt.Fprintf(h, "manifest %s@%s\n", m.Repository, m.Digest)
	}
	for _, b := range p.Blobs {
		fmt.Fprintf(h, "blob %s@%s\n", b.Repository, b.Digest)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// A node is an untagged manifest while marking.
type node struct {
	store.UntaggedManifest
	names  []*node // what it names, and its referrers
	named  int64   // references to it, from anywhere
	live   bool
	soft   bool // lives only because of a keep time
	low    int  // used by groups, with number
	number int
	onPath bool
}

// mark makes a node and everything behind it live.
func (n *node) mark(soft bool) {
	stack := []*node{n}
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if n.live {
			continue
		}
		n.live, n.soft = true, soft
		stack = append(stack, n.names...)
	}
}

// NewPlan decides, on one snapshot, what a collection would remove.
func NewPlan(ctx context.Context, st *store.Store, o Options) (*Plan, error) {
	p := &Plan{Options: o}
	err := st.View(ctx, func(v *store.View) error {
		var err error
		if p.recorded, err = v.Recording(); err != nil {
			return err
		}
		if err := p.tags(v); err != nil {
			return err
		}
		order, err := p.graph(v)
		if err != nil {
			return err
		}
		p.mark(order)
		p.decide(order)
		if err := p.blobs(v); err != nil {
			return err
		}
		return p.undo(v, order)
	})
	if err != nil {
		return nil, fmt.Errorf("plan collection: %w", err)
	}
	return p, nil
}

// graph reads the untagged manifests and what names them. Tagged manifests are roots and need no node: what one names
// lives.
func (p *Plan) graph(v *store.View) (order []*node, err error) {
	nodes := make(map[int64]*node)
	for m, err := range v.Untagged() {
		if err != nil {
			return nil, err
		}
		n := &node{UntaggedManifest: m}
		nodes[m.ID] = n
		order = append(order, n)
	}
	losing, err := p.losing(v)
	if err != nil {
		return nil, err
	}
	for _, n := range losing {
		nodes[n.ID] = n
		order = append(order, n)
	}
	var roots []*node
	edge := func(e store.ManifestEdge) {
		to := nodes[e.To]
		to.named++
		if from := nodes[e.From]; from != nil {
			from.names = append(from.names, to)
		} else {
			roots = append(roots, to)
		}
	}
	for e, err := range v.Edges() {
		if err != nil {
			return nil, err
		}
		edge(e)
	}
	for _, n := range losing {
		for e, err := range v.EdgesTo(n.ID) {
			if err != nil {
				return nil, err
			}
			edge(e)
		}
	}
	for _, n := range order {
		switch subject := nodes[n.Subject]; {
		case n.Subject == 0:
		case subject != nil:
			subject.names = append(subject.names, n)
		default:
			roots = append(roots, n) // the subject has a tag
		}
	}
	for _, n := range roots {
		n.mark(false)
	}
	return order, nil
}

// mark marks what is within its keep time, and what hangs on it.
func (p *Plan) mark(order []*node) {
	for _, n := range order {
		if n.live {
			continue
		}
		if until, why := p.until(n.UntaggedManifest); until.After(p.Options.Now) {
			if p.Options.selects(n.Repository) {
				p.Kept = append(p.Kept, KeptItem{n.UntaggedManifest, until, why})
			}
			n.mark(true)
		}
	}
}

// decide lists what was not reached, in the order in which it can go, and compares the keys.
func (p *Plan) decide(order []*node) {
	for _, n := range order {
		// What named it goes too, or it would have been reached: the stored count must say so.
		if !n.live && n.Refs != n.named {
			p.Disagreements = append(p.Disagreements, fmt.Sprintf("manifest %s@%s is counted as named by %d manifests, %d name it", n.Repository, n.Digest, n.Refs, n.named))
		}
	}
	for i, group := range groups(order) {
		if !p.Options.selects(group[0].Repository) {
			continue // a group is in one repository
		}
		for _, n := range group {
			p.Manifests = append(p.Manifests, ManifestItem{n.UntaggedManifest, p.why(n), i})
			p.Frees += n.Size
		}
	}
}

// groups returns the nodes that are not live, in groups that hold each other, each before what it holds. They are the
// strongly connected components of the graph (Tarjan), which come out in the opposite order.
func groups(order []*node) (all [][]*node) {
	number := 0
	var path []*node
	var visit func(*node)
	visit = func(n *node) {
		number++
		n.number, n.low, n.onPath = number, number, true
		path = append(path, n)
		for _, to := range n.names {
			switch {
			case to.live:
			case to.number == 0:
				visit(to)
				n.low = min(n.low, to.low)
			case to.onPath:
				n.low = min(n.low, to.number)
			}
		}
		if n.low != n.number {
			return
		}
		begin := len(path) - 1
		for path[begin] != n {
			begin--
		}
		group := slices.Clone(path[begin:])
		path = path[:begin]
		for _, member := range group {
			member.onPath = false
		}
		all = append(all, group)
	}
	for _, n := range order {
		if !n.live && n.number == 0 {
			visit(n)
		}
	}
	slices.Reverse(all)
	return all
}

// why tells why a manifest goes.
func (p *Plan) why(n *node) string {
	_, why := p.until(n.UntaggedManifest)
	if n.named > 0 {
		return "part of an index that goes, " + why
	}
	return why
}

// blobs lists the blobs that no manifest names and no lease holds, and with End also those that only manifests that go
// now name.
func (p *Plan) blobs(v *store.View) error {
	left := make(map[int64]int64) // repositories that still have a blob that goes
	add := func(b store.LooseBlob, why string) {
		p.Blobs = append(p.Blobs, BlobItem{b, why})
		if _, ok := left[b.ID]; !ok {
			left[b.ID] = b.Repositories
		}
		if left[b.ID]--; left[b.ID] == 0 {
			p.Frees += b.Size
		}
	}
	for b, err := range v.LooseBlobs() {
		switch {
		case err != nil:
			return err
		case b.Named:
			p.Disagreements = append(p.Disagreements, fmt.Sprintf("blob %s of %s is counted as named by nothing, a manifest names it", b.Digest, b.Repository))
		case !p.Options.selects(b.Repository):
		case !b.KeepUntil.After(p.Options.leasesEnded(b.Repository)):
			add(b, "no manifest names it")
		default:
			p.stays(b.KeepUntil)
			if b.Repositories == 1 {
				p.KeptBytes += b.Size
			}
		}
	}
	type key struct{ repository, blob int64 }
	named := make(map[key]int64)
	for _, m := range p.Manifests {
		if !p.Options.end(m.Repository) {
			continue
		}
		for b, err := range v.BlobsOf(m.ID) {
			if err != nil {
				return err
			}
			k := key{b.RepositoryID, b.ID}
			if named[k]++; named[k] == b.Refs && !b.KeepUntil.After(p.Options.leasesEnded(b.Repository)) {
				b.Named = false // by then
				add(b.LooseBlob, "only manifests that go name it")
			}
		}
	}
	return nil
}

// undo counts what is kept only because of keep times: bytes that nothing else holds.
func (p *Plan) undo(v *store.View, order []*node) error {
	for _, k := range p.Kept {
		p.stays(k.Until)
	}
	type key struct{ repository, blob int64 }
	named := make(map[key]int64)
	for _, n := range order {
		if !n.soft || !p.Options.selects(n.Repository) {
			continue
		}
		for b, err := range v.BlobsOf(n.ID) {
			if err != nil {
				return err
			}
			k := key{b.RepositoryID, b.ID}
			if named[k]++; named[k] == b.Refs && b.Repositories == 1 {
				p.KeptBytes += b.Size
			}
		}
	}
	return nil
}

func (p *Plan) stays(t time.Time) {
	if t.After(p.KeptUntil) {
		p.KeptUntil = t
	}
}
