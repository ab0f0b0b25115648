package store

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"cubby/store/durable"
	"cubby/store/oci"
)

// Lease is how long content stays after the store told a client "this is here, skip the upload", or after the last
// manifest that named it went.
const Lease = 24 * time.Hour

// Names in the data directory.
const (
	fileDB = "cubby.db"
	// FileAdminPassword holds the password that was made for the first user, until it is changed.
	FileAdminPassword = "admin-password"
	fileSentinel      = "store.json"
	dirBlobs          = "blobs"
	dirTemp           = "tmp"
	dirIndex          = "index"
	dirUploads        = ".uploads" // below blobs: a rename must stay on its file system
)

// Options say how a store is opened.
type Options struct {
	Dir      string           // the data directory
	Role     string           // RoleServe or RoleAdmin; who waits for whom
	Create   bool             // make a store where there is none (serve only)
	ReadOnly bool             // refuse every write with ErrReadOnly
	Reserve  bool             // set a file aside, to give up when the disk is full to the last byte
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
	file  os.FileInfo // of the database's file, to notice that another has taken its place
	w     *writer
	reads generations // of what the writer changes
	cache cache
	lists lists

	fanOut   *fanOut // nil when read-only
	digests  digestLocks
	uploads  uploads
	pins     pins
	promises promises
	rotten   rotten
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
	reserve   reserve

	stop       context.CancelFunc
	background sync.WaitGroup
}

// Open opens the store in a data directory and makes this process its owner. Its errors tell what to do; ErrNoStore
// and ErrLocked (as *LockedError) can be told apart.
func Open(ctx context.Context, o Options) (_ *Store, err error) {
	s := &Store{dir: o.Dir, readOnly: o.ReadOnly, log: o.Log, now: o.Now}
	s.reads.seed = maphash.MakeSeed()
	s.uses.full = make(chan struct{}, 1)
	s.space.reclaim.asks, s.space.reclaim.wait = make(chan chan struct{}, 1), reclaimWait
	s.reserve.wanted = o.Reserve && !o.ReadOnly
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	defer func() {
		if err != nil {
			err = s.explainOpen(err)
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
	if err := s.openDatabase(ctx, !found.database); err != nil {
		return nil, err
	}
	s.w = newWriter(s.db.write, s.data, s.log, s.stamp, s.probe, s.full, s.giveReserve, &s.reads)
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
		err := s.w.do(aside, func(t *tx) error {
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
		s.background.Go(func() { s.space.reclaim.tend(ctx, s) })
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

// changeable returns ErrReadOnly when the store was opened so.
func (s *Store) changeable() error {
	if s.readOnly {
		return &stateError{is: ErrReadOnly, sentence: ": started with --read-only"}
	}
	return nil
}

// change runs an operation that only shrinks or renews: it is allowed while the disk is full.
func (s *Store) change(in scope, run func(*tx) error) error {
	if err := s.changeable(); err != nil {
		return err
	}
	return s.w.do(in, run)
}

// collectSome runs an operation of collection, which does as much as it can until a deadline.
func (s *Store) collectSome(run func(t *tx, deadline time.Time) error) error {
	if err := s.changeable(); err != nil {
		return err
	}
	return s.w.background(run)
}

// add runs an operation that stores something new.
func (s *Store) add(in scope, run func(*tx) error) error {
	if err := s.Writable(); err != nil {
		return err
	}
	return s.w.do(in, run)
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
