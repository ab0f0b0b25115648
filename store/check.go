package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"cubby/store/durable"
	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// A Problem is a broken invariant that Check found.
type Problem struct {
	Invariant string `json:"invariant"` // I2, I3, I5, I6 (see the package comment) or "database"
	What      string `json:"what"`
}

// A CheckReport is the result of Check. Orphans are files without a row: garbage that collection removes, no damage.
type CheckReport struct {
	Blobs       int64     `json:"blobs"`
	Bytes       int64     `json:"bytes"`
	Manifests   int64     `json:"manifests"`
	Tags        int64     `json:"tags"`
	Orphans     int64     `json:"orphans"`
	OrphanBytes int64     `json:"orphan_bytes"`
	Deep        bool      `json:"deep"`
	Problems    []Problem `json:"problems"`
}

// problemsMax bounds a report; a store with more is broken beyond a list.
const problemsMax = 1000

func (r *CheckReport) add(invariant, format string, args ...any) {
	if len(r.Problems) < problemsMax {
		r.Problems = append(r.Problems, Problem{Invariant: invariant, What: fmt.Sprintf(format, args...)})
	}
}

// Check verifies the invariants I2, I3, I5 and I6 and the database itself, beside a working store. With deep it reads
// every blob and compares its digest; what has other bytes is answered as absent from then on. progress is told how many of all bytes are done; it may be nil.
func (s *Store) Check(ctx context.Context, deep bool, progress func(done, total int64)) (CheckReport, error) {
	report := CheckReport{Deep: deep, Problems: []Problem{}}
	if err := s.db.queryRow(ctx, `SELECT (SELECT count(*) FROM blobs), (SELECT COALESCE(sum(size), 0) FROM blobs),
		(SELECT count(*) FROM manifests), (SELECT count(*) FROM tags)`).
		Scan(&report.Blobs, &report.Bytes, &report.Manifests, &report.Tags); err != nil {
		return report, err
	}
	for _, step := range []func(context.Context, *CheckReport) error{
		s.checkDatabase, s.checkComplete, s.checkCounts, s.checkOrder, s.checkManifests,
	} {
		if err := step(ctx, &report); err != nil {
			return report, err
		}
	}
	if err := s.checkBlobs(ctx, &report, progress); err != nil {
		return report, err
	}
	return report, s.findOrphans(ctx, &report)
}

// checkDatabase asks SQLite itself.
func (s *Store) checkDatabase(ctx context.Context, report *CheckReport) error {
	lines, err := collect(ctx, s.db, scanString, `SELECT integrity_check FROM pragma_integrity_check`)
	if err != nil {
		return err
	}
	for _, line := range lines {
		if line != "ok" {
			report.add("database", "integrity_check: %s", line)
		}
	}
	broken, err := collect(ctx, s.db, scanString, `SELECT "table" || ' row ' || COALESCE(rowid, '?') || ' names no row of ' || parent FROM pragma_foreign_key_check`)
	for _, line := range broken {
		report.add("database", "foreign_key_check: %s", line)
	}
	return err
}

// checkComplete verifies I3: what a manifest needs, and had when it was put, is still in its repository. Every tag's
// manifest is a row by its foreign key, so this covers every tag through all its manifests.
func (s *Store) checkComplete(ctx context.Context, report *CheckReport) error {
	lost, err := collect(ctx, s.db, scanString, `SELECT r.name || '@' || d.digest || ' needs ' || td.digest || ', which is gone'
		FROM manifest_references mr JOIN manifests m ON m.id = mr.manifest JOIN repositories r ON r.id = mr.repository
		JOIN digests d ON d.id = m.digest JOIN digests td ON td.id = mr.target
		WHERE mr.needed
		AND NOT EXISTS (SELECT 1 FROM repository_blobs rb WHERE rb.repository = mr.repository AND rb.blob = mr.target)
		AND NOT EXISTS (SELECT 1 FROM manifests c WHERE c.repository = mr.repository AND c.digest = mr.target) LIMIT ?`, problemsMax)
	for _, line := range lost {
		report.add("I3", "%s", line)
	}
	return err
}

