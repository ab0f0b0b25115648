package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// A ReferrerRow is a manifest that is attached to another one.
type ReferrerRow struct {
	Digest                  digest.Digest
	MediaType, ArtifactType string
	Kind                    oci.ArtifactKind // "" when not known yet
	Provides                []string
	Size                    int64 // bytes of itself
	PushedAt                time.Time
	Annotations             map[string]string // nil where they are larger than 16 KiB
	Subject                 digest.Digest     // the manifest it is attached to
	Tag                     string            // by which it is attached, as cosign does and the list of referrers; or ""
	Depth                   int               // from 1
}

const (
	// referrersDepth bounds how far ReferrerTree goes, referrersWalk the steps it takes.
	referrersDepth = 8
	referrersWalk  = 20_000
	// referrerAnnotations bounds the annotations of one of them, in bytes: they alone can be as large as a manifest.
	referrerAnnotations = 16 << 10
)

// ReferrerTree returns at most n manifests that are attached to a manifest, to the entries of its index, or to one of these
// that are found, each once: level by level, and there by when they were put. more tells that there are others. A repository
// or digest that is not here has none. It goes 8 levels deep, in one statement of at most 20 000 steps.
func (s *Store) ReferrerTree(ctx context.Context, name oci.Name, dgst digest.Digest, n int) (all []ReferrerRow, more bool, err error) {
	all, err = collect(ctx, s.db, func(r row) (v ReferrerRow, err error) {
		var pushed int64
		var provides, annotations string
		if err := r.Scan(&v.Digest, &v.MediaType, &v.ArtifactType, &v.Kind, &provides, &v.Size, &pushed, &annotations, &v.Subject, &v.Tag, &v.Depth); err != nil {
			return v, err
		}
		v.Provides, v.PushedAt = words(provides), time.Unix(pushed, 0)
		if annotations != "" {
			err = json.Unmarshal([]byte(annotations), &v.Annotations)
		}
		return v, err
	}, `WITH RECURSIVE
		root (repository, digest) AS (SELECT r.id, d.id FROM repositories r JOIN digests d WHERE r.name = ?1 AND d.digest = ?2),
		roots (repository, digest) AS (SELECT repository, digest FROM root UNION
			SELECT root.repository, mr.target FROM root JOIN manifests m ON m.repository = root.repository AND m.digest = root.digest
			JOIN manifest_references mr ON mr.manifest = m.id AND mr.kind = ?3),
		tree (repository, digest, id, subject, tag, depth) AS (
			SELECT repository, digest, 0, 0, '', 0 FROM roots
			UNION
			SELECT m.repository, m.digest, m.id, tree.digest, '', tree.depth + 1 FROM tree
			CROSS JOIN manifests m INDEXED BY manifests_subject ON m.repository = tree.repository AND m.subject = tree.digest WHERE tree.depth < ?4
			UNION
			SELECT m.repository, m.digest, m.id, tree.digest, t.name, tree.depth + 1 FROM tree JOIN digests d ON d.id = tree.digest
			JOIN tags t ON t.repository = tree.repository AND t.name IN ('sha256-' || substr(d.digest, 8) || '.sig',
				'sha256-' || substr(d.digest, 8) || '.att', 'sha256-' || substr(d.digest, 8) || '.sbom')
			JOIN manifests m ON m.id = t.manifest WHERE tree.depth < ?4 AND d.digest GLOB 'sha256:*'
			UNION
			SELECT m.repository, m.digest, m.id, tree.digest, t.name, tree.depth + 1 FROM tree JOIN digests d ON d.id = tree.digest
			JOIN tags t ON t.repository = tree.repository AND t.name = replace(substr(d.digest, 1, 71), ':', '-')
			CROSS JOIN manifest_references mr ON mr.manifest = t.manifest AND mr.kind = ?3
			CROSS JOIN manifests m ON m.repository = tree.repository AND m.digest = mr.target WHERE tree.depth < ?4 AND m.subject IS NULL
			LIMIT ?5),
		found (id, subject, tag, depth) AS (SELECT id, subject, tag, min(depth) FROM tree WHERE id <> 0 AND digest NOT IN (SELECT digest FROM roots) GROUP BY id)
		SELECT d.digest, m.media_type, m.artifact_type, COALESCE(f.kind, ''), COALESCE(f.provides, ''), m.size, m.pushed_at, CASE WHEN octet_length(m.annotations) <= ?7 THEN m.annotations ELSE '' END,
			sd.digest, found.tag, found.depth
		FROM found JOIN manifests m ON m.id = found.id JOIN digests d ON d.id = m.digest JOIN digests sd ON sd.id = found.subject
		LEFT JOIN manifest_facts f ON f.manifest = m.id ORDER BY found.depth, m.pushed_at, m.id LIMIT ?6`,
		name.String(), dgst.String(), kindManifest, referrersDepth, referrersWalk, n+1, referrerAnnotations)
	if len(all) > n {
		return all[:n], true, err
	}
	return all, false, err
}

