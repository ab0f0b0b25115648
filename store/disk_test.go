package store

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// blobFiles returns the bytes of all blob files.
func blobFiles(t *testing.T, dir string) (bytes int64) {
	t.Helper()
	for _, algorithm := range []string{"sha256", "sha512"} {
		err := filepath.WalkDir(filepath.Join(dir, dirBlobs, algorithm), func(_ string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err == nil {
				bytes += info.Size()
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return bytes
}

// TestDiskUse: after each step the sums are those of the files on the disk.
func TestDiskUse(t *testing.T) {
	c := newClock(time.Unix(1_700_000_000, 0))
	dir := t.TempDir()
	o := testingOptions(dir)
	o.Now = c.Now
	s := open(t, o)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	content := func(n int) string { return string(bytes.Repeat([]byte{byte(n)}, n)) }
	var use DiskUse
	// stored gives for each repository what is stored and what is only here.
	want := func(step string, blobs, manifests, freeable int64, stored map[string][2]int64) {
		t.Helper()
		var err error
		use, err = s.DiskUse(t.Context())
		must(err)
		if files := blobFiles(t, dir); use.Blobs != blobs || files != blobs {
			t.Errorf("%s: %d bytes of blobs are counted and %d in files, want %d", step, use.Blobs, files, blobs)
		}
		if use.Manifests != manifests || use.Freeable != freeable {
			t.Errorf("%s: manifests %d, freeable %d; want %d, %d", step, use.Manifests, use.Freeable, manifests, freeable)
		}
		uses, err := s.RepositoryUses(t.Context(), "", 100)
		must(err)
		if len(uses) != len(stored) {
			t.Errorf("%s: repositories %v, want %v", step, uses, stored)
		}
		total := int64(0)
		for _, r := range uses {
			if got := [2]int64{r.Stored, r.OnlyHere}; got != stored[r.Name.String()] {
				t.Errorf("%s: %s has %v, want %v", step, r.Name, got, stored[r.Name.String()])
			}
			total += r.Stored
		}
		if use.Saved != total-blobs-manifests || use.Disk != use.Blobs+use.Database+use.Indexes || use.Unshared != use.Disk+use.Saved {
			t.Errorf("%s: the sums do not agree: %+v, repositories %d", step, use, total)
		}
		check(t, s) // the counts equal those made anew
	}
	want("empty", 0, 0, 0, nil)

	b10, b50, b200 := mustPush(t, s, "a", content(10)), mustPush(t, s, "a", content(50)), mustPush(t, s, "a", content(200))
	want("three blobs", 260, 0, 0, map[string][2]int64{"a": {260, 260}})

	long := []byte(content(33))
	b33 := digest.SHA512.FromBytes(long)
	id, err := s.StartUpload(name("a"), "p", digest.SHA512)
	must(err)
	must(s.FinishUpload(t.Context(), name("a"), "p", id, -1, bytes.NewReader(long), b33))
	mustPush(t, s, "a", content(10)) // again
	want("sha512, and a blob again", 293, 0, 0, map[string][2]int64{"a": {293, 293}})

	must(s.MountBlob(t.Context(), name("a"), name("b"), b200))
	want("shared by two", 293, 0, 0, map[string][2]int64{"a": {293, 93}, "b": {200, 0}})

	mustPush(t, s, "c", content(200))
	want("shared by three", 293, 0, 0, map[string][2]int64{"a": {293, 93}, "b": {200, 0}, "c": {200, 0}})

	raw := imageOf(b10, b50)
	m := int64(len(raw))
	mustPut(t, s, "a", raw, "x")
	want("a manifest", 293, m, 0, map[string][2]int64{"a": {293 + m, 93 + m}, "b": {200, 0}, "c": {200, 0}})

	c.set(c.now.Add(Lease + time.Second))
	want("leases have ended", 293, m, 233, map[string][2]int64{"a": {293 + m, 93 + m}, "b": {200, 0}, "c": {200, 0}})

	must(s.MountBlob(t.Context(), name("a"), name("c"), b200))
	want("one of three leases goes on", 293, m, 33, map[string][2]int64{"a": {293 + m, 93 + m}, "b": {200, 0}, "c": {200, 0}})

	raw2 := imageOf(b200)
	m2 := int64(len(raw2))
	mustPut(t, s, "b", raw2, "x")
	c.set(c.now.Add(Lease + time.Second))
	want("one of three is named", 293, m+m2, 33, map[string][2]int64{"a": {293 + m, 93 + m}, "b": {200 + m2, m2}, "c": {200, 0}})

	must(s.DeleteBlob(t.Context(), name("a"), b200, Actor{}))
	want("shared by two again", 293, m+m2, 33, map[string][2]int64{"a": {93 + m, 93 + m}, "b": {200 + m2, m2}, "c": {200, 0}})

	must(s.DeleteManifest(t.Context(), name("b"), sum(raw2), Condition{}, Actor{}))
	must(s.DeleteBlob(t.Context(), name("c"), b200, Actor{}))
	want("in one repository again", 293, m, 33, map[string][2]int64{"a": {93 + m, 93 + m}, "b": {200, 200}, "c": {0, 0}})

	must(s.DeleteBlob(t.Context(), name("b"), b200, Actor{}))
	must(s.DeleteBlob(t.Context(), name("a"), b33, Actor{}))
	want("gone", 60, m, 0, map[string][2]int64{"a": {60 + m, 60 + m}, "b": {0, 0}, "c": {0, 0}})

	u, err := s.RepositoryUse(t.Context(), name("a"))
	if err != nil || u.Stored != 60+m || u.OnlyHere != 60+m || u.Name != name("a") {
		t.Errorf("one repository: %+v, %v", u, err)
	}
	if _, err := s.RepositoryUse(t.Context(), name("never")); !errors.Is(err, ErrNameUnknown) {
		t.Errorf("no repository: %v", err)
	}

	// Closed, all of the database is in its file.
	shut(t, s)
	info, err := os.Stat(filepath.Join(dir, fileDB))
	must(err)
	if info.Size() != use.Database {
		t.Errorf("the database has %d bytes, %d are counted", info.Size(), use.Database)
	}
}

// BenchmarkDiskUse asks a store with 300 000 blobs in 1000 repositories, a tenth of them shared.
func BenchmarkDiskUse(b *testing.B) {
	for _, bench := range []struct {
		name    string
		garbage int // a blob is garbage when its id leaves this rest modulo 2
	}{{"clean", 2}, {"half of it garbage", 1}} {
		b.Run(bench.name, func(b *testing.B) {
			dir := b.TempDir()
			fillDisk(b, dir, bench.garbage)
			s, err := Open(b.Context(), testingOptions(dir))
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			for b.Loop() {
				if _, err := s.DiskUse(b.Context()); err != nil {
					b.Fatal(err)
				}
				if all, err := s.RepositoryUses(b.Context(), "", 2000); err != nil || len(all) != 1000 {
					b.Fatal(len(all), err)
				}
			}
		})
	}
}

// fillDisk makes a store of rows without files.
func fillDisk(b *testing.B, dir string, garbage int) {
	b.Helper()
	s, err := Open(b.Context(), testingOptions(dir))
	if err != nil {
		b.Fatal(err)
	}
	// Closed and opened anew: after so large a transaction SQLite's page caches keep nothing.
	defer s.Close()
	err = s.w.do(anything, func(t *tx) error {
		for _, query := range []string{
			`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) INSERT INTO digests SELECT i, printf('sha256:%064x', i) FROM n`,
			`INSERT INTO repositories (id, name, created_at) SELECT id, 'repository-' || id, 0 FROM digests WHERE id <= 1000`,
			`INSERT INTO blobs (digest, size, created_at) SELECT id, 1000 + id % 1000, 0 FROM digests`,
			`INSERT INTO repository_blobs SELECT 1 + id % 1000, id, 1, 0 FROM digests
				UNION ALL SELECT 1 + (id + 7) % 1000, id, 1, 0 FROM digests WHERE id % 10 = 0`,
		} {
			if _, err := t.exec(query); err != nil {
				return err
			}
		}
		_, err := t.exec(`UPDATE repository_blobs SET refs = 0 WHERE blob % 2 = ?`, garbage)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
}
