package gc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cubby/gc/policy"
	"cubby/store"
	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

const (
	typeImage = "application/vnd.oci.image.manifest.v1+json"
	typeIndex = "application/vnd.oci.image.index.v1+json"
)

func name(s string) oci.Name {
	n, err := oci.ParseName(s)
	if err != nil {
		panic(err)
	}
	return n
}

func tag(s string) oci.Tag {
	v, err := oci.ParseTag(s)
	if err != nil {
		panic(err)
	}
	return v
}

func sum(b []byte) digest.Digest { return oci.SumDigest(digest.SHA256, b) }

// A world is a store on a clock set by hand, with a collector.
type world struct {
	*testing.T
	st        *store.Store
	collector *Collector
	now       time.Time
	shared    atomic.Int64 // now in unix nanoseconds, for the goroutines of the store
	up        time.Duration
	boot      string
}

func (w *world) Now() time.Time                         { return w.now }
func (w *world) Uptime() (string, time.Duration, error) { return w.boot, w.up, nil }
func (w *world) sharedNow() time.Time                   { return time.Unix(0, w.shared.Load()) }

func (w *world) set(t time.Time) {
	w.now = t
	w.shared.Store(t.UnixNano())
}

func (w *world) pass(d time.Duration)                       { w.set(w.now.Add(d)); w.up += d }
func (w *world) reference(dgst digest.Digest) oci.Reference { return oci.Reference{Digest: dgst} }
func descriptor(mediaType string, dgst digest.Digest) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":1}`, mediaType, dgst)
}
func descriptors(mediaType string, ds ...digest.Digest) string {
	var list []string
	for _, d := range ds {
		list = append(list, descriptor(mediaType, d))
	}
	return strings.Join(list, ",")
}

