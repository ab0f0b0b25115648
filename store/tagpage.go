package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// A TagSort is the order of a list of tags. The zero TagSort is TagsByPushed.
type TagSort struct{ name string }

// The orders. Of tags that are equal so far, those pushed last are by name, others as people count them. Reverse turns
// all of it around.
var (
	TagsByPushed = TagSort{"pushed"} // newest first
	TagsByName   = TagSort{"name"}   // as people count (oci.TagOrder)
	TagsByPulls  = TagSort{"pulls"}  // most first
	TagsByUsed   = TagSort{"used"}   // last used first
)

// Reverse returns the order turned around.
func (o TagSort) Reverse() TagSort {
	if name, ok := strings.CutPrefix(o.String(), "-"); ok {
		return TagSort{name}
	}
	return TagSort{"-" + o.String()}
}

// String returns the order as ParseTagSort reads it.
func (o TagSort) String() string {
	if o.name == "" {
		return TagsByPushed.name
	}
	return o.name
}

// ParseTagSort returns the order that s names: pushed, name, pulls or used, with a dash in front when turned around. ""
// is pushed. Its error is ErrSort.
func ParseTagSort(s string) (TagSort, error) {
	if _, ok := tagOrders[TagSort{s}.String()]; !ok {
		return TagSort{}, fmt.Errorf("%w: %q is not pushed, name, pulls or used, or one of these with a dash in front", ErrSort, s)
	}
	return TagSort{s}, nil
}

// A tagOrder is an order in SQL: what comes after the values ?2 and ?3 of a cursor, and before which the first page begins.
type tagOrder struct {
	after, by string
	number    int64 // of the cursor of the first page
	key       string
}

// lastKey sorts after every name and key.
const lastKey = "\x7f"

var tagOrders = map[string]tagOrder{
	"pushed":  {`t.updated_at <= ?2 AND (t.updated_at < ?2 OR t.name > ?3)`, `t.updated_at DESC, t.name`, math.MaxInt64, ""},
	"-pushed": {`t.updated_at >= ?2 AND (t.updated_at > ?2 OR t.name < ?3)`, `t.updated_at, t.name DESC`, math.MinInt64, ""},
	"name":    {`?2 IS NOT NULL AND t.sort_key > ?3`, `t.sort_key`, 0, ""},
	"-name":   {`?2 IS NOT NULL AND t.sort_key < ?3`, `t.sort_key DESC`, 0, lastKey},
	"pulls":   {`t.pulls <= ?2 AND (t.pulls < ?2 OR t.sort_key > ?3)`, `t.pulls DESC, t.sort_key`, math.MaxInt64, ""},
	"-pulls":  {`t.pulls >= ?2 AND (t.pulls > ?2 OR t.sort_key < ?3)`, `t.pulls, t.sort_key DESC`, math.MinInt64, ""},
	"used":    {`t.last_used <= ?2 AND (t.last_used < ?2 OR t.sort_key > ?3)`, `t.last_used DESC, t.sort_key`, math.MaxInt64, ""},
	"-used":   {`t.last_used >= ?2 AND (t.last_used > ?2 OR t.sort_key < ?3)`, `t.last_used, t.sort_key DESC`, math.MinInt64, ""},
}

// A TagQuery asks for a page of the tags of a repository.
type TagQuery struct {
	// Match is a pattern for the whole name with * and ?, or else a part of it; letters match in either case. "" is any.
	Match    string
	Sort     TagSort
	Subjects bool   // also tags that belong to a digest (oci.Subject)
	Platform string // only what has it, in any variant; "" is any
	After    string // TagPage.Next of the page before, or ""
	N        int    // rows at most
}

