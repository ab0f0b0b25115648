package gc

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"cubby/gc/policy"
	"cubby/scripts/figures"
	"cubby/store"
	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// The model knows what a registry was told and nothing of how it is kept. It is naive on purpose: sets and times, and
// a walk over them.
type model struct {
	*world
	random *rand.Rand
	repo   string
	serial int

	manifests map[digest.Digest]*modelManifest
	tags      map[string]digest.Digest
	pushed    map[string]time.Time        // when a tag was last pushed
	blobs     map[digest.Digest]time.Time // when a client was last told that it is here
	dead      int                         // live objects that collection deleted
}

type modelManifest struct {
	mediaType, body string
	names           []digest.Digest
	subject         digest.Digest
	idle            time.Time // since when nothing but a keep time holds it: put, untagged, or its subject deleted
	used            time.Time
}

func (m *model) pickBlob() digest.Digest {
	all := slices.Sorted(maps.Keys(m.blobs))
	if len(all) == 0 {
		return m.pushBlob()
	}
	return all[m.random.IntN(len(all))]
}

func (m *model) pickManifest() digest.Digest {
	all := slices.Sorted(maps.Keys(m.manifests))
	if len(all) == 0 || m.random.IntN(8) == 0 {
		return sum(fmt.Append(nil, "absent ", m.random.IntN(5)))
	}
	return all[m.random.IntN(len(all))]
}

func (m *model) pushBlob() digest.Digest {
	// Few contents, so that they are shared, deleted and pushed again.
	dgst := m.push(m.repo, fmt.Sprint("blob ", m.random.IntN(12)))
	m.blobs[dgst] = m.now
	return dgst
}

// putManifest makes a manifest of a random kind over random content, some of it absent.
func (m *model) putManifest() {
	subject, extra := digest.Digest(""), ""
	if m.random.IntN(4) == 0 {
		subject = m.pickManifest()
		extra = `,"subject":` + descriptor(typeImage, subject)
	}
	if m.random.IntN(3) > 0 { // else the same content makes the same manifest again
		m.serial++
		extra += fmt.Sprintf(`,"annotations":{"n":"%d"}`, m.serial)
	}
	var names []digest.Digest
	mediaType, body := typeImage, ""
	switch m.random.IntN(5) {
	case 0, 1:
		names = []digest.Digest{m.pickBlob(), m.pickBlob()}
		body = imageBody(names[0], extra, names[1])
	case 2, 3:
		mediaType = typeIndex
		names = []digest.Digest{m.pickManifest(), m.pickManifest()}
		body = indexBody(extra, names...)
	case 4:
		mediaType = "application/vnd.example.odd+json"
		names = []digest.Digest{m.pickManifest(), m.pickBlob()}
		body = fmt.Sprintf(`{"mentions":{"deep":[%q,%q]}%s}`, names[0], names[1], extra)
	}
	tagName := ""
	if m.random.IntN(2) == 0 {
		tagName = fmt.Sprint("t", m.random.IntN(4))
	}
	dgst, err := m.put(m.repo, mediaType, body, tagName)
	if errors.Is(err, store.ErrManifestBlobUnknown) {
		return // a blob that was deleted
	}
	if err != nil {
		m.Fatal(err)
	}
	known := m.manifests[dgst]
	if known == nil {
		known = &modelManifest{mediaType: mediaType, body: body, names: names, subject: subject}
		m.manifests[dgst] = known
	}
	known.idle = m.now
	if tagName != "" {
		m.setTag(tagName, dgst)
	}
}

func (m *model) setTag(tagName string, dgst digest.Digest) {
	if old := m.manifests[m.tags[tagName]]; old != nil {
		old.idle = m.now
	}
	delete(m.tags, tagName)
	if dgst != "" {
		m.tags[tagName], m.pushed[tagName] = dgst, m.now.Truncate(time.Second)
	}
}

// modelRules are what the model knows as retain.
const modelRules = `{protected: [{repositories: "**", tags: t0}], retention: [{repositories: "r[0-9]*[02468]", tags: "t*", keep: {newest: 1, pushed: 4d}}]}`

// retain drops the tags that modelRules drop.
func (m *model) retain() {
	if number := m.repo[len(m.repo)-1]; number%2 != 0 || len(m.repo) < 3 {
		return // the rule is for others
	}
	newest := ""
	for _, tagName := range slices.Sorted(maps.Keys(m.tags)) {
		if tagName != "t0" && (newest == "" || !m.pushed[tagName].Before(m.pushed[newest])) {
			newest = tagName
		}
	}
	for tagName := range maps.Clone(m.tags) {
		if tagName != "t0" && tagName != newest && m.now.Sub(m.pushed[tagName]) >= 4*dayTime {
			m.setTag(tagName, "")
		}
	}
}

