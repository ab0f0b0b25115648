package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"cubby/store/durable"
	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// TestPushSteps: the bytes, the name, its directories, and only then the row (see commitBlob).
func TestPushSteps(t *testing.T) {
	content := []byte("content")
	dgst := sum(content)
	var s *Store
	var steps []string
	o := testingOptions(t.TempDir())
	o.hook = func(step durable.Step, name string) error {
		if s == nil {
			return nil
		}
		there, err := s.hasBlobRow(t.Context(), dgst)
		if filepath.Dir(name) == dirUploads {
			name = dirUploads
		}
		steps = append(steps, fmt.Sprintf("%s %s, row %v", step, name, there))
		return err
	}
	opened := open(t, o)
	s = opened
	if _, err := push(t, s, "a", content); err != nil {
		t.Fatal(err)
	}
	s = nil
	var want []string
	for _, step := range []string{"create .uploads", "write .uploads", "sync .uploads", "mkdir " + blobDir(dgst), "syncdir sha256",
		"rename " + blobPath(dgst), "syncdir " + blobDir(dgst), "commit cubby.db"} {
		want = append(want, step+", row false")
	}
	if !slices.Equal(steps, want) {
		t.Errorf("steps %q, want %q", steps, want)
	}
	if _, err := read(t, opened, "a", dgst); err != nil {
		t.Error(err)
	}
}

// TestOpenSyncs: the process before may have been killed between making a name and syncing its directory.
func TestOpenSyncs(t *testing.T) {
	dir := t.TempDir()
	shut(t, open(t, testingOptions(dir)))
	var synced []string
	o := testingOptions(dir)
	o.hook = func(step durable.Step, name string) error {
		if step == durable.StepSyncDir {
			synced = append(synced, name)
		}
		return nil
	}
	open(t, o)
	if want := []string{".uploads", "sha256", "sha512", ".", "."}; !slices.Equal(synced, want) { // blobs/ and what holds it
		t.Errorf("synced %q, want %q", synced, want)
	}
}

// during returns a hook that runs f at the first step of a kind on a name, and lets the step go on when f has done its
// work or waits for the lock of a digest; wait returns when f has ended.
func during(t *testing.T, s **Store, at durable.Step, on string, dgst digest.Digest, f func()) (hook durable.Hook, wait func()) {
	done, begun := make(chan struct{}), false
	hook = func(step durable.Step, name string) error {
		if begun || step != at || name != on {
			return nil
		}
		begun = true
		go func() {
			defer close(done)
			f()
		}()
		locks := &(*s).digests
		waitFor(t, func() bool {
			select {
			case <-done:
				return true
			default:
			}
			locks.mu.Lock()
			defer locks.mu.Unlock()
			return locks.held[dgst] != nil && locks.held[dgst].waiters > 1
		})
		return nil
	}
	return hook, func() { <-done }
}

// TestUnlinkWaitsForPush: what a push has renamed and not yet committed has no row, and must not be taken for what a
// delete leaves behind.
func TestUnlinkWaitsForPush(t *testing.T) {
	content := []byte("content")
	dgst := sum(content)
	var s *Store
	o := testingOptions(t.TempDir())
	hook, wait := during(t, &s, durable.StepSyncDir, blobDir(dgst), dgst, func() { s.unlinkBlob(t.Context(), dgst) })
	o.hook = hook
	s = open(t, o)
	if _, err := push(t, s, "a", content); err != nil {
		t.Fatal(err)
	}
	wait()
	if _, err := read(t, s, "a", dgst); err != nil {
		t.Errorf("a blob that was acknowledged: %v", err)
	}
}

// TestUnlinkChecksAgain: between the row and the file of a delete the same digest may be pushed.
func TestUnlinkChecksAgain(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	dgst := mustPush(t, s, "a", "content")
	release := s.pin() // puts off the unlink
	if err := s.DeleteBlob(t.Context(), name("a"), dgst, Actor{}); err != nil {
		t.Fatal(err)
	}
	mustPush(t, s, "b", "content")
	release()
	if _, err := read(t, s, "b", dgst); err != nil {
		t.Errorf("a blob that was pushed after its delete: %v", err)
	}
}

// TestIndexGoesWithItsBlob: also one that is written while its blob is deleted.
func TestIndexGoesWithItsBlob(t *testing.T) {
	dir := t.TempDir()
	dgst := sum([]byte("layer"))
	var s *Store
	o := testingOptions(dir)
	hook, wait := during(t, &s, durable.StepRename, layerIndexPath(dgst), dgst, func() {
		if err := s.DeleteBlob(t.Context(), name("a"), dgst, Actor{}); err != nil {
			t.Error(err)
		}
	})
	o.hook = hook
	s = open(t, o)
	mustPush(t, s, "a", "layer")
	keep(t, s, dgst, "index")
	wait()
	if left := indexes(t, dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if _, err := os.Stat(filepath.Join(dir, dirBlobs, blobPath(dgst))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("file of the blob: %v", err)
	}
}

// TestPutChecksAgain: a blob that was there when its manifest came is deleted before the manifest's transaction.
func TestPutChecksAgain(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	dgst := mustPush(t, s, "a", "layer")
	running, release, done := make(chan struct{}), make(chan struct{}), make(chan error)
	queue := func(run func() error) {
		t.Helper()
		before := len(s.w.queue)
		go func() { done <- run() }()
		waitFor(t, func() bool { return len(s.w.queue) > before })
	}
	go func() {
		done <- s.w.do(anything, func(*tx) error {
			close(running)
			<-release
			return nil
		})
	}()
	<-running
	var putErr error
	queue(func() error { return s.DeleteBlob(t.Context(), name("a"), dgst, Actor{}) })
	queue(func() error {
		putErr = put(t, s, "a", imageOf(dgst), "1")
		return nil
	})
	close(release)
	for range 3 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if !errors.Is(putErr, ErrManifestBlobUnknown) {
		t.Errorf("put: %v, want ErrManifestBlobUnknown", putErr)
	}
	if _, err := s.Manifest(t.Context(), name("a"), oci.Reference{Tag: tag("1")}, false); !errors.Is(err, ErrManifestUnknown) {
		t.Errorf("tag over absent content: %v", err)
	}
}