func newWorld(t *testing.T, dir string) *world {
	t.Helper()
	w := &world{T: t, boot: "boot"}
	w.set(time.Unix(1_700_000_000, 0))
	var err error
	if w.st, err = store.Open(t.Context(), store.Options{Dir: dir, Role: store.RoleServe, Create: true, Now: w.sharedNow}); err != nil {
		t.Fatal(err)
	}
	st := w.st
	t.Cleanup(func() {
		if w.st != st {
			return // closed by the test
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	w.collector = NewCollector(w.st, slog.New(slog.DiscardHandler))
	w.collector.Timer = w
	return w
}

// keepNothing is a policy without keep times.
func keepNothing(context.Context) (*policy.Policy, error) {
	p, _, err := policy.Parse([]byte(`keep: [{repositories: "**", untagged: 0s, used: 0s, cache: 0s}]`))
	return p, err
}

func (w *world) push(repo, content string) digest.Digest {
	w.Helper()
	dgst := sum([]byte(content))
	id, err := w.st.StartUpload(name(repo), "p", digest.SHA256)
	if err == nil {
		err = w.st.FinishUpload(w.Context(), name(repo), "p", id, 0, strings.NewReader(content), dgst)
	}
	if err != nil {
		w.Fatal(err)
	}
	return dgst
}

// put stores a manifest under a tag, or under its digest when the tag is "".
func (w *world) put(repo, mediaType, body, tagName string) (digest.Digest, error) {
	w.Helper()
	m, err := oci.ParseManifest(mediaType, []byte(body))
	if err != nil {
		w.Fatal(err)
	}
	p := store.ManifestPut{Name: name(repo), Digest: sum([]byte(body)), Manifest: m, Sparse: store.SparseIndex, By: store.Actor{Name: "test"}}
	if tagName != "" {
		p.Tags = []oci.Tag{tag(tagName)}
	}
	_, err = w.st.PutManifest(w.Context(), p)
	return p.Digest, err
}

// image pushes an image of one layer.
func (w *world) image(repo, content, tagName string) digest.Digest {
	w.Helper()
	config, layer := w.push(repo, "config "+content), w.push(repo, content)
	dgst, err := w.put(repo, typeImage, imageBody(config, "", layer), tagName)
	if err != nil {
		w.Fatal(err)
	}
	return dgst
}

func imageBody(config digest.Digest, extra string, layers ...digest.Digest) string {
	return `{"schemaVersion":2,"config":` + descriptor("c/c", config) + `,"layers":[` + descriptors("l/l", layers...) + `]` + extra + `}`
}

func indexBody(extra string, manifests ...digest.Digest) string {
	return `{"schemaVersion":2,"manifests":[` + descriptors(typeImage, manifests...) + `]` + extra + `}`
}

func (w *world) hasManifest(repo string, dgst digest.Digest) bool {
	w.Helper()
	_, err := w.st.Manifest(w.Context(), name(repo), w.reference(dgst), false)
	if err != nil && !errors.Is(err, store.ErrManifestUnknown) && !errors.Is(err, store.ErrNameUnknown) {
		w.Fatal(err)
	}
	return err == nil
}

func (w *world) hasBlob(repo string, dgst digest.Digest) bool {
	w.Helper()
	b, err := w.st.OpenBlob(w.Context(), name(repo), dgst)
	if err == nil {
		b.Close()
	} else if !errors.Is(err, store.ErrBlobUnknown) {
		w.Fatal(err)
	}
	return err == nil
}

func (w *world) untag(repo, tagName string) {
	w.Helper()
	if err := w.st.DeleteTag(w.Context(), name(repo), tag(tagName), store.Condition{}, store.Actor{}); err != nil {
		w.Fatal(err)
	}
}

func (w *world) collect() Result {
	w.Helper()
	_, r, err := w.collector.Run(w.Context(), Request{Cause: "command"})
	if err != nil {
		w.Fatal(err)
	}
	w.check()
	return r
}

func (w *world) collectNow() Result {
	w.Helper()
	_, r, err := w.collector.Run(w.Context(), Request{Cause: "command", End: func(oci.Name) bool { return true }})
	if err != nil {
		w.Fatal(err)
	}
	w.check()
	return r
}

func (w *world) check() store.CheckReport {
	w.Helper()
	report, err := w.st.Check(w.Context(), false, nil)
	if err != nil || len(report.Problems) > 0 {
		w.Fatalf("check: %+v, %v", report.Problems, err)
	}
	return report
}

const dayTime = 24 * time.Hour

// TestKeepTimes: an untagged manifest stays a week, and a month after it was last used by digest; a build cache a day.
// Its blobs follow a lease later.
func TestKeepTimes(t *testing.T) {
	w := newWorld(t, t.TempDir())
	plain := w.image("a", "plain", "plain")
	used := w.image("a", "used", "used")
	config, layer := w.push("a", "cache config"), w.push("a", "cache layer")
	cache, err := w.put("a", typeImage, strings.Replace(imageBody(config, "", layer), "c/c", "application/vnd.buildkit.cacheconfig.v0", 1), "cache")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"plain", "used", "cache"} {
		w.untag("a", v)
	}
	w.pass(6 * time.Hour)
	w.st.Used(name("a"), w.reference(used), used, true)
	for _, tt := range []struct {
		after              time.Duration
		plain, used, cache bool
	}{
		{17 * time.Hour, true, true, true},             // 23 h
		{2 * time.Hour, true, true, false},             // 25 h
		{5 * dayTime, true, true, false},               // 6 d
		{2 * dayTime, false, true, false},              // 8 d
		{22*dayTime - 2*time.Hour, false, true, false}, // 30 d
		{dayTime, false, false, false},                 // 31 d
	} {
		w.pass(tt.after)
		w.collect()
		if p, u, c := w.hasManifest("a", plain), w.hasManifest("a", used), w.hasManifest("a", cache); p != tt.plain || u != tt.used || c != tt.cache {
			t.Fatalf("at %v: plain %v, used %v, cache %v; want %v, %v, %v", w.up, p, u, c, tt.plain, tt.used, tt.cache)
		}
	}
	w.pass(25 * time.Hour)
	w.collect()
	if report := w.check(); report.Blobs != 0 || report.Manifests != 0 {
		t.Errorf("left: %+v", report)
	}
	if _, err := w.st.Tags(t.Context(), name("a"), "", 1); !errors.Is(err, store.ErrNameUnknown) {
		t.Errorf("empty repository is still there (%v)", err)
	}
}

// TestFamilies: what lives keeps its children at any depth, its referrers and theirs (F1, F18).
func TestFamilies(t *testing.T) {
	w := newWorld(t, t.TempDir())
	leaf := w.image("a", "leaf", "")
	inner, err := w.put("a", typeIndex, indexBody("", leaf), "")
	if err != nil {
		t.Fatal(err)
	}
	odd, err := w.put("a", "application/vnd.example.odd+json", `{"inside":{"of":["`+inner.String()+`"]}}`, "")
	if err != nil {
		t.Fatal(err)
	}
	outer, err := w.put("a", typeIndex, indexBody("", odd), "top")
	if err != nil {
		t.Fatal(err)
	}
	signature, err := w.put("a", typeImage, imageBody(w.push("a", "sig"), `,"subject":`+descriptor(typeImage, leaf)), "")
	if err != nil {
		t.Fatal(err)
	}
	counter, err := w.put("a", typeImage, imageBody(w.push("a", "countersig"), `,"subject":`+descriptor(typeImage, signature)), "")
	if err != nil {
		t.Fatal(err)
	}
	orphan, err := w.put("a", typeImage, imageBody(w.push("a", "sig"), `,"subject":`+descriptor(typeImage, sum([]byte("never pushed")))), "")
	if err != nil {
		t.Fatal(err)
	}
	family := []digest.Digest{leaf, inner, odd, outer, signature, counter}
	w.pass(60 * dayTime)
	w.collect()
	for _, dgst := range family {
		if !w.hasManifest("a", dgst) {
			t.Errorf("%s was collected", dgst)
		}
	}
	if w.hasManifest("a", orphan) {
		t.Error("a referrer whose subject was never pushed stays for ever")
	}
	w.untag("a", "top")
	// The referrers get a keep time of their own when their subject goes.
	for range 3 {
		w.pass(8 * dayTime)
		w.collect()
	}
	w.pass(25 * time.Hour)
	w.collect()
	if report := w.check(); report.Manifests != 0 || report.Blobs != 0 {
		t.Errorf("left: %+v", report)
	}
}

// TestHeadThenCollect: a client is told that a blob is here, collection runs, and its manifest can still be put.
func TestHeadThenCollect(t *testing.T) {
	for _, now := range []bool{false, true} {
		w := newWorld(t, t.TempDir())
		loose := w.push("a", "loose")
		w.image("a", "named", "old")
		named := sum([]byte("named"))
		w.untag("a", "old")
		w.pass(31 * dayTime)
		for _, dgst := range []digest.Digest{loose, named} {
			if _, err := w.st.StatBlob(t.Context(), name("a"), dgst, true); err != nil {
				t.Fatal(err)
			}
		}
		w.pass(30 * time.Minute)
		if now {
			w.collectNow()
		} else {
			w.collect()
		}
		if _, err := w.put("a", typeImage, imageBody(loose, "", named), "new"); err != nil {
			t.Errorf("now %v: put after HEAD and collection: %v", now, err)
		}
	}
}

// TestNow: keep times end at once where the operator says so, leases when they are older than an hour; what has a tag
// is never touched.
func TestNow(t *testing.T) {
	w := newWorld(t, t.TempDir())
	for _, repo := range []string{"a", "b"} {
		w.image(repo, repo+" old", "latest")
		w.image(repo, repo+" new", "latest")
	}
	w.pass(59 * time.Minute)
	fresh := w.push("a", "fresh")
	w.pass(2 * time.Minute)
	_, r, err := w.collector.Run(t.Context(), Request{Cause: "command", End: func(n oci.Name) bool { return n == name("a") }})
	if err != nil {
		t.Fatal(err)
	}
	if r.Manifests != 1 || r.Blobs != 2 || r.Bytes == 0 {
		t.Errorf("%+v, want 1 manifest and 2 blobs", r)
	}
	if !w.hasBlob("a", fresh) {
		t.Error("a lease of two minutes was ended")
	}
	for _, content := range []string{"a new", "b new", "b old"} {
		if !w.hasBlob(content[:1], sum([]byte(content))) {
			t.Errorf("%s is gone", content)
		}
	}
	w.check()
}

// TestDryRun: the plan is that of the run, and nothing changes.
func TestDryRun(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.image("a", "old", "latest")
	w.image("a", "new", "latest")
	w.pass(8 * dayTime)
	before := w.check()
	dry, _, err := w.collector.Run(t.Context(), Request{Cause: "command", DryRun: true, End: func(oci.Name) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	if after := w.check(); after.Manifests != before.Manifests || after.Blobs != before.Blobs {
		t.Errorf("a dry run changed %+v to %+v", before, after)
	}
	if runs, err := w.st.Collections(t.Context(), 10); err != nil || len(runs) != 0 {
		t.Errorf("a dry run is recorded: %+v, %v", runs, err)
	}
	r := w.collectNow()
	if int64(len(dry.Manifests)) != r.Manifests || int64(len(dry.Blobs)) != r.Blobs || dry.Frees != r.Bytes {
		t.Errorf("planned %d manifests, %d blobs, %d bytes; done %+v", len(dry.Manifests), len(dry.Blobs), dry.Frees, r)
	}
}

// TestKeptForUndo: the bytes that only keep times hold, and until when.
func TestKeptForUndo(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.image("a", strings.Repeat("old", 100), "latest")
	w.image("a", strings.Repeat("new", 100), "latest")
	p, err := NewPlan(t.Context(), w.st, Options{Now: w.now})
	if err != nil {
		t.Fatal(err)
	}
	want := int64(len("config "+strings.Repeat("old", 100)) + 300)
	if p.KeptBytes != want || !p.KeptUntil.Equal(w.now.Add(policy.DefaultKeep.Untagged)) {
		t.Errorf("%d bytes until %v; want %d until %v", p.KeptBytes, p.KeptUntil, want, w.now.Add(policy.DefaultKeep.Untagged))
	}
}

// TestSpared: what comes back to life between plan and execution is left alone.
func TestSpared(t *testing.T) {
	w := newWorld(t, t.TempDir())
	var images []digest.Digest
	for i := range 4 {
		images = append(images, w.image("a", fmt.Sprint("image ", i), ""))
	}
	loose := w.push("a", "loose")
	w.pass(60 * dayTime)
	p, err := NewPlan(t.Context(), w.st, Options{Now: w.now})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Manifests) != 4 || len(p.Blobs) != 1 {
		t.Fatalf("plan has %d manifests, %d blobs", len(p.Manifests), len(p.Blobs))
	}
	raw, err := w.st.Manifest(t.Context(), name("a"), w.reference(images[0]), true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.put("a", typeImage, string(raw.Raw), "tagged"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.put("a", typeIndex, indexBody("", images[1]), "index"); err != nil {
		t.Fatal(err)
	}
	w.st.Used(name("a"), w.reference(images[2]), images[2], false)
	if err := w.st.FlushUses(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.st.StatBlob(t.Context(), name("a"), loose, true); err != nil {
		t.Fatal(err)
	}
	r, err := p.Execute(t.Context(), w.st, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Spared != 4 || r.Manifests != 1 || r.Blobs != 0 {
		t.Errorf("%+v, want 4 spared and 1 manifest gone", r)
	}
	for i, dgst := range images {
		if got := w.hasManifest("a", dgst); got != (i < 3) {
			t.Errorf("image %d is there: %v", i, got)
		}
	}
	w.check()
}

// TestRefusals: when something is not as it should be, nothing is removed, and the log says so.
func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(w *world)
		want  string
		force bool // gets past it
	}{
		{"the clock went back", func(w *world) { w.set(w.now.Add(-time.Hour)) }, "it went back", true},
		{"the clock jumped forward", func(w *world) { w.set(w.now.Add(400 * dayTime)) }, "jumped", true},
		{"off for a week", func(w *world) {
			w.boot, w.up = "next", time.Minute
			w.set(w.now.Add(7 * dayTime))
		}, "jumped", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, t.TempDir())
			w.collect()
			w.image("a", "old", "latest")
			w.untag("a", "latest")
			w.pass(40 * dayTime)
			if _, err := ObserveClock(t.Context(), w.st, w, false, true); err != nil {
				t.Fatal(err)
			}
			tt.spoil(w)
			_, _, err := w.collector.Run(t.Context(), Request{Cause: "schedule"})
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("%v, want a refusal with %q", err, tt.want)
			}
			if report := w.check(); report.Manifests != 1 {
				t.Errorf("a refused run removed something: %+v", report)
			}
			runs, err := w.st.Collections(t.Context(), 1)
			if err != nil || len(runs) != 1 || runs[0].Outcome != "refused" || !strings.Contains(runs[0].Reason, tt.want) {
				t.Errorf("log: %+v, %v", runs, err)
			}
			_, r, err := w.collector.Run(t.Context(), Request{Cause: "command", Force: tt.force})
			if err != nil || r.Manifests != 1 && tt.name != "the clock went back" {
				t.Errorf("forced: %+v, %v", r, err)
			}
		})
	}
}

// TestClockIsBelievedAfterADay: a machine that was off for long collects again after a day of uptime, also in pieces.
func TestClockIsBelievedAfterADay(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.collect()
	w.boot, w.up = "second", 0
	w.set(w.now.Add(10 * dayTime))
	refused := func() bool {
		_, _, err := w.collector.Run(t.Context(), Request{Cause: "schedule"})
		if err != nil && !errors.Is(err, ErrRefused) {
			t.Fatal(err)
		}
		return err != nil
	}
	for i := range 3 {
		if !refused() {
			t.Fatalf("believed after %d pieces of ten hours", i)
		}
		w.pass(10 * time.Hour)
		if i == 1 {
			refused() // looked at before the night
			w.boot, w.up = "third", 0
			w.set(w.now.Add(8 * time.Hour))
		}
	}
	if refused() {
		t.Error("not believed after thirty hours of uptime")
	}
	// Off at night is no jump.
	w.boot, w.up = "fourth", time.Minute
	w.set(w.now.Add(10 * time.Hour))
	if refused() {
		t.Error("a night off is taken for a jump")
	}
}

// TestSchedule: by the recorded runs, not by how long the server is up.
func TestSchedule(t *testing.T) {
	w := newWorld(t, t.TempDir())
	runs := func() int {
		t.Helper()
		if err := w.collector.scheduled(t.Context(), dayTime); err != nil {
			t.Fatal(err)
		}
		all, err := w.st.Collections(t.Context(), 100)
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	for _, tt := range []struct {
		after time.Duration
		want  int
	}{{0, 1}, {23 * time.Hour, 1}, {2 * time.Hour, 2}, {25 * time.Hour, 3}} {
		w.pass(tt.after)
		if got := runs(); got != tt.want {
			t.Errorf("after %v: %d runs, want %d", w.up, got, tt.want)
		}
	}
}

// TestOneAtATime: a second collection waits for the first.
func TestOneAtATime(t *testing.T) {
	w := newWorld(t, t.TempDir())
	waited := make(chan struct{})
	second := make(chan error, 1)
	_, _, err := w.collector.Run(t.Context(), Request{Cause: "command", Planned: func(*Plan) {
		go func() {
			_, _, err := w.collector.Run(t.Context(), Request{Cause: "command", Waiting: func() { close(waited) }})
			second <- err
		}()
		<-waited
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-second; err != nil {
		t.Fatal(err)
	}
}

// TestOrphans: files that an interrupted push left behind go, fresh ones stay.
func TestOrphans(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.image("a", "x", "latest")
	old, fresh := sum([]byte("old")), sum([]byte("fresh"))
	for _, dgst := range []digest.Digest{old, fresh} {
		w.orphan(dgst)
	}
	w.age(old, 2*time.Hour)
	r := w.collect()
	if r.Orphans != 1 || w.hasFile(old) || !w.hasFile(fresh) {
		t.Errorf("%+v, old %v, fresh %v", r, w.hasFile(old), w.hasFile(fresh))
	}
}