// forget takes a manifest out of the model. deleted is set when a client did it: then what nothing names any more gets
// a lease, and what refers to it a keep time.
func (m *model) forget(dgst digest.Digest, deleted, lease bool) {
	for tagName, at := range m.tags {
		if at == dgst {
			delete(m.tags, tagName)
		}
	}
	gone := m.manifests[dgst]
	delete(m.manifests, dgst)
	for _, name := range gone.names {
		_, here := m.blobs[name]
		named := func(v *modelManifest) bool { return slices.Contains(v.names, name) }
		if here && lease && !slices.ContainsFunc(slices.Collect(maps.Values(m.manifests)), named) {
			m.blobs[name] = m.now
		}
	}
	for _, other := range m.manifests {
		if deleted && other.subject == dgst {
			other.idle = m.now
		}
	}
}

// step does one thing that a client, time or collection does.
func (m *model) step() {
	ctx := m.Context()
	switch m.random.IntN(20) {
	case 0, 1, 2:
		m.pushBlob()
	case 3, 4, 5, 6, 7, 8:
		m.putManifest()
	case 9:
		tagName := fmt.Sprint("t", m.random.IntN(4))
		if err := m.st.DeleteTag(ctx, name(m.repo), tag(tagName), store.Condition{}, store.Actor{}); err == nil {
			m.setTag(tagName, "")
		}
	case 10:
		dgst := m.pickManifest()
		if err := m.st.DeleteManifest(ctx, name(m.repo), dgst, store.Condition{}, store.Actor{}); err == nil {
			m.forget(dgst, true, true)
		}
	case 11:
		dgst := m.pickBlob()
		if err := m.st.DeleteBlob(ctx, name(m.repo), dgst, store.Actor{}); err == nil {
			delete(m.blobs, dgst)
		}
	case 12:
		dgst := m.pickBlob()
		if _, err := m.st.StatBlob(ctx, name(m.repo), dgst, true); err == nil {
			// The promise holds for half a lease at least; the row is renewed when less is left.
			if m.now.Sub(m.blobs[dgst]) > store.Lease/2 {
				m.blobs[dgst] = m.now
			}
		}
	case 13:
		dgst := m.pickManifest()
		if m.hasManifest(m.repo, dgst) {
			m.st.Used(name(m.repo), m.reference(dgst), dgst, true)
			m.use(dgst)
		}
	case 14, 15, 16:
		m.pass(time.Duration(m.random.Int64N(int64(3 * dayTime))))
	case 17:
		m.collectAndCompare(false)
	case 18:
		m.collectAndCompare(true)
	case 19:
		m.jump()
	}
}

func (m *model) use(dgst digest.Digest) {
	for other, v := range m.manifests {
		if other == dgst || slices.Contains(v.names, dgst) {
			v.used = m.now
		}
	}
}

// jump moves the clock by months and back. Whatever it says, a collection must refuse and remove nothing.
func (m *model) jump() {
	right := m.now
	// Known to the store, so that the jump is one.
	if _, err := ObserveClock(m.Context(), m.st, m, true, true); err != nil {
		m.Fatal(err)
	}
	m.set(m.now.Add([]time.Duration{400 * dayTime, 2 * dayTime, -dayTime, -3650 * dayTime}[m.random.IntN(4)]))
	if _, _, err := m.collector.Run(m.Context(), Request{Cause: "schedule"}); !errors.Is(err, ErrRefused) {
		m.Fatalf("a clock that jumped to %v is believed: %v", m.now, err)
	}
	m.set(right)
	if _, err := ObserveClock(m.Context(), m.st, m, true, true); err != nil {
		m.Fatal(err)
	}
}

// live returns what must be there: what a tag leads to, and unless ended what keep times hold, with children at any
// depth and referrers.
func (m *model) live(ended bool) map[digest.Digest]bool {
	live := make(map[digest.Digest]bool)
	var mark func(digest.Digest)
	mark = func(dgst digest.Digest) {
		if live[dgst] {
			return
		}
		live[dgst] = true
		if v := m.manifests[dgst]; v != nil {
			for _, name := range v.names {
				mark(name)
			}
			for other, o := range m.manifests {
				if o.subject == dgst {
					mark(other)
				}
			}
		}
	}
	for _, dgst := range m.tags {
		mark(dgst)
	}
	if ended {
		return live
	}
	for dgst, v := range m.manifests {
		// A second of slack: the store counts whole seconds.
		if m.now.Sub(v.idle) < policy.DefaultKeep.Untagged-time.Second || !v.used.IsZero() && m.now.Sub(v.used) < policy.DefaultKeep.Used-time.Second {
			mark(dgst)
		}
	}
	return live
}

