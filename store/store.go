package store

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"cubby/store/durable"
	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// Lease is how long content stays after the store told a client "this is here, skip the upload", or after the last
// manifest that named it went.
const Lease = 24 * time.Hour

// minFree is the free space in bytes below which pushes are refused, so that the database can still commit deletes.
const minFree = 32 << 20

// Names in the data directory.
const (
	fileDB = "cubby.db"
	// FileAdminPassword holds the password that was made for the first user, until it is changed.
	FileAdminPassword = "admin-password"
	fileSentinel      = "store.json"
	dirBlobs          = "blobs"
	dirTemp           = "tmp"
	dirUploads        = ".uploads" // below blobs: a rename must stay on its file system
)

// Options say how a store is opened.
type Options struct {
	Dir      string           // the data directory
	Role     string           // RoleServe or RoleAdmin; who waits for whom
	Create   bool             // make a store where there is none (serve only)
	ReadOnly bool             // refuse every write with ErrReadOnly
	Log      *slog.Logger     // nil: silent
	Now      func() time.Time // nil: time.Now

	hook durable.Hook // faults, in tests
}

// A Store is what the registry knows and keeps. It is safe for concurrent use. The caller closes it.
type Store struct {
	dir      string
	id       string
	readOnly bool
	serving  bool // use is recorded
	log      *slog.Logger
	now      func() time.Time

	lock  *os.File
	data  *durable.Dir // the data directory
	blobs *durable.Dir // its blobs/, which may be a mount of its own
	db    *database
	w     *writer

	fanOut   *fanOut // nil when read-only
	digests  digestLocks
	uploads  uploads
	pins     pins
	promises promises
	// clockFloor is the latest time that was observed, in unix seconds. Nothing is stamped earlier: while the clock is
	// wrong and behind, keep times and leases would begin in the past, and end when it is put right.
	clockFloor atomic.Int64
	// immutable tells which rule forbids to move a tag; see SetImmutable.
	immutable atomic.Pointer[func(oci.Name, oci.Tag) string]
	uses      uses
	events    events
	describes describing
	diskNoted int64 // unix seconds; owned by the goroutine that tends uses
	access    access
	space     space

	stop       context.CancelFunc
	background sync.WaitGroup
}

