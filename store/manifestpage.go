package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// ManifestsShow says which manifests of a repository are listed.
type ManifestsShow string

// What can be listed.
const (
	ShowAll       ManifestsShow = "all"
	ShowTagged    ManifestsShow = "tagged"
	ShowUntagged  ManifestsShow = "untagged"  // no tag, no manifest that names it, and no subject here
	ShowParts     ManifestsShow = "parts"     // named by another manifest
	ShowReferrers ManifestsShow = "referrers" // with a subject, here or not
)

// shows are the conditions in SQL.
var shows = map[ManifestsShow]string{
	ShowAll:    `true`,
	ShowTagged: `m.untagged_since IS NULL`,
	ShowUntagged: `m.untagged_since IS NOT NULL AND m.refs = 0
		AND (m.subject IS NULL OR NOT EXISTS (SELECT 1 FROM manifests s WHERE s.repository = m.repository AND s.digest = m.subject))`,
	ShowParts:     `m.refs > 0`,
	ShowReferrers: `m.subject IS NOT NULL`,
}

// ParseManifestsShow returns what s names; "" is all. Its error is ErrSort.
func ParseManifestsShow(s string) (ManifestsShow, error) {
	if s == "" {
		return ShowAll, nil
	}
	if _, ok := shows[ManifestsShow(s)]; !ok {
		return "", fmt.Errorf("%w: %q is not all, tagged, untagged, parts or referrers", ErrSort, s)
	}
	return ManifestsShow(s), nil
}

// A Parent is a manifest that names another one.
type Parent struct {
	Digest digest.Digest
	Tag    string // one of its tags, or ""
}

// A ManifestRow is a manifest in a list of them.
type ManifestRow struct {
	Digest                  digest.Digest
	MediaType, ArtifactType string
	Kind                    oci.ArtifactKind // "" when not known yet
	Platforms               []string
	Size, PullSize          int64 // bytes: of itself, and of what a client fetches
	PushedAt                time.Time
	LastUsed                time.Time     // zero when never
	UntaggedSince           time.Time     // zero while it has a tag
	Tags                    []string      // at most 3
	TagCount                int           // at most 1000
	Parents                 []Parent      // at most 3
	Subject                 digest.Digest // "" when it has none
	SubjectHere             bool
	Cache                   bool // of BuildKit
}

// manifestTags are two columns: some tags of the manifest m, ?5 at most, and how many there are; the third has manifests
// that name it, likewise, as JSON.
const manifestTags = `(SELECT COALESCE(group_concat(a.name, ' '), '') FROM (SELECT name FROM tags INDEXED BY tags_manifest WHERE manifest = m.id AND repository = m.repository ORDER BY name LIMIT ?5) a),
	(SELECT count(*) FROM (SELECT 1 FROM tags INDEXED BY tags_manifest WHERE manifest = m.id AND repository = m.repository LIMIT 1000)), ` + manifestParents

const manifestParents = `(SELECT json_group_array(json_array(pd.digest, COALESCE((SELECT pt.name FROM tags pt INDEXED BY tags_manifest WHERE pt.manifest = p.id AND pt.repository = p.repository ORDER BY pt.name LIMIT 1), '')))
	FROM (SELECT manifest FROM manifest_references WHERE repository = m.repository AND target = m.digest LIMIT ?5) x
	JOIN manifests p ON p.id = x.manifest JOIN digests pd ON pd.id = p.digest)`

func parseParents(text string) (all []Parent, err error) {
	var pairs [][2]string
	err = json.Unmarshal([]byte(text), &pairs)
	for _, p := range pairs {
		all = append(all, Parent{Digest: digest.Digest(p[0]), Tag: p[1]})
	}
	return all, err
}

