package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"cubby/store/durable"
	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// A BackupReport is the result of Backup.
type BackupReport struct {
	Blobs  int64 `json:"blobs"`
	Bytes  int64 `json:"bytes"`
	Linked int64 `json:"linked"` // blobs that share their file with the store (hard links)
}

// Backup writes a consistent copy of the store to a new or empty directory, beside a working store; `serve --data dir`
// simply starts from it. Blobs are hard-linked where the file system allows it, which is safe because blob files are
// never changed in place, and copied otherwise. progress is told how many of all bytes are done; it may be nil.
//
// Order: pin the files, so that deletes may commit but nothing is unlinked; then the database, then the blobs that this
// snapshot names, each compared with its digest; the sentinel last, so that a backup that was cut does not start.
//
// What a failed backup wrote is removed, so that it can be tried again.
func (s *Store) Backup(ctx context.Context, dir string, progress func(done, total int64)) (BackupReport, error) {
	if err := s.checkTarget(dir); err != nil {
		return BackupReport{}, err
	}
	release := s.pin()
	defer release()
	report, err := s.backup(ctx, dir, progress)
	if err != nil {
		for _, name := range []string{dirBlobs, fileDB, fileDB + "-wal", fileDB + "-shm", fileDB + "-journal"} {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, name)))
		}
	}
	return report, err
}

// backup copies into an empty directory while the files are pinned.
func (s *Store) backup(ctx context.Context, dir string, progress func(done, total int64)) (BackupReport, error) {
	var report BackupReport
	copied := filepath.Join(dir, fileDB)
	if err := s.copyDatabase(ctx, copied); err != nil {
		return report, fmt.Errorf("copy database: %w", err)
	}
	snapshot, err := openDatabase(ctx, copied, false, true)
	if err != nil {
		return report, err
	}
	defer snapshot.close()
	if err := checkSnapshot(ctx, snapshot); err != nil {
		return report, err
	}
	blobs := filepath.Join(dir, dirBlobs)
	if err := os.Mkdir(blobs, 0o700); err != nil {
		return report, err
	}
	target, err := durable.Open(blobs, nil)
	if err != nil {
		return report, err
	}
	defer target.Close()
	dirs, err := openFanOut(target)
	if err != nil {
		return report, err
	}
	var total int64
	if err := snapshot.queryRow(ctx, `SELECT COALESCE(sum(size), 0) FROM blobs`).Scan(&total); err != nil {
		return report, err
	}
	err = eachBlob(ctx, snapshot, func(b storedBlob) error {
		linked, err := s.backupBlob(ctx, dirs, dir, b)
		if err != nil {
			return fmt.Errorf("blob %s: %w", b.dgst, err)
		}
		report.Blobs++
		report.Bytes += b.size
		if linked {
			report.Linked++
		}
		if progress != nil {
			progress(report.Bytes, total)
		}
		return nil
	})
	if err != nil {
		return report, err
	}
	return report, finishBackup(dirs, snapshot, dir, s.id)
}

// checkTarget refuses directories that hold something or lie inside the store.
func (s *Store) checkTarget(dir string) error {
	if !filepath.IsAbs(dir) {
		return fmt.Errorf("%w: %s is not an absolute path", ErrTarget, dir)
	}
	if rel, err := filepath.Rel(s.dir, dir); err == nil && filepath.IsLocal(rel) {
		return fmt.Errorf("%w: %s lies inside the store %s", ErrTarget, dir, s.dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return explainAccess(filepath.Dir(dir), err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return explainAccess(dir, err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("%w: %s is not empty; give a new one", ErrTarget, dir)
	}
	return nil
}

// copyDatabase writes a snapshot on a connection of its own: it takes as long as the database is large, and neither
// the writer nor a reader of the pool must wait for it.
func (s *Store) copyDatabase(ctx context.Context, path string) error {
	pool, err := sql.Open("sqlite", dsn(filepath.Join(s.dir, fileDB), "_txlock=deferred", "_synchronous=FULL"))
	if err != nil {
		return err
	}
	defer pool.Close()
	_, err = pool.ExecContext(ctx, "VACUUM INTO ?", path)
	return err
}

func checkSnapshot(ctx context.Context, db *database) error {
	var result string
	if err := db.write.QueryRowContext(ctx, `PRAGMA integrity_check(1)`).Scan(&result); err != nil {
		return err
	}
	if result != "ok" {
		return fmt.Errorf("the copied database is damaged: %s", result)
	}
	// Upload sessions are not part of a backup: their bytes are not copied.
	_, err := db.write.ExecContext(ctx, `DELETE FROM uploads`)
	return err
}

// backupBlob links or copies one blob and compares its bytes with its digest.
func (s *Store) backupBlob(ctx context.Context, target *fanOut, dir string, b storedBlob) (linked bool, err error) {
	from, to := filepath.Join(s.dir, dirBlobs, blobPath(b.dgst)), filepath.Join(dir, dirBlobs, blobPath(b.dgst))
	source, err := s.blobs.Root().Open(blobPath(b.dgst))
	if errors.Is(err, fs.ErrNotExist) {
		return false, errors.New("its file is missing; see cubby check")
	}
	if err != nil {
		return false, err
	}
	defer source.Close()
	if err := target.ensure(b.dgst); err != nil {
		return false, err
	}
	h := oci.NewHash(b.dgst.Algorithm())
	out := io.Writer(h)
	linked = os.Link(from, to) == nil
	var f *durable.File
	if !linked {
		if f, err = target.dir.Create(blobPath(b.dgst)); err != nil {
			return false, err
		}
		defer f.Close()
		out = io.MultiWriter(h, f)
	}
	buffer := s.uploads.buffer()
	defer s.uploads.buffers.Put(buffer)
	n, err := io.CopyBuffer(struct{ io.Writer }{out}, contextReader{ctx, source}, buffer[:])
	if err != nil {
		return false, err
	}
	if n != b.size || digest.NewDigest(b.dgst.Algorithm(), h) != b.dgst {
		return false, errors.New("its file does not have its digest; see cubby check --deep")
	}
	if f != nil {
		return false, f.Sync()
	}
	return true, nil
}

// finishBackup makes everything durable and then writes the sentinel.
func finishBackup(target *fanOut, snapshot *database, dir, id string) error {
	for name := range target.durable {
		if err := target.dir.SyncDir(name); err != nil {
			return err
		}
	}
	// Closing checkpoints the WAL into the copy, so that it is one file.
	if err := snapshot.close(); err != nil {
		return err
	}
	b, err := json.Marshal(sentinel{ID: id})
	if err != nil {
		return err
	}
	if err := target.dir.WriteFile(fileSentinel, ".", b); err != nil {
		return err
	}
	return syncPath(filepath.Join(dir, fileDB), dir, filepath.Dir(dir))
}
