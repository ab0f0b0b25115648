package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"sync"
	"time"

	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// This file is what package gc decides by and acts through. A View is one snapshot for the decision; the Collect
// methods carry it out and check each item again in the transaction that removes it. A lease of zero means that nothing
// is kept for anybody: the operator said so.

// A View is a snapshot of everything that collection looks at. It must be short-lived: the WAL cannot shrink meanwhile.
type View struct {
	ctx   context.Context
	tx    *sql.Tx
	names map[int64]oci.Name

	prepared map[string]*sql.Stmt
}

// View runs f on a snapshot.
func (s *Store) View(ctx context.Context, f func(*View) error) error {
	tx, err := s.db.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer tx.Rollback()
	v := &View{ctx: ctx, tx: tx, names: make(map[int64]oci.Name), prepared: make(map[string]*sql.Stmt)}
	rows, err := tx.QueryContext(ctx, `SELECT id, name FROM repositories`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		var name string
		if err := rows.Scan(&id, &name); err != nil {
			return err
		}
		if v.names[id], err = oci.ParseName(name); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return f(v)
}

// each runs a query of the view and yields its rows.
func each[T any](v *View, scan func(row) (T, error), query string, args ...any) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		stmt := v.prepared[query]
		if stmt == nil {
			var err error
			if stmt, err = v.tx.PrepareContext(v.ctx, query); err != nil {
				yield(zero, err)
				return
			}
			v.prepared[query] = stmt // closed with the transaction
		}
		rows, err := stmt.QueryContext(v.ctx, args...)
		if err != nil {
			yield(zero, err)
			return
		}
		defer rows.Close()
		for rows.Next() {
			item, err := scan(rows)
			if !yield(item, err) || err != nil {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(zero, err)
		}
	}
}

// An UntaggedManifest is a manifest without a tag.
type UntaggedManifest struct {
	ID         int64
	Repository oci.Name
	Digest     digest.Digest
	Size       int64 // bytes
	Refs       int64 // the stored count
	Since      time.Time
	PushedAt   time.Time // last put
	LastUsed   time.Time // zero when never; of older manifests at least when use began to be recorded
	Cache      bool      // of BuildKit
	Subject    int64     // id of the manifest that is its subject here, or 0

	used   int64 // as it is stored
	losing bool  // see Losing
}

const selectUntagged = `SELECT m.id, m.repository, d.digest, m.size, m.refs, COALESCE(m.untagged_since, 0), m.pushed_at, m.last_used,
	(SELECT tracking_since FROM store), m.cache, COALESCE((SELECT s.id FROM manifests s WHERE s.repository = m.repository AND s.digest = m.subject), 0) `

func (v *View) scanUntagged(r row) (m UntaggedManifest, err error) {
	var repository, since, pushed, tracking int64
	if err := r.Scan(&m.ID, &repository, &m.Digest, &m.Size, &m.Refs, &since, &pushed, &m.used, &tracking, &m.Cache, &m.Subject); err != nil {
		return m, err
	}
	m.Repository, m.Since, m.PushedAt = v.names[repository], time.Unix(since, 0), time.Unix(pushed, 0)
	used := m.used
	if since > 0 && since < tracking {
		used = max(used, tracking) // whether somebody used it before, nobody knows
	}
	if used > 0 {
		m.LastUsed = time.Unix(used, 0)
	}
	return m, nil
}

// Untagged yields every manifest without a tag.
func (v *View) Untagged() iter.Seq2[UntaggedManifest, error] {
	return each(v, v.scanUntagged, selectUntagged+
		`FROM manifests m INDEXED BY manifests_untagged JOIN digests d ON d.id = m.digest WHERE m.untagged_since IS NOT NULL`)
}

// Losing returns a manifest that has tags as it will be when they are gone, at a time. CollectManifests leaves it while
// any of them is there.
func (v *View) Losing(manifest int64, at time.Time) (UntaggedManifest, error) {
	for m, err := range each(v, v.scanUntagged, selectUntagged+`FROM manifests m JOIN digests d ON d.id = m.digest WHERE m.id = ?`, manifest) {
		m.Since, m.losing = at, true
		return m, err
	}
	return UntaggedManifest{}, fmt.Errorf("manifest %d is not in the view", manifest)
}