// manifestRows are the queries of a page, by what is listed.
var manifestRows = func() map[ManifestsShow]string {
	all := make(map[ManifestsShow]string, len(shows))
	for show, condition := range shows {
		all[show] = `SELECT m.id, d.digest, m.media_type, m.artifact_type, COALESCE(f.kind, ''), COALESCE(f.platforms, ''), m.size, COALESCE(f.pull_size, 0),
			m.pushed_at, m.last_used, COALESCE(m.untagged_since, 0), COALESCE(sd.digest, ''),
			EXISTS (SELECT 1 FROM manifests s WHERE s.repository = m.repository AND s.digest = m.subject), m.cache, ` + manifestTags + `
			FROM (SELECT m.id, m.repository, m.digest, m.media_type, m.artifact_type, m.size, m.pushed_at, m.last_used, m.untagged_since, m.subject, m.cache FROM manifests m WHERE m.repository = ?1 AND (m.pushed_at, m.id) < (?2, ?3) AND ` + condition + `
				ORDER BY m.pushed_at DESC, m.id DESC LIMIT ?4) m
			CROSS JOIN digests d ON d.id = m.digest LEFT JOIN digests sd ON sd.id = m.subject LEFT JOIN manifest_facts f ON f.manifest = m.id
			ORDER BY m.pushed_at DESC, m.id DESC`
	}
	return all
}()

// manifestCounts are the queries that count, by what is listed.
var manifestCounts = func() map[ManifestsShow]string {
	all := make(map[ManifestsShow]string, len(shows))
	for show, condition := range shows {
		all[show] = `SELECT r.id, (SELECT count(*) FROM manifests m WHERE m.repository = r.id AND ` + condition + `) FROM repositories r WHERE r.name = ?`
	}
	all[ShowAll] = `SELECT id, manifests FROM repositories WHERE name = ?`
	return all
}()

// ManifestPage returns at most n manifests, the last put first, from behind the cursor after, or "", and how many there are
// in all: a *NameUnknownError when there is no such repository, ErrSort when show is not known, and ErrCursor. It takes two
// statements. Counting all but ShowAll looks at each manifest of the repository.
func (s *Store) ManifestPage(ctx context.Context, name oci.Name, show ManifestsShow, after string, n int) (rows []ManifestRow, next string, total int64, err error) {
	if show, err = ParseManifestsShow(string(show)); err != nil {
		return nil, "", 0, err
	}
	at, id := cursor{Sort: string(show), Number: math.MaxInt64}, int64(math.MaxInt64)
	if after != "" {
		if at, err = parseCursor(string(show), after); err != nil {
			return nil, "", 0, err
		}
		if id, err = strconv.ParseInt(at.Key, 10, 64); err != nil {
			return nil, "", 0, ErrCursor
		}
	}
	var repository int64
	err = s.db.queryRow(ctx, manifestCounts[show], name.String()).Scan(&repository, &total)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, "", 0, &NameUnknownError{Name: name}
	}
	if err != nil {
		return nil, "", 0, err
	}
	type keyed struct {
		ManifestRow
		id int64
	}
	all, err := collect(ctx, s.db, func(r row) (m keyed, err error) {
		m.ManifestRow, err = scanManifestRow(r, &m.id)
		return m, err
	}, manifestRows[show], repository, at.Number, id, n+1, 3)
	if err != nil {
		return nil, "", 0, err
	}
	if len(all) > n {
		all = all[:n]
		if n > 0 {
			next = cursor{Sort: string(show), Number: all[n-1].PushedAt.Unix(), Key: strconv.FormatInt(all[n-1].id, 10)}.String()
		}
	}
	for _, m := range all {
		rows = append(rows, m.ManifestRow)
	}
	return rows, next, total, nil
}

func scanManifestRow(r row, id *int64) (m ManifestRow, err error) {
	var pushed, used, untagged int64
	var platforms, tags, parents string
	if err := r.Scan(id, &m.Digest, &m.MediaType, &m.ArtifactType, &m.Kind, &platforms, &m.Size, &m.PullSize, &pushed, &used, &untagged,
		&m.Subject, &m.SubjectHere, &m.Cache, &tags, &m.TagCount, &parents); err != nil {
		return m, err
	}
	m.Platforms, m.Tags = words(platforms), words(tags)
	m.PushedAt, m.LastUsed, m.UntaggedSince = time.Unix(pushed, 0), unixTime(used), unixTime(untagged)
	m.Parents, err = parseParents(parents)
	return m, err
}

