package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// A TagMove is an entry of the history of a tag: it came, moved or went.
type TagMove struct {
	ID      int64         `json:"id"`
	Tag     string        `json:"tag"`
	Number  int64         `json:"number"` // of the tag's moves, from 1; it never changes
	From    digest.Digest `json:"from"`   // "" when there was no such tag before
	To      digest.Digest `json:"to"`     // "" when there was none any more
	At      time.Time     `json:"at"`
	Who     string        `json:"who"`
	Address string        `json:"address"`
	Undoes  int64         `json:"undoes,omitempty"` // number of the entry that this one undid
	// Deleted is set when To is no longer in the repository, so that the tag cannot go back there.
	Deleted bool `json:"deleted,omitempty"`
}

const selectMoves = `SELECT h.id, h.tag, h.number, COALESCE(f.digest, ''), COALESCE(d.digest, ''), h.at, h.who, h.address, COALESCE(h.undoes, 0),
	h.to_digest IS NOT NULL AND NOT EXISTS (SELECT 1 FROM manifests m WHERE m.repository = h.repository AND m.digest = h.to_digest)
	FROM tag_history h LEFT JOIN digests f ON f.id = h.from_digest LEFT JOIN digests d ON d.id = h.to_digest `

func scanMove(r row) (m TagMove, err error) {
	var at int64
	err = r.Scan(&m.ID, &m.Tag, &m.Number, &m.From, &m.To, &at, &m.Who, &m.Address, &m.Undoes, &m.Deleted)
	m.At = time.Unix(at, 0)
	return m, err
}

// History returns at most n moves of a tag, or of all tags of the repository when tag is zero, the newest first: those
// before the one with the id before, or from the newest when before is 0. It is ErrHistoryUnknown when there never was
// such a tag.
func (s *Store) History(ctx context.Context, name oci.Name, tag oci.Tag, before int64, n int) ([]TagMove, error) {
	repository, err := repositoryID(ctx, s.db, name)
	if err != nil {
		return nil, err
	}
	first := before == 0
	if first {
		before = math.MaxInt64
	}
	if tag == (oci.Tag{}) {
		return collect(ctx, s.db, scanMove, selectMoves+`WHERE h.repository = ? AND h.id < ? ORDER BY h.id DESC LIMIT ?`, repository, before, n)
	}
	moves, err := collect(ctx, s.db, scanMove, selectMoves+`WHERE h.repository = ? AND h.tag = ? AND h.id < ? ORDER BY h.number DESC LIMIT ?`,
		repository, tag.String(), before, n)
	if err == nil && first && n > 0 && len(moves) == 0 {
		return nil, fmt.Errorf("%w: %s never had a tag %s", ErrHistoryUnknown, name, tag)
	}
	return moves, err
}

// Undo takes back the newest move of a tag that is still in effect, and returns the move that does it. The two are out
// of effect then, so the next Undo goes one step further back. Undoing the first move of all removes the tag. It is
// ErrHistoryUnknown when nothing is left, and a *ContentDeletedError when the manifest to go back to is gone.
func (s *Store) Undo(ctx context.Context, name oci.Name, tag oci.Tag, by Actor) (TagMove, error) {
	var done TagMove
	bounds := tagBounds{immutable: s.immutableBy(name, tag)}
	// Like a delete it must be possible on a full disk.
	err := s.change(anything, func(t *tx) error {
		repository, err := t.repository(name)
		if err != nil {
			return err
		}
		done, err = t.undo(repository, tag, bounds, by)
		return err
	})
	if err != nil {
		return TagMove{}, fmt.Errorf("undo %s:%s: %w", name, tag, err)
	}
	return done, nil
}

func (t *tx) undo(repository int64, tag oci.Tag, bounds tagBounds, by Actor) (TagMove, error) {
	var number int64
	var from, to sql.NullInt64
	err := t.queryRow(t.ctx, `SELECT h.number, h.from_digest, h.to_digest FROM tag_history h
		WHERE h.repository = ?1 AND h.tag = ?2 AND h.undoes IS NULL
		AND NOT EXISTS (SELECT 1 FROM tag_history u WHERE u.repository = ?1 AND u.tag = ?2 AND u.undoes = h.number)
		ORDER BY h.number DESC LIMIT 1`, repository, tag.String()).Scan(&number, &from, &to)
	if errors.Is(err, sql.ErrNoRows) {
		return TagMove{}, fmt.Errorf("%w: nothing is left to undo", ErrHistoryUnknown)
	}
	if err != nil {
		return TagMove{}, err
	}
	old, err := t.tagged(repository, tag)
	if err != nil {
		return TagMove{}, err
	}
	if old.digestID != to.Int64 {
		return TagMove{}, fmt.Errorf("entry %d of its history does not end where it is, at %s", number, orNothing(old.digest))
	}
	if from.Valid {
		err = t.pointTag(repository, tag, from.Int64, bounds, by)
	} else {
		err = t.removeTag(repository, tag, old, by)
	}
	if err != nil {
		return TagMove{}, err
	}
	last, err := t.lastMove(repository, tag)
	if err != nil {
		return TagMove{}, err
	}
	last.Undoes = number
	_, err = t.exec(`UPDATE tag_history SET undoes = ? WHERE id = ?`, number, last.ID)
	return last, err
}