// IsLosing reports whether it had tags when the view was made (see Losing).
func (m *UntaggedManifest) IsLosing() bool { return m.losing }

// A ManifestEdge says that one manifest names another. It comes from the references, not from the counts.
type ManifestEdge struct{ From, To int64 }

// Edges yields which manifest names which untagged manifest.
func (v *View) Edges() iter.Seq2[ManifestEdge, error] {
	return each(v, func(r row) (e ManifestEdge, err error) { return e, r.Scan(&e.From, &e.To) },
		`SELECT mr.manifest, m.id FROM manifests m INDEXED BY manifests_untagged
		JOIN manifest_references mr ON mr.repository = m.repository AND mr.target = m.digest WHERE m.untagged_since IS NOT NULL`)
}

// EdgesTo yields what names one manifest.
func (v *View) EdgesTo(manifest int64) iter.Seq2[ManifestEdge, error] {
	return each(v, func(r row) (e ManifestEdge, err error) { return e, r.Scan(&e.From, &e.To) },
		`SELECT mr.manifest, m.id FROM manifests m JOIN manifest_references mr ON mr.repository = m.repository AND mr.target = m.digest
		WHERE m.id = ?`, manifest)
}

// A LooseBlob is a blob of a repository whose stored count is zero.
type LooseBlob struct {
	RepositoryID, ID int64
	Repository       oci.Name
	Digest           digest.Digest
	Size             int64 // bytes
	KeepUntil        time.Time
	Named            bool  // a manifest of the repository names it all the same: the keys disagree
	Repositories     int64 // through which it is readable, this one included
}

// LooseBlobs yields every blob that no manifest of its repository counts.
func (v *View) LooseBlobs() iter.Seq2[LooseBlob, error] {
	return each(v, func(r row) (b LooseBlob, err error) {
		var until int64
		if err := r.Scan(&b.RepositoryID, &b.ID, &b.Digest, &b.Size, &until, &b.Named, &b.Repositories); err != nil {
			return b, err
		}
		b.Repository, b.KeepUntil = v.names[b.RepositoryID], time.Unix(until, 0)
		return b, nil
	}, `SELECT rb.repository, rb.blob, d.digest, b.size, rb.keep_until,
		EXISTS (SELECT 1 FROM manifest_references mr WHERE mr.repository = rb.repository AND mr.target = rb.blob),
		(SELECT count(*) FROM repository_blobs o WHERE o.blob = rb.blob)
		FROM repository_blobs rb INDEXED BY repository_blobs_loose JOIN blobs b ON b.digest = rb.blob JOIN digests d ON d.id = rb.blob
		WHERE rb.refs = 0`)
}

// A NamedBlob is a blob that a manifest names.
type NamedBlob struct {
	LooseBlob
	Refs int64 // the stored count
}

// BlobsOf yields the blobs of its repository that a manifest names.
func (v *View) BlobsOf(manifest int64) iter.Seq2[NamedBlob, error] {
	return each(v, func(r row) (b NamedBlob, err error) {
		var until int64
		if err := r.Scan(&b.RepositoryID, &b.ID, &b.Digest, &b.Size, &until, &b.Refs, &b.Repositories); err != nil {
			return b, err
		}
		b.Repository, b.KeepUntil, b.Named = v.names[b.RepositoryID], time.Unix(until, 0), true
		return b, nil
	}, `SELECT rb.repository, rb.blob, d.digest, b.size, rb.keep_until, rb.refs, (SELECT count(*) FROM repository_blobs o WHERE o.blob = b.digest)
		FROM manifest_references mr JOIN repository_blobs rb ON rb.repository = mr.repository AND rb.blob = mr.target
		JOIN blobs b ON b.digest = rb.blob JOIN digests d ON d.id = rb.blob WHERE mr.manifest = ?`, manifest)
}

