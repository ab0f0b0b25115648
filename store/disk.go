package store

import (
	"context"
	"database/sql"
	"errors"

	"cubby/store/oci"
)

// DiskUse tells in bytes what the store takes on the disk. What open upload sessions have received is not in it.
type DiskUse struct {
	Disk      int64 `json:"disk"`      // Blobs and Database
	Blobs     int64 `json:"blobs"`     // the files below blobs/
	Database  int64 `json:"database"`  // its file, without the write-ahead log
	Manifests int64 `json:"manifests"` // the part of Database that is manifests
	Unshared  int64 `json:"unshared"`  // Disk, if every repository had files of its own
	Saved     int64 `json:"saved"`     // Unshared without Disk
	Freeable  int64 `json:"freeable"`  // blobs that no manifest names and no lease keeps
}

// DiskUse returns what the store takes. All but Freeable, which looks at every unnamed blob, costs a look at each
// repository: the rest is counted when it changes.
func (s *Store) DiskUse(ctx context.Context) (DiskUse, error) {
	var u DiskUse
	err := s.db.queryRow(ctx, `SELECT s.blob_bytes, r.blobs - s.blob_bytes, r.manifests, c.page_count * z.page_size,
		(SELECT COALESCE(sum(b.size), 0) FROM
			(SELECT blob, count(*) AS n FROM repository_blobs INDEXED BY repository_blobs_loose WHERE refs = 0 AND keep_until <= ? GROUP BY blob) AS loose
			CROSS JOIN blobs b ON b.digest = loose.blob
			WHERE loose.n = (SELECT count(*) FROM repository_blobs o INDEXED BY repository_blobs_blob WHERE o.blob = loose.blob))
		FROM store s, (SELECT COALESCE(sum(blob_bytes), 0) AS blobs, COALESCE(sum(manifest_bytes), 0) AS manifests FROM repositories) AS r,
		pragma_page_count AS c, pragma_page_size AS z`, s.now().Unix()).
		Scan(&u.Blobs, &u.Saved, &u.Manifests, &u.Database, &u.Freeable)
	u.Disk = u.Blobs + u.Database
	u.Unshared = u.Disk + u.Saved
	return u, err
}

// A RepositoryUse is what a repository stores, in bytes.
type RepositoryUse struct {
	Name     oci.Name
	Stored   int64 // its blobs and manifests
	OnlyHere int64 // the part of it that no other repository has
}

const selectUses = `SELECT name, blob_bytes + manifest_bytes, only_here + manifest_bytes FROM repositories WHERE `

func scanUse(r row) (u RepositoryUse, err error) {
	var name string
	if err := r.Scan(&name, &u.Stored, &u.OnlyHere); err != nil {
		return u, err
	}
	u.Name, err = oci.ParseName(name)
	return u, err
}

// RepositoryUses returns at most n repositories in byte order after last.
func (s *Store) RepositoryUses(ctx context.Context, last string, n int) ([]RepositoryUse, error) {
	return collect(ctx, s.db, scanUse, selectUses+`name > ? ORDER BY name LIMIT ?`, last, n)
}

// RepositoryUse returns what one repository stores, or ErrNameUnknown.
func (s *Store) RepositoryUse(ctx context.Context, name oci.Name) (RepositoryUse, error) {
	u, err := scanUse(s.db.queryRow(ctx, selectUses+`name = ?`, name.String()))
	if errors.Is(err, sql.ErrNoRows) {
		return u, &NameUnknownError{Name: name}
	}
	return u, err
}
