package store

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"cubby/store/durable"
	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

const (
	// uploadExpiry is how long a session stays without progress; one that never got a byte goes after emptyExpiry.
	uploadExpiry = 24 * time.Hour
	emptyExpiry  = time.Hour
	// uploadsMax bounds the open sessions; an idle one costs about a kilobyte of memory and no file descriptor.
	uploadsMax = 10_000
	// uploadsQuota bounds those of one user, or of one address that did not log in.
	uploadsQuota = 1_000
	// busyWait is how long a request waits for another one on the same session. A client whose connection broke
	// comes back before the server has seen the end of the first request.
	busyWait = 3 * time.Second
	// persistAfter is how long a session must be idle before its row is written: PATCH then PUT writes none.
	persistAfter = time.Second
)

// An upload is an open upload session. It lives in memory; see persist for its row.
type upload struct {
	id        string
	name      oci.Name
	principal string
	quota     string // whose sessions are counted together

	// turn holds one token: who has it may use what stands below.
	turn      chan struct{}
	algorithm digest.Algorithm
	hash      hash.Hash // over the first size bytes; nil until re-hashed after a restart
	exists    bool      // its file was created
	ended     bool      // finished or cancelled while somebody waited for the turn

	size      atomic.Int64 // bytes received
	progress  atomic.Int64 // unix seconds
	persisted atomic.Int64 // size in its row, -1 when it has none
}

func (u *upload) path() string { return dirUploads + "/" + u.id }

// uploads are the open sessions.
type uploads struct {
	mu  sync.Mutex
	all map[string]*upload // guarded by mu

	buffers sync.Pool     // of *[uploadBuffer]byte
	pipes   chan struct{} // holds a token for each that writes and hashes beside receiving
}

// StartUpload opens a session (end-4a, end-4c) and returns its id, 128 random bits or more. Only requests of the same
// repository and principal reach it.
func (s *Store) StartUpload(name oci.Name, principal string, algorithm digest.Algorithm) (string, error) {
	return s.StartCountedUpload(name, principal, principal, algorithm)
}

// StartCountedUpload is StartUpload for a principal that is many: quota says whose sessions are counted together.
func (s *Store) StartCountedUpload(name oci.Name, principal, quota string, algorithm digest.Algorithm) (string, error) {
	if err := s.Writable(); err != nil {
		return "", err
	}
	u := newUpload(rand.Text(), name, principal, algorithm)
	u.quota = quota
	u.hash = oci.NewHash(algorithm)
	u.progress.Store(s.now().Unix())
	s.uploads.mu.Lock()
	defer s.uploads.mu.Unlock()
	if len(s.uploads.all) >= uploadsQuota && s.uploads.countOf(quota) >= uploadsQuota && !s.uploads.evict(u.progress.Load(), quota) {
		return "", ErrUploadsTooMany
	}
	if len(s.uploads.all) >= uploadsMax && !s.uploads.evict(u.progress.Load(), "") {
		return "", ErrUploadsTooMany
	}
	s.uploads.all[u.id] = u
	return u.id, nil
}

// OpenUploads returns how many sessions are open and the bytes that they have received. It takes no statement.
func (s *Store) OpenUploads() (count int, bytes int64) {
	s.uploads.mu.Lock()
	defer s.uploads.mu.Unlock()
	for _, u := range s.uploads.all {
		bytes += u.size.Load()
	}
	return len(s.uploads.all), bytes
}

// evictAfter is how long a session must have been idle to make room for another.
const evictAfter = time.Minute

// countOf returns how many sessions are counted together. The caller holds mu.
func (us *uploads) countOf(quota string) (n int) {
	for _, u := range us.all {
		if u.quota == quota {
			n++
		}
	}
	return n
}

// evict ends the session that never got a byte and is idle for longest, of one quota or of all, so that whoever opens
// sessions and forgets them does not lock the others out. The caller holds mu.
func (us *uploads) evict(now int64, quota string) bool {
	var idle []*upload
	for _, u := range us.all {
		if (quota == "" || u.quota == quota) && u.size.Load() == 0 && u.progress.Load() < now-int64(evictAfter.Seconds()) {
			idle = append(idle, u)
		}
	}
	slices.SortFunc(idle, func(a, b *upload) int { return cmp.Compare(a.progress.Load(), b.progress.Load()) })
	for _, u := range idle {
		select {
		case <-u.turn:
			// It may have got bytes since.
			if u.size.Load() == 0 && !u.exists {
				u.ended = true
				delete(us.all, u.id)
			}
			u.turn <- struct{}{}
			if u.ended {
				return true
			}
		default: // somebody uses it
		}
	}
	return false
}

