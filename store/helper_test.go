package store

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cubby/store/durable"
	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// The first lock of a process fixes what kind its locks are, and that may be of a test which opens a database by itself.
func init() { lockFix() }

const imageType = "application/vnd.oci.image.manifest.v1+json"

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

// testingOptions are those of a server on a directory.
func testingOptions(dir string) Options { return Options{Dir: dir, Role: RoleServe, Create: true} }

// open opens a store that is checked and closed after the test.
func open(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.dir == "" {
			return // closed by the test
		}
		check(t, s)
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// shut closes a store before its test ends.
func shut(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.dir = ""
}

// check fails the test when an invariant is broken.
func check(t testing.TB, s *Store) CheckReport {
	t.Helper()
	// The test's own context is cancelled before its cleanup runs.
	report, err := s.Check(context.WithoutCancel(t.Context()), true, nil)
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	for _, p := range report.Problems {
		t.Errorf("check: %s: %s", p.Invariant, p.What)
	}
	return report
}

// push stores a blob with one session.
func push(t testing.TB, s *Store, repo string, content []byte) (digest.Digest, error) {
	t.Helper()
	dgst := sum(content)
	id, err := s.StartUpload(name(repo), "p", digest.SHA256)
	if err != nil {
		return dgst, err
	}
	return dgst, s.FinishUpload(t.Context(), name(repo), "p", id, -1, bytes.NewReader(content), dgst)
}

func mustPush(t testing.TB, s *Store, repo string, content string) digest.Digest {
	t.Helper()
	dgst, err := push(t, s, repo, []byte(content))
	if err != nil {
		t.Fatalf("push: %v", err)
	}
	return dgst
}

// imageOf returns an image over blobs; the first is its config.
func imageOf(blobs ...digest.Digest) []byte {
	var layers []string
	for _, d := range blobs[1:] {
		layers = append(layers, fmt.Sprintf(`{"mediaType":"l/l","digest":%q,"size":1}`, d))
	}
	return fmt.Appendf(nil, `{"schemaVersion":2,"config":{"mediaType":"c/c","digest":%q,"size":1},"layers":[%s]}`, blobs[0], strings.Join(layers, ","))
}

func put(t testing.TB, s *Store, repo string, raw []byte, tags ...string) error {
	t.Helper()
	m, err := oci.ParseManifest(imageType, raw)
	if err != nil {
		t.Fatal(err)
	}
	p := ManifestPut{Name: name(repo), Digest: sum(raw), Manifest: m, Sparse: SparseIndex, By: Actor{Name: "test"}}
	for _, v := range tags {
		p.Tags = append(p.Tags, tag(v))
	}
	_, err = s.PutManifest(t.Context(), p)
	return err
}

func mustPut(t testing.TB, s *Store, repo string, raw []byte, tags ...string) digest.Digest {
	t.Helper()
	if err := put(t, s, repo, raw, tags...); err != nil {
		t.Fatalf("put: %v", err)
	}
	return sum(raw)
}

func read(t testing.TB, s *Store, repo string, dgst digest.Digest) ([]byte, error) {
	t.Helper()
	b, err := s.OpenBlob(t.Context(), name(repo), dgst)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return io.ReadAll(b)
}

// A clock is set by hand. The store reads it from other goroutines.
type clock struct {
	now    time.Time
	shared atomic.Int64 // unix nanoseconds
}

func newClock(t time.Time) *clock {
	c := &clock{}
	c.set(t)
	return c
}

func (c *clock) set(t time.Time) {
	c.now = t
	c.shared.Store(t.UnixNano())
}

func (c *clock) Now() time.Time { return time.Unix(0, c.shared.Load()) }

// failAt returns a hook that fails every step of one kind with an error while *on.
func failAt(step durable.Step, err error, on *bool) durable.Hook {
	return func(got durable.Step, _ string) error {
		if *on && got == step {
			return err
		}
		return nil
	}
}
