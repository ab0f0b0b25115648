package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"cubby/store/durable"
	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// A Blob is an open blob. Its File is a plain *os.File, so that the kernel can send it. The caller closes it.
type Blob struct {
	*os.File
	Digest digest.Digest
	Size   int64 // bytes
}

// blobPath returns where the bytes of a digest lie, below blobs/.
func blobPath(dgst digest.Digest) string {
	return blobDir(dgst) + "/" + dgst.Encoded()
}

func blobDir(dgst digest.Digest) string {
	return dgst.Algorithm().String() + "/" + dgst.Encoded()[:2]
}

// OpenBlob opens a blob of a repository (end-2). It is there when its row and a file of the row's size are, in which no
// check found other bytes; anything else is ErrBlobUnknown, so that the next push heals it.
func (s *Store) OpenBlob(ctx context.Context, name oci.Name, dgst digest.Digest) (*Blob, error) {
	row, err := s.blobRow(ctx, name, dgst)
	if err != nil {
		return nil, fmt.Errorf("blob %s of %s: %w", dgst, name, err)
	}
	f, err := s.openBlobFile(dgst, row.size)
	if err != nil {
		return nil, fmt.Errorf("blob %s of %s: %w", dgst, name, err)
	}
	return &Blob{File: f, Digest: dgst, Size: row.size}, nil
}

// StatBlob returns the size in bytes of a blob that OpenBlob would open. With renew, the answer is a promise to someone
// who may push: a manifest naming the blob can be put for at least half of Lease.
func (s *Store) StatBlob(ctx context.Context, name oci.Name, dgst digest.Digest, renew bool) (size int64, err error) {
	// Before the question, so that a collection that comes between finds it.
	if renew {
		s.promises.note(name, dgst, s.stamp())
	}
	row, err := s.blobRow(ctx, name, dgst)
	if err == nil {
		err = s.checkBlobFile(dgst, row.size)
	}
	if err == nil && renew && row.refs == 0 && row.keepUntil < s.stamp()+int64((Lease/2).Seconds()) {
		err = s.renewLease(name, dgst)
	}
	if err != nil {
		return 0, fmt.Errorf("blob %s of %s: %w", dgst, name, err)
	}
	return row.size, nil
}

// A blobRow is what the database knows of a blob of a repository.
type blobRow struct{ size, refs, keepUntil int64 }

func (s *Store) blobRow(ctx context.Context, name oci.Name, dgst digest.Digest) (blobRow, error) {
	key := cacheKey{kind: cachedBlob, name: name, what: dgst.String()}
	return cachedRead(s, key, s.reads.of(name), func() (b blobRow, size int, err error) {
		err = s.db.queryRow(ctx, `SELECT b.size, rb.refs, rb.keep_until
			FROM repositories r JOIN digests d JOIN repository_blobs rb ON rb.repository = r.id AND rb.blob = d.id
			JOIN blobs b ON b.digest = d.id WHERE r.name = ? AND d.digest = ?`, name.String(), dgst.String()).
			Scan(&b.size, &b.refs, &b.keepUntil)
		if errors.Is(err, sql.ErrNoRows) {
			err = ErrBlobUnknown
		}
		return b, 0, err
	})
}

// openBlobFile opens the file of a digest. A file that is missing, short, or known to have other bytes is ErrBlobUnknown: it
// is not the blob.
func (s *Store) openBlobFile(dgst digest.Digest, size int64) (*os.File, error) {
	f, err := s.blobs.Open(blobPath(dgst))
	var file durable.Stat
	if err == nil {
		var info fs.FileInfo
		if info, err = f.Stat(); err == nil {
			file = durable.StatOf(info)
		}
	}
	if err = s.judgeBlobFile(dgst, size, file, err); err != nil {
		f.Close() // nothing happens where it was not opened
		return nil, err
	}
	return f, nil
}

// checkBlobFile is openBlobFile for who does not read it.
func (s *Store) checkBlobFile(dgst digest.Digest, size int64) error {
	file, err := s.blobs.Stat(blobPath(dgst))
	return s.judgeBlobFile(dgst, size, file, err)
}

// judgeBlobFile returns ErrBlobUnknown where a file, or the error on the way to it, is not the blob.
func (s *Store) judgeBlobFile(dgst digest.Digest, size int64, file durable.Stat, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.log.Error("blob file is missing; pushing the blob again heals it", "digest", dgst)
	case err != nil:
		return err
	case file.Size != size:
		s.log.Error("blob file has the wrong size; pushing the blob again heals it", "digest", dgst, "bytes", file.Size, "want", size)
	case s.rotten.is(dgst, file):
		s.log.Error("blob file has other bytes than its digest says, as a check found; pushing the blob again heals it", "digest", dgst)
	default:
		return nil
	}
	return ErrBlobUnknown
}

