package store

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cubby/store/durable"
)

// TestOpenRefuses: what must not be taken for a store, or for an empty one. Each message says what to do.
func TestOpenRefuses(t *testing.T) {
	made := func(t *testing.T) string {
		dir := t.TempDir()
		s := open(t, testingOptions(dir))
		mustPush(t, s, "a", "content")
		shut(t, s)
		return dir
	}
	for _, tt := range []struct {
		name string
		dir  func(t *testing.T) string
		want string

		foreign bool
	}{
		{"a directory of something else", func(t *testing.T) string {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "photo.jpg"), "x")
			return dir
		}, "is not empty (it has photo.jpg)", true},
		{"an index of something else", func(t *testing.T) string {
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "index"), 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, "index", "cards"), "x")
			return dir
		}, "is not empty (it has index)", true},
		{"a reserve of something else", func(t *testing.T) string {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "reserve"), "x")
			return dir
		}, "is not empty (it has reserve)", true},
		{"blobs of something else", func(t *testing.T) string {
			dir := t.TempDir()
			if err := os.MkdirAll(filepath.Join(dir, "blobs", "docker"), 0o700); err != nil {
				t.Fatal(err)
			}
			return dir
		}, "is not empty (it has blobs/docker)", true},
		{"the database is missing", func(t *testing.T) string {
			dir := made(t)
			remove(t, filepath.Join(dir, "cubby.db"))
			return dir
		}, "is a volume not mounted?", false},
		{"the blobs are missing", func(t *testing.T) string {
			dir := made(t)
			if err := os.Rename(filepath.Join(dir, "blobs"), filepath.Join(t.TempDir(), "blobs")); err != nil {
				t.Fatal(err)
			}
			return dir
		}, "is a volume not mounted?", false},
		{"blobs of another store", func(t *testing.T) string {
			dir := made(t)
			write(t, filepath.Join(dir, "blobs", "store.json"), `{"id":"another"}`)
			return dir
		}, "belong to different stores", false},
		{"a damaged sentinel", func(t *testing.T) string {
			dir := made(t)
			write(t, filepath.Join(dir, "blobs", "store.json"), "")
			return dir
		}, "is damaged", false},
		{"a file", func(t *testing.T) string {
			path := filepath.Join(t.TempDir(), "file")
			write(t, path, "x")
			return path
		}, "is not a directory", false},
		{"a newer schema", func(t *testing.T) string {
			dir := made(t)
			execSQL(t, dir, "PRAGMA user_version = 999")
			return dir
		}, "was written by a newer cubby", false},
		{"a database of another program", func(t *testing.T) string {
			dir := made(t)
			execSQL(t, dir, "PRAGMA application_id = 7")
			return dir
		}, "is a database of another program", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := tt.dir(t)
			before, _ := os.ReadDir(dir)
			s, err := Open(t.Context(), testingOptions(dir))
			if after, _ := os.ReadDir(dir); tt.foreign && len(after) != len(before) {
				t.Errorf("what is no store was changed: %v", after)
			}
			if err == nil {
				s.Close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q does not contain %q", err, tt.want)
			}
		})
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// execSQL changes the database of a closed store.
func execSQL(t *testing.T, dir, query string) {
	t.Helper()
	db, err := openDatabase(t.Context(), filepath.Join(dir, fileDB), false, false)
	if err != nil {
		t.Fatal(err)
	}
	defer db.close()
	if _, err := db.write.ExecContext(t.Context(), query); err != nil {
		t.Fatal(err)
	}
}

func TestOpenWithoutCreate(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(t.Context(), Options{Dir: dir, Role: RoleAdmin})
	if !errors.Is(err, ErrNoStore) {
		t.Errorf("empty directory: %v, want ErrNoStore", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "cubby.db")); err == nil {
		t.Error("a store was made")
	}
	if _, err := Open(t.Context(), Options{Dir: filepath.Join(dir, "no"), Role: RoleAdmin}); !errors.Is(err, ErrNoStore) {
		t.Errorf("no directory: %v, want ErrNoStore", err)
	}
}

func TestOpenLocked(t *testing.T) {
	dir := t.TempDir()
	open(t, testingOptions(dir))
	_, err := Open(t.Context(), testingOptions(dir))
	locked, ok := errors.AsType[*LockedError](err)
	if !ok || locked.PID != os.Getpid() || locked.Role != RoleServe || !errors.Is(err, ErrLocked) {
		t.Errorf("second open: %v", err)
	}
}

// TestFirstStartCut: a first start that was interrupted at any step is completed by the next one.
func TestFirstStartCut(t *testing.T) {
	for _, step := range []durable.Step{durable.StepMkdir, durable.StepSyncDir, durable.StepCreate, durable.StepWrite, durable.StepSync, durable.StepRename} {
		dir, on := t.TempDir(), true
		o := testingOptions(dir)
		o.hook = failAt(step, syscall.EIO, &on)
		if s, err := Open(t.Context(), o); err == nil {
			s.Close()
			t.Fatalf("%s: opened", step)
		}
		s := open(t, testingOptions(dir))
		mustPush(t, s, "a", "content")
		shut(t, s)
	}
}

