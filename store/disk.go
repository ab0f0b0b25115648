package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"cubby/store/oci"
)

// DiskUse tells in bytes what the store takes on the disk. What open upload sessions have received is not in it.
type DiskUse struct {
	Disk      int64 `json:"disk"`      // Blobs, Database and Indexes
	Blobs     int64 `json:"blobs"`     // the files below blobs/
	Database  int64 `json:"database"`  // its file, without the write-ahead log
	Indexes   int64 `json:"indexes"`   // the files below index/: what pages found out about layers
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
	if err != nil {
		return u, err
	}
	u.Indexes, err = s.layerIndexBytes()
	u.Disk = u.Blobs + u.Database + u.Indexes
	u.Unshared = u.Disk + u.Saved
	return u, err
}

// A DiskDay tells in bytes what blobs and database took, as last seen on a day.
type DiskDay struct {
	Day   time.Time // its beginning, UTC
	Bytes int64
}

const (
	// diskDayEvery is how often the size of today is noted.
	diskDayEvery = time.Hour
	// diskDaysKept bounds the days that are remembered.
	diskDaysKept = 10 * 366
)

// keepDiskDay notes the size of the store now and then. Only the goroutine that tends uses calls it.
func (s *Store) keepDiskDay(ctx context.Context) error {
	now := s.stamp()
	if last := s.diskNoted; now >= last && now-last < int64(diskDayEvery.Seconds()) {
		return nil
	}
	s.diskNoted = now
	var bytes int64
	if err := s.db.queryRow(ctx, `SELECT s.blob_bytes + c.page_count * z.page_size FROM store s, pragma_page_count AS c, pragma_page_size AS z`).Scan(&bytes); err != nil {
		return err
	}
	return s.change(aside, func(t *tx) error {
		today := t.now / secondsPerDay
		if _, err := t.exec(`INSERT INTO disk_days (day, bytes) VALUES (?1, ?2) ON CONFLICT (day) DO UPDATE SET bytes = ?2`, today, bytes); err != nil {
			return err
		}
		_, err := t.exec(`DELETE FROM disk_days WHERE day < ?`, today-diskDaysKept)
		return err
	})
}

// DiskDays returns the last n days of which the size is known, oldest first: none of those on which nothing served the
// store. It takes one statement.
func (s *Store) DiskDays(ctx context.Context, n int) ([]DiskDay, error) {
	return collect(ctx, s.db, func(r row) (d DiskDay, err error) {
		var day int64
		err = r.Scan(&day, &d.Bytes)
		d.Day = time.Unix(day*secondsPerDay, 0).UTC()
		return d, err
	}, `SELECT day, bytes FROM (SELECT day, bytes FROM disk_days ORDER BY day DESC LIMIT ?) ORDER BY day`, n)
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
