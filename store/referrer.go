package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// referrersBytes bounds one page of referrers: annotations alone can be as large as a manifest.
const referrersBytes = 3 << 20

// A ReferrersPage is a part of the list of referrers of a subject.
type ReferrersPage struct {
	Descriptors []v1.Descriptor
	Next        int64 // pass as after to get the next page; 0 when this is the last
}

// Referrers returns the manifests of a repository whose subject is dgst (end-12), in the order in which they were
// put, at most n and about 3 MiB of them, behind the cursor after (0 to begin). With artifactType only those of that
// type. A repository or subject that does not exist has none.
//
// The first page also lists what clients keep under the referrers tag of the subject, as far as it is here and does not
// name another subject: spec, "Enabling the Referrers API".
func (s *Store) Referrers(ctx context.Context, name oci.Name, dgst digest.Digest, artifactType string, after int64, n int) (ReferrersPage, error) {
	var page ReferrersPage
	if after == 0 {
		tagged, err := s.taggedReferrers(ctx, name, dgst, artifactType)
		if err != nil {
			return page, err
		}
		page.Descriptors = tagged
	}
	rows, err := s.db.query(ctx, `SELECT m.id, d.digest, m.media_type, m.artifact_type, m.size, m.annotations
		FROM repositories r JOIN digests sub JOIN manifests m ON m.repository = r.id AND m.subject = sub.id
		JOIN digests d ON d.id = m.digest
		WHERE r.name = ?1 AND sub.digest = ?2 AND m.id > ?3 AND (?4 = '' OR m.artifact_type = ?4) ORDER BY m.id LIMIT ?5`,
		name.String(), dgst.String(), after, artifactType, n+1)
	if err != nil {
		return page, err
	}
	defer rows.Close()
	last, bytes, count := int64(0), 0, 0
	for rows.Next() {
		id, d, size, err := scanReferrer(rows)
		if err != nil {
			return page, err
		}
		if count == n || bytes > referrersBytes {
			page.Next = last
			break
		}
		page.Descriptors = append(page.Descriptors, d)
		last, bytes, count = id, bytes+size, count+1
	}
	return page, rows.Err()
}

// scanReferrer reads a row of id, digest, media type, artifact type, size and annotations; size is that of the
// descriptor, roughly.
func scanReferrer(r row) (id int64, d v1.Descriptor, size int, err error) {
	var annotations string
	if err := r.Scan(&id, &d.Digest, &d.MediaType, &d.ArtifactType, &d.Size, &annotations); err != nil {
		return 0, d, 0, err
	}
	if annotations != "" {
		err = json.Unmarshal([]byte(annotations), &d.Annotations)
	}
	return id, d, len(annotations) + 512, err
}

// taggedReferrers returns what the index under the referrers tag of a subject lists, without what has the subject
// itself: the query by subject finds that.
func (s *Store) taggedReferrers(ctx context.Context, name oci.Name, dgst digest.Digest, artifactType string) ([]v1.Descriptor, error) {
	m, err := s.Manifest(ctx, name, oci.Reference{Tag: oci.ReferrersTag(dgst)})
	if errors.Is(err, ErrManifestUnknown) || errors.Is(err, ErrNameUnknown) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	index, err := oci.ParseManifest(m.MediaType, m.Raw)
	if err != nil || index.Kind != oci.KindIndex {
		return nil, nil // the tag is someone's own
	}
	var ds []v1.Descriptor
	for _, ref := range index.References[:min(len(index.References), 1000)] {
		found, err := collect(ctx, s.db, func(r row) (v1.Descriptor, error) {
			_, d, _, err := scanReferrer(r)
			return d, err
		}, `SELECT m.id, d.digest, m.media_type, m.artifact_type, m.size, m.annotations
			FROM repositories r JOIN digests d JOIN manifests m ON m.repository = r.id AND m.digest = d.id
			WHERE r.name = ? AND d.digest = ? AND m.subject IS NULL`, name.String(), ref.Digest.String())
		if err != nil {
			return nil, fmt.Errorf("referrers tag of %s: %w", dgst, err)
		}
		ds = append(ds, found...)
	}
	return slices.DeleteFunc(ds, func(d v1.Descriptor) bool { return artifactType != "" && d.ArtifactType != artifactType }), nil
}
