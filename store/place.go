package store

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"cubby/store/durable"

	"github.com/opencontainers/go-digest"
	"modernc.org/sqlite"
)

// found tells what a data directory holds.
type found struct {
	database bool
	sentinel string // the id in blobs/store.json, or ""
}

// prepareDir makes or checks the directory before anything in it is touched.
func prepareDir(o Options) error {
	info, err := os.Stat(o.Dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && o.Create:
		if err := makeDurable(o.Dir); err != nil {
			return explainAccess(filepath.Dir(o.Dir), err)
		}
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w in %s: the directory does not exist", ErrNoStore, o.Dir)
	case err != nil:
		return explainAccess(o.Dir, err)
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory; give another one with --data", o.Dir)
	}
	for _, path := range []string{o.Dir, filepath.Join(o.Dir, dirBlobs)} {
		name, err := networkFileSystem(path)
		if err == nil && name != "" {
			return fmt.Errorf("%s is on a network file system (%s), where SQLite loses data; give a local directory with --data", path, name)
		}
	}
	return nil
}

// makeDurable makes a directory and what is missing above it, so that it survives a power cut.
func makeDurable(dir string) error {
	parent := filepath.Dir(dir)
	if _, err := os.Stat(parent); errors.Is(err, fs.ErrNotExist) && parent != dir {
		if err := makeDurable(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	// Of a directory that we may enter but not read, only the file system knows.
	if err := syncPath(parent); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// inspect looks at what the directory holds, and refuses what could be a mistake. It changes nothing.
func inspect(o Options) (found, error) {
	var f found
	entries, err := os.ReadDir(o.Dir)
	if err != nil {
		return f, explainAccess(o.Dir, err)
	}
	foreign := ""
	for _, e := range entries {
		switch e.Name() {
		case fileDB:
			f.database = true
		case dirBlobs, dirTemp, "lock", "cubby.sock", "tls", "lost+found", fileDB + "-wal", fileDB + "-shm":
		default:
			foreign = e.Name()
		}
	}
	if f.sentinel, err = readSentinel(filepath.Join(o.Dir, dirBlobs, fileSentinel)); err != nil {
		return f, explainAccess(filepath.Join(o.Dir, dirBlobs), err)
	}
	blobs, _ := os.ReadDir(filepath.Join(o.Dir, dirBlobs))
	for _, e := range blobs {
		if e.Name() != "lost+found" && foreign == "" {
			foreign = filepath.Join(dirBlobs, e.Name())
		}
	}
	switch {
	case f.database:
		return f, nil
	case f.sentinel != "":
		return f, fmt.Errorf("%s has blobs of a store but no %s: is a volume not mounted? Mount it, or restore %s from a backup", o.Dir, fileDB, fileDB)
	case !o.Create:
		return f, fmt.Errorf("%w in %s", ErrNoStore, o.Dir)
	case foreign != "":
		return f, fmt.Errorf("%s is not empty (it has %s) and is no store; give an empty or new directory with --data", o.Dir, foreign)
	}
	return f, nil
}

type sentinel struct {
	ID string `json:"id"`
}

// readSentinel returns the id in blobs/store.json, or "" when there is none.
func readSentinel(path string) (string, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return parseSentinel(b)
}

func parseSentinel(b []byte) (id string, err error) {
	var v sentinel
	if err := json.Unmarshal(b, &v); err != nil || v.ID == "" {
		return "", fmt.Errorf("%s is damaged; restore it from a backup", filepath.Join(dirBlobs, fileSentinel))
	}
	return v.ID, nil
}

// openFiles opens the directories and empties tmp.
func (s *Store) openFiles(o Options) (err error) {
	if s.data, err = durable.Open(o.Dir, o.hook); err != nil {
		return err
	}
	for _, name := range []string{dirBlobs, dirTemp} {
		if err := s.data.Mkdir(name); err != nil {
			return explainAccess(o.Dir, err)
		}
	}
	temp, err := os.ReadDir(filepath.Join(o.Dir, dirTemp))
	if err != nil {
		return err
	}
	for _, e := range temp {
		if err := s.data.Remove(filepath.Join(dirTemp, e.Name())); err != nil {
			return err
		}
	}
	s.blobs, err = durable.Open(filepath.Join(o.Dir, dirBlobs), o.hook)
	return err
}

// openDatabase opens the database. Its log and its index need some room too, for which it gives up the reserve.
func (s *Store) openDatabase(ctx context.Context, create bool) (err error) {
	path := filepath.Join(s.dir, fileDB)
	s.db, err = openDatabase(ctx, path, create, s.readOnly)
	if err != nil && !s.readOnly && durable.IsFull(s.probe()) && s.giveReserve() {
		s.db, err = openDatabase(ctx, path, create, s.readOnly)
	}
	if err == nil {
		s.file, err = os.Stat(path)
	}
	return err
}

// explainOpen tells what the directory lacks where SQLite could say only that something failed.
func (s *Store) explainOpen(err error) error {
	if _, ok := errors.AsType[*sqlite.Error](err); !ok {
		return err
	}
	switch probe := s.probeIn("."); {
	case probe == nil:
		return err
	case durable.IsFull(probe):
		return fmt.Errorf("%w: %s has no room for what the database needs to be opened; make some and try again (%w)", ErrFull, s.dir, err)
	default:
		return fmt.Errorf("%w (%w)", explainAccess(s.dir, probe), err)
	}
}

// settle compares the database with the sentinel and completes a first start. The database comes first and the
// sentinel last, so a first start that was cut leaves a database without content and no sentinel: it is completed.
func (s *Store) settle(ctx context.Context, f found, create bool) error {
	var inUse bool
	err := s.db.queryRow(ctx, `SELECT COALESCE((SELECT id FROM store), ''),
		EXISTS (SELECT 1 FROM blobs) OR EXISTS (SELECT 1 FROM manifests)`).Scan(&s.id, &inUse)
	switch {
	case err != nil:
		return err
	case f.sentinel != "" && f.sentinel == s.id:
		return nil
	case f.sentinel != "":
		return fmt.Errorf("%s and %s belong to different stores: is the wrong volume mounted?", fileDB, filepath.Join(dirBlobs, fileSentinel))
	case inUse:
		return fmt.Errorf("%s knows content but %s has no %s: is a volume not mounted? Mount it and start again (or is this a backup that was interrupted?)",
			filepath.Join(s.dir, fileDB), filepath.Join(s.dir, dirBlobs), fileSentinel)
	}
	if !create {
		return fmt.Errorf("%w in %s: its first start was cut; cubby serve completes it", ErrNoStore, s.dir)
	}
	s.log.Warn("first start, making a new store", "dir", s.dir)
	if s.id == "" {
		s.id = rand.Text()
		err := s.w.do(anything, func(t *tx) error {
			if _, err := t.exec(`INSERT INTO store (id, created_at) VALUES (?, ?)`, s.id, t.now); err != nil {
				return err
			}
			return t.setSetting(settingDescribed, factsVersion) // nothing is there to describe
		})
		if err != nil {
			return err
		}
	}
	b, err := json.Marshal(sentinel{ID: s.id})
	if err != nil {
		return err
	}
	return s.blobs.WriteFile(fileSentinel, ".", b)
}

// fanOut makes the directories that blobs are renamed into when they are first needed: 512 empty ones would cost 2 MB
// and half a second at the first start. A directory must be durable before a file in it is called so.
type fanOut struct {
	dir *durable.Dir

	mu      sync.Mutex
	durable map[string]bool // guarded by mu; made by this process and synced, or found at open and synced then
}

// openFanOut prepares a directory with blobs. Directories that an earlier process made may not have been synced when
// it was killed, so their parents are synced once.
func openFanOut(dir *durable.Dir) (*fanOut, error) {
	f := &fanOut{dir: dir, durable: make(map[string]bool)}
	for _, name := range []string{dirUploads, digest.SHA256.String(), digest.SHA512.String()} {
		if err := dir.Mkdir(name); err != nil {
			return nil, err
		}
		if err := dir.SyncDir(name); err != nil {
			return nil, err
		}
		entries, err := fs.ReadDir(dir.Root().FS(), name)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.IsDir() {
				f.durable[name+"/"+e.Name()] = true
			}
		}
	}
	return f, dir.SyncDir(".")
}

// ensure makes the directory of a digest durable.
func (f *fanOut) ensure(dgst digest.Digest) error {
	name := blobDir(dgst)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.durable[name] {
		return nil
	}
	if err := f.dir.Mkdir(name); err != nil {
		return err
	}
	if err := f.dir.SyncDir(dgst.Algorithm().String()); err != nil {
		// The next time there must be something to sync: a sync that failed is never repeated, and the directory as it
		// is would be called durable by one that has nothing to do.
		return errors.Join(err, f.dir.Remove(name))
	}
	f.durable[name] = true
	return nil
}

// explainAccess adds to a permission error whose directory it is and who we are.
func explainAccess(dir string, err error) error {
	if !errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EROFS) {
		return err
	}
	if errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("cannot write %s: %w, at least for this process; give another directory", dir, err)
	}
	info, statErr := os.Stat(dir)
	if statErr != nil {
		return fmt.Errorf("cannot use %s: %w (running as uid:gid %d:%d)", dir, err, os.Geteuid(), os.Getegid())
	}
	owner := "unknown"
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		owner = fmt.Sprintf("%d:%d", st.Uid, st.Gid)
	}
	return fmt.Errorf("cannot write %s: %w; it belongs to %s with mode %04o, and this runs as %d:%d. Change its owner, or give another directory",
		dir, err, owner, info.Mode().Perm(), os.Geteuid(), os.Getegid())
}

// checkPlace makes the store read-only when its directory, its blobs or its database were moved or replaced: SQLite opens
// files by their path, and would open somebody else's; and what is written to a file that has no name any more is gone
// with the process.
func (s *Store) checkPlace() {
	same := func(path string, held func() (os.FileInfo, error)) bool {
		now, err := os.Stat(path)
		if err != nil {
			return !errors.Is(err, fs.ErrNotExist)
		}
		then, err := held()
		return err != nil || os.SameFile(now, then)
	}
	blobs := func() (os.FileInfo, error) { return s.blobs.Root().Stat(".") }
	file := func() (os.FileInfo, error) { return s.file, nil }
	if same(filepath.Join(s.dir, "lock"), s.lock.Stat) && same(filepath.Join(s.dir, dirBlobs), blobs) && same(filepath.Join(s.dir, fileDB), file) {
		return
	}
	err := error(&stateError{is: ErrReadOnly, sentence: " until restart: its directory was moved or replaced"})
	if s.w.failed.CompareAndSwap(nil, &err) {
		s.log.Error("data directory was moved or replaced, store is read-only until restart", "dir", s.dir)
	}
}