// CollectManifests removes groups of untagged manifests, as many as fit into one short transaction; the caller passes
// the rest again. A group goes as a whole or not at all: it is one manifest, or several that hold each other (an index
// whose subject is its own child). A group is left when a member was used, tagged, named or given a subject from outside
// since the view. What it named is kept for lease. It returns for each group that is done whether it was removed.
func (s *Store) CollectManifests(groups [][]UntaggedManifest, lease time.Duration) (removed []bool, err error) {
	// Who asked for one of them since the view was told that it is here.
	if err := s.FlushUses(); err != nil {
		return nil, err
	}
	err = s.collectSome(func(t *tx, deadline time.Time) error {
		removed = nil
		for _, group := range groups {
			gone, err := t.collectManifests(group, lease)
			if err != nil {
				return fmt.Errorf("collect manifest %s@%s: %w", group[0].Repository, group[0].Digest, err)
			}
			removed = append(removed, gone)
			if time.Now().After(deadline) {
				break
			}
		}
		return nil
	})
	return removed, err
}

func (t *tx) collectManifests(group []UntaggedManifest, lease time.Duration) (bool, error) {
	members := make(map[int64]bool, len(group))
	for _, m := range group {
		members[m.ID] = true
	}
	rows := make([]manifestRow, len(group))
	for i, m := range group {
		free, at, err := t.collectable(m, members)
		if err != nil || !free {
			return false, err
		}
		rows[i] = at
	}
	for i, m := range group {
		if err := t.removeManifest(rows[i].repository, m.ID, rows[i].dgst, lease); err != nil {
			return false, err
		}
	}
	return true, nil
}

// A manifestRow is where a manifest is, by ids.
type manifestRow struct{ repository, dgst int64 }

// collectable asks both keys, in the transaction that removes: nothing but members of its group names the manifest, and
// the stored count says the same. Nor does it have a subject outside of the group, and nobody used it since the view.
func (t *tx) collectable(m UntaggedManifest, members map[int64]bool) (free bool, at manifestRow, err error) {
	var refs, subject int64
	err = t.queryRow(t.ctx, `SELECT m.repository, m.digest, m.refs,
		COALESCE((SELECT s.id FROM manifests s WHERE s.repository = m.repository AND s.digest = m.subject), 0)
		FROM manifests m JOIN digests d ON d.id = m.digest
		WHERE m.id = ?1 AND d.digest = ?2 AND (m.untagged_since = ?3 OR ?6 AND m.untagged_since > ?3) AND m.pushed_at = ?4 AND m.last_used = ?5
		AND NOT EXISTS (SELECT 1 FROM tags WHERE manifest = m.id)`,
		m.ID, m.Digest.String(), m.Since.Unix(), m.PushedAt.Unix(), m.used, m.losing).Scan(&at.repository, &at.dgst, &refs, &subject)
	if errors.Is(err, sql.ErrNoRows) {
		return false, at, nil
	}
	if err != nil || subject != 0 && !members[subject] || refs > int64(len(members)) {
		return false, at, err
	}
	// One more than the group has members is enough to know.
	names, err := collect(t.ctx, t, func(r row) (id int64, err error) { return id, r.Scan(&id) },
		`SELECT manifest FROM manifest_references WHERE repository = ? AND target = ? LIMIT ?`, at.repository, at.dgst, len(members)+1)
	if err != nil || int64(len(names)) != refs {
		return false, at, err
	}
	for _, id := range names {
		if !members[id] {
			return false, at, nil
		}
	}
	return true, at, nil
}