// renewLease extends a lease with one conditional update: when the blob was collected meanwhile it touches no row.
func (s *Store) renewLease(name oci.Name, dgst digest.Digest) error {
	err := s.change(within(name), func(t *tx) error {
		n, err := t.exec(`UPDATE repository_blobs SET keep_until = max(keep_until, ?)
			WHERE repository = (SELECT id FROM repositories WHERE name = ?) AND blob = (SELECT id FROM digests WHERE digest = ?)`,
			t.now+int64(Lease.Seconds()), name.String(), dgst.String())
		if err == nil && n == 0 {
			return ErrBlobUnknown
		}
		return err
	})
	// Nobody can push to a full or read-only store, so there is no promise to keep; pulls go on.
	if errors.Is(err, ErrFull) || errors.Is(err, ErrReadOnly) {
		return nil
	}
	return err
}

// commitBlob moves a complete, synced upload to its place and records it. Each step names the crash it survives:
//
//  1. the file's bytes are on disk (the caller synced it): a crash leaves an upload, removed at the next start;
//  2. rename: a crash may leave the new name or the old; without a row it is an orphan file, garbage but not damage;
//  3. directory synced: the name is on disk before any row can claim it;
//  4. transaction committed: from here on the blob exists, and 201 may be sent.
//
// The digest's lock covers 2 to 4, so that no delete unlinks between rename and row. A file that is there already is
// replaced: the bytes are the same, or it was damaged and this heals it.
//
// When the transaction is refused, the file goes again, unless a row claims it. After any other error it stays: the
// commit may come back from the write-ahead log at the next start, and a row must have its file.
func (s *Store) commitBlob(name oci.Name, dgst digest.Digest, upload string, size int64) error {
	err := s.placeBlob(name, dgst, upload, size)
	if err != nil && !mayHaveCommitted(err) {
		s.unlinkBlob(context.Background(), dgst)
	}
	return err
}

func (s *Store) placeBlob(name oci.Name, dgst digest.Digest, upload string, size int64) error {
	unlock := s.digests.lock(dgst)
	defer unlock()
	if err := s.fanOut.ensure(dgst); err != nil {
		return err
	}
	if err := s.blobs.Rename(upload, blobPath(dgst)); err != nil {
		return err
	}
	if err := s.blobs.SyncDir(blobDir(dgst)); err != nil {
		return err
	}
	s.dropLayerIndex(dgst)
	return s.w.do(within(name), func(t *tx) error {
		id, err := t.digestID(dgst)
		if err != nil {
			return err
		}
		if _, err := t.exec(`INSERT INTO blobs (digest, size, created_at) VALUES (?, ?, ?) ON CONFLICT (digest) DO NOTHING`,
			id, size, t.now); err != nil {
			return err
		}
		return t.linkBlob(name, id)
	})
}

// linkBlob makes a blob readable through a repository, with a fresh lease. References that were put before the blob
// (sparse) count from the start.
func (t *tx) linkBlob(name oci.Name, id int64) error {
	repository, err := t.makeRepository(name)
	if err != nil {
		return err
	}
	until := t.now + int64(Lease.Seconds())
	// First the common case: counting would look at every manifest that names it.
	n, err := t.exec(`UPDATE repository_blobs SET keep_until = max(keep_until, ?3) WHERE repository = ?1 AND blob = ?2`, repository, id, until)
	if err != nil || n > 0 {
		return err
	}
	_, err = t.exec(`INSERT INTO repository_blobs (repository, blob, refs, keep_until)
		VALUES (?1, ?2, (SELECT count(*) FROM manifest_references WHERE repository = ?1 AND target = ?2), ?3)`, repository, id, until)
	return err
}

// MountBlob makes a blob of one repository readable through another (end-11). It is ErrBlobUnknown when from has no
// such blob. The caller has checked that the client may read from.
func (s *Store) MountBlob(ctx context.Context, from, to oci.Name, dgst digest.Digest) error {
	if _, err := s.StatBlob(ctx, from, dgst, false); err != nil {
		return err
	}
	return s.add(within(to), func(t *tx) error {
		var id int64
		err := t.queryRow(t.ctx, `SELECT rb.blob FROM repositories r JOIN digests d
			JOIN repository_blobs rb ON rb.repository = r.id AND rb.blob = d.id
			WHERE r.name = ? AND d.digest = ?`, from.String(), dgst.String()).Scan(&id)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrBlobUnknown
		}
		if err != nil {
			return err
		}
		return t.linkBlob(to, id)
	})
}

// BlobRepositories returns the names of at most n repositories through which a blob is readable, in no order.
func (s *Store) BlobRepositories(ctx context.Context, dgst digest.Digest, n int) ([]oci.Name, error) {
	return collect(ctx, s.db, scanName, `SELECT r.name FROM digests d JOIN repository_blobs rb ON rb.blob = d.id
		JOIN repositories r ON r.id = rb.repository WHERE d.digest = ? LIMIT ?`, dgst.String(), n)
}

