package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// An Actor is who changes something, for the tag history.
type Actor struct {
	Name    string // the principal, "anonymous" when nobody logged in
	Address string // the client's IP address
	Token   string // id of the access token that was used, or ""
	Client  string // as the client calls itself
}

// A Condition is what a request demands of the present state (RFC 9110, section 13). The zero Condition demands
// nothing. It is checked inside the write transaction; a failed one is ErrPrecondition.
type Condition struct {
	Match     []string // If-Match: one of these digests, or "*" for any
	NoneMatch []string // If-None-Match: none of these digests, or "*" for nothing there
}

func (c Condition) isZero() bool { return len(c.Match) == 0 && len(c.NoneMatch) == 0 }

// check compares the condition with the digest that is there, or "".
func (c Condition) check(current string) error {
	if len(c.Match) > 0 && (current == "" || !slices.Contains(c.Match, "*") && !slices.Contains(c.Match, current)) {
		return fmt.Errorf("%w: If-Match is not what is here (%s)", ErrPrecondition, orNothing(current))
	}
	if len(c.NoneMatch) > 0 && current != "" && (slices.Contains(c.NoneMatch, "*") || slices.Contains(c.NoneMatch, current)) {
		return fmt.Errorf("%w: If-None-Match forbids what is here (%s)", ErrPrecondition, current)
	}
	return nil
}

func orNothing(digest string) string {
	if digest == "" {
		return "nothing"
	}
	return digest
}

// Tags returns at most n tags of a repository in byte order after last (end-8); nobody may change the list. It is ErrNameUnknown when the
// repository does not exist; one without tags has an empty list.
func (s *Store) Tags(ctx context.Context, name oci.Name, last string, n int) ([]string, error) {
	tags, err := s.names(ctx, name, s.reads.of(name), last, n,
		`SELECT t.name FROM repositories r JOIN tags t ON t.repository = r.id WHERE r.name = ? AND t.name > ? ORDER BY t.name LIMIT ?`, name.String())
	if err == nil && len(tags) == 0 {
		_, err = repositoryID(ctx, s.db, name)
	}
	return tags, err
}

// A TagInfo is a row of a listing.
type TagInfo struct {
	Name      string
	Digest    digest.Digest
	MediaType string
	// Size is in bytes: the manifest and every distinct digest it names that is here, an index's children included.
	Size      int64
	UpdatedAt time.Time
}

// TagInfos returns at most n tags of a repository with their facts, in byte order after last.
func (s *Store) TagInfos(ctx context.Context, name oci.Name, last string, n int) ([]TagInfo, error) {
	id, err := repositoryID(ctx, s.db, name)
	if err != nil {
		return nil, err
	}
	return collect(ctx, s.db, func(r row) (v TagInfo, err error) {
		var updated int64
		err = r.Scan(&v.Name, &v.Digest, &v.MediaType, &updated, &v.Size)
		v.UpdatedAt = time.Unix(updated, 0)
		return v, err
	}, `SELECT t.name, d.digest, m.media_type, t.updated_at, (
			WITH RECURSIVE reached (target) AS (
				SELECT m.digest UNION
				SELECT mr.target FROM reached JOIN manifests c ON c.repository = m.repository AND c.digest = reached.target
				JOIN manifest_references mr ON mr.manifest = c.id)
			SELECT COALESCE(sum(COALESCE(c.size, b.size, 0)), 0) FROM reached
			LEFT JOIN manifests c ON c.repository = m.repository AND c.digest = reached.target
			LEFT JOIN repository_blobs rb ON rb.repository = m.repository AND rb.blob = reached.target
			LEFT JOIN blobs b ON b.digest = rb.blob)
		FROM tags t JOIN manifests m ON m.id = t.manifest JOIN digests d ON d.id = m.digest
		WHERE t.repository = ? AND t.name > ? ORDER BY t.name LIMIT ?`, id, last, n)
}

// A TagTarget is where a tag leads.
type TagTarget struct {
	Digest digest.Digest
	Tags   int64 // that lead there, with this one
}

// TagTargets returns where those of some tags that are there lead, by their name. It takes one statement.
func (s *Store) TagTargets(ctx context.Context, name oci.Name, tags []oci.Tag) (map[string]TagTarget, error) {
	names := make([]string, len(tags))
	for i, tag := range tags {
		names[i] = tag.String()
	}
	list, err := json.Marshal(names)
	if err != nil {
		return nil, err
	}
	rows, err := s.db.query(ctx, `SELECT t.name, d.digest, (SELECT count(*) FROM tags o INDEXED BY tags_manifest WHERE o.manifest = m.id) FROM json_each(?2) j CROSS JOIN repositories r ON r.name = ?1
		JOIN tags t ON t.repository = r.id AND t.name = j.value JOIN manifests m ON m.id = t.manifest JOIN digests d ON d.id = m.digest`,
		name.String(), string(list))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := make(map[string]TagTarget)
	for rows.Next() {
		var tag string
		var target TagTarget
		if err := rows.Scan(&tag, &target.Digest, &target.Tags); err != nil {
			return nil, err
		}
		found[tag] = target
	}
	return found, rows.Err()
}

// tagged is the manifest that a tag points to; digest is "" when the tag does not exist.
type tagged struct {
	manifest, digestID int64
	digest             string
}