// A ManifestDetail is a manifest on a page of its own, with its bytes.
type ManifestDetail struct {
	Manifest
	Facts         oci.Facts
	Described     bool     // Facts are whole: false when its config is not here
	Tags          []string // at most 50
	TagCount      int      // at most 1000
	Pulls         int64    // of its tags
	LastUsed      time.Time
	UntaggedSince time.Time               // zero while it has a tag
	Parents       []Parent                // at most 50
	Children      map[digest.Digest]Child // of what it names as manifests, what is here
	Referrers     []ReferrerCount
}

// A Child is a manifest that another one names.
type Child struct {
	MediaType      string
	Kind           oci.ArtifactKind // "" when not known yet
	Platforms      []string
	PullSize, Size int64 // bytes
	CreatedAt      time.Time
	Provides       []string
}

// A ReferrerCount counts what is attached to a manifest and is alike.
type ReferrerCount struct {
	Kind         oci.ArtifactKind
	ArtifactType string
	Provides     []string
	Count        int64
}

const (
	detailSelect = `SELECT m.id, m.repository, m.digest, d.digest, m.media_type, COALESCE(sd.digest, ''), m.size, m.pushed_at, mb.body, f.facts,
		m.last_used, COALESCE(m.untagged_since, 0), (SELECT COALESCE(sum(pulls), 0) FROM tags INDEXED BY tags_manifest WHERE manifest = m.id AND repository = m.repository), ` + manifestTags
	detailJoin = ` JOIN digests d ON d.id = m.digest JOIN manifest_bodies mb ON mb.manifest = m.id
		LEFT JOIN digests sd ON sd.id = m.subject LEFT JOIN manifest_facts f ON f.manifest = m.id WHERE r.name = ?1 AND `
)

// Detail returns a manifest with all about it: errors are those of Manifest. It takes three statements, and one more for a
// manifest that is not described yet, which it describes and, unless the store is read-only, remembers.
func (s *Store) Detail(ctx context.Context, name oci.Name, ref oci.Reference) (ManifestDetail, error) {
	var r row
	if ref.IsDigest() {
		r = s.db.queryRow(ctx, detailSelect+` FROM repositories r JOIN digests rd JOIN manifests m ON m.repository = r.id AND m.digest = rd.id`+
			detailJoin+`rd.digest = ?2`, name.String(), ref.Digest.String(), nil, nil, 50)
	} else {
		r = s.db.queryRow(ctx, detailSelect+` FROM repositories r JOIN tags t ON t.repository = r.id JOIN manifests m ON m.id = t.manifest`+
			detailJoin+`t.name = ?2`, name.String(), ref.Tag.String(), nil, nil, 50)
	}
	v, u, packed, err := scanDetail(r)
	if errors.Is(err, sql.ErrNoRows) {
		if _, err := repositoryID(ctx, s.db, name); err != nil {
			return ManifestDetail{}, err
		}
		return ManifestDetail{}, fmt.Errorf("%w: %s has no %s", ErrManifestUnknown, name, ref)
	}
	if err != nil {
		return ManifestDetail{}, err
	}
	u.name, u.mediaType, u.raw = name, v.MediaType, v.Raw
	if err := s.detailFacts(ctx, &v, u, packed); err != nil {
		return ManifestDetail{}, err
	}
	if v.Children, err = s.children(ctx, u.repository, u.id); err != nil {
		return ManifestDetail{}, err
	}
	v.Referrers, err = s.countReferrers(ctx, u, v.Digest)
	return v, err
}

func scanDetail(r row) (v ManifestDetail, u undescribed, packed []byte, err error) {
	var pushed, used, untagged int64
	var tags, parents string
	if err := r.Scan(&u.id, &u.repository, &u.dgst, &v.Digest, &v.MediaType, &v.Subject, &v.Size, &pushed, &v.Raw, &packed,
		&used, &untagged, &v.Pulls, &tags, &v.TagCount, &parents); err != nil {
		return v, u, nil, err
	}
	v.PushedAt, v.LastUsed, v.UntaggedSince, v.Tags = time.Unix(pushed, 0), unixTime(used), unixTime(untagged), words(tags)
	v.Parents, err = parseParents(parents)
	return v, u, packed, err
}

