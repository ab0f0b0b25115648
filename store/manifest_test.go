package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// history returns the log of a tag, oldest first, as "from>to".
func history(t *testing.T, s *Store, repo, tag string) []string {
	t.Helper()
	lines, err := collect(t.Context(), s.db, scanString, `SELECT COALESCE(f.digest, '') || '>' || COALESCE(d.digest, '') || ' ' || h.who
		FROM tag_history h JOIN repositories r ON r.id = h.repository LEFT JOIN digests f ON f.id = h.from_digest
		LEFT JOIN digests d ON d.id = h.to_digest WHERE r.name = ? AND h.tag = ? ORDER BY h.id`, repo, tag)
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestTagHistory(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	one := mustPut(t, s, "a", imageOf(mustPush(t, s, "a", "1")), "latest")
	mustPut(t, s, "a", imageOf(mustPush(t, s, "a", "1")), "latest") // the same again is no move
	two := mustPut(t, s, "a", imageOf(mustPush(t, s, "a", "2")), "latest")
	by := Actor{Name: "test"}
	if err := s.DeleteTag(t.Context(), name("a"), tag("latest"), Condition{}, by); err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, "a", imageOf(sum([]byte("2"))), "latest")
	if err := s.DeleteManifest(t.Context(), name("a"), two, Condition{}, by); err != nil {
		t.Fatal(err)
	}
	want := []string{
		fmt.Sprintf(">%s test", one), fmt.Sprintf("%s>%s test", one, two), fmt.Sprintf("%s> test", two),
		fmt.Sprintf(">%s test", two), fmt.Sprintf("%s> test", two),
	}
	if got := history(t, s, "a", "latest"); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("history %v, want %v", got, want)
	}
	// The keep time of the first one began when its tag moved; it is still there.
	var untagged bool
	err := s.db.queryRow(t.Context(), `SELECT untagged_since IS NOT NULL FROM manifests m JOIN digests d ON d.id = m.digest WHERE d.digest = ?`, one.String()).Scan(&untagged)
	if err != nil || !untagged {
		t.Errorf("manifest without tag: untagged %v, %v", untagged, err)
	}
}

// TestBackup: a copy beside a working store starts and has everything; what is deleted meanwhile is unlinked after it.
func TestBackup(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	kept := mustPush(t, s, "a", "kept")
	mustPut(t, s, "a", imageOf(kept), "1")
	var deleted []digest.Digest
	for i := range 5 {
		deleted = append(deleted, mustPush(t, s, "a", fmt.Sprint("deleted ", i)))
	}
	dir := filepath.Join(t.TempDir(), "copy")
	first := true
	report, err := s.Backup(t.Context(), dir, func(int64, int64) {
		if !first {
			return
		}
		first = false
		for _, dgst := range deleted {
			if err := s.DeleteBlob(t.Context(), name("a"), dgst, Actor{}); err != nil {
				t.Error(err)
			}
		}
		mustPush(t, s, "a", "pushed meanwhile")
	})
	if err != nil || report.Blobs != 6 {
		t.Fatalf("backup: %+v, %v", report, err)
	}
	for _, dgst := range deleted {
		if _, err := os.Stat(filepath.Join(s.dir, "blobs", blobPath(dgst))); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("deleted blob keeps its file after the backup: %v", err)
		}
	}
	copied := open(t, Options{Dir: dir, Role: RoleServe})
	if copied.id != s.id {
		t.Errorf("id %s, want %s", copied.id, s.id)
	}
	for _, dgst := range append(deleted, kept) {
		if _, err := read(t, copied, "a", dgst); err != nil {
			t.Errorf("blob in the copy: %v", err)
		}
	}
	if _, err := copied.Manifest(t.Context(), name("a"), oci.Reference{Tag: tag("1")}, true); err != nil {
		t.Errorf("tag in the copy: %v", err)
	}
	// The copy is its own: what happens to it does not touch the store.
	mustPush(t, copied, "a", "kept")
	if err := copied.DeleteBlob(t.Context(), name("a"), deleted[0], Actor{}); err != nil {
		t.Error(err)
	}
	if _, err := read(t, s, "a", kept); err != nil {
		t.Error(err)
	}
}