// A TagRow is a tag with what people choose by.
type TagRow struct {
	Name      string
	Digest    digest.Digest
	MediaType string
	Index     bool
	Kind      oci.ArtifactKind // "" when not known yet
	Platforms []string
	// SizeMin and SizeMax are what a client fetches, in bytes: of an index the range over what is here of the first 200
	// entries. 0 is unknown.
	SizeMin, SizeMax int64
	PushedAt         time.Time
	LastUsed         time.Time // zero when never
	Pulls            int64
	Aliases          []string // other tags at the digest, at most 3
	AliasCount       int      // of all of them, at most 1000
	// Provides is what is attached: signature, sbom, provenance, attestation. Nothing is verified. It looks at the first 100
	// referrers and the first 200 entries of an index.
	Provides []string
}

// A TagPage is a part of the tags of a repository.
type TagPage struct {
	Rows   []TagRow
	Next   string // pass as After to get the next page; "" when this is the last
	Total  int64  // tags that match; without those that belong to a digest, unless asked for
	Hidden int64  // those that belong to a digest, match, and are left out
}

// tagFilter takes the pattern ?4, the platform ?5 and whether tags of digests are wanted, ?6.
const tagFilter = ` AND (?4 = '' OR t.name LIKE ?4 ESCAPE '\') AND (?6 OR NOT ` + isSubjectTag + `)` + platformFilter

const platformFilter = ` AND (?5 = '' OR EXISTS (SELECT 1 FROM manifest_facts pf WHERE pf.manifest = t.manifest
	AND (instr(' ' || pf.platforms || ' ', ' ' || ?5 || ' ') > 0 OR instr(' ' || pf.platforms, ' ' || ?5 || '/') > 0)))`

// likePattern turns what people write into a pattern of LIKE.
func likePattern(match string) string {
	if match == "" {
		return ""
	}
	p := strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(match)
	if strings.ContainsAny(p, "*?") {
		return strings.NewReplacer("*", "%", "?", "_").Replace(p)
	}
	return "%" + p + "%"
}

// matchMax bounds a pattern in bytes: nothing longer matches a tag.
const matchMax = 2 * oci.TagMax

// TagPage returns a page of tags: a *NameUnknownError when there is no such repository, and ErrCursor when q.After is not
// of this order. It takes two statements. With a filter, and by pulls or use, it looks at all tags of the repository.
func (s *Store) TagPage(ctx context.Context, name oci.Name, q TagQuery) (TagPage, error) {
	var page TagPage
	sort := q.Sort.String()
	order := tagOrders[sort]
	at := cursor{Sort: sort, Number: order.number, Key: order.key}
	if q.After != "" {
		var err error
		if at, err = parseCursor(sort, q.After); err != nil {
			return page, err
		}
	}
	q.Match = likePattern(q.Match[:min(len(q.Match), matchMax)])
	repository, err := s.countTags(ctx, name, q, &page)
	if err != nil {
		return page, err
	}
	rows, err := collect(ctx, s.db, scanTagRow, tagRows[sort], repository, at.Number, at.Key, q.Match, q.Platform, q.Subjects, q.N+1, kindManifest)
	if err != nil {
		return page, err
	}
	if len(rows) > q.N {
		rows = rows[:q.N]
		if q.N > 0 {
			page.Next = rows[q.N-1].cursor(sort).String()
		}
	}
	for _, r := range rows {
		page.Rows = append(page.Rows, r.TagRow)
	}
	return page, nil
}

// countTags counts what matches and returns the id of the repository.
func (s *Store) countTags(ctx context.Context, name oci.Name, q TagQuery, page *TagPage) (repository int64, err error) {
	if q.Match == "" && q.Platform == "" {
		err = s.db.queryRow(ctx, `SELECT r.id, r.tags, (SELECT count(*) FROM tags t WHERE t.repository = r.id AND `+isSubjectTag+`)
			FROM repositories r WHERE r.name = ?`, name.String()).Scan(&repository, &page.Total, &page.Hidden)
	} else {
		err = s.db.queryRow(ctx, `SELECT r.id, count(t.name), COALESCE(sum(`+isSubjectTag+`), 0)
			FROM repositories r LEFT JOIN tags t ON t.repository = r.id`+tagFilter+` WHERE r.name = ?1 AND ?2 = ?3 GROUP BY r.id`, name.String(), 0, 0, q.Match, q.Platform, true).Scan(&repository, &page.Total, &page.Hidden)
	}
	if errors.Is(err, sql.ErrNoRows) {
		return 0, &NameUnknownError{Name: name}
	}
	if q.Subjects {
		page.Hidden = 0
	}
	page.Total -= page.Hidden
	return repository, err
}

