package web

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"cubby/store"
)

// TestCollect: a collection is shown before it is done, runs once at a time, and tells how it goes and how it ended.
func TestCollect(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.fill()
	s.collector.plan = Plan{
		Tags: 1, Manifests: 2, Blobs: 3, Frees: 4 << 20, Kept: 5 << 20, KeptUntil: time.Now().Add(100 * 24 * time.Hour),
		Lines: []PlanLine{
			{Remove: true, Kind: "tag", Repository: name("team/api"), Tag: "1.0", Rule: "old ones", Why: "is older than 30 days"},
			{Kind: "manifest", Repository: name("team/api"), Digest: c.old, Size: 1 << 20, Why: "for undo", Until: time.Now().Add(100 * 24 * time.Hour)},
		},
	}
	wants(t, "before the first", s.get(admin, "/-/storage/gc/running"), 404)
	wants(t, "the plan", s.get(admin, "/-/storage/gc"), 200, "4.0 MiB", "rule “old ones”: is older than 30 days", "team/api:1.0", "Collect now", "Kept for undo5.0 MiB", "End keep times…")
	wants(t, "the plan without keep times", s.get(admin, "/-/storage/gc?now=1"), 200, "Free 9.0 MiB now", "can no longer be restored", "-Kept for undo")
	wants(t, "kept for undo", s.get(admin, "/-/storage"), 200, "5.0 MiB that no tag leads to is kept for a while", "for undo")
	wants(t, "by who is no administrator", s.post(writer, "/-/storage/gc"), 403)

	step, started := make(chan struct{}), make(chan struct{})
	s.collector.collect = func(ctx context.Context, progress func(done, total int)) (Plan, error) {
		close(started)
		for done := range 2 {
			<-step
			progress(done+1, 2)
			step <- struct{}{}
		}
		<-step
		return s.collector.plan, nil
	}
	leads(t, "collect", s.post(admin, "/-/storage/gc"), "/-/storage/gc/running")
	<-started
	a := s.get(admin, "/-/storage/gc/running")
	wants(t, "its page", a, 200, "Collecting", "Deciding what goes.")
	if a.Header.Get("Refresh") != refreshEvery {
		t.Errorf("Refresh %q", a.Header.Get("Refresh"))
	}
	wants(t, "another one meanwhile", s.post(admin, "/-/storage/gc"), 409, "A collection runs already")
	wants(t, "the plan meanwhile", s.get(admin, "/-/storage/gc"), 200, "A collection that was started here is under way.")
	for done := range 2 {
		step <- struct{}{}
		<-step
		wants(t, "its progress", s.get(admin, "/-/storage/gc/running"), 200, fmt.Sprintf("%d of 2 items.", done+1))
	}
	step <- struct{}{}
	a = s.whenDone()
	wants(t, "its result", a, 200, "Freed 4.0 MiB", "1 tag, 2 manifests and 3 blobs went", "-Collecting")
	if a.Header.Get("Refresh") != "" {
		t.Error("the page of a collection that is done loads itself again")
	}

	s.collector.collect = nil
	s.collector.mu.Lock()
	s.collector.plan.Fingerprint = "another"
	s.collector.mu.Unlock()
	leads(t, "a plan that is not what was shown", s.post(admin, "/-/storage/gc", "plan", "shown before"), "/-/storage/gc/running")
	s.pages.working.Wait()
	wants(t, "what became of it", s.get(admin, "/-/storage/gc/running"), 200, "Nothing was collected", "has changed since it was shown")
	s.collector.mu.Lock()
	s.collector.plan.Fingerprint = ""
	s.collector.mu.Unlock()
	leads(t, "once more, without keep times", s.post(admin, "/-/storage/gc", "now", "1"), "/-/storage/gc/running")
	s.whenDone()
	for i, by := range s.collector.by {
		if by.Name != admin || s.collector.runs[i] != (i == 1) {
			t.Errorf("collection %d: by %+v, ends keep times: %v", i, by, s.collector.runs[i])
		}
	}
	if len(s.collector.runs) != 2 {
		t.Errorf("%d collections", len(s.collector.runs))
	}
}

// whenDone returns the page of a collection that has ended.
func (s *site) whenDone() answer {
	s.t.Helper()
	s.pages.working.Wait()
	return s.get(admin, "/-/storage/gc/running")
}