// lastMove returns the newest entry of a tag that has one.
func (t *tx) lastMove(repository int64, tag oci.Tag) (TagMove, error) {
	return scanMove(t.queryRow(t.ctx, selectMoves+`WHERE h.repository = ? AND h.tag = ? ORDER BY h.number DESC LIMIT 1`, repository, tag.String()))
}

// pointTag points a tag to a manifest that is still in the repository, else it is a *ContentDeletedError.
func (t *tx) pointTag(repository int64, tag oci.Tag, dgst int64, bounds tagBounds, by Actor) error {
	var manifest int64
	err := t.queryRow(t.ctx, `SELECT id FROM manifests WHERE repository = ? AND digest = ?`, repository, dgst).Scan(&manifest)
	if errors.Is(err, sql.ErrNoRows) {
		return t.contentDeleted(repository, dgst)
	}
	if err != nil {
		return err
	}
	// It is as it was when it left there, not new: what is newest, or in use, must not change by taking something back.
	var pushed, used, pulls sql.NullInt64
	err = t.queryRow(t.ctx, `SELECT pushed_at, last_used, pulls FROM tag_history WHERE repository = ? AND tag = ? AND from_digest = ?
		ORDER BY number DESC LIMIT 1`, repository, tag.String(), dgst).Scan(&pushed, &used, &pulls)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if err := t.setTag(repository, tag, manifest, dgst, bounds, by); err != nil {
		return err
	}
	if !pushed.Valid {
		return nil // it never was there, or an older version wrote the entry
	}
	_, err = t.exec(`UPDATE tags SET updated_at = ?3, last_used = ?4, pulls = ?5 WHERE repository = ?1 AND name = ?2`,
		repository, tag.String(), pushed.Int64, used.Int64, pulls.Int64)
	return err
}

// contentDeleted returns the *ContentDeletedError of a digest.
func (t *tx) contentDeleted(repository, dgst int64) error {
	e := &ContentDeletedError{}
	var at int64
	err := t.queryRow(t.ctx, `SELECT d.digest, COALESCE(dm.at, 0), COALESCE(dm.who, ''), COALESCE(dm.address, '')
		FROM digests d LEFT JOIN deleted_manifests dm ON dm.repository = ?1 AND dm.digest = d.id WHERE d.id = ?2`, repository, dgst).
		Scan(&e.Digest, &at, &e.By.Name, &e.By.Address)
	if err != nil {
		return err
	}
	if at != 0 {
		e.At = time.Unix(at, 0)
	}
	return e
}

// deletedKept bounds what is remembered of deleted manifests.
const deletedKept = 100_000

// logDeleted remembers who removed a manifest.
func (t *tx) logDeleted(repository, dgst int64, by Actor) error {
	id, err := t.insert(`INSERT OR REPLACE INTO deleted_manifests (repository, digest, at, who, address) VALUES (?, ?, ?, ?, ?)`,
		repository, dgst, t.now, by.Name, by.Address)
	if err != nil {
		return err
	}
	_, err = t.exec(`DELETE FROM deleted_manifests WHERE id <= ?`, id-deletedKept)
	return err
}

// A Target is where Restore points a tag.
type Target struct {
	digest string    // a digest, or the beginning of one that the tag had; or
	number int64     // the entry of the history after which it was there; or
	at     time.Time // when it was there
}

// TargetAt is where the tag was at a time.
func TargetAt(at time.Time) Target { return Target{at: at} }

// digestPrefixMin is how many characters of a digest's hexadecimal part name it.
const digestPrefixMin = 4

// ParseTarget returns the target that s names: the number of an entry of the history, as "#3" or "3", a digest, or the
// beginning of a digest that the tag had, such as "sha256:0123abcd".
func ParseTarget(s string) (Target, error) {
	if n, err := strconv.ParseInt(strings.TrimPrefix(s, "#"), 10, 64); err == nil && n > 0 {
		return Target{number: n}, nil
	}
	algorithm, encoded, _ := strings.Cut(s, ":")
	if (algorithm == "sha256" || algorithm == "sha512") && len(encoded) >= digestPrefixMin && strings.Trim(encoded, "0123456789abcdef") == "" {
		return Target{digest: s}, nil
	}
	return Target{}, fmt.Errorf("%w: %q is neither a digest, or the beginning of one, nor the number of an entry such as #3", oci.ErrDigestInvalid, s)
}