func TestBackupRefuses(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	dgst := mustPush(t, s, "a", "content")
	full := t.TempDir()
	write(t, filepath.Join(full, "x"), "x")
	for _, dir := range []string{"relative", filepath.Join(s.dir, "inside"), s.dir, full} {
		if _, err := s.Backup(t.Context(), dir, nil); err == nil {
			t.Errorf("backup to %s succeeded", dir)
		}
	}
	// Damage is found, and the copy does not start.
	write(t, filepath.Join(s.dir, "blobs", blobPath(dgst)), "cOntent")
	dir := filepath.Join(t.TempDir(), "copy")
	if _, err := s.Backup(t.Context(), dir, nil); err == nil {
		t.Error("backup of a damaged store succeeded")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("a failed backup leaves %v (%v)", left, err)
	}
	mustPush(t, s, "a", "content")
}

// TestConcurrent: many clients push, tag, mount and delete the same few digests; afterwards everything is sound and
// nothing failed but for a reason of the protocol.
func TestConcurrent(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	const workers, rounds = 8, 150
	var unexpected atomic.Pointer[error]
	ctx := context.WithoutCancel(t.Context())
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 42))
			for range rounds {
				repo, content := fmt.Sprint("r", random.IntN(3)), fmt.Sprint("content ", random.IntN(6))
				dgst := sum([]byte(content))
				var err error
				switch random.IntN(6) {
				case 0, 1:
					_, err = push(t, s, repo, []byte(content))
				case 2:
					err = put(t, s, repo, imageOf(dgst), fmt.Sprint("t", random.IntN(3)))
				case 3:
					err = s.DeleteBlob(ctx, name(repo), dgst, Actor{})
				case 4:
					err = s.MountBlob(ctx, name(fmt.Sprint("r", random.IntN(3))), name(repo), dgst)
				case 5:
					err = s.DeleteManifest(ctx, name(repo), sum(imageOf(dgst)), Condition{}, Actor{})
				}
				if err != nil && !isRefusal(err) {
					unexpected.Store(&err)
				}
			}
		})
	}
	wg.Wait()
	if err := unexpected.Load(); err != nil {
		t.Errorf("an operation failed: %v", *err)
	}
	if report := check(t, s); report.Orphans != 0 {
		t.Errorf("%d orphan files", report.Orphans)
	}
}

// TestPutRace: content that was there when a client asked is there when its manifest comes, or the manifest is
// refused: never a tag over absent content.
func TestPutRace(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	for i := range 50 {
		dgst := mustPush(t, s, "a", fmt.Sprint("layer ", i))
		var wg sync.WaitGroup
		var putErr, deleteErr error
		wg.Go(func() { putErr = put(t, s, "a", imageOf(dgst), fmt.Sprint("t", i)) })
		wg.Go(func() { deleteErr = s.DeleteBlob(context.WithoutCancel(t.Context()), name("a"), dgst, Actor{}) })
		wg.Wait()
		if (putErr == nil) == (deleteErr == nil) {
			t.Fatalf("put: %v, delete: %v: exactly one must win", putErr, deleteErr)
		}
	}
	check(t, s)
}

// TestManifestWithoutReferences: an index may be empty.
func TestManifestWithoutReferences(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	raw := []byte(`{"schemaVersion":2,"manifests":[]}`)
	m, err := oci.ParseManifest("application/vnd.oci.image.index.v1+json", raw)
	if err != nil {
		t.Fatal(err)
	}
	missing, err := s.PutManifest(t.Context(), ManifestPut{Name: name("a"), Digest: sum(raw), Manifest: m, Tags: []oci.Tag{tag("empty")}, Sparse: SparseNone})
	if err != nil || len(missing) > 0 {
		t.Errorf("an empty index: %v, missing %v", err, missing)
	}
}

func TestManifestWithTooManyReferences(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	blobs := []digest.Digest{mustPush(t, s, "a", "config")}
	for i := range referencesMax {
		blobs = append(blobs, sum(fmt.Append(nil, i)))
	}
	if err := put(t, s, "a", imageOf(blobs...)); !errors.Is(err, oci.ErrManifestInvalid) {
		t.Errorf("%v, want ErrManifestInvalid", err)
	}
}

// TestPutRenewsKeepTime: a client that puts a child again may put its index any time soon.
func TestPutRenewsKeepTime(t *testing.T) {
	c := newClock(time.Unix(1_000_000, 0))
	o := testingOptions(t.TempDir())
	o.Now = c.Now
	s := open(t, o)
	raw := imageOf(mustPush(t, s, "a", "config"))
	for range 2 {
		mustPut(t, s, "a", raw)
		var since int64
		if err := s.db.queryRow(t.Context(), `SELECT untagged_since FROM manifests`).Scan(&since); err != nil || since != c.now.Unix() {
			t.Errorf("untagged since %d, want %d (%v)", since, c.now.Unix(), err)
		}
		c.set(c.now.Add(30 * 24 * time.Hour))
	}
}