// Effects are what it means that the last tag of a manifest goes.
type Effects struct {
	Digest    digest.Digest
	Tags      []string // other tags there, at most 20
	TagCount  int      // of all of them, at most 1000
	Parents   []Parent // that name it, at most 20
	Referrers int64    // by subject, at most 10 000
	// Frees is how many bytes collection can free then, now or when their keep time ends: manifests and blobs that nothing
	// else in any repository holds. It takes for granted that nothing else holds the manifest itself.
	Frees int64
}

// effectsWalk bounds the manifests that EffectsOf looks at.
const effectsWalk = 10_000

// EffectsOf tells what it means when the manifest that a reference names loses all its tags, of which the one of ref is not
// counted among the others: errors are those of Manifest. It takes three statements. Beyond 10 000 manifests Frees is too
// small.
func (s *Store) EffectsOf(ctx context.Context, name oci.Name, ref oci.Reference) (Effects, error) {
	const columns = `SELECT m.id, m.repository, d.digest, (SELECT COALESCE(group_concat(a.name, ' '), '') FROM
			(SELECT name FROM tags INDEXED BY tags_manifest WHERE manifest = m.id AND repository = m.repository AND name <> ?3 ORDER BY name LIMIT ?5) a),
		(SELECT count(*) FROM (SELECT 1 FROM tags INDEXED BY tags_manifest WHERE manifest = m.id AND repository = m.repository AND name <> ?3 LIMIT 1000)), ` + manifestParents + `,
		(SELECT count(*) FROM (SELECT 1 FROM manifests x INDEXED BY manifests_subject WHERE x.repository = m.repository AND x.subject = m.digest LIMIT 10000)) `
	var r row
	if ref.IsDigest() {
		r = s.db.queryRow(ctx, columns+`FROM repositories r JOIN digests d JOIN manifests m ON m.repository = r.id AND m.digest = d.id
			WHERE r.name = ?1 AND d.digest = ?2`, name.String(), ref.Digest.String(), "", nil, 20)
	} else {
		r = s.db.queryRow(ctx, columns+`FROM repositories r JOIN tags t ON t.repository = r.id JOIN manifests m ON m.id = t.manifest
			JOIN digests d ON d.id = m.digest WHERE r.name = ?1 AND t.name = ?2`, name.String(), ref.Tag.String(), ref.Tag.String(), nil, 20)
	}
	var e Effects
	var id, repository int64
	var tags, parents string
	err := r.Scan(&id, &repository, &e.Digest, &tags, &e.TagCount, &parents, &e.Referrers)
	if errors.Is(err, sql.ErrNoRows) {
		if _, err := repositoryID(ctx, s.db, name); err != nil {
			return e, err
		}
		return e, fmt.Errorf("%w: %s has no %s", ErrManifestUnknown, name, ref)
	}
	if err != nil {
		return e, err
	}
	e.Tags = words(tags)
	if e.Parents, err = parseParents(parents); err != nil {
		return e, err
	}
	e.Frees, err = s.freedBy(ctx, repository, id)
	return e, err
}