func (t *tx) tagged(repository int64, tag oci.Tag) (v tagged, err error) {
	err = t.queryRow(t.ctx, `SELECT m.id, d.id, d.digest FROM tags t JOIN manifests m ON m.id = t.manifest
		JOIN digests d ON d.id = m.digest WHERE t.repository = ? AND t.name = ?`, repository, tag.String()).
		Scan(&v.manifest, &v.digestID, &v.digest)
	if errors.Is(err, sql.ErrNoRows) {
		return tagged{}, nil
	}
	return v, err
}

// tagBounds hold back a tag that is there.
type tagBounds struct {
	immutable   string // the rule that forbids to move it, or ""
	noOverwrite bool   // whoever asks may only make new tags
}

// check refuses to move a tag from a digest: as *ImmutableError or ErrOverwrite.
func (b tagBounds) check(tag oci.Tag, from string) error {
	switch {
	case b.immutable != "":
		return &ImmutableError{Tag: tag, Rule: b.immutable, Digest: digest.Digest(from)}
	case b.noOverwrite:
		return fmt.Errorf("%w: %s", ErrOverwrite, tag)
	}
	return nil
}

// setTag points a tag to a manifest and logs the move. A push of what is there already changes only updated_at. A tag
// that is there moves within its bounds.
func (t *tx) setTag(repository int64, tag oci.Tag, manifest, digestID int64, bounds tagBounds, by Actor) error {
	old, err := t.tagged(repository, tag)
	if err != nil {
		return err
	}
	if old.digest != "" && old.manifest != manifest {
		if err := bounds.check(tag, old.digest); err != nil {
			return err
		}
	}
	if old.manifest != manifest {
		from := sql.NullInt64{Int64: old.digestID, Valid: old.digest != ""}
		if err := t.logTag(repository, tag.String(), from, sql.NullInt64{Int64: digestID, Valid: true}, by); err != nil {
			return err
		}
	}
	if _, err := t.exec(`INSERT INTO tags (repository, name, manifest, updated_at, sort_key) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (repository, name) DO UPDATE SET manifest = excluded.manifest, updated_at = excluded.updated_at`,
		repository, tag.String(), manifest, t.now, oci.TagOrder(tag.String())); err != nil {
		return err
	}
	if err := t.setKind(repository, manifest); err != nil {
		return err
	}
	if old.manifest == manifest {
		return nil
	}
	if _, err := t.exec(`UPDATE manifests SET untagged_since = NULL WHERE id = ?`, manifest); err != nil {
		return err
	}
	return t.markUntagged(old.manifest)
}

// SetImmutable sets what tells the name of the rule that forbids to move a tag, or "". It may be called for any tag at
// any time.
func (s *Store) SetImmutable(rule func(oci.Name, oci.Tag) string) { s.immutable.Store(&rule) }

func (s *Store) immutableBy(name oci.Name, tag oci.Tag) string {
	if rule := s.immutable.Load(); rule != nil {
		return (*rule)(name, tag)
	}
	return ""
}

// markUntagged starts the keep time of a manifest when its last tag has gone.
func (t *tx) markUntagged(manifest int64) error {
	_, err := t.exec(`UPDATE manifests SET untagged_since = ?2 WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM tags WHERE manifest = ?1)`,
		manifest, t.now)
	return err
}

// logTag writes a move into the history, with what the tag was: it must not have moved yet.
func (t *tx) logTag(repository int64, tag string, from, to sql.NullInt64, by Actor) error {
	_, err := t.exec(`INSERT INTO tag_history (repository, tag, number, from_digest, to_digest, at, who, address, pushed_at, last_used, pulls)
		VALUES (?1, ?2, (SELECT COALESCE(max(number), 0) + 1 FROM tag_history WHERE repository = ?1 AND tag = ?2), ?3, ?4, ?5, ?6, ?7,
		(SELECT updated_at FROM tags WHERE repository = ?1 AND name = ?2), (SELECT last_used FROM tags WHERE repository = ?1 AND name = ?2),
		(SELECT pulls FROM tags WHERE repository = ?1 AND name = ?2))`,
		repository, tag, from, to, t.now, by.Name, by.Address)
	return err
}

// DeleteTag removes a tag and nothing else (end-9). It is ErrManifestUnknown when there is no such tag, and
// ErrPrecondition when it does not satisfy c.
func (s *Store) DeleteTag(ctx context.Context, name oci.Name, tag oci.Tag, c Condition, by Actor) error {
	err := s.change(within(name), func(t *tx) error {
		repository, err := t.repository(name)
		if err != nil {
			return err
		}
		old, err := t.tagged(repository, tag)
		if err != nil {
			return err
		}
		if err := c.check(old.digest); err != nil {
			return err
		}
		if old.digest == "" {
			return ErrManifestUnknown
		}
		if err := t.audit(AuditEntry{Action: AuditDelete, Repository: name.String(), Reference: tag.String(), Detail: old.digest}, by); err != nil {
			return err
		}
		return t.removeTag(repository, tag, old, by)
	})
	if err != nil {
		return fmt.Errorf("delete tag %s of %s: %w", tag, name, err)
	}
	return nil
}

// removeTag removes a tag that points to old, and logs it.
func (t *tx) removeTag(repository int64, tag oci.Tag, old tagged, by Actor) error {
	if err := t.logTag(repository, tag.String(), sql.NullInt64{Int64: old.digestID, Valid: true}, sql.NullInt64{}, by); err != nil {
		return err
	}
	if _, err := t.exec(`DELETE FROM tags WHERE repository = ? AND name = ?`, repository, tag.String()); err != nil {
		return err
	}
	return t.markUntagged(old.manifest)
}
