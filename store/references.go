package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// referencesMax bounds the digests one manifest may name, because the writer records each. Images have at most a few
// hundred layers.
const referencesMax = 10_000

// damaged returns the needed blobs of a manifest whose row or file is missing, or the file not good.
func (s *Store) damaged(ctx context.Context, p ManifestPut) (map[digest.Digest]bool, error) {
	damaged := make(map[digest.Digest]bool)
	for _, ref := range p.Manifest.References {
		if ref.Needed && !ref.Manifest {
			damaged[ref.Digest] = true
		}
	}
	if len(damaged) == 0 {
		return damaged, nil
	}
	asked, err := json.Marshal(slices.Collect(maps.Keys(damaged)))
	if err != nil {
		return nil, err
	}
	type sized struct {
		dgst digest.Digest
		size int64
	}
	rows, err := collect(ctx, s.db, func(r row) (v sized, err error) { return v, r.Scan(&v.dgst, &v.size) }, `SELECT d.digest, b.size
		FROM repositories r CROSS JOIN json_each(?2) j CROSS JOIN digests d ON d.digest = j.value
		JOIN repository_blobs rb ON rb.repository = r.id AND rb.blob = d.id JOIN blobs b ON b.digest = d.id WHERE r.name = ?1`, p.Name.String(), string(asked))
	if err != nil {
		return nil, err
	}
	for _, b := range rows {
		switch err := s.checkBlobFile(b.dgst, b.size); {
		case err == nil:
			delete(damaged, b.dgst)
		case !errors.Is(err, ErrBlobUnknown):
			return nil, fmt.Errorf("blob %s of %s: %w", b.dgst, p.Name, err)
		}
	}
	return damaged, nil
}

// A resolved reference is one whose digest has an id, with whether its content is in the repository.
type resolved struct {
	oci.Referenced
	id      int64
	present bool
}

func (t *tx) resolve(repository int64, m oci.Manifest, damaged map[digest.Digest]bool) ([]resolved, error) {
	if len(m.References) == 0 {
		return nil, nil
	}
	asked, err := json.Marshal(m.References)
	if err != nil {
		return nil, err
	}
	type answer struct {
		at             int
		id             sql.NullInt64
		blob, manifest bool
	}
	answers, err := collect(t.ctx, t, func(r row) (a answer, err error) { return a, r.Scan(&a.at, &a.id, &a.blob, &a.manifest) },
		`SELECT j.key, d.id, EXISTS (SELECT 1 FROM repository_blobs WHERE repository = ?1 AND blob = d.id),
			EXISTS (SELECT 1 FROM manifests WHERE repository = ?1 AND digest = d.id)
			FROM json_each(?2) j LEFT JOIN digests d ON d.digest = j.value ->> '$.Digest'`, repository, string(asked))
	if err != nil {
		return nil, err
	}
	refs := make([]resolved, len(m.References))
	for _, a := range answers {
		ref := m.References[a.at]
		// An entry of an index may name a blob; a config or layer is never a manifest.
		present := (a.blob || ref.Manifest && a.manifest) && !damaged[ref.Digest]
		refs[a.at] = resolved{Referenced: ref, id: a.id.Int64, present: present}
		if !a.id.Valid {
			if refs[a.at].id, err = t.digestID(ref.Digest); err != nil {
				return nil, err
			}
		}
	}
	return refs, nil
}

// The kinds of manifest_references.kind.
const (
	kindMention = iota
	kindBlob
	kindManifest
)

// addReferences records what a manifest names and counts it, present or not.
func (t *tx) addReferences(repository, manifest int64, refs []resolved) error {
	if len(refs) == 0 {
		return nil
	}
	type reference struct {
		Target int64 `json:"target"`
		Kind   int   `json:"kind"`
		// Needed says that the content was there: what was never pushed is absent by choice (I3).
		Needed bool `json:"needed"`
	}
	all := make([]reference, 0, len(refs))
	for _, r := range refs {
		kind := kindMention
		switch {
		case r.Manifest:
			kind = kindManifest
		case r.Needed:
			kind = kindBlob
		}
		all = append(all, reference{r.id, kind, r.Needed && r.present})
	}
	list, err := json.Marshal(all)
	if err != nil {
		return err
	}
	if _, err := t.exec(`INSERT INTO manifest_references (repository, target, manifest, kind, needed)
		SELECT ?1, value ->> 'target', ?2, value ->> 'kind', value ->> 'needed' FROM json_each(?3)`, repository, manifest, string(list)); err != nil {
		return err
	}
	for _, count := range []string{
		`UPDATE repository_blobs SET refs = refs + 1 WHERE repository = ?1 AND blob IN (SELECT value ->> 'target' FROM json_each(?2))`,
		`UPDATE manifests SET refs = refs + 1 WHERE repository = ?1 AND digest IN (SELECT value ->> 'target' FROM json_each(?2))`,
	} {
		if _, err := t.exec(count, repository, string(list)); err != nil {
			return err
		}
	}
	return nil
}

// dropReferences takes back what addReferences did. Content that nothing names any more gets a lease: a client may
// have been told a moment ago that it is here.
func (t *tx) dropReferences(repository, manifest int64, lease time.Duration) error {
	targets, err := collect(t.ctx, t, func(r row) (id int64, err error) { return id, r.Scan(&id) },
		`SELECT target FROM manifest_references WHERE manifest = ?`, manifest)
	if err != nil {
		return err
	}
	if _, err := t.exec(`DELETE FROM manifest_references WHERE manifest = ?`, manifest); err != nil {
		return err
	}
	for _, target := range targets {
		if _, err := t.exec(`UPDATE repository_blobs SET refs = refs - 1,
			keep_until = CASE WHEN refs = 1 THEN max(keep_until, ?3) ELSE keep_until END
			WHERE repository = ?1 AND blob = ?2`, repository, target, t.now+int64(lease.Seconds())); err != nil {
			return err
		}
		if _, err := t.exec(`UPDATE manifests SET refs = refs - 1 WHERE repository = ? AND digest = ?`, repository, target); err != nil {
			return err
		}
	}
	return nil
}
