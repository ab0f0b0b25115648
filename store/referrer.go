package store

import (
	"context"
	"encoding/json"

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
// What clients keep in an index under the referrers tag of the subject is listed too, as far as it is here and names no
// subject of its own: spec, "Enabling the Referrers API".
func (s *Store) Referrers(ctx context.Context, name oci.Name, dgst digest.Digest, artifactType string, after int64, n int) (ReferrersPage, error) {
	var page ReferrersPage
	rows, err := s.db.query(ctx, `WITH found (id) AS (
			SELECT m.id FROM repositories r CROSS JOIN digests sub CROSS JOIN manifests m INDEXED BY manifests_subject ON m.repository = r.id AND m.subject = sub.id
			WHERE r.name = ?1 AND sub.digest = ?2 AND m.id > ?3 AND (?4 = '' OR m.artifact_type = ?4)
			UNION
			SELECT m.id FROM repositories r JOIN tags t ON t.repository = r.id JOIN manifests i ON i.id = t.manifest
			JOIN manifest_references mr ON mr.manifest = i.id AND mr.kind = ?6
			JOIN manifests m ON m.repository = r.id AND m.digest = mr.target
			WHERE r.name = ?1 AND t.name = ?7 AND m.subject IS NULL AND m.id > ?3 AND (?4 = '' OR m.artifact_type = ?4)
			ORDER BY 1 LIMIT ?5)
		SELECT m.id, d.digest, m.media_type, m.artifact_type, m.size, m.annotations
		FROM found JOIN manifests m ON m.id = found.id JOIN digests d ON d.id = m.digest ORDER BY m.id`,
		name.String(), dgst.String(), after, artifactType, n+1, kindManifest, oci.ReferrersTag(dgst).String())
	if err != nil {
		return page, err
	}
	defer rows.Close()
	last, bytes := int64(0), 0
	for rows.Next() {
		var id int64
		var d v1.Descriptor
		var annotations string
		if err := rows.Scan(&id, &d.Digest, &d.MediaType, &d.ArtifactType, &d.Size, &annotations); err != nil {
			return page, err
		}
		if len(page.Descriptors) == n || bytes > referrersBytes {
			page.Next = last
			break
		}
		if annotations != "" {
			if err := json.Unmarshal([]byte(annotations), &d.Annotations); err != nil {
				return page, err
			}
		}
		page.Descriptors = append(page.Descriptors, d)
		last, bytes = id, bytes+len(annotations)+512
	}
	return page, rows.Err()
}