// A heldManifest may go with another one: what still holds it, apart from manifests that go too.
type heldManifest struct {
	size, refs int64
	tagged     bool
	subject    int64   // id of its subject here, or 0
	namedBy    []int64 // of those that may go
}

// freedBy returns the bytes that go with a manifest.
func (s *Store) freedBy(ctx context.Context, repository, manifest int64) (bytes int64, err error) {
	going, err := s.mayGo(ctx, repository, manifest)
	if err != nil {
		return 0, err
	}
	dropHeld(going, manifest)
	ids := make([]int64, 0, len(going))
	for id, m := range going {
		ids = append(ids, id)
		bytes += m.size
	}
	list, err := json.Marshal(ids)
	if err != nil {
		return 0, err
	}
	var blobs int64
	err = s.db.queryRow(ctx, `SELECT COALESCE(sum(b.size), 0) FROM
			(SELECT mr.target, count(*) AS n FROM json_each(?2) j CROSS JOIN manifest_references mr ON mr.manifest = j.value GROUP BY mr.target) x
		CROSS JOIN repository_blobs rb ON rb.repository = ?1 AND rb.blob = x.target AND rb.refs = x.n
		CROSS JOIN blobs b ON b.digest = rb.blob
		WHERE NOT EXISTS (SELECT 1 FROM repository_blobs o WHERE o.blob = rb.blob AND o.repository <> ?1)`, repository, string(list)).Scan(&blobs)
	return bytes + blobs, err
}

// mayGo returns a manifest, what it names at any depth, and the referrers of all these.
func (s *Store) mayGo(ctx context.Context, repository, manifest int64) (map[int64]*heldManifest, error) {
	rows, err := s.db.query(ctx, `WITH RECURSIVE walk (id, digest) AS (
			SELECT id, digest FROM manifests WHERE id = ?2
			UNION
			SELECT c.id, c.digest FROM walk CROSS JOIN manifest_references mr ON mr.manifest = walk.id CROSS JOIN manifests c ON c.repository = ?1 AND c.digest = mr.target
			UNION
			SELECT x.id, x.digest FROM walk CROSS JOIN manifests x INDEXED BY manifests_subject ON x.repository = ?1 AND x.subject = walk.digest
			LIMIT ?3)
		SELECT m.id, m.size, m.refs, m.untagged_since IS NULL,
			COALESCE((SELECT s.id FROM manifests s WHERE s.repository = ?1 AND s.digest = m.subject), 0), COALESCE(mr.manifest, 0)
		FROM walk JOIN manifests m ON m.id = walk.id LEFT JOIN manifest_references mr ON mr.repository = ?1 AND mr.target = m.digest LIMIT ?4`,
		repository, manifest, effectsWalk, 4*effectsWalk)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := make(map[int64]*heldManifest)
	for rows.Next() {
		var id, by int64
		var m heldManifest
		if err := rows.Scan(&id, &m.size, &m.refs, &m.tagged, &m.subject, &by); err != nil {
			return nil, err
		}
		if all[id] == nil {
			all[id] = &m
		}
		if by != 0 {
			all[id].namedBy = append(all[id].namedBy, by)
		}
	}
	return all, rows.Err()
}

// dropHeld leaves only what goes with a manifest: nothing that has a tag, is named by what stays, or refers to what stays.
// Those that hold each other go together.
func dropHeld(all map[int64]*heldManifest, manifest int64) {
	for changed := true; changed; {
		changed = false
		for id, m := range all {
			held := m.tagged || int64(len(m.namedBy)) < m.refs || m.subject != 0 && all[m.subject] == nil
			for _, by := range m.namedBy {
				held = held || all[by] == nil
			}
			if held && id != manifest {
				delete(all, id)
				changed = true
			}
		}
	}
}
