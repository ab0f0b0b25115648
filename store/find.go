package store

import (
	"context"
	"encoding/json"
	"strings"

	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

const (
	// findMax bounds a text that is searched for, in bytes.
	findMax = 2 * labelText
	// findRows bounds the rows that a search looks at after an index has found them, of those that may be seen.
	findRows = 5000
)

// An Among is the repositories that a search is about; nil is all of them.
type Among []oci.Name

// list returns the argument of amongRepositories.
func (a Among) list() any {
	if a == nil {
		return nil
	}
	list, err := json.Marshal(texts(a))
	if err != nil {
		return "[]" // never: they are strings
	}
	return string(list)
}

// amongRepositories holds for a repository of the list ?9. SQLite reads the list once.
const amongRepositories = ` (?9 IS NULL OR repository IN (SELECT ar.id FROM json_each(?9) j CROSS JOIN repositories ar ON ar.name = j.value))`

// find reads rows until there are more than n. keep says whether a hit counts; nil: all do.
func find[T any](ctx context.Context, s *Store, n int, scan func(row) (T, error), keep func(T) bool, query string, args ...any) (all []T, more bool, err error) {
	rows, err := s.db.query(ctx, query, args...)
	if err != nil {
		return nil, false, err
	}
	defer rows.Close()
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, false, err
		}
		if keep != nil && !keep(v) {
			continue
		}
		if len(all) == n {
			return all, true, nil
		}
		all = append(all, v)
	}
	return all, false, rows.Err()
}

// A TagHit is a tag that was found.
type TagHit struct {
	Repository oci.Name
	Tag        string
	Digest     digest.Digest
	Kind       oci.ArtifactKind // "" when not known yet
}

// FindTags returns at most n tags of some repositories that have text in their name, in either case: first those that are
// it, then those that begin with it. Tags that belong to a digest (oci.Subject) are left out. more tells that there are
// others. It takes one statement, which reads an index of all names unless enough is found before. What is longer than 64
// bytes is found at the beginning of names only.
func (s *Store) FindTags(ctx context.Context, text string, among Among, n int) (hits []TagHit, more bool, err error) {
	if text == "" || len(text) > oci.TagMax {
		return nil, false, nil
	}
	text = lowerASCII(text)
	var part any // NULL is in no name
	if len(text) <= partMax {
		part = "%" + escapeLike(text) + "%"
	}
	return find(ctx, s, n, func(r row) (h TagHit, err error) {
		var name string
		if err := r.Scan(&name, &h.Tag, &h.Digest, &h.Kind); err != nil {
			return h, err
		}
		h.Repository, err = oci.ParseName(name)
		return h, err
	}, nil, `SELECT r.name, t.name, d.digest, COALESCE(f.kind, '') FROM (
			SELECT repository, name FROM tags WHERE name = ?1 COLLATE NOCASE AND`+amongRepositories+`
			UNION ALL
			SELECT repository, name FROM tags WHERE name > ?1 COLLATE NOCASE AND name < ?1 || char(127) COLLATE NOCASE AND`+amongRepositories+`
			UNION ALL
			SELECT repository, name FROM tags INDEXED BY tags_name WHERE name LIKE ?2 ESCAPE '\' AND name NOT LIKE ?3 ESCAPE '\' AND`+amongRepositories+`) h
		CROSS JOIN tags t ON t.repository = h.repository AND t.name = h.name CROSS JOIN repositories r ON r.id = t.repository
		CROSS JOIN manifests m ON m.id = t.manifest CROSS JOIN digests d ON d.id = m.digest LEFT JOIN manifest_facts f ON f.manifest = m.id
		WHERE NOT `+isSubjectTag+` LIMIT ?4`, text, part, escapeLike(text)+"%", findRows, nil, nil, nil, nil, among.list())
}

func escapeLike(s string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(s)
}