func newUpload(id string, name oci.Name, principal string, algorithm digest.Algorithm) *upload {
	u := &upload{id: id, name: name, principal: principal, quota: principal, algorithm: algorithm, turn: make(chan struct{}, 1)}
	u.persisted.Store(-1)
	u.turn <- struct{}{}
	return u
}

// UploadOffset returns the bytes that a session has received (end-13).
func (s *Store) UploadOffset(name oci.Name, principal, id string) (int64, error) {
	u, err := s.findUpload(name, principal, id)
	if err != nil {
		return 0, err
	}
	return u.size.Load(), nil
}

func (s *Store) findUpload(name oci.Name, principal, id string) (*upload, error) {
	s.uploads.mu.Lock()
	defer s.uploads.mu.Unlock()
	u := s.uploads.all[id]
	if u == nil || u.name != name || u.principal != principal {
		return nil, ErrUploadUnknown
	}
	return u, nil
}

// takeTurn waits until no other request uses the session.
func (s *Store) takeTurn(ctx context.Context, name oci.Name, principal, id string) (*upload, error) {
	u, err := s.findUpload(name, principal, id)
	if err != nil {
		return nil, err
	}
	select {
	case <-u.turn: // also when ctx is done
	default:
		timeout := time.NewTimer(busyWait)
		defer timeout.Stop()
		select {
		case <-u.turn:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timeout.C:
			return nil, ErrUploadBusy
		}
	}
	if u.ended {
		u.turn <- struct{}{}
		return nil, ErrUploadUnknown
	}
	return u, nil
}

// WriteUpload appends a chunk to a session (end-5) and returns the bytes received so far. A chunk that does not begin
// there is an *OffsetError; start -1 means "wherever the session is". When r breaks, what came is kept and r's error
// returned: the client may go on from the offset.
func (s *Store) WriteUpload(ctx context.Context, name oci.Name, principal, id string, start int64, r io.Reader) (int64, error) {
	if err := s.Writable(); err != nil {
		return 0, err
	}
	u, err := s.takeTurn(ctx, name, principal, id)
	if err != nil {
		return 0, err
	}
	defer func() { u.turn <- struct{}{} }()
	f, err := s.appendUpload(u, start, r)
	if f != nil {
		f.Close()
	}
	return u.size.Load(), err
}

// FinishUpload appends a last chunk, which may be empty, checks the digest and makes the blob readable through the
// repository (end-6). After ErrDigestMismatch the session is gone. When r breaks or the chunk is out of order, it lives on.
func (s *Store) FinishUpload(ctx context.Context, name oci.Name, principal, id string, start int64, r io.Reader, dgst digest.Digest) error {
	if err := s.Writable(); err != nil {
		return err
	}
	u, err := s.takeTurn(ctx, name, principal, id)
	if err != nil {
		return err
	}
	defer func() { u.turn <- struct{}{} }()
	f, err := s.appendUpload(u, start, r)
	if f != nil {
		defer f.Close()
	}
	if err != nil {
		return err
	}
	if err := s.verifyUpload(u, dgst); err != nil {
		if errors.Is(err, ErrDigestMismatch) {
			s.endUpload(u)
		}
		return err
	}
	// A failed sync is never repeated: the pages it lost are gone, so the file is too.
	if err := f.Sync(); err != nil {
		s.endUpload(u)
		return s.diskError(err)
	}
	if err := s.commitBlob(name, dgst, u.path(), u.size.Load()); err != nil {
		// The file was moved or not, and the row committed or not: keep what may be live, forget the session.
		s.endUpload(u)
		return s.diskError(fmt.Errorf("commit blob %s: %w", dgst, err))
	}
	u.exists = false
	s.endUpload(u)
	return nil
}