// collectAndCompare collects and finds what was live and is gone, and takes over what is gone rightly.
func (m *model) collectAndCompare(ended bool) {
	m.retain()
	live := m.live(ended)
	before := maps.Clone(m.blobs)
	q := Request{Cause: "command"}
	if ended {
		q.End = func(oci.Name) bool { return true }
	}
	plan, _, err := m.collector.Run(m.Context(), q)
	if err != nil {
		m.Fatal(err)
	}
	// The plan alone must be right: what executes it is a second look.
	for _, item := range plan.Manifests {
		if item.Repository == name(m.repo) && live[item.Digest] {
			m.Errorf("live manifest %s is in the plan: %s", item.Digest, item.Why)
		}
	}
	if got, want := m.world.tags(m.repo), strings.Join(slices.Sorted(maps.Keys(m.tags)), " "); got != want {
		m.Errorf("after collection there are the tags %q, want %q", got, want)
	}
	for dgst := range m.manifests {
		if m.hasManifest(m.repo, dgst) {
			continue
		}
		if live[dgst] {
			m.dead++
			m.Errorf("live manifest %s was collected", dgst)
		}
	}
	for dgst, told := range before {
		if m.hasBlob(m.repo, dgst) {
			continue
		}
		// A lease holds half its time at least, an hour when the operator ends them.
		lease := store.Lease / 2
		if ended {
			lease = time.Hour - time.Second
		}
		if live[dgst] || m.now.Sub(told) < lease {
			m.dead++
			m.Errorf("live blob %s was collected", dgst)
		}
		delete(m.blobs, dgst)
	}
	for _, dgst := range slices.Sorted(maps.Keys(m.manifests)) {
		if !m.hasManifest(m.repo, dgst) {
			m.forget(dgst, false, !ended)
		}
	}
}

// garbage returns what is there although no tag leads to it.
func (m *model) garbage() (n int) {
	live := m.live(true)
	for dgst := range m.manifests {
		if !live[dgst] && m.hasManifest(m.repo, dgst) {
			n++
		}
	}
	for dgst := range m.blobs {
		if !live[dgst] && m.hasBlob(m.repo, dgst) {
			n++
		}
	}
	return n
}

// TestModel: random graphs and histories, with a clock that jumps, against the naive model (T-5, T-16). CUBBY_SIZE says
// how many.
func TestModel(t *testing.T) {
	sequences := 150
	if testing.Short() {
		sequences = 20
	}
	sequences = figures.Size(t, sequences)
	seed := figures.Seed(t)
	dir := t.TempDir()
	// What is tested here is which files go, not whether they are on disk: a file system in memory is ten times as fast.
	if shm, err := os.MkdirTemp("/dev/shm", "cubby-model"); err == nil {
		dir = shm
		t.Cleanup(func() { os.RemoveAll(shm) })
	}
	var w *world
	dead, left := 0, 0
	for i := range sequences {
		if i%50 == 0 { // what earlier sequences left behind makes every look slower
			w = newWorld(t, filepath.Join(dir, strconv.Itoa(i)))
			w.rules(modelRules)
		}
		m := &model{
			world: w, random: rand.New(rand.NewPCG(seed, uint64(i))), repo: fmt.Sprint("r", i),
			manifests: make(map[digest.Digest]*modelManifest), tags: make(map[string]digest.Digest), pushed: make(map[string]time.Time), blobs: make(map[digest.Digest]time.Time),
		}
		for range 40 {
			m.step()
		}
		// The first drops the last tags that rules drop. Two collections after everything's keep time nothing is left
		// but what tags lead to.
		for range 3 {
			m.pass(40 * dayTime)
			if _, err := ObserveClock(t.Context(), w.st, w, true, true); err != nil {
				t.Fatal(err)
			}
			m.collectAndCompare(false)
		}
		left += m.garbage()
		dead += m.dead
		for _, tagName := range slices.Sorted(maps.Keys(m.tags)) {
			w.untag(m.repo, tagName)
		}
		w.check()
		if t.Failed() {
			t.Fatalf("sequence %d of seed %d", i, seed)
		}
	}
	if left > 0 {
		t.Errorf("%d pieces of garbage left", left)
	}
	figures.Row{ID: "T-16", Test: "random graphs and histories with a clock that jumps, collected and compared with a naive model", Seed: seed, Figures: []figures.Figure{
		figures.Count("sequences", sequences), figures.Count("live objects deleted", dead), figures.Count("pieces of garbage left", left),
	}}.Report(t)
}
