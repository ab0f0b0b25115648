package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
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
	return cachedRead(s, cacheKey{kind: cachedNames, what: last, n: n}, s.reads.ofNames(), func() (names []oci.Name, size int, err error) {
		texts, size, err := s.names(ctx, `SELECT name FROM repositories WHERE manifests > 0 AND name > ? ORDER BY name LIMIT ?`, last, n)
		for _, text := range texts {
			name, err := oci.ParseName(text)
			if err != nil {
				return nil, 0, err
			}
			names = append(names, name)
		}
		return names, size, err
	})
}

// names returns the names, of repositories or tags, that a query selects as name, in byte order, and about how many bytes they take. As
// one row they take a third of the time: of what a row costs little is reading it.
func (s *Store) names(ctx context.Context, query string, args ...any) (names []string, size int, err error) {
	var all sql.NullString
	if err := s.db.queryRow(ctx, `SELECT group_concat(name, ' ') FROM (`+query+`)`, args...).Scan(&all); err != nil || !all.Valid {
		return nil, 0, err
	}
	names = strings.Split(all.String, " ")
	slices.Sort(names) // they are in this order, but the function does not promise it
	return names, len(all.String) + nameOverhead*len(names), nil
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