// appendUpload writes r behind what a session has and returns the open file. The caller has the turn.
func (s *Store) appendUpload(u *upload, start int64, r io.Reader) (*durable.File, error) {
	if size := u.size.Load(); start >= 0 && start != size {
		return nil, &OffsetError{ID: u.id, Offset: size}
	}
	f, err := s.openUpload(u)
	if err != nil {
		s.endUpload(u)
		return nil, s.diskError(err)
	}
	if err := s.receive(u, f, r); err != nil {
		if _, broken := errors.AsType[*sourceError](err); broken {
			return f, err
		}
		// The disk failed: nothing is known about the bytes, and a full disk needs the room.
		s.endUpload(u)
		return f, s.diskError(err)
	}
	return f, nil
}

// openUpload opens the session's file at the session's offset, after a restart with its hash made anew.
func (s *Store) openUpload(u *upload) (*durable.File, error) {
	if !u.exists {
		f, err := s.blobs.Create(u.path())
		if err == nil {
			u.exists = true
		}
		return f, err
	}
	if u.hash == nil {
		h := oci.NewHash(u.algorithm)
		if err := s.hashUpload(u, h); err != nil {
			return nil, err
		}
		u.hash = h
	}
	return s.blobs.Append(u.path(), u.size.Load())
}

// hashUpload feeds the session's bytes to h.
func (s *Store) hashUpload(u *upload, h hash.Hash) error {
	f, err := s.blobs.Root().Open(u.path())
	if err != nil {
		return err
	}
	defer f.Close()
	buffer := s.uploads.buffer()
	defer s.uploads.buffers.Put(buffer)
	_, err = io.CopyBuffer(struct{ io.Writer }{h}, io.LimitReader(f, u.size.Load()), buffer[:])
	return err
}

func (us *uploads) buffer() *[uploadBuffer]byte {
	if b, ok := us.buffers.Get().(*[uploadBuffer]byte); ok {
		return b
	}
	return new([uploadBuffer]byte)
}

// verifyUpload compares the content with the digest. When the session hashed with another algorithm, the file is
// read once more.
func (s *Store) verifyUpload(u *upload, dgst digest.Digest) error {
	h := u.hash
	if dgst.Algorithm() != u.algorithm {
		h = oci.NewHash(dgst.Algorithm())
		if err := s.hashUpload(u, h); err != nil {
			return err
		}
	}
	if got := digest.NewDigest(dgst.Algorithm(), h); got != dgst {
		return fmt.Errorf("%w: the %d bytes received have digest %s", ErrDigestMismatch, u.size.Load(), got)
	}
	return nil
}

// CancelUpload ends a session and drops its bytes (end-14).
func (s *Store) CancelUpload(ctx context.Context, name oci.Name, principal, id string) error {
	u, err := s.takeTurn(ctx, name, principal, id)
	if err != nil {
		return err
	}
	defer func() { u.turn <- struct{}{} }()
	s.endUpload(u)
	return nil
}

// endUpload forgets a session and removes its file and row. The caller has the turn.
func (s *Store) endUpload(u *upload) {
	u.ended = true
	s.uploads.mu.Lock()
	delete(s.uploads.all, u.id)
	s.uploads.mu.Unlock()
	// A file or row that stays behind is removed at the next start.
	if u.exists {
		if err := s.blobs.Remove(u.path()); err != nil {
			s.log.Warn("upload left behind", "upload", u.id, "err", err)
		}
	}
	if u.persisted.Load() < 0 || s.readOnly {
		return
	}
	err := s.w.do(aside, func(t *tx) error {
		_, err := t.exec(`DELETE FROM uploads WHERE id = ?`, u.id)
		return err
	})
	if err != nil {
		s.log.Warn("upload left behind", "upload", u.id, "err", err)
	}
}

// diskError makes a full disk recognisable.
func (s *Store) diskError(err error) error {
	if durable.IsFull(err) {
		return s.full(err)
	}
	// A file system that turned read-only does not turn back.
	if errors.Is(err, syscall.EROFS) {
		state := error(&stateError{is: ErrReadOnly, sentence: " until restart: its file system is", cause: err})
		if s.w.failed.CompareAndSwap(nil, &state) {
			s.log.Error("file system is read-only, so is the store until restart", "err", err)
		}
		return state
	}
	return err
}