// A DigestHit is a manifest or blob whose digest begins with what was asked for.
type DigestHit struct {
	Repository oci.Name
	Digest     digest.Digest
	Manifest   bool             // else it is a blob
	Kind       oci.ArtifactKind // of a manifest; "" when not known yet
	Size       int64            // bytes, of itself
	Tag        string           // of a manifest, one of its tags, or ""
}

// digestFindMin is how many characters of a digest's hexadecimal part are searched for at least.
const digestFindMin = 6

// FindDigests returns at most n manifests, and then blobs, of some repositories whose digest begins with prefix: at least
// six hexadecimal digits, with the algorithm before it or for both. Anything else finds nothing. more tells that there are
// others. It takes one statement, by the index of digests, and looks at 5000 manifests and as many blobs.
func (s *Store) FindDigests(ctx context.Context, prefix string, among Among, n int) (hits []DigestHit, more bool, err error) {
	first, second, ok := digestPrefixes(prefix)
	if !ok {
		return nil, false, nil
	}
	return find(ctx, s, n, func(r row) (h DigestHit, err error) {
		var name string
		if err := r.Scan(&name, &h.Digest, &h.Manifest, &h.Kind, &h.Size, &h.Tag); err != nil {
			return h, err
		}
		h.Repository, err = oci.ParseName(name)
		return h, err
	}, nil, `SELECT r.name, h.digest, h.manifest, h.kind, h.size, h.tag FROM (
			SELECT * FROM (SELECT m.repository, d.digest, 1 AS manifest, COALESCE(f.kind, '') AS kind, m.size,
				COALESCE((SELECT name FROM tags INDEXED BY tags_manifest WHERE manifest = m.id AND repository = m.repository ORDER BY name LIMIT 1), '') AS tag
			FROM digests d CROSS JOIN manifests m ON m.digest = d.id LEFT JOIN manifest_facts f ON f.manifest = m.id
			WHERE (d.digest >= ?1 AND d.digest < ?1 || 'g' OR d.digest >= ?2 AND d.digest < ?2 || 'g') AND`+amongRepositories+` LIMIT ?3)
			UNION ALL
			SELECT * FROM (SELECT rb.repository, d.digest, 0, '', b.size, '' FROM digests d CROSS JOIN blobs b ON b.digest = d.id
			CROSS JOIN repository_blobs rb ON rb.blob = b.digest
			WHERE (d.digest >= ?1 AND d.digest < ?1 || 'g' OR d.digest >= ?2 AND d.digest < ?2 || 'g') AND`+amongRepositories+` LIMIT ?3)) h
		CROSS JOIN repositories r ON r.id = h.repository`, first, second, findRows, nil, nil, nil, nil, nil, among.list())
}

// digestPrefixes returns with which texts a digest may begin.
func digestPrefixes(prefix string) (first, second string, ok bool) {
	prefix = strings.ToLower(prefix)
	algorithm, encoded, named := strings.Cut(prefix, ":")
	if !named {
		algorithm, encoded = "", prefix
	}
	if len(encoded) < digestFindMin || len(encoded) > 128 || strings.Trim(encoded, "0123456789abcdef") != "" {
		return "", "", false
	}
	switch algorithm {
	case "":
		return "sha256:" + encoded, "sha512:" + encoded, true
	case "sha256", "sha512":
		return prefix, prefix, true
	}
	return "", "", false
}

// A LabelHit is a manifest with a label or annotation that was found.
type LabelHit struct {
	Repository oci.Name
	Digest     digest.Digest
	Tag        string // one of its tags, or ""
	Key, Value string

	manifest int64
}

// labelsScan bounds the texts that are searched for a part of a value: the newest ones.
const labelsScan = 20_000

// partMax bounds a text that is looked for in the middle of values, in bytes: that costs the product of both lengths where
// somebody wants it to.
const partMax = 64

// lowerASCII is SQLite's lower.
func lowerASCII(s string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		return c
	}, s)
}