func TestMissingDirectoriesComeBack(t *testing.T) {
	dir := t.TempDir()
	s := open(t, testingOptions(dir))
	kept := mustPush(t, s, "a", "kept")
	shut(t, s)
	// A copy made by a tool that leaves out empty directories.
	for _, pattern := range []string{"sha256/*", "sha512/*", "sha512", ".uploads"} {
		paths, err := filepath.Glob(filepath.Join(dir, "blobs", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range paths {
			_ = os.Remove(p) // the one that is not empty stays
		}
	}
	s = open(t, testingOptions(dir))
	mustPush(t, s, "a", "new")
	if _, err := read(t, s, "a", kept); err != nil {
		t.Error(err)
	}
}

// TestPoisonedOperation: one operation of a commit group that breaks the transaction costs the others nothing.
func TestPoisonedOperation(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	for _, poison := range []struct {
		name string
		run  func(*tx) error
	}{
		{"an error of the database", func(t *tx) error {
			_, err := t.exec(`INSERT INTO repositories (name, created_at) VALUES ('poison', NULL)`)
			return err
		}},
		{"a rollback of the whole transaction", func(t *tx) error {
			_, err := t.exec(`ROLLBACK`)
			return errors.Join(err, errors.New("rolled back"))
		}},
		{"a panic", func(*tx) error { panic("poison") }},
		{"an error of the commit", func(t *tx) error {
			if _, err := t.exec(`PRAGMA defer_foreign_keys = 1`); err != nil {
				return err
			}
			_, err := t.exec(`INSERT INTO manifest_bodies (manifest, body) VALUES (-1, X'00')`)
			return err
		}},
		{"a refusal", func(t *tx) error {
			if _, err := t.exec(`INSERT INTO repositories (name, created_at) VALUES ('refused', 1)`); err != nil {
				return err
			}
			return ErrBlobUnknown
		}},
	} {
		t.Run(poison.name, func(t *testing.T) {
			// Hold the writer, so that all eight are queued and run as one group.
			running, release := make(chan struct{}), make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				_ = s.w.do(anything, func(*tx) error {
					close(running)
					<-release
					return nil
				})
			})
			<-running
			results := make([]error, 8)
			for i := range results {
				run := func(t *tx) error {
					_, err := t.exec(`INSERT INTO repositories (name, created_at) VALUES (?, 1)`, poison.name+"/"+string(rune('0'+i)))
					return err
				}
				if i == 3 {
					run = poison.run
				}
				wg.Go(func() { results[i] = s.w.do(anything, run) })
			}
			waitFor(t, func() bool { return len(s.w.queue) == 8 })
			close(release)
			wg.Wait()
			for i, err := range results {
				if (err != nil) != (i == 3) {
					t.Errorf("operation %d: %v", i, err)
				}
			}
			var n int
			if err := s.db.queryRow(t.Context(), `SELECT count(*) FROM repositories WHERE name GLOB ? OR name IN ('poison', 'refused')`, poison.name+"/*").Scan(&n); err != nil || n != 7 {
				t.Errorf("%d rows, want 7 (%v)", n, err)
			}
		})
	}
	execAndForget(t, s)
}

// execAndForget removes the repositories a test made by hand, whose counts and names are not the registry's.
func execAndForget(t *testing.T, s *Store) {
	t.Helper()
	if err := s.w.do(anything, func(t *tx) error {
		_, err := t.exec(`DELETE FROM repositories`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// waitFor polls a condition that another goroutine makes true.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal("waited too long")
		}
		time.Sleep(time.Millisecond)
	}
}

// TestReadOnlyAfterDatabaseError: after an error of the database that tells nothing about what is on disk, nothing is
// written any more, reads go on.
func TestReadOnlyAfterDatabaseError(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	dgst := mustPush(t, s, "a", "content")
	err := s.w.do(anything, func(t *tx) error {
		// The next write is SQLITE_READONLY, as where the file system turned so.
		if _, err := t.exec(`PRAGMA query_only = 1`); err != nil {
			return err
		}
		_, err := t.exec(`DELETE FROM repositories`)
		return err
	})
	if !errors.Is(err, ErrReadOnly) || !mayHaveCommitted(err) {
		t.Errorf("the operation that met it: %v", err)
	}
	if _, err := push(t, s, "a", []byte("more")); err == nil {
		t.Error("pushed")
	}
	if err := s.DeleteBlob(t.Context(), name("a"), dgst, Actor{}); err == nil {
		t.Error("deleted")
	}
	if _, err := read(t, s, "a", dgst); err != nil {
		t.Errorf("read: %v", err)
	}
}

var update = flag.Bool("update", false, "write schema.sql")

// TestSchema: the migrations give what schema.sql shows.
func TestSchema(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	lines, err := collect(t.Context(), s.db, scanString, `SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type, name`)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(lines, ";\n\n") + ";\n"
	if *update {
		write(t, "schema.sql", got)
	}
	want, err := os.ReadFile("schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Error("schema.sql differs from what the migrations make; run with -update to write it")
	}
}

func TestSentinelHoldsTheID(t *testing.T) {
	dir := t.TempDir()
	s := open(t, testingOptions(dir))
	b, err := os.ReadFile(filepath.Join(dir, "blobs", "store.json"))
	if err != nil {
		t.Fatal(err)
	}
	var v sentinel
	if err := json.Unmarshal(b, &v); err != nil || v.ID != s.id || len(v.ID) < 20 {
		t.Errorf("sentinel %s, id %q: %v", b, s.id, err)
	}
}