// tagRows are the queries of a page, by order: first the tags, then what each row shows.
var tagRows = func() map[string]string {
	all := make(map[string]string, len(tagOrders))
	for name, order := range tagOrders {
		all[name] = `SELECT t.name, t.sort_key, d.digest, m.media_type, COALESCE(f.kind, ''), COALESCE(f.platforms, ''), COALESCE(f.pull_size, 0),
			t.updated_at, t.last_used, t.pulls, ` + entrySizes + `, ` + aliases + `, ` + attachments + `
			FROM (SELECT t.name, t.sort_key, t.manifest, t.updated_at, t.last_used, t.pulls FROM tags t
				WHERE t.repository = ?1 AND ` + order.after + tagFilter + ` ORDER BY ` + order.by + ` LIMIT ?7) t
			CROSS JOIN manifests m ON m.id = t.manifest CROSS JOIN digests d ON d.id = m.digest LEFT JOIN manifest_facts f ON f.manifest = m.id
			ORDER BY ` + order.by
	}
	return all
}()

// entries are the manifests here that an index m names, of the first 200, with their facts cf. ?1 is the repository and ?8
// is kindManifest.
const entries = `(SELECT mr.target FROM manifest_references mr WHERE mr.manifest = m.id AND mr.kind = ?8 LIMIT 200) e
	CROSS JOIN manifests c ON c.repository = ?1 AND c.digest = e.target CROSS JOIN manifest_facts cf ON cf.manifest = c.id`

const entrySizes = `(SELECT COALESCE(min(cf.pull_size) || ' ' || max(cf.pull_size), '') FROM ` + entries + ` WHERE cf.kind <> 'attestation' AND cf.pull_size > 0)`

// aliases are two columns: some other tags at the manifest m of the tag t, and how many there are.
const aliases = `(SELECT COALESCE(group_concat(a.name, ' '), '') FROM (SELECT name FROM tags INDEXED BY tags_manifest WHERE manifest = m.id AND repository = ?1 AND name <> t.name ORDER BY name LIMIT 3) a),
	(SELECT count(*) FROM (SELECT 1 FROM tags INDEXED BY tags_manifest WHERE manifest = m.id AND repository = ?1 AND name <> t.name LIMIT 1000))`

// attachments are words with what is attached to a manifest m of the digest d: by its subject, in the list under its
// referrers tag, under the tags of cosign, and as BuildKit does, beside it in an index.
const attachments = `(SELECT COALESCE(group_concat(DISTINCT p.provides), '') FROM (
	SELECT xf.provides FROM (SELECT id FROM manifests INDEXED BY manifests_subject WHERE repository = ?1 AND subject = m.digest LIMIT 100) x CROSS JOIN manifest_facts xf ON xf.manifest = x.id
	UNION ALL
	SELECT cf.provides FROM ` + entries + ` WHERE cf.kind = 'attestation'
	UNION ALL
	SELECT COALESCE(NULLIF(gf.provides, ''), CASE substr(g.name, 72) WHEN '.sig' THEN 'signature' WHEN '.att' THEN 'attestation' ELSE 'sbom' END)
	FROM tags g LEFT JOIN manifest_facts gf ON gf.manifest = g.manifest WHERE d.digest GLOB 'sha256:*' AND g.repository = ?1
	AND g.name IN ('sha256-' || substr(d.digest, 8) || '.sig', 'sha256-' || substr(d.digest, 8) || '.att', 'sha256-' || substr(d.digest, 8) || '.sbom')
	UNION ALL
	SELECT lf.provides FROM tags g CROSS JOIN manifest_references mr ON mr.manifest = g.manifest AND mr.kind = ?8
	CROSS JOIN manifests l ON l.repository = ?1 AND l.digest = mr.target CROSS JOIN manifest_facts lf ON lf.manifest = l.id
	WHERE g.repository = ?1 AND g.name = replace(substr(d.digest, 1, 71), ':', '-')) p)`

