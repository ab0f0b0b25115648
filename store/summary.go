package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"cubby/store/oci"
)

// A RepositorySummary is a repository in a list of them.
type RepositorySummary struct {
	Name      oci.Name
	Kind      oci.ArtifactKind // of what a tag was last set to; "" when not known yet
	Tags      int64
	Manifests int64
	Stored    int64     // bytes of its blobs and manifests
	OnlyHere  int64     // the part of Stored that no other repository has
	PushedAt  time.Time // when a manifest was last put
	LastUsed  time.Time // zero when never
	Pulls     int64     // since the time that was asked for
}

// unixTime is the time of a column in which 0 means never.
func unixTime(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}

func scanSummary(r row, more ...any) (v RepositorySummary, err error) {
	var name string
	var pushed, used int64
	if err := r.Scan(append([]any{&name, &v.Kind, &v.Tags, &v.Manifests, &v.Stored, &v.OnlyHere, &pushed, &used, &v.Pulls}, more...)...); err != nil {
		return v, err
	}
	v.PushedAt, v.LastUsed = unixTime(pushed), unixTime(used)
	v.Name, err = oci.ParseName(name)
	return v, err
}

const summaryColumns = `SELECT r.name, r.kind, r.tags, r.manifests, r.blob_bytes + r.manifest_bytes, r.only_here + r.manifest_bytes, r.pushed_at, r.last_used, `

// Summaries returns all repositories that hold a manifest, in byte order, with their pulls of the days since a time, or
// without when it is zero. It takes one statement.
func (s *Store) Summaries(ctx context.Context, pullsSince time.Time) ([]RepositorySummary, error) {
	scan := func(r row) (RepositorySummary, error) { return scanSummary(r) }
	if pullsSince.IsZero() {
		return collect(ctx, s.db, scan, summaryColumns+`0 FROM repositories r WHERE r.manifests > 0 ORDER BY r.name`)
	}
	return collect(ctx, s.db, scan, summaryColumns+`(SELECT COALESCE(sum(p.pulls), 0) FROM repository_pulls p WHERE p.repository = r.id AND p.day >= ?)
		FROM repositories r WHERE r.manifests > 0 ORDER BY r.name`, pullsSince.Unix()/secondsPerDay)
}

// PullsByDay returns the pulls of each of some repositories on each of days days (UTC) from that of first on. One without
// pulls has no entry. It takes one statement.
func (s *Store) PullsByDay(ctx context.Context, names []oci.Name, first time.Time, days int) (map[oci.Name][]int64, error) {
	list, err := json.Marshal(texts(names))
	if err != nil {
		return nil, err
	}
	from := first.Unix() / secondsPerDay
	rows, err := s.db.query(ctx, `SELECT r.name, p.day, p.pulls FROM json_each(?) j CROSS JOIN repositories r ON r.name = j.value
		JOIN repository_pulls p ON p.repository = r.id AND p.day >= ? AND p.day < ?`, string(list), from, from+int64(days))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	byName := make(map[string][]int64)
	for rows.Next() {
		var name string
		var day, pulls int64
		if err := rows.Scan(&name, &day, &pulls); err != nil {
			return nil, err
		}
		if byName[name] == nil {
			byName[name] = make([]int64, days)
		}
		byName[name][day-from] = pulls
	}
	all := make(map[oci.Name][]int64, len(byName))
	for _, name := range names {
		if pulls := byName[name.String()]; pulls != nil {
			all[name] = pulls
		}
	}
	return all, rows.Err()
}

func texts(names []oci.Name) []string {
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = name.String()
	}
	return list
}

// A RepositoryDetail is a repository on a page of its own. Pulls are those of the last 30 days.
type RepositoryDetail struct {
	RepositorySummary
	Facts oci.Facts // of the manifest of its newest tag that is no signature; zero when not known
}

// summaryDays are the days whose pulls Summary counts.
const summaryDays = 30

// isSubjectTag is oci.Subject in SQL: sha512 does not fit into a tag.
const isSubjectTag = `(t.name >= 'sha256-' AND t.name < 'sha256.' AND substr(t.name, 8, 64) NOT GLOB '*[^0-9a-f]*' AND (length(t.name) = 71
	OR length(t.name) = 75 AND substr(t.name, 72) IN ('.sig', '.att') OR length(t.name) = 76 AND substr(t.name, 72) = '.sbom'))`

// Summary returns one repository, also one without manifests, or a *NameUnknownError. It takes one statement.
func (s *Store) Summary(ctx context.Context, name oci.Name) (v RepositoryDetail, err error) {
	var packed []byte
	v.RepositorySummary, err = scanSummary(s.db.queryRow(ctx, summaryColumns+`
		(SELECT COALESCE(sum(p.pulls), 0) FROM repository_pulls p WHERE p.repository = r.id AND p.day > ?2),
		(SELECT f.facts FROM manifest_facts f WHERE f.manifest = (SELECT t.manifest FROM tags t INDEXED BY tags_pushed
			WHERE t.repository = r.id AND NOT `+isSubjectTag+` ORDER BY t.updated_at DESC, t.name LIMIT 1))
		FROM repositories r WHERE r.name = ?1`, name.String(), s.stamp()/secondsPerDay-summaryDays), &packed)
	if errors.Is(err, sql.ErrNoRows) {
		return v, &NameUnknownError{Name: name}
	}
	if err == nil && packed != nil {
		v.Facts, err = unpackFacts(packed)
	}
	return v, err
}

// words splits a column of words.
func words(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Fields(s)
}
