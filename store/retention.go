package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"maps"
	"time"

	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// A TagUse is a tag with what retention decides by.
type TagUse struct {
	RepositoryID int64
	Repository   oci.Name
	Tag          string
	Manifest     int64
	Digest       digest.Digest
	PushedAt     time.Time // the last push or move
	UsedAt       time.Time // the last GET or HEAD of what it points to; zero when never
	// SubjectGone is when the manifest that the tag belongs to was deleted (oci.Subject); else zero.
	SubjectGone time.Time

	updated, used, history int64 // as they are stored
}

// scanTagUse reads the columns that tagUseColumns names, of which the last is what SubjectGone says.
func (v *View) scanTagUse(r row) (t TagUse, err error) {
	var gone int64
	if err := r.Scan(&t.RepositoryID, &t.Tag, &t.Manifest, &t.Digest, &t.updated, &t.used, &t.history, &gone); err != nil {
		return t, err
	}
	t.Repository, t.PushedAt = v.names[t.RepositoryID], time.Unix(t.updated, 0)
	if t.used > 0 {
		t.UsedAt = time.Unix(t.used, 0)
	}
	if gone > 0 {
		t.SubjectGone = time.Unix(gone, 0)
	}
	return t, nil
}

const tagUseColumns = `SELECT t.repository, t.name, t.manifest, d.digest, t.updated_at, t.last_used, (SELECT COALESCE(max(id), 0) FROM tag_history), `

// Repositories returns the ids of all repositories by name.
func (v *View) Repositories() map[oci.Name]int64 {
	all := make(map[oci.Name]int64, len(v.names))
	for id, name := range v.names {
		all[name] = id
	}
	return all
}

// Tags yields the tags of a repository, by name.
func (v *View) Tags(repository int64) iter.Seq2[TagUse, error] {
	return each(v, v.scanTagUse, tagUseColumns+`0 FROM tags t JOIN manifests m ON m.id = t.manifest JOIN digests d ON d.id = m.digest
		WHERE t.repository = ? ORDER BY t.name`, repository)
}

// TagsOfDeleted yields the tags that belong to a manifest which was in their repository and is not any more. One that
// never was there may be somewhere else: signatures can be kept apart. A tag that was pushed after the deletion is for a
// manifest that may be on its way: some clients copy signatures first.
func (v *View) TagsOfDeleted() iter.Seq2[TagUse, error] {
	return func(yield func(TagUse, error) bool) {
		for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
			prefix := algorithm.String() + "-"
			for t, err := range each(v, v.scanTagUse, tagUseColumns+`dm.at
				FROM repositories r JOIN tags t ON t.repository = r.id AND t.name >= ?1 AND t.name < ?2
				JOIN digests s ON s.digest = ?3 || ':' || substr(t.name, length(?1) + 1, ?4)
				JOIN deleted_manifests dm ON dm.repository = r.id AND dm.digest = s.id
				JOIN manifests m ON m.id = t.manifest JOIN digests d ON d.id = m.digest
				WHERE t.updated_at < dm.at AND NOT EXISTS (SELECT 1 FROM manifests sm WHERE sm.repository = r.id AND sm.digest = s.id)`,
				prefix, algorithm.String()+".", algorithm.String(), algorithm.Size()*2) {
				if _, ok := oci.Subject(t.Tag); err == nil && !ok {
					continue // its name only begins so
				}
				if !yield(t, err) || err != nil {
					return
				}
			}
		}
	}
}

// A Recording tells when use was recorded.
type Recording struct {
	Since time.Time // from then on
	Gaps  []Gap     // but for these times, the earliest first
}

// A Gap is a time in which use was not recorded.
type Gap struct{ Began, Ended time.Time }

// Missing returns how much of the time between since and now was not recorded.
func (r Recording) Missing(since, now time.Time) (sum time.Duration) {
	for _, g := range r.Gaps {
		began, ended := g.Began, g.Ended
		if began.Before(since) {
			began = since
		}
		if ended.After(now) {
			ended = now
		}
		sum += max(0, ended.Sub(began))
	}
	return sum
}

// Recording returns when use was recorded.
func (v *View) Recording() (r Recording, err error) {
	for at, err := range each(v, func(r row) (at int64, err error) { return at, r.Scan(&at) }, `SELECT tracking_since FROM store`) {
		if err != nil {
			return r, err
		}
		r.Since = time.Unix(at, 0)
	}
	for g, err := range each(v, func(r row) (g Gap, err error) {
		var began, ended int64
		err = r.Scan(&began, &ended)
		return Gap{time.Unix(began, 0), time.Unix(ended, 0)}, err
	}, `SELECT began, ended FROM recording_gaps ORDER BY began`) {
		if err != nil {
			return r, err
		}
		r.Gaps = append(r.Gaps, g)
	}
	return r, nil
}

// HasManifest reports whether a manifest is in a repository.
func (v *View) HasManifest(repository int64, dgst digest.Digest) (bool, error) {
	for there, err := range each(v, func(r row) (b bool, err error) { return b, r.Scan(&b) },
		`SELECT EXISTS (SELECT 1 FROM digests d JOIN manifests m ON m.digest = d.id WHERE d.digest = ? AND m.repository = ?)`, dgst.String(), repository) {
		return there, err
	}
	return false, nil
}