// TestDamagedManifest: bytes that are not those of the digest are no answer, and check finds them and a changed media type.
func TestDamagedManifest(t *testing.T) {
	for what, damage := range map[string]string{
		"flipped":    `UPDATE manifest_bodies SET body = CAST(replace(CAST(body AS TEXT), 'config', 'Config') AS BLOB)`,
		"short":      `UPDATE manifest_bodies SET body = x'7b7d'`,
		"gone":       `DELETE FROM manifest_bodies`,
		"digest":     `UPDATE digests SET digest = 'sha256:zz' || substr(digest, 10) WHERE id = (SELECT digest FROM manifests)`,
		"media type": `UPDATE manifests SET media_type = replace(media_type, 'manifest', 'Manifest')`,
	} {
		t.Run(what, func(t *testing.T) {
			s, err := Open(t.Context(), testingOptions(t.TempDir()))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			mustPut(t, s, "a", imageOf(mustPush(t, s, "a", "content")), "1")
			if err := s.w.do(anything, func(t *tx) error { _, err := t.exec(damage); return err }); err != nil {
				t.Fatal(err)
			}
			_, err = s.Manifest(t.Context(), name("a"), oci.Reference{Tag: tag("1")}, true)
			if what != "media type" && (err == nil || errors.Is(err, ErrManifestUnknown)) {
				t.Errorf("read: %v", err)
			}
			report, err := s.Check(t.Context(), false, nil)
			if err != nil || len(report.Problems) == 0 || report.Problems[0].Invariant != "I5" {
				t.Errorf("check: %+v, %v", report.Problems, err)
			}
		})
	}
}

// TestSparseAgain: each put of a sparse manifest tells what of it is absent now, also when the manifest is here already.
func TestSparseAgain(t *testing.T) {
	dir := t.TempDir()
	s := open(t, testingOptions(dir))
	config, layer := mustPush(t, s, "a", "config"), sum([]byte("layer"))
	putSparse := func(mediaType string, raw []byte, tags ...oci.Tag) ([]digest.Digest, error) {
		t.Helper()
		m, err := oci.ParseManifest(mediaType, raw)
		if err != nil {
			t.Fatal(err)
		}
		return s.PutManifest(t.Context(), ManifestPut{Name: name("a"), Digest: sum(raw), Manifest: m, Tags: tags, Sparse: SparseAll, By: Actor{Name: "test"}})
	}
	damage := func(dgst digest.Digest) func() {
		return func() {
			if err := os.Remove(filepath.Join(dir, "blobs", blobPath(dgst))); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, tt := range []struct {
		before func()
		want   []digest.Digest
	}{
		{func() {}, []digest.Digest{layer}},
		{func() {}, []digest.Digest{layer}},
		{func() { mustPush(t, s, "a", "layer") }, nil},
		{damage(layer), []digest.Digest{layer}},
		{damage(config), []digest.Digest{config, layer}},
		{func() { mustPush(t, s, "a", "config") }, []digest.Digest{layer}},
	} {
		tt.before()
		missing, err := putSparse(imageType, imageOf(config, layer), tag(fmt.Sprint(i)))
		if err != nil || !slices.Equal(missing, tt.want) {
			t.Errorf("%d: %v is missing, %v; want %v", i, missing, err, tt.want)
		}
	}
	// What was there from the start goes the other way.
	whole := imageOf(config, config)
	if missing, err := putSparse(imageType, whole); err != nil || missing != nil {
		t.Fatal(missing, err)
	}
	damage(config)()
	if missing, err := putSparse(imageType, whole); err != nil || !slices.Equal(missing, []digest.Digest{config}) {
		t.Errorf("%v is missing, %v; want %v", missing, err, config)
	}
	mustPush(t, s, "a", "config")
	mustPush(t, s, "a", "layer")

	child := imageOf(config)
	index := fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":1}]}`, imageType, sum(child))
	for range 2 {
		if missing, err := putSparse(indexType, index); err != nil || !slices.Equal(missing, []digest.Digest{sum(child)}) {
			t.Errorf("%v is missing of the index, %v; want %v", missing, err, sum(child))
		}
	}
	mustPut(t, s, "a", child)
	if missing, err := putSparse(indexType, index); err != nil || missing != nil {
		t.Errorf("%v is missing of an index that is whole, %v", missing, err)
	}
}