// Restore points a tag to a target and returns the move; its Number is 0 when the tag was there already. Undo takes it
// back like any move. With noOverwrite a tag that is there does not move: ErrOverwrite. It is ErrHistoryUnknown when the history has no such entry, digest or time, or there was no tag
// then: Restore removes no tag. It is a *ContentDeletedError when the manifest is gone, and ErrManifestUnknown when it
// never was here.
func (s *Store) Restore(ctx context.Context, name oci.Name, tag oci.Tag, target Target, noOverwrite bool, by Actor) (TagMove, error) {
	var done TagMove
	bounds := tagBounds{immutable: s.immutableBy(name, tag), noOverwrite: noOverwrite}
	err := s.change(anything, func(t *tx) error {
		repository, err := t.repository(name)
		if err != nil {
			return err
		}
		done, err = t.restore(repository, tag, target, bounds, by)
		return err
	})
	if err != nil {
		return TagMove{}, fmt.Errorf("restore %s:%s: %w", name, tag, err)
	}
	return done, nil
}

func (t *tx) restore(repository int64, tag oci.Tag, target Target, bounds tagBounds, by Actor) (TagMove, error) {
	var dgst int64
	var err error
	if target.digest != "" {
		dgst, err = t.digestOf(repository, tag, target.digest)
	} else {
		dgst, err = t.stateAt(repository, tag, target)
	}
	if err != nil {
		return TagMove{}, err
	}
	old, err := t.tagged(repository, tag)
	if err != nil {
		return TagMove{}, err
	}
	if old.digestID == dgst {
		d := digest.Digest(old.digest)
		return TagMove{Tag: tag.String(), From: d, To: d}, nil
	}
	if err := t.pointTag(repository, tag, dgst, bounds, by); err != nil {
		return TagMove{}, err
	}
	return t.lastMove(repository, tag)
}

// digestOf returns the id of a digest that is or was a manifest of the repository, or of the one in the tag's history
// that begins so.
func (t *tx) digestOf(repository int64, tag oci.Tag, text string) (int64, error) {
	scan := func(r row) (id int64, err error) { return id, r.Scan(&id) }
	if _, err := oci.ParseDigest(text); err == nil {
		ids, err := collect(t.ctx, t, scan, `SELECT d.id FROM digests d WHERE d.digest = ?2
			AND (EXISTS (SELECT 1 FROM manifests m WHERE m.repository = ?1 AND m.digest = d.id)
			OR EXISTS (SELECT 1 FROM deleted_manifests dm WHERE dm.repository = ?1 AND dm.digest = d.id)
			OR EXISTS (SELECT 1 FROM tag_history h WHERE h.repository = ?1 AND h.tag = ?3 AND h.to_digest = d.id))`, repository, text, tag.String())
		if err == nil && len(ids) == 0 {
			err = fmt.Errorf("%w: %s", ErrManifestUnknown, text)
		}
		if err != nil {
			return 0, err
		}
		return ids[0], nil
	}
	ids, err := collect(t.ctx, t, scan, `SELECT DISTINCT d.id FROM tag_history h JOIN digests d ON d.id = h.to_digest
		WHERE h.repository = ?1 AND h.tag = ?2 AND substr(d.digest, 1, length(?3)) = ?3 LIMIT 2`, repository, tag.String(), text)
	switch {
	case err != nil:
		return 0, err
	case len(ids) == 0:
		return 0, fmt.Errorf("%w: the tag had no digest that begins with %s", ErrHistoryUnknown, text)
	case len(ids) > 1:
		return 0, fmt.Errorf("%w: the tag had several digests that begin with %s", ErrHistoryUnknown, text)
	}
	return ids[0], nil
}

// stateAt returns the id of the digest where a tag was after an entry of its history, or at a time.
func (t *tx) stateAt(repository int64, tag oci.Tag, target Target) (int64, error) {
	var dgst sql.NullInt64
	var when string
	var r row
	if target.number > 0 {
		when = fmt.Sprintf("after #%d", target.number)
		r = t.queryRow(t.ctx, `SELECT to_digest FROM tag_history WHERE repository = ? AND tag = ? AND number = ?`, repository, tag.String(), target.number)
	} else {
		when = "at " + target.at.Local().Format("2006-01-02 15:04:05 MST")
		r = t.queryRow(t.ctx, `SELECT to_digest FROM tag_history WHERE repository = ? AND tag = ? AND at <= ? ORDER BY number DESC LIMIT 1`,
			repository, tag.String(), target.at.Unix())
	}
	err := r.Scan(&dgst)
	switch {
	case errors.Is(err, sql.ErrNoRows) && target.number > 0:
		return 0, fmt.Errorf("%w: the tag has no entry #%d", ErrHistoryUnknown, target.number)
	case errors.Is(err, sql.ErrNoRows) || err == nil && !dgst.Valid:
		return 0, fmt.Errorf("%w: there was no such tag %s", ErrHistoryUnknown, when)
	}
	return dgst.Int64, err
}