// A scannedTag is a row with its keys.
type scannedTag struct {
	TagRow
	sortKey       string
	updated, used int64
}

func (t *scannedTag) cursor(sort string) cursor {
	c := cursor{Sort: sort, Key: t.sortKey}
	switch strings.TrimPrefix(sort, "-") {
	case "pushed":
		c.Number, c.Key = t.updated, t.Name
	case "pulls":
		c.Number = t.Pulls
	case "used":
		c.Number = t.used
	}
	return c
}

func scanTagRow(r row) (t scannedTag, err error) {
	var size int64
	var platforms, sizes, aliases, provides string
	if err := r.Scan(&t.Name, &t.sortKey, &t.Digest, &t.MediaType, &t.Kind, &platforms, &size, &t.updated, &t.used, &t.Pulls,
		&sizes, &aliases, &t.AliasCount, &provides); err != nil {
		return t, err
	}
	t.Index = oci.KindOf(t.MediaType) == oci.KindIndex
	t.Platforms, t.Aliases, t.Provides = words(platforms), words(aliases), distinct(provides)
	t.PushedAt, t.LastUsed = time.Unix(t.updated, 0), unixTime(t.used)
	t.SizeMin, t.SizeMax = size, size
	if low, high, ok := strings.Cut(sizes, " "); ok && t.Index {
		if t.SizeMin, err = strconv.ParseInt(low, 10, 64); err == nil {
			t.SizeMax, err = strconv.ParseInt(high, 10, 64)
		}
	}
	return t, err
}

// distinct splits words with spaces or commas between, each once and in order.
func distinct(s string) []string {
	all := strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ',' })
	slices.Sort(all)
	return slices.Compact(all)
}

// A RemovedTag is a tag that is gone and can be restored.
type RemovedTag struct {
	Tag    string
	Digest digest.Digest // where it was last
	At     time.Time
	Who    string
}

// removalsMax bounds the removals that RemovedTags looks at.
const removalsMax = 1000

// RemovedTags returns at most n tags that are gone now and whose last manifest is still here, the last removed first. It
// looks at the last 1000 removals, in one statement.
func (s *Store) RemovedTags(ctx context.Context, name oci.Name, n int) ([]RemovedTag, error) {
	return collect(ctx, s.db, func(r row) (t RemovedTag, err error) {
		var at int64
		err = r.Scan(&t.Tag, &t.Digest, &at, &t.Who)
		t.At = time.Unix(at, 0)
		return t, err
	}, `SELECT h.tag, d.digest, h.at, h.who FROM (SELECT id, repository, tag, number, from_digest, at, who FROM tag_history
			WHERE repository = (SELECT id FROM repositories WHERE name = ?) AND to_digest IS NULL ORDER BY id DESC LIMIT ?) h
		JOIN digests d ON d.id = h.from_digest
		WHERE NOT EXISTS (SELECT 1 FROM tags t WHERE t.repository = h.repository AND t.name = h.tag)
		AND h.number = (SELECT max(l.number) FROM tag_history l WHERE l.repository = h.repository AND l.tag = h.tag)
		AND EXISTS (SELECT 1 FROM manifests m WHERE m.repository = h.repository AND m.digest = h.from_digest)
		ORDER BY h.id DESC LIMIT ?`, name.String(), removalsMax, n)
}