// detailFacts takes the stored facts, or makes them. That they cannot be stored now is no reason not to show them.
func (s *Store) detailFacts(ctx context.Context, v *ManifestDetail, u undescribed, packed []byte) (err error) {
	if packed != nil {
		v.Facts, err = unpackFacts(packed)
		v.Described = err == nil
		return err
	}
	m, err := oci.ParseManifest(u.mediaType, u.raw)
	if err != nil {
		v.Facts = oci.Facts{Kind: oci.KindAny} // what an older version took; the page shows its bytes
		return nil
	}
	described, err := s.describe(ctx, u.name, m)
	if err != nil || described == nil {
		v.Facts = oci.Describe(m, nil)
		return ctx.Err()
	}
	v.Facts, v.Described = described.facts, true
	if err := s.change(aside, func(t *tx) error { return t.describeLater(u, described) }); err != nil && !errors.Is(err, ErrReadOnly) {
		s.log.Debug("description not stored", "repo", u.name.String(), "digest", v.Digest, "err", err)
	}
	return nil
}

// children returns what is here of what a manifest names as manifests.
func (s *Store) children(ctx context.Context, repository, manifest int64) (map[digest.Digest]Child, error) {
	rows, err := s.db.query(ctx, `SELECT d.digest, c.media_type, COALESCE(f.kind, ''), COALESCE(f.platforms, ''), COALESCE(f.pull_size, 0), c.size,
		COALESCE(f.created_at, 0), COALESCE(f.provides, '') FROM manifest_references mr JOIN manifests c ON c.repository = ?1 AND c.digest = mr.target
		JOIN digests d ON d.id = c.digest LEFT JOIN manifest_facts f ON f.manifest = c.id WHERE mr.manifest = ?2 AND mr.kind = ?3`,
		repository, manifest, kindManifest)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := make(map[digest.Digest]Child)
	for rows.Next() {
		var dgst digest.Digest
		var c Child
		var platforms, provides string
		var created int64
		if err := rows.Scan(&dgst, &c.MediaType, &c.Kind, &platforms, &c.PullSize, &c.Size, &created, &provides); err != nil {
			return nil, err
		}
		c.Platforms, c.Provides, c.CreatedAt = words(platforms), words(provides), unixTime(created)
		all[dgst] = c
	}
	return all, rows.Err()
}

// countReferrers counts what is attached: by its subject, in the list under the referrers tag, and under tags of cosign. It
// looks at 10 000 by subject.
func (s *Store) countReferrers(ctx context.Context, u undescribed, dgst digest.Digest) ([]ReferrerCount, error) {
	tags, err := json.Marshal(cosignTags(dgst))
	if err != nil {
		return nil, err
	}
	return collect(ctx, s.db, func(r row) (c ReferrerCount, err error) {
		var provides string
		err = r.Scan(&c.Kind, &c.ArtifactType, &provides, &c.Count)
		c.Provides = words(provides)
		return c, err
	}, `SELECT COALESCE(f.kind, ''), m.artifact_type, COALESCE(f.provides, ''), count(*) FROM (
			SELECT id FROM (SELECT id FROM manifests INDEXED BY manifests_subject WHERE repository = ?1 AND subject = ?2 LIMIT 10000)
			UNION
			SELECT l.id FROM tags g CROSS JOIN manifest_references mr ON mr.manifest = g.manifest AND mr.kind = ?3
			CROSS JOIN manifests l ON l.repository = ?1 AND l.digest = mr.target WHERE g.repository = ?1 AND g.name = ?4 AND l.subject IS NULL
			UNION
			SELECT g.manifest FROM json_each(?5) j CROSS JOIN tags g ON g.repository = ?1 AND g.name = j.value) x
		CROSS JOIN manifests m ON m.id = x.id LEFT JOIN manifest_facts f ON f.manifest = m.id
		GROUP BY 1, 2, 3 ORDER BY 1, 2, 3`, u.repository, u.dgst, kindManifest, oci.ReferrersTag(dgst).String(), string(tags))
}

// cosignTags are the tags under which cosign keeps what it attaches to a digest.
func cosignTags(dgst digest.Digest) []string {
	if dgst.Algorithm() != digest.SHA256 {
		return []string{}
	}
	stem := dgst.Algorithm().String() + "-" + dgst.Encoded()
	return []string{stem + ".sig", stem + ".att", stem + ".sbom"}
}