// TestCollectProblems: what was refused, what failed, and what the server's end cut off.
func TestCollectProblems(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fill()
	s.collector.planErr = fmt.Errorf("%w: the clock went back by a year", ErrRefused)
	wants(t, "a refused plan", s.get(admin, "/-/storage/gc"), 200, "Refused: the clock went back by a year.", "-Collect now")
	wants(t, "storage", s.get(admin, "/-/storage"), 200, "Refused: the clock went back by a year.")
	s.collector.planErr = errors.New("/secret/path: input/output error")
	wants(t, "a failed plan", s.get(admin, "/-/storage/gc"), 500, "-/secret/path", "The server could not make this page.")
	s.collector.planErr = nil
	for _, tt := range []struct {
		err   error
		texts []string
	}{
		{fmt.Errorf("%w: half of all would go", ErrRefused), []string{"Nothing was collected", "Refused: half of all would go."}},
		{errors.New("/secret/path: input/output error"), []string{"Nothing was collected", "It failed; the server has logged why.", "-/secret/path"}},
	} {
		s.collector.collect = func(context.Context, func(int, int)) (Plan, error) { return Plan{}, tt.err }
		leads(t, "collect", s.post(admin, "/-/storage/gc"), "/-/storage/gc/running")
		wants(t, tt.err.Error(), s.whenDone(), 200, tt.texts...)
	}
	// The end of the server ends it, and none begins any more.
	s.collector.collect = func(ctx context.Context, _ func(int, int)) (Plan, error) {
		<-ctx.Done()
		return Plan{}, ctx.Err()
	}
	leads(t, "collect", s.post(admin, "/-/storage/gc"), "/-/storage/gc/running")
	s.pages.Close()
	wants(t, "cut off", s.get(admin, "/-/storage/gc/running"), 200, "Nothing was collected", "canceled")
	wants(t, "after the end", s.post(admin, "/-/storage/gc"), 409)
}

// TestCollectOnce: of many who start one at the same time one does.
func TestCollectOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.session(admin)
	hold := make(chan struct{})
	s.collector.collect = func(context.Context, func(int, int)) (Plan, error) {
		<-hold
		return Plan{}, nil
	}
	var wg sync.WaitGroup
	codes := make(chan int, 20)
	for range 20 {
		wg.Go(func() { codes <- s.record(admin, "POST", "/-/storage/gc", "").Code })
	}
	wg.Wait()
	close(hold)
	close(codes)
	count := make(map[int]int)
	for c := range codes {
		count[c]++
	}
	s.pages.working.Wait()
	if count[303] != 1 || count[409] != 19 || len(s.collector.runs) != 1 {
		t.Errorf("answers %v, %d collections", count, len(s.collector.runs))
	}
}

// TestPastCollections: those that the store remembers.
func TestPastCollections(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fill()
	if err := s.store.LogCollection(store.CollectionRun{StartedAt: time.Now().Add(-time.Hour), Cause: "schedule", Outcome: "done", Bytes: 3 << 20, Blobs: 7}); err != nil {
		t.Fatal(err)
	}
	wants(t, "the list", s.get(admin, "/-/storage/gc"), 200, "Past collections", "schedule", "3.0 MiB")
	wants(t, "the one", s.get(admin, "/-/storage/gc/1"), 200, "1 hour ago", "schedule", "3,145,728 bytes")
	wants(t, "none", s.get(admin, "/-/storage/gc/2"), 404, "No such collection")
	wants(t, "the front page", s.get(admin, "/"), 200, "-Attention")
	// One that was refused is an administrator's business, on every page.
	if err := s.store.LogCollection(store.CollectionRun{StartedAt: time.Now(), Cause: "schedule", Outcome: "refused", Reason: "the clock is wrong"}); err != nil {
		t.Fatal(err)
	}
	s.pages.warnings.at = time.Time{}
	for viewer, want := range map[string]bool{admin: true, writer: false, anonymous: false} {
		if got := strings.Contains(s.get(viewer, "/-/help").body, "The last collection was refused: the clock is wrong"); got != want {
			t.Errorf("%q sees the banner: %v", viewer, got)
		}
	}
}
