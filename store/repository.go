package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"cubby/store/oci"
)

// A Repository is a row of a listing.
type Repository struct {
	Name      oci.Name
	Manifests int64
	Tags      int64
	Size      int64     // bytes of its blobs and manifests, each digest once
	PushedAt  time.Time // when its newest manifest was put
}

// makeRepository returns the id of a repository, making it if it is new. A repository exists from its first committed
// blob or manifest.
func (t *tx) makeRepository(name oci.Name) (int64, error) {
	id, err := t.repository(name)
	if !errors.Is(err, ErrNameUnknown) {
		return id, err
	}
	return t.insert(`INSERT INTO repositories (name, created_at) VALUES (?, ?)`, name.String(), t.now)
}

// repository returns the id of a repository, or ErrNameUnknown.
func (t *tx) repository(name oci.Name) (int64, error) { return repositoryID(t.ctx, t, name) }

func repositoryID(ctx context.Context, q querier, name oci.Name) (int64, error) {
	var id int64
	err := q.queryRow(ctx, `SELECT id FROM repositories WHERE name = ?`, name.String()).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, &NameUnknownError{Name: name}
	}
	return id, err
}

// Names returns at most n names of repositories that hold a manifest, in byte order after last (the catalog); nobody may change
// the list.
func (s *Store) Names(ctx context.Context, last string, n int) ([]oci.Name, error) {
	texts, err := s.names(ctx, oci.Name{}, s.reads.ofNames(), last, n,
		`SELECT name FROM repositories WHERE manifests > 0 AND name > ? ORDER BY name LIMIT ?`)
	if err != nil {
		return nil, err
	}
	names := make([]oci.Name, len(texts))
	for i, text := range texts {
		if names[i], err = oci.ParseName(text); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// scanName takes over a name that was valid when it was stored.
func scanName(r row) (oci.Name, error) {
	s, err := scanString(r)
	if err != nil {
		return oci.Name{}, err
	}
	return oci.ParseName(s)
}

// Repositories returns at most n repositories in byte order after last, also those without a manifest.
func (s *Store) Repositories(ctx context.Context, last string, n int) ([]Repository, error) {
	return collect(ctx, s.db, func(r row) (v Repository, err error) {
		var name string
		var pushed int64
		if err := r.Scan(&name, &v.Manifests, &v.Tags, &v.Size, &pushed); err != nil {
			return v, err
		}
		v.PushedAt = time.Unix(pushed, 0)
		v.Name, err = oci.ParseName(name)
		return v, err
	}, `SELECT r.name, r.manifests, r.tags, r.blob_bytes + r.manifest_bytes,
		COALESCE((SELECT max(m.pushed_at) FROM manifests m WHERE m.repository = r.id), r.created_at)
		FROM repositories r WHERE r.name > ? ORDER BY r.name LIMIT ?`, last, n)
}

// nearestMax bounds the names that Nearest compares, so that a wrong name costs a bounded time.
const nearestMax = 500

// Nearest returns up to three names of the catalog that are spelled almost like name and that visible allows.
func (s *Store) Nearest(ctx context.Context, name oci.Name, visible func(oci.Name) bool) ([]oci.Name, error) {
	first := name.String()[:1]
	names, err := collect(ctx, s.db, scanName, `SELECT name FROM repositories WHERE manifests > 0 AND name >= ? AND name < ? LIMIT ?`,
		first, first+"\xff", nearestMax)
	if err != nil {
		return nil, fmt.Errorf("nearest names: %w", err)
	}
	var near []oci.Name
	for _, candidate := range names {
		if len(near) < 3 && alike(name.String(), candidate.String()) && visible(candidate) {
			near = append(near, candidate)
		}
	}
	return near, nil
}

// alike reports whether two names differ by at most two edits, or one ends in the other after a slash.
func alike(a, b string) bool {
	if strings.HasSuffix(a, "/"+b) || strings.HasSuffix(b, "/"+a) {
		return true
	}
	return max(len(a), len(b))-min(len(a), len(b)) <= 2 && editDistance(a, b) <= 2
}

// editDistance is Levenshtein's, over bytes.
func editDistance(a, b string) int {
	previous := make([]int, len(b)+1)
	current := make([]int, len(b)+1)
	for j := range previous {
		previous[j] = j
	}
	for i := range len(a) {
		current[0] = i + 1
		for j := range len(b) {
			substitution := previous[j]
			if a[i] != b[j] {
				substitution++
			}
			current[j+1] = min(substitution, previous[j+1]+1, current[j]+1)
		}
		previous, current = current, previous
	}
	return previous[len(b)]
}