// load takes over the sessions of an earlier process, as far as both their row and their file go, and removes files
// that belong to none.
func (us *uploads) load(ctx context.Context, s *Store) error {
	us.all, us.pipes = make(map[string]*upload), make(chan struct{}, pipesMax)
	known, err := collect(ctx, s.db, func(r row) (*upload, error) {
		var id, name, principal, algorithm string
		var size, progress int64
		if err := r.Scan(&id, &name, &principal, &algorithm, &size, &progress); err != nil {
			return nil, err
		}
		n, err := oci.ParseName(name)
		if err != nil {
			return nil, err
		}
		a, err := oci.ParseAlgorithm(algorithm)
		if err != nil {
			return nil, err
		}
		u := newUpload(id, n, principal, a)
		u.exists = true
		u.persisted.Store(size)
		u.size.Store(size)
		u.progress.Store(progress)
		return u, nil
	}, `SELECT id, repository, principal, algorithm, size, progress_at FROM uploads LIMIT ?`, uploadsMax)
	if err != nil {
		return fmt.Errorf("open upload sessions: %w", err)
	}
	for _, u := range known {
		info, err := s.blobs.Root().Stat(u.path())
		switch {
		case errors.Is(err, fs.ErrNotExist):
			u.exists = false
			s.endUpload(u)
			continue
		case err != nil:
			return err
		}
		// Either may be behind: the file was not synced, and the row is written after the bytes.
		u.size.Store(min(u.size.Load(), info.Size()))
		us.all[u.id] = u
	}
	if s.readOnly {
		return nil
	}
	return us.removeStray(s)
}

func (us *uploads) removeStray(s *Store) error {
	entries, err := fs.ReadDir(s.blobs.Root().FS(), dirUploads)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if us.all[e.Name()] == nil {
			if err := s.blobs.Remove(dirUploads + "/" + e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// tend writes rows of idle sessions and ends expired ones, until ctx is done.
func (us *uploads) tend(ctx context.Context, s *Store) {
	tick := time.NewTicker(persistAfter)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := us.persist(s, persistAfter); err != nil {
			s.log.Warn("upload sessions not saved; a restart would lose them", "err", err)
		}
		us.expire(ctx, s)
	}
}

// idle returns the sessions that no request uses, each with its turn taken, that pick wants.
func (us *uploads) idle(pick func(*upload) bool) []*upload {
	us.mu.Lock()
	defer us.mu.Unlock()
	var picked []*upload
	for _, u := range us.all {
		if !pick(u) {
			continue
		}
		select {
		case <-u.turn:
			if u.ended {
				u.turn <- struct{}{}
				continue
			}
			picked = append(picked, u)
		default:
		}
	}
	return picked
}

// persist writes the rows of sessions that hold bytes and had no progress for a while, all in one transaction. It does
// not take their turns, which a client would have to wait for: a row that is behind is as good, and one whose session
// ended meanwhile is removed at the next start.
func (us *uploads) persist(s *Store, quiet time.Duration) error {
	if s.readOnly {
		return nil
	}
	before := s.now().Add(-quiet).Unix()
	type row struct {
		*upload
		size, progress int64
	}
	var due []row
	us.mu.Lock()
	for _, u := range us.all {
		r := row{u, u.size.Load(), u.progress.Load()}
		if r.size > 0 && r.size != u.persisted.Load() && r.progress <= before {
			due = append(due, r)
		}
	}
	us.mu.Unlock()
	if len(due) == 0 {
		return nil
	}
	for _, r := range due {
		r.persisted.Store(r.size) // before the commit: a session that ends now must remove its row
	}
	err := s.w.do(aside, func(t *tx) error {
		for _, r := range due {
			if _, err := t.exec(`INSERT INTO uploads (id, repository, principal, algorithm, size, progress_at) VALUES (?, ?, ?, ?, ?, ?)
				ON CONFLICT (id) DO UPDATE SET size = excluded.size, progress_at = excluded.progress_at`,
				r.id, r.name.String(), r.principal, r.algorithm.String(), r.size, r.progress); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		for _, r := range due {
			r.persisted.Store(0) // it may have a row; write it again
		}
	}
	return err
}

// expire ends sessions without progress.
func (us *uploads) expire(ctx context.Context, s *Store) {
	now := s.now()
	expired := us.idle(func(u *upload) bool {
		age := now.Sub(time.Unix(u.progress.Load(), 0))
		return age > uploadExpiry || age > emptyExpiry && u.size.Load() == 0
	})
	for _, u := range expired {
		if ctx.Err() != nil {
			u.turn <- struct{}{}
			continue
		}
		s.log.Info("upload session expired", "repo", u.name.String(), "upload", u.id, "bytes", u.size.Load())
		s.endUpload(u)
		u.turn <- struct{}{}
	}
}