// FindLabels returns at most n manifests of some repositories that have a label or annotation with the key text, with
// text as key=value, of which the value may go on, or with text in its value; each once, and letters in either case. more
// tells that there are others among those it looks at.
//
// It takes one statement. Keys are found by an index; for parts of values, of at most 64 bytes, it reads the newest 20 000 distinct texts, of which
// there are fewer than manifests, and it looks at 5000 manifests. Of a manifest the first 64 labels can be found, by the
// first 256 bytes.
func (s *Store) FindLabels(ctx context.Context, text string, among Among, n int) (hits []LabelHit, more bool, err error) {
	if text == "" || len(text) > findMax {
		return nil, false, nil
	}
	key, value, _ := strings.Cut(text, "=")
	var part any // NULL is in no value
	if len(text) <= partMax {
		part = lowerASCII(text)
	}
	seen := make(map[int64]bool)
	return find(ctx, s, n, func(r row) (h LabelHit, err error) {
		var name string
		if err := r.Scan(&h.manifest, &name, &h.Digest, &h.Tag, &h.Key, &h.Value); err != nil {
			return h, err
		}
		h.Repository, err = oci.ParseName(name)
		return h, err
	}, func(h LabelHit) bool {
		keep := !seen[h.manifest]
		seen[h.manifest] = true
		return keep
	}, `SELECT m.id, r.name, d.digest, COALESCE((SELECT name FROM tags INDEXED BY tags_manifest WHERE manifest = m.id AND repository = m.repository ORDER BY name LIMIT 1), ''), l.key, l.value FROM (
			SELECT id FROM labels WHERE key = ?1 COLLATE NOCASE AND value >= ?2 COLLATE NOCASE AND value < ?2 || char(0x10ffff) COLLATE NOCASE
			UNION ALL
			SELECT id FROM (SELECT id, value FROM labels ORDER BY id DESC LIMIT ?4) WHERE instr(lower(value), ?3) > 0) h
		CROSS JOIN labels l ON l.id = h.id CROSS JOIN manifest_labels ml ON ml.label = l.id CROSS JOIN manifests m ON m.id = ml.manifest
		CROSS JOIN digests d ON d.id = m.digest CROSS JOIN repositories r ON r.id = m.repository
		WHERE`+amongRepositories+` LIMIT ?5`,
		key, value, part, labelsScan, findRows, nil, nil, nil, among.list())
}

// A BigBlob is a blob, and which of the repositories that were asked for have it.
type BigBlob struct {
	Digest       digest.Digest
	Size         int64      // bytes
	Repositories []oci.Name // at most 3, in no order
	Count        int64      // of repositories
}

// BiggestBlobs returns at most n blobs of some repositories, the largest first. It takes one statement, which looks at
// 20 000 rows.
func (s *Store) BiggestBlobs(ctx context.Context, among Among, n int) ([]BigBlob, error) {
	rows, err := s.db.query(ctx, `SELECT d.digest, b.size, r.name FROM blobs b INDEXED BY blobs_size CROSS JOIN digests d ON d.id = b.digest
		CROSS JOIN repository_blobs rb ON rb.blob = b.digest CROSS JOIN repositories r ON r.id = rb.repository
		WHERE`+amongRepositories+` ORDER BY b.size DESC, b.digest DESC LIMIT ?1`, 4*findRows, nil, nil, nil, nil, nil, nil, nil, among.list())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []BigBlob
	for rows.Next() {
		var b BigBlob
		var text string
		if err := rows.Scan(&b.Digest, &b.Size, &text); err != nil {
			return nil, err
		}
		name, err := oci.ParseName(text)
		if err != nil {
			return nil, err
		}
		if len(all) == 0 || all[len(all)-1].Digest != b.Digest {
			if len(all) == n {
				break
			}
			all = append(all, b)
		}
		last := &all[len(all)-1]
		if last.Count++; last.Count <= 3 {
			last.Repositories = append(last.Repositories, name)
		}
	}
	return all, rows.Err()
}
