package gc

import (
	"errors"
	"testing"
	"time"

	"cubby/store"

	"github.com/opencontainers/go-digest"
)

// head asks for a blob like a client that is about to push.
func (w *world) head(repo string, dgst digest.Digest) {
	w.Helper()
	if _, err := w.st.StatBlob(w.Context(), name(repo), dgst, true); err != nil {
		w.Fatal(err)
	}
}

// TestHeadThenNow: a lease that still has most of its time is not renewed by HEAD, and is no older for that.
func TestHeadThenNow(t *testing.T) {
	w := newWorld(t, t.TempDir())
	dgst := w.push("a", "blob")
	w.pass(2 * time.Hour)
	w.head("a", dgst)
	w.pass(time.Second)
	w.collectNow()
	if !w.hasBlob("a", dgst) {
		t.Error("collected a second after HEAD said that it is here")
	}
}

// TestChildThenNow: between a child and its index keep times may be ended; the index must find the child.
func TestChildThenNow(t *testing.T) {
	w := newWorld(t, t.TempDir())
	child := w.image("a", "child", "")
	w.pass(2 * time.Second)
	w.collectNow()
	if !w.hasManifest("a", child) {
		t.Error("collected two seconds after it was put")
	}
}

// TestOtherTypeAgain: a manifest that is put again with another media type begins its keep time anew.
func TestOtherTypeAgain(t *testing.T) {
	w := newWorld(t, t.TempDir())
	body := imageBody(w.push("a", "config"), "", w.push("a", "layer"))
	dgst, err := w.put("a", typeImage, body, "")
	if err != nil {
		t.Fatal(err)
	}
	w.pass(8 * dayTime)
	if _, err := w.put("a", "application/vnd.docker.distribution.manifest.v2+json", body, ""); err != nil {
		t.Fatal(err)
	}
	w.pass(time.Second)
	w.collect()
	if !w.hasManifest("a", dgst) {
		t.Error("collected a second after it was put")
	}
}

// TestClockBackAndRight: what is stamped while the clock is behind keeps its time when the clock is put right.
func TestClockBackAndRight(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.collect()
	right := w.now
	w.set(right.Add(-30 * dayTime))
	blob := w.push("a", "blob")
	image := w.image("a", "image", "v1")
	w.untag("a", "v1")
	w.up += time.Minute
	w.set(right.Add(time.Minute))
	if _, _, err := w.collector.Run(t.Context(), Request{Cause: "schedule"}); err != nil && !errors.Is(err, ErrRefused) {
		t.Fatal(err)
	}
	if !w.hasBlob("a", blob) || !w.hasManifest("a", image) {
		t.Errorf("a minute after: blob %v, manifest %v", w.hasBlob("a", blob), w.hasManifest("a", image))
	}
}

// TestUseBetween: whoever asks between plan and execution is told the truth.
func TestUseBetween(t *testing.T) {
	w := newWorld(t, t.TempDir())
	image := w.image("a", "image", "")
	w.pass(8 * dayTime)
	_, _, err := w.collector.Run(t.Context(), Request{Cause: "schedule", Planned: func(*Plan) {
		w.st.Used(name("a"), w.reference(image), image, false)
	}})
	if err != nil {
		t.Fatal(err)
	}
	if !w.hasManifest("a", image) {
		t.Error("collected after HEAD said that it is here")
	}
}

// TestDryRunWritesNothing: not even that it looked at the clock.
func TestDryRunWritesNothing(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.collect()
	w.pass(time.Hour)
	before, err := w.st.Clock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.collector.Run(t.Context(), Request{DryRun: true}); err != nil {
		t.Fatal(err)
	}
	if after, err := w.st.Clock(t.Context()); err != nil || before != after {
		t.Errorf("clock was %+v, is %+v (%v)", before, after, err)
	}
}

// TestReusedRow: a row that was freed after the plan and taken by another manifest is not the one that was planned.
func TestReusedRow(t *testing.T) {
	w := newWorld(t, t.TempDir())
	// Without keep times all of it happens within one second, and the two differ in nothing but their digest.
	w.collector.Policy = keepNothing
	planned := w.image("a", "planned", "")
	body := imageBody(w.push("a", "config"), "", w.push("a", "layer"))
	_, _, err := w.collector.Run(t.Context(), Request{Cause: "command", Planned: func(*Plan) {
		if err := w.st.DeleteManifest(t.Context(), name("a"), planned, store.Condition{}, store.Actor{}); err != nil {
			t.Error(err)
		}
		if _, err := w.put("a", typeImage, body, ""); err != nil {
			t.Error(err)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if !w.hasManifest("a", sum([]byte(body))) {
		t.Error("a manifest that was put after the plan was removed")
	}
}

// TestPromisesOutliveRestart: what a client was told before a restart holds after it.
func TestPromisesOutliveRestart(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, dir)
	w.image("a", "layer", "")
	w.pass(25 * time.Hour)
	w.head("a", sum([]byte("layer")))
	if err := w.st.Close(); err != nil {
		t.Fatal(err)
	}
	w.st = nil
	again := newWorld(t, dir)
	again.set(w.now.Add(time.Second))
	again.up = w.up + time.Second
	again.collectNow()
	if !again.hasBlob("a", sum([]byte("layer"))) {
		t.Error("collected a second after the restart")
	}
}