// CollectBlobs takes loose blobs out of their repositories, as many as fit into one short transaction; the caller
// passes the rest again. A blob that is named or whose lease is after ended is left. Files of blobs that are in no
// repository any more are unlinked, paced so that pushes do not feel it.
func (s *Store) CollectBlobs(ctx context.Context, items []LooseBlob, ended time.Time) (removed []bool, freed int64, err error) {
	var files []int
	err = s.collectSome(func(t *tx, deadline time.Time) error {
		removed, files = nil, nil
		for i, b := range items {
			// Said while it was named, the promise has no lease yet: now it needs one.
			if at := s.promises.recent(b.Repository, b.Digest, t.now); at > 0 {
				if _, err := t.exec(`UPDATE repository_blobs SET keep_until = max(keep_until, ?) WHERE repository = ? AND blob = ?`,
					at+int64(Lease.Seconds()), b.RepositoryID, b.ID); err != nil {
					return err
				}
				removed = append(removed, false)
				continue
			}
			gone, last, err := t.collectBlob(b, ended)
			if err != nil {
				return fmt.Errorf("collect blob %s of %s: %w", b.Digest, b.Repository, err)
			}
			removed = append(removed, gone)
			if last {
				files = append(files, i)
			}
			if time.Now().After(deadline) {
				break
			}
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	for _, i := range files {
		s.unlinkBlob(context.WithoutCancel(ctx), items[i].Digest)
		freed += items[i].Size
	}
	return removed, freed, nil
}

func (t *tx) collectBlob(b LooseBlob, ended time.Time) (gone, last bool, err error) {
	n, err := t.exec(`DELETE FROM repository_blobs WHERE repository = ?1 AND blob = ?2 AND refs = 0 AND keep_until <= ?3
		AND NOT EXISTS (SELECT 1 FROM manifest_references WHERE repository = ?1 AND target = ?2)`, b.RepositoryID, b.ID, ended.Unix())
	if err != nil || n == 0 {
		return false, false, err
	}
	n, err = t.exec(`DELETE FROM blobs WHERE digest = ?1 AND NOT EXISTS (SELECT 1 FROM repository_blobs WHERE blob = ?1)`, b.ID)
	return true, n > 0, err
}

// CollectRepositories removes repositories that hold nothing, and returns how many.
func (s *Store) CollectRepositories() (removed int64, err error) {
	err = s.change(anything, func(t *tx) error {
		removed, err = t.exec(`DELETE FROM repositories WHERE manifests = 0 AND tags = 0
			AND NOT EXISTS (SELECT 1 FROM repository_blobs rb WHERE rb.repository = repositories.id)`)
		return err
	})
	return removed, err
}

// orphanAge is how old a file must be before it is taken for an orphan: a push that has renamed its file commits its
// row within moments.
const orphanAge = time.Hour

// SweepOrphans removes blob files that no row claims, left behind by a crash between a file and its row. It returns
// their bytes. With remove unset it only counts them. What is kept about blobs that went goes too, and is not counted.
func (s *Store) SweepOrphans(ctx context.Context, remove bool) (files, bytes int64, err error) {
	before := time.Now().Add(-orphanAge) // file times are the kernel's, not the store's clock
	err = s.eachOrphan(ctx, true, func(dgst digest.Digest, info fs.FileInfo) error {
		if info.ModTime().After(before) {
			return nil
		}
		files++
		bytes += info.Size()
		if remove {
			s.unlinkBlob(context.WithoutCancel(ctx), dgst)
		}
		return nil
	})
	if err == nil && remove {
		err = s.sweepLayerIndexes(ctx, before)
	}
	return files, bytes, err
}

// eachOrphan calls f for the files below blobs/ that no row claims. With skip set, what cannot be read is left out.
func (s *Store) eachOrphan(ctx context.Context, skip bool, f func(digest.Digest, fs.FileInfo) error) error {
	root := s.blobs.Root().FS()
	for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		err := fs.WalkDir(root, algorithm.String(), func(_ string, d fs.DirEntry, err error) error {
			if err != nil && skip && !errors.Is(err, fs.ErrNotExist) {
				s.log.Warn("blob directory not swept", "err", err)
				return nil
			}
			if err != nil || d.IsDir() {
				return errors.Join(err, ctx.Err())
			}
			dgst, err := oci.ParseDigest(algorithm.String() + ":" + d.Name())
			if err != nil {
				return nil // not ours to remove
			}
			there, err := s.hasBlobRow(ctx, dgst)
			if err != nil || there {
				return err
			}
			info, err := d.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil // deleted meanwhile
			}
			if err != nil {
				return err
			}
			return f(dgst, info)
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// hasBlobRow reports whether any repository has a blob.
func (s *Store) hasBlobRow(ctx context.Context, dgst digest.Digest) (there bool, err error) {
	err = s.db.queryRow(ctx, `SELECT EXISTS (SELECT 1 FROM digests d JOIN blobs b ON b.digest = d.id WHERE d.digest = ?)`, dgst.String()).Scan(&there)
	return there, err
}

// A CollectionRun is a past collection.
type CollectionRun struct {
	ID        int64         `json:"id,omitempty"` // LogCollection gives it
	StartedAt time.Time     `json:"started_at"`
	Duration  time.Duration `json:"duration_ns"`
	Cause     string        `json:"cause"`   // "schedule", "command" or "page", with flags and who asked
	Outcome   string        `json:"outcome"` // "done", "failed" or "refused"
	Reason    string        `json:"reason,omitempty"`
	Tags      int64         `json:"tags"`
	Manifests int64         `json:"manifests"`
	Blobs     int64         `json:"blobs"`
	Bytes     int64         `json:"bytes"`
}

// collectionsKept bounds the log of collections.
const collectionsKept = 1000

// LogCollection records a run.
func (s *Store) LogCollection(r CollectionRun) error {
	return s.change(anything, func(t *tx) error {
		if _, err := t.exec(`INSERT INTO collections (started_at, duration_ms, cause, outcome, reason, tags, manifests, blobs, bytes)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`, r.StartedAt.Unix(), r.Duration.Milliseconds(), r.Cause, r.Outcome, r.Reason,
			r.Tags, r.Manifests, r.Blobs, r.Bytes); err != nil {
			return err
		}
		_, err := t.exec(`DELETE FROM collections WHERE id <= (SELECT max(id) FROM collections) - ?`, collectionsKept)
		return err
	})
}

const selectCollections = `SELECT id, started_at, duration_ms, cause, outcome, reason, tags, manifests, blobs, bytes FROM collections `

func scanCollection(r row) (c CollectionRun, err error) {
	var started, ms int64
	err = r.Scan(&c.ID, &started, &ms, &c.Cause, &c.Outcome, &c.Reason, &c.Tags, &c.Manifests, &c.Blobs, &c.Bytes)
	c.StartedAt, c.Duration = time.Unix(started, 0), time.Duration(ms)*time.Millisecond
	return c, err
}

// Collections returns the last n runs, newest first.
func (s *Store) Collections(ctx context.Context, n int) ([]CollectionRun, error) {
	return collect(ctx, s.db, scanCollection, selectCollections+`ORDER BY id DESC LIMIT ?`, n)
}

// Collection returns a run, or ErrCollectionUnknown when there was none or it is forgotten.
func (s *Store) Collection(ctx context.Context, id int64) (CollectionRun, error) {
	c, err := scanCollection(s.db.queryRow(ctx, selectCollections+`WHERE id = ?`, id))
	if errors.Is(err, sql.ErrNoRows) {
		return CollectionRun{}, ErrCollectionUnknown
	}
	return c, err
}

// A Clock is what the store remembers of the clock (see gc).
type Clock struct {
	SeenAt     time.Time // zero when it never was seen
	Boot       string
	Uptime     time.Duration
	DoubtSince time.Time // zero when the clock is trusted
	TrustedFor time.Duration
}

// Clock returns the clock as SetClock left it.
func (s *Store) Clock(ctx context.Context) (Clock, error) {
	var c Clock
	var seen, uptime, doubt, trusted int64
	err := s.db.queryRow(ctx, `SELECT seen_at, boot, uptime, doubt_since, trusted_for FROM clock`).Scan(&seen, &c.Boot, &uptime, &doubt, &trusted)
	if errors.Is(err, sql.ErrNoRows) {
		return c, nil
	}
	c.SeenAt, c.Uptime, c.TrustedFor = time.Unix(seen, 0), time.Duration(uptime)*time.Second, time.Duration(trusted)*time.Second
	if doubt != 0 {
		c.DoubtSince = time.Unix(doubt, 0)
	}
	return c, err
}

// SetClock remembers the clock.
func (s *Store) SetClock(c Clock) error {
	doubt := int64(0)
	if !c.DoubtSince.IsZero() {
		doubt = c.DoubtSince.Unix()
	}
	s.clockFloor.Store(c.SeenAt.Unix())
	return s.change(anything, func(t *tx) error {
		if _, err := t.exec(`DELETE FROM clock`); err != nil {
			return err
		}
		_, err := t.exec(`INSERT INTO clock (seen_at, boot, uptime, doubt_since, trusted_for) VALUES (?, ?, ?, ?, ?)`,
			c.SeenAt.Unix(), c.Boot, int64(c.Uptime.Seconds()), doubt, int64(c.TrustedFor.Seconds()))
		return err
	})
}

// CheckSentinel returns an error unless blobs/store.json is there and belongs to this store, and everything is where it
// was when the store was opened: a volume may have been unmounted since, which open directories do not show.
func (s *Store) CheckSentinel() error {
	s.checkPlace()
	if failed := s.w.failed.Load(); failed != nil {
		return *failed
	}
	b, err := fs.ReadFile(s.blobs.Root().FS(), fileSentinel)
	if err != nil {
		return fmt.Errorf("the sentinel is missing, is a volume not mounted? %w", err)
	}
	id, err := parseSentinel(b)
	if err != nil {
		return err
	}
	if id != s.id {
		return errors.New("blobs/store.json belongs to another store: is the wrong volume mounted?")
	}
	return nil
}

// promiseTime is how long a promise about a blob that was named at the time is remembered. It matters only to a
// collection that grants no lease, which ends leases older than this.
const promiseTime = time.Hour

// promisesMax bounds the promises that are remembered one by one.
const promisesMax = 50_000

type promise struct {
	name oci.Name
	dgst digest.Digest
}

// promises remember to whom "this blob is here" was said while manifests named it: then the blob's row has no lease.
type promises struct {
	mu  sync.Mutex
	at  map[promise]int64 // guarded by mu; unix seconds
	all int64             // guarded by mu; when there were too many: everything was promised then
}

func (p *promises) note(name oci.Name, dgst digest.Digest, now int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at == nil || len(p.at) >= promisesMax {
		if p.at != nil {
			p.all = now
		}
		p.at = make(map[promise]int64)
	}
	p.at[promise{name, dgst}] = now
}

// recent returns when a blob was promised, if that was within promiseTime, else 0.
func (p *promises) recent(name oci.Name, dgst digest.Digest, now int64) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at := max(p.all, p.at[promise{name, dgst}]); at > now-int64(promiseTime.Seconds()) {
		return at
	}
	return 0
}

// keepPromises makes leases of the promises, for the next process. A crash forgets them: then a client whose server
// died meanwhile may have to push again.
func (s *Store) keepPromises() error {
	s.promises.mu.Lock()
	at := s.promises.at
	s.promises.at = nil
	s.promises.mu.Unlock()
	if s.readOnly || len(at) == 0 {
		return nil
	}
	return s.change(anything, func(t *tx) error {
		for p, when := range at {
			if when <= t.now-int64(promiseTime.Seconds()) {
				continue
			}
			if _, err := t.exec(`UPDATE repository_blobs SET keep_until = max(keep_until, ?)
				WHERE repository = (SELECT id FROM repositories WHERE name = ?) AND blob = (SELECT id FROM digests WHERE digest = ?)`,
				when+int64(Lease.Seconds()), p.name.String(), p.dgst.String()); err != nil {
				return err
			}
		}
		return nil
	})
}