// checkCounts verifies I6: stored counts equal counts made anew.
func (s *Store) checkCounts(ctx context.Context, report *CheckReport) error {
	wrong, err := collect(ctx, s.db, scanString, `
		SELECT 'blob ' || d.digest || ' of ' || r.name || ' counts ' || rb.refs || ' manifests' FROM repository_blobs rb
		JOIN repositories r ON r.id = rb.repository JOIN digests d ON d.id = rb.blob
		WHERE rb.refs <> (SELECT count(*) FROM manifest_references mr WHERE mr.repository = rb.repository AND mr.target = rb.blob)
		UNION ALL
		SELECT 'manifest ' || d.digest || ' of ' || r.name || ' counts ' || m.refs || ' manifests' FROM manifests m
		JOIN repositories r ON r.id = m.repository JOIN digests d ON d.id = m.digest
		WHERE m.refs <> (SELECT count(*) FROM manifest_references mr WHERE mr.repository = m.repository AND mr.target = m.digest)
		UNION ALL
		SELECT 'repository ' || r.name || ' counts ' || r.manifests || ' manifests and ' || r.tags || ' tags' FROM repositories r
		WHERE r.manifests <> (SELECT count(*) FROM manifests m WHERE m.repository = r.id)
		OR r.tags <> (SELECT count(*) FROM tags t WHERE t.repository = r.id)
		UNION ALL
		SELECT 'repository ' || r.name || ' counts ' || r.blob_bytes || ' and ' || r.manifest_bytes || ' bytes, ' || r.only_here || ' only here' FROM repositories r
		WHERE r.manifest_bytes <> (SELECT COALESCE(sum(m.size), 0) FROM manifests m WHERE m.repository = r.id)
		OR (r.blob_bytes, r.only_here) <> (
			SELECT COALESCE(sum(b.size), 0),
			COALESCE(sum(b.size) FILTER (WHERE NOT EXISTS (SELECT 1 FROM repository_blobs o WHERE o.blob = rb.blob AND o.repository <> r.id)), 0)
			FROM repository_blobs rb JOIN blobs b ON b.digest = rb.blob WHERE rb.repository = r.id)
		UNION ALL
		SELECT 'the store counts ' || blob_bytes || ' bytes of blobs' FROM store WHERE blob_bytes <> (SELECT COALESCE(sum(size), 0) FROM blobs)
		UNION ALL
		SELECT 'blob ' || d.digest || ' is in no repository' FROM blobs b JOIN digests d ON d.id = b.digest
		WHERE NOT EXISTS (SELECT 1 FROM repository_blobs rb WHERE rb.blob = b.digest)
		LIMIT ?`, problemsMax)
	for _, line := range wrong {
		report.add("I6", "%s", line)
	}
	return err
}

// checkOrder verifies that tags are sorted by what their names say.
func (s *Store) checkOrder(ctx context.Context, report *CheckReport) error {
	type ordered struct {
		repository      int64
		repo, name, key string
	}
	for last := (ordered{}); ; {
		page, err := collect(ctx, s.db, func(r row) (v ordered, err error) { return v, r.Scan(&v.repository, &v.repo, &v.name, &v.key) },
			`SELECT t.repository, r.name, t.name, t.sort_key FROM tags t JOIN repositories r ON r.id = t.repository
			WHERE (t.repository, t.name) > (?, ?) ORDER BY t.repository, t.name LIMIT 500`, last.repository, last.name)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, v := range page {
			last = v
			if v.key != oci.TagOrder(v.name) {
				report.add("I6", "tag %s:%s is sorted as %q", v.repo, v.name, v.key)
			}
		}
	}
}

// checkManifests verifies that every manifest's bytes have its digest and its recorded references. It reads one
// manifest at a time, each in a statement of its own, so that no snapshot keeps the WAL from shrinking.
func (s *Store) checkManifests(ctx context.Context, report *CheckReport) error {
	type stored struct {
		id, size   int64
		repo, dgst string
		mediaType  string
		body       []byte
	}
	for last := int64(0); ; {
		page, err := collect(ctx, s.db, func(r row) (v stored, err error) {
			return v, r.Scan(&v.id, &v.repo, &v.dgst, &v.mediaType, &v.size, &v.body)
		}, `SELECT m.id, r.name, d.digest, m.media_type, m.size, COALESCE(mb.body, x'') FROM manifests m
			JOIN repositories r ON r.id = m.repository JOIN digests d ON d.id = m.digest
			LEFT JOIN manifest_bodies mb ON mb.manifest = m.id WHERE m.id > ? ORDER BY m.id LIMIT 16`, last)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, m := range page {
			last = m.id
			if !isManifest(m.dgst, m.size, m.body) {
				report.add("I5", "manifest %s@%s does not have its digest", m.repo, m.dgst)
				continue
			}
			parsed, err := oci.ParseManifest(m.mediaType, m.body)
			if err != nil {
				report.add("I5", "manifest %s@%s cannot be read: %v", m.repo, m.dgst, err)
				continue
			}
			if parsed.MediaType != m.mediaType {
				report.add("I5", "manifest %s@%s has the media type %s, not %s", m.repo, m.dgst, m.mediaType, parsed.MediaType)
			}
			var n int
			if err := s.db.queryRow(ctx, `SELECT count(*) FROM manifest_references WHERE manifest = ?`, m.id).Scan(&n); err != nil {
				return err
			}
			if n != len(parsed.References) && s.hasManifest(ctx, m.id) {
				report.add("I6", "manifest %s@%s names %d digests, %d are recorded", m.repo, m.dgst, len(parsed.References), n)
			}
		}
	}
}