// Open opens the store in a data directory and makes this process its owner. Its errors tell what to do; ErrNoStore
// and ErrLocked (as *LockedError) can be told apart.
func Open(ctx context.Context, o Options) (_ *Store, err error) {
	s := &Store{dir: o.Dir, readOnly: o.ReadOnly, log: o.Log, now: o.Now}
	s.uses.full = make(chan struct{}, 1)
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if err := prepareDir(o); err != nil {
		return nil, err
	}
	// Before the lock too: what is no store must not get a lock file.
	if _, err := inspect(o); err != nil {
		return nil, err
	}
	if s.lock, err = takeLock(ctx, o.Dir, o.Role); err != nil {
		return nil, err
	}
	found, err := inspect(o)
	if err != nil {
		return nil, err
	}
	if err := s.openFiles(o); err != nil {
		return nil, err
	}
	// On a read-only root without /tmp SQLite fails on large statements unless it is told where to put its files. It
	// reads the variable once per process, before the first open.
	if err := os.Setenv("SQLITE_TMPDIR", filepath.Join(o.Dir, dirTemp)); err != nil {
		return nil, err
	}
	if s.db, err = openDatabase(ctx, filepath.Join(o.Dir, fileDB), !found.database, o.ReadOnly); err != nil {
		return nil, err
	}
	s.w = newWriter(s.db.write, s.log, s.stamp, s.probe, s.full)
	seen, err := s.Clock(ctx)
	if err != nil {
		return nil, err
	}
	if !seen.SeenAt.IsZero() {
		s.clockFloor.Store(seen.SeenAt.Unix())
	}
	if err := s.settle(ctx, found, o.Create); err != nil {
		return nil, err
	}
	if !o.ReadOnly {
		if s.fanOut, err = openFanOut(s.blobs); err != nil {
			return nil, err
		}
		// The names of the database and of blobs/ themselves: an earlier process may have been killed before this.
		if err := s.data.SyncDir("."); err != nil {
			return nil, err
		}
	}
	if !o.ReadOnly {
		err := s.w.do(func(t *tx) error {
			_, err := t.exec(`UPDATE store SET tracking_since = ? WHERE tracking_since = 0`, t.now)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	if err := s.uploads.load(ctx, s); err != nil {
		return nil, err
	}
	if err := s.access.load(ctx, s.db); err != nil {
		return nil, err
	}
	s.serving = !o.ReadOnly && o.Role == RoleServe
	if s.serving {
		if err := s.startRecording(ctx); err != nil {
			return nil, err
		}
	}
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	if !o.ReadOnly {
		s.background.Go(func() { s.uploads.tend(ctx, s) })
		s.background.Go(func() { s.uses.tend(ctx, s) })
	}
	if s.serving {
		s.describes.done = make(chan struct{})
		s.background.Go(func() { s.describes.run(ctx, s) })
	}
	return s, nil
}

// Close stops the background work, keeps what open upload sessions have received, and gives up the directory. No
// other method may run or be called after it.
func (s *Store) Close() error {
	var errs []error
	if s.stop != nil {
		s.stop()
		s.background.Wait()
		errs = append(errs, s.uploads.persist(s, 0), s.FlushUses(), s.keepPromises())
	}
	if s.stop != nil {
		if err := s.flushEvents(); err != nil {
			s.log.Warn("audit log not written", "err", err)
		}
	}
	if s.serving && s.stop != nil {
		if err := s.Record(); err != nil {
			s.log.Warn("recording of use not noted", "err", err)
		}
	}
	if s.w != nil {
		s.w.close()
	}
	if s.db != nil {
		errs = append(errs, s.db.close())
	}
	for _, d := range []*durable.Dir{s.blobs, s.data} {
		if d != nil {
			errs = append(errs, d.Close())
		}
	}
	// The lock goes last: the next owner must find a closed database.
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// stamp returns the time that rows are stamped with, in unix seconds.
func (s *Store) stamp() int64 { return max(s.now().Unix(), s.clockFloor.Load()) }

// Dir returns the data directory.
func (s *Store) Dir() string { return s.dir }

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
		return f, err
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
		err := s.w.do(func(t *tx) error {
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
		return err
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

// space caches the free space of the data directory and of blobs/, whichever has less.
type space struct {
	checked atomic.Int64 // unix nanoseconds
	warned  atomic.Int64 // unix nanoseconds; when the log last said that pushes are refused
	free    atomic.Int64
	total   atomic.Int64
}

// spend takes bytes that were just written off the cached free space: a second is long enough to fill a disk.
func (s *space) spend(n int64) { s.free.Add(-n) }

// Space returns the bytes that are free, and the size in bytes, of the fuller of the volumes that hold the database and
// the blobs. The answer may be a second old.
func (s *Store) Space() (free, total int64) {
	now := time.Now().UnixNano()
	if last := s.space.checked.Load(); now-last > int64(time.Second) && s.space.checked.CompareAndSwap(last, now) {
		s.checkPlace()
		free, total, err := s.data.Free()
		blobsFree, blobsTotal, blobsErr := s.blobs.Free()
		if blobsErr == nil && (err != nil || blobsFree < free) {
			free, total, err = blobsFree, blobsTotal, nil
		}
		if err == nil {
			s.space.total.Store(total)
			s.space.free.Store(free)
		}
	}
	return s.space.free.Load(), s.space.total.Load()
}

// full returns ErrFull with the numbers, and logs what was hit.
func (s *Store) full(cause error) *stateError {
	free, total := s.Space()
	if cause != nil {
		s.log.Error("disk full", "free", free, "total", total, "err", cause)
	}
	sentence := fmt.Sprintf(": %d of %d MiB free, pushes need %d", max(free, 0)>>20, total>>20, minFree>>20)
	return &stateError{is: ErrFull, sentence: sentence, cause: cause}
}

// Writable returns nil while pushes are accepted, and otherwise ErrReadOnly or ErrFull with the reason.
func (s *Store) Writable() error {
	if err := s.changeable(); err != nil {
		return err
	}
	free, total := s.Space() // also looks whether the directory is still ours
	if failed := s.w.failed.Load(); failed != nil {
		return *failed
	}
	if total > 0 && free < minFree {
		now := time.Now().UnixNano()
		if last := s.space.warned.Load(); now-last > int64(time.Minute) && s.space.warned.CompareAndSwap(last, now) {
			s.log.Warn("disk full, pushes are refused", "free", free, "total", total, "keep", minFree)
		}
		return s.full(nil)
	}
	return nil
}

// checkPlace makes the store read-only when its directory was moved or replaced: SQLite opens files by their path, and
// would open somebody else's.
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
	if same(filepath.Join(s.dir, "lock"), s.lock.Stat) && same(filepath.Join(s.dir, dirBlobs), blobs) {
		return
	}
	err := error(&stateError{is: ErrReadOnly, sentence: " until restart: its directory was moved or replaced"})
	if s.w.failed.CompareAndSwap(nil, &err) {
		s.log.Error("data directory was moved or replaced, store is read-only until restart", "dir", s.dir)
	}
}

// changeable returns ErrReadOnly when the store was opened so.
func (s *Store) changeable() error {
	if s.readOnly {
		return &stateError{is: ErrReadOnly, sentence: ": started with --read-only"}
	}
	return nil
}

// change runs an operation that only shrinks or renews: it is allowed while the disk is full.
func (s *Store) change(run func(*tx) error) error {
	if err := s.changeable(); err != nil {
		return err
	}
	return s.w.do(run)
}

// collectSome runs an operation of collection, which does as much as it can until a deadline.
func (s *Store) collectSome(run func(t *tx, deadline time.Time) error) error {
	if err := s.changeable(); err != nil {
		return err
	}
	return s.w.background(run)
}

// add runs an operation that stores something new.
func (s *Store) add(run func(*tx) error) error {
	if err := s.Writable(); err != nil {
		return err
	}
	return s.w.do(run)
}

// probe tries whether the data directory takes writes.
func (s *Store) probe() error {
	name := filepath.Join(dirTemp, rand.Text())
	f, err := s.data.Create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 64<<10))
	return errors.Join(err, f.Sync(), f.Close(), s.data.Remove(name))
}

// Ping returns nil while content can be read.
func (s *Store) Ping(ctx context.Context) error {
	var id string
	if err := s.db.queryRow(ctx, `SELECT id FROM store`).Scan(&id); err != nil {
		return err
	}
	_, err := s.blobs.Root().Stat(fileSentinel)
	return err
}