// DeleteBlob takes a blob out of a repository (end-10), whatever lease it has. It is ErrBlobUnknown when it is not
// there, and an *InUseError when a manifest of the repository names it. Other repositories keep it.
func (s *Store) DeleteBlob(ctx context.Context, name oci.Name, dgst digest.Digest, by Actor) error {
	var last bool
	err := s.change(within(name), func(t *tx) error {
		var repository, id, refs int64
		err := t.queryRow(t.ctx, `SELECT rb.repository, rb.blob, rb.refs FROM repositories r JOIN digests d
			JOIN repository_blobs rb ON rb.repository = r.id AND rb.blob = d.id
			WHERE r.name = ? AND d.digest = ?`, name.String(), dgst.String()).Scan(&repository, &id, &refs)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrBlobUnknown
		}
		if err != nil {
			return err
		}
		if refs > 0 {
			return t.inUse(repository, id, dgst)
		}
		if _, err := t.exec(`DELETE FROM repository_blobs WHERE repository = ? AND blob = ?`, repository, id); err != nil {
			return err
		}
		n, err := t.exec(`DELETE FROM blobs WHERE digest = ?1 AND NOT EXISTS (SELECT 1 FROM repository_blobs WHERE blob = ?1)`, id)
		last = n > 0
		if err != nil {
			return err
		}
		return t.audit(AuditEntry{Action: AuditDelete, Repository: name.String(), Reference: dgst.String(), Detail: "blob"}, by)
	})
	if err != nil {
		return fmt.Errorf("delete blob %s of %s: %w", dgst, name, err)
	}
	if last {
		s.unlinkBlob(context.WithoutCancel(ctx), dgst)
	}
	return nil
}

// inUse describes who names a digest of a repository.
func (t *tx) inUse(repository, target int64, dgst digest.Digest) error {
	e := &InUseError{Digest: dgst}
	err := t.queryRow(t.ctx, `SELECT count(*) FROM manifest_references WHERE repository = ? AND target = ?`, repository, target).Scan(&e.Count)
	if err != nil {
		return err
	}
	type user struct {
		id     int64
		digest string
	}
	users, err := collect(t.ctx, t, func(r row) (u user, err error) { return u, r.Scan(&u.id, &u.digest) },
		`SELECT m.id, d.digest FROM manifest_references mr JOIN manifests m ON m.id = mr.manifest JOIN digests d ON d.id = m.digest
		WHERE mr.repository = ? AND mr.target = ? ORDER BY m.id LIMIT 3`, repository, target)
	if err != nil {
		return err
	}
	for _, u := range users {
		tags, err := collect(t.ctx, t, scanString, `SELECT name FROM tags WHERE manifest = ? ORDER BY name LIMIT 3`, u.id)
		if err != nil {
			return err
		}
		e.By = append(e.By, Holder{Digest: digest.Digest(u.digest), Tags: tags})
	}
	return e
}

// unlinkBlob removes the file of a blob whose row is committed gone. Under the digest's lock it checks that no row
// came back. A failure, or a crash before it, leaves an orphan file: garbage, not damage, so it is only logged.
func (s *Store) unlinkBlob(ctx context.Context, dgst digest.Digest) {
	// After a database error a row may come back from the write-ahead log at the next start.
	if s.w.failed.Load() != nil {
		return
	}
	unlock := s.digests.lock(dgst)
	defer unlock()
	back, err := s.hasBlobRow(ctx, dgst)
	if err == nil && !back && !s.pins.postpone(dgst) {
		s.dropLayerIndex(dgst)
		err = s.blobs.Remove(blobPath(dgst))
	}
	if err != nil {
		s.log.Warn("blob file left behind", "digest", dgst, "err", err)
	}
}

// pins hold back unlinking while a backup copies what its snapshot names.
type pins struct {
	mu       sync.Mutex
	count    int             // guarded by mu
	deferred []digest.Digest // guarded by mu; what to unlink when count is back at 0
}

// postpone reports whether unlinking must wait, and remembers the digest if so.
func (p *pins) postpone(dgst digest.Digest) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count > 0 {
		p.deferred = append(p.deferred, dgst)
	}
	return p.count > 0
}

// pin keeps every blob file until the returned function is called.
func (s *Store) pin() (release func()) {
	s.pins.mu.Lock()
	s.pins.count++
	s.pins.mu.Unlock()
	return sync.OnceFunc(func() {
		s.pins.mu.Lock()
		s.pins.count--
		var deferred []digest.Digest
		if s.pins.count == 0 {
			deferred, s.pins.deferred = s.pins.deferred, nil
		}
		s.pins.mu.Unlock()
		for _, dgst := range deferred {
			s.unlinkBlob(context.Background(), dgst)
		}
	})
}

func scanString(r row) (v string, err error) { return v, r.Scan(&v) }