// hasManifest reports whether a manifest is still there, so that a delete meanwhile is no problem.
func (s *Store) hasManifest(ctx context.Context, id int64) bool {
	var there bool
	err := s.db.queryRow(ctx, `SELECT EXISTS (SELECT 1 FROM manifests WHERE id = ?)`, id).Scan(&there)
	return err != nil || there
}

// storedBlob is a row of blobs.
type storedBlob struct {
	id, size int64
	dgst     digest.Digest
}

// eachBlob calls f for every blob, a page of rows at a time.
func eachBlob(ctx context.Context, q querier, f func(storedBlob) error) error {
	for last := int64(0); ; {
		page, err := collect(ctx, q, func(r row) (v storedBlob, err error) { return v, r.Scan(&v.id, &v.dgst, &v.size) },
			`SELECT b.digest, d.digest, b.size FROM blobs b JOIN digests d ON d.id = b.digest WHERE b.digest > ? ORDER BY b.digest LIMIT 500`, last)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, b := range page {
			last = b.id
			if err := f(b); err != nil {
				return err
			}
		}
	}
}

// checkBlobs verifies I2, and with deep I5.
func (s *Store) checkBlobs(ctx context.Context, report *CheckReport, progress func(done, total int64)) error {
	done := int64(0)
	return eachBlob(ctx, s.db, func(b storedBlob) error {
		wrong, err := s.examine(ctx, b, report.Deep)
		if err != nil {
			return err
		}
		if wrong != "" {
			// A delete may have run meanwhile: under the digest's lock, ask again for the row and then for the file.
			unlock := s.digests.lock(b.dgst)
			var there bool
			err := s.db.queryRow(ctx, `SELECT EXISTS (SELECT 1 FROM blobs WHERE digest = ?)`, b.id).Scan(&there)
			if err == nil && there {
				wrong, err = s.examine(ctx, b, report.Deep)
			} else {
				wrong = ""
			}
			unlock()
			if err != nil {
				return err
			}
		}
		if wrong != "" {
			names, err := s.BlobRepositories(ctx, b.dgst, 3)
			if err != nil {
				return err
			}
			report.add(wrong[:2], "blob %s of %s %s", b.dgst, joinNames(names), wrong[3:])
		}
		done += b.size
		if progress != nil {
			progress(done, max(done, report.Bytes))
		}
		return ctx.Err()
	})
}

func joinNames(names []oci.Name) string {
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = name.String()
	}
	return strings.Join(list, ", ")
}

// examine returns what is wrong with a blob's file, beginning with the invariant, or "".
func (s *Store) examine(ctx context.Context, b storedBlob, deep bool) (string, error) {
	f, err := s.blobs.Root().Open(blobPath(b.dgst))
	if errors.Is(err, fs.ErrNotExist) {
		return "I2 has no file", nil
	}
	if err != nil {
		return "I2 cannot be opened: " + err.Error(), nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if info.Size() != b.size {
		return fmt.Sprintf("I2 has %d bytes, not %d", info.Size(), b.size), nil
	}
	if !deep {
		return "", nil
	}
	h := oci.NewHash(b.dgst.Algorithm())
	buffer := s.uploads.buffer()
	defer s.uploads.buffers.Put(buffer)
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, contextReader{ctx, f}, buffer[:]); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "I5 cannot be read: " + err.Error(), nil
	}
	bad := digest.NewDigest(b.dgst.Algorithm(), h) != b.dgst
	s.rotten.note(b.dgst, durable.StatOf(info), bad)
	if bad {
		return "I5 has other bytes than its digest says", nil
	}
	return "", nil
}

// A contextReader stops reading when its context is done.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// findOrphans counts files below blobs/ that no row claims. A push that is between rename and commit counts too.
func (s *Store) findOrphans(ctx context.Context, report *CheckReport) error {
	return s.eachOrphan(ctx, false, func(_ digest.Digest, info fs.FileInfo) error {
		report.Orphans++
		report.OrphanBytes += info.Size()
		return nil
	})
}