// TagCount returns how many tags a manifest has.
func (v *View) TagCount(manifest int64) (int64, error) {
	for n, err := range each(v, func(r row) (n int64, err error) { return n, r.Scan(&n) }, `SELECT count(*) FROM tags WHERE manifest = ?`, manifest) {
		return n, err
	}
	return 0, nil
}

// A TagRemoval is a tag that goes.
type TagRemoval struct {
	TagUse
	By Actor // for the history
	// EvenIfUsed makes it go also when somebody asked for it since the view.
	EvenIfUsed bool
}

// A TagCollection is one run of removals of tags. It knows which entries of the history are its own.
type TagCollection struct {
	s *Store
	// seen is, by repository, the entry of the history up to which all removals are known: from the view, or its own.
	seen map[int64]int64
}

// CollectTags begins a run of removals. Collections, which remove repositories with their history, must not run beside it.
func (s *Store) CollectTags() *TagCollection {
	return &TagCollection{s: s, seen: make(map[int64]int64)}
}

// Remove removes tags, as many as fit into one short transaction; the caller passes the rest again. A tag is left that
// moved since the view or was used, that belongs to a manifest which is there again, or of whose repository a tag was
// removed meanwhile by somebody else: it may have become one of those that stay. It returns for each that is done whether
// it was removed.
func (c *TagCollection) Remove(items []TagRemoval) (removed []bool, err error) {
	s := c.s
	var seen map[int64]int64

	// Who asked for one of them since the view.
	if err := s.FlushUses(); err != nil {
		return nil, err
	}
	err = s.collectSome(func(t *tx, deadline time.Time) error {
		removed, seen = nil, maps.Clone(c.seen)
		others := make(map[int64]bool) // repositories of which somebody else removed a tag
		for _, item := range items {
			gone, err := t.collectTagUnless(item, seen, others)
			if err != nil {
				return fmt.Errorf("collect tag %s:%s: %w", item.Repository, item.Tag, err)
			}
			removed = append(removed, gone)
			if time.Now().After(deadline) {
				break
			}
		}
		var last int64
		if err := t.queryRow(t.ctx, `SELECT COALESCE(max(id), 0) FROM tag_history`).Scan(&last); err != nil {
			return err
		}
		for repository, other := range others {
			if !other {
				seen[repository] = last
			}
		}
		return nil
	})
	if err == nil {
		c.seen = seen
	}
	return removed, err
}

// collectTagUnless is collectTag, unless somebody else removed a tag of the repository. It looks once for each repository
// in a transaction, because nobody else comes between.
func (t *tx) collectTagUnless(item TagRemoval, seen map[int64]int64, others map[int64]bool) (bool, error) {
	other, known := others[item.RepositoryID]
	if !known {
		last, ok := seen[item.RepositoryID]
		if !ok {
			last = item.history
		}
		if err := t.queryRow(t.ctx, `SELECT EXISTS (SELECT 1 FROM tag_history WHERE repository = ? AND id > ? AND (to_digest IS NULL OR undoes IS NOT NULL))`,
			item.RepositoryID, last).Scan(&other); err != nil {
			return false, err
		}
		others[item.RepositoryID], seen[item.RepositoryID] = other, last
	}
	if other {
		return false, nil
	}
	return t.collectTag(item)
}

func (t *tx) collectTag(item TagRemoval) (bool, error) {
	var old tagged
	err := t.queryRow(t.ctx, `SELECT m.id, d.id, d.digest FROM tags t JOIN manifests m ON m.id = t.manifest JOIN digests d ON d.id = m.digest
		WHERE t.repository = ?1 AND t.name = ?2 AND t.manifest = ?3 AND d.digest = ?4 AND t.updated_at = ?5 AND (?7 OR t.last_used = ?6)`,
		item.RepositoryID, item.Tag, item.Manifest, item.Digest.String(), item.updated, item.used, item.EvenIfUsed).
		Scan(&old.manifest, &old.digestID, &old.digest)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if subject, ok := oci.Subject(item.Tag); ok && !item.SubjectGone.IsZero() {
		var back bool
		if err := t.queryRow(t.ctx, `SELECT EXISTS (SELECT 1 FROM digests d JOIN manifests m ON m.digest = d.id WHERE d.digest = ? AND m.repository = ?)`,
			subject.String(), item.RepositoryID).Scan(&back); err != nil || back {
			return false, err
		}
	}
	tag, err := oci.ParseTag(item.Tag)
	if err != nil {
		return false, err
	}
	return true, t.removeTag(item.RepositoryID, tag, old, item.By)
}

// Setting returns what SetSetting stored under a name, or "".
func (s *Store) Setting(ctx context.Context, name string) (value string, err error) {
	err = s.db.queryRow(ctx, `SELECT value FROM settings WHERE name = ?`, name).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return value, err
}

// SetSetting remembers a value under a name; "" forgets it.
func (s *Store) SetSetting(name, value string) error {
	// Nothing is written when nothing changes: a start must be possible on a full disk.
	if old, err := s.Setting(context.Background(), name); err != nil || old == value {
		return err
	}
	return s.change(aside, func(t *tx) error { return t.setSetting(name, value) })
}

func (t *tx) setSetting(name, value string) error {
	if value == "" {
		_, err := t.exec(`DELETE FROM settings WHERE name = ?`, name)
		return err
	}
	_, err := t.exec(`INSERT INTO settings (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2`, name, value)
	return err
}
