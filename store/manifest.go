package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// A Manifest is a stored manifest with exactly the bytes and the media type that were put.
type Manifest struct {
	Digest    digest.Digest
	MediaType string
	Subject   digest.Digest // "" when it has none
	Size      int64         // bytes
	PushedAt  time.Time
	Raw       []byte // nil when it was not asked for
}

// Manifest returns the manifest that a reference names (end-3), with its bytes, which nobody may change, if raw is set. It is ErrNameUnknown
// when the repository does not exist, else ErrManifestUnknown when the reference does not.
func (s *Store) Manifest(ctx context.Context, name oci.Name, ref oci.Reference, raw bool) (Manifest, error) {
	key := cacheKey{kind: cachedHead, name: name, what: ref.String()}
	if raw {
		key.kind = cachedManifest
	}
	return cachedRead(s, key, s.reads.of(name), func() (Manifest, int, error) {
		m, err := s.readManifest(ctx, name, ref, raw)
		return m, len(m.Raw), err
	})
}

func (s *Store) readManifest(ctx context.Context, name oci.Name, ref oci.Reference, raw bool) (Manifest, error) {
	columns := `SELECT d.digest, m.media_type, m.pushed_at, m.size, COALESCE(sub.digest, ''), NULL `
	if raw {
		columns = `SELECT d.digest, m.media_type, m.pushed_at, m.size, COALESCE(sub.digest, ''), (SELECT mb.body FROM manifest_bodies mb WHERE mb.manifest = m.id) `
	}
	const rest = ` JOIN digests d ON d.id = m.digest LEFT JOIN digests sub ON sub.id = m.subject `
	var r row
	if ref.IsDigest() {
		r = s.db.queryRow(ctx, columns+`FROM repositories r JOIN digests x JOIN manifests m ON m.repository = r.id AND m.digest = x.id`+
			rest+`WHERE r.name = ? AND x.digest = ?`, name.String(), ref.Digest.String())
	} else {
		r = s.db.queryRow(ctx, columns+`FROM repositories r JOIN tags t ON t.repository = r.id JOIN manifests m ON m.id = t.manifest`+
			rest+`WHERE r.name = ? AND t.name = ?`, name.String(), ref.Tag.String())
	}
	var m Manifest
	var pushed int64
	err := r.Scan(&m.Digest, &m.MediaType, &pushed, &m.Size, &m.Subject, &m.Raw)
	m.PushedAt = time.Unix(pushed, 0)
	if errors.Is(err, sql.ErrNoRows) {
		if _, err := repositoryID(ctx, s.db, name); err != nil {
			return Manifest{}, err
		}
		return Manifest{}, fmt.Errorf("%w: %s has no %s", ErrManifestUnknown, name, ref)
	}
	// I5: what a damaged page of the database holds is not served.
	if err == nil && raw && !isManifest(m.Digest.String(), m.Size, m.Raw) {
		return Manifest{}, fmt.Errorf("manifest %s@%s does not have its digest: the database is damaged, restore it from a backup", name, m.Digest)
	}
	return m, err
}

// isManifest reports whether bytes are those of a row. A damaged row may have any text for a digest.
func isManifest(dgst string, size int64, raw []byte) bool {
	parsed, err := oci.ParseDigest(dgst)
	return err == nil && int64(len(raw)) == size && oci.SumDigest(parsed.Algorithm(), raw) == parsed
}

// Sparse says which manifests may be put although content they name is absent.
type Sparse string

// The sparse policies.
const (
	SparseNone  Sparse = "none"  // all content must be there
	SparseIndex Sparse = "index" // an index may name absent manifests
	SparseAll   Sparse = "all"   // images may name absent blobs too
)

// ParseSparse returns the policy that s names.
func ParseSparse(s string) (Sparse, error) {
	switch p := Sparse(s); p {
	case SparseNone, SparseIndex, SparseAll:
		return p, nil
	}
	return "", fmt.Errorf("sparse policy %q is not none, index or all", s)
}

func (p Sparse) allows(kind oci.Kind) bool {
	return p == SparseAll || p == SparseIndex && kind == oci.KindIndex
}

// A ManifestPut is a request to store a manifest and point tags to it, all or nothing.
type ManifestPut struct {
	Name      oci.Name
	Digest    digest.Digest // of Manifest.Raw; the caller has computed or checked it
	Manifest  oci.Manifest
	Tags      []oci.Tag
	Sparse    Sparse
	Condition Condition // on each of Tags, or on the manifest itself when there are none
	// NoOverwrite refuses to move a tag that is there: ErrOverwrite.
	NoOverwrite bool
	By          Actor
}

// PutManifest stores a manifest (end-7). It returns the digests that an accepted sparse manifest names and the
// repository lacks. Content that is needed and absent is a *MissingError listing all of it.
func (s *Store) PutManifest(ctx context.Context, p ManifestPut) (missing []digest.Digest, err error) {
	if n := len(p.Manifest.References); n > referencesMax {
		return nil, fmt.Errorf("%w: it names %d digests, at most %d are allowed", oci.ErrManifestInvalid, n, referencesMax)
	}
	// What has a row but no good file is absent: I3 is about content, not about rows. Checked before the transaction,
	// because the writer must not wait for the disk; nothing but damage can change the answer meanwhile.
	damaged, err := s.damaged(ctx, p)
	if err != nil {
		return nil, err
	}
	// Most refusals need no transaction.
	if len(damaged) > 0 && !p.Sparse.allows(p.Manifest.Kind) {
		e := &MissingError{}
		for _, ref := range p.Manifest.References {
			if damaged[ref.Digest] {
				e.Digests = append(e.Digests, ref.Digest)
			}
		}
		return nil, fmt.Errorf("put manifest %s@%s: %w", p.Name, p.Digest, e)
	}
	// Before the transaction too. What cannot be described is stored all the same.
	described, err := s.describeNew(ctx, p)
	if err != nil {
		return nil, err
	}
	boundsOf := func(tag oci.Tag) tagBounds {
		return tagBounds{immutable: s.immutableBy(p.Name, tag), noOverwrite: p.NoOverwrite}
	}
	put := func() error {
		return s.add(within(p.Name), func(t *tx) error {
			absent, err := t.putManifest(p, damaged, described, boundsOf)
			missing = absent
			return err
		})
	}
	if err = put(); errors.Is(err, errUndescribed) {
		described = s.tryDescribe(ctx, p)
		err = put()
	}
	if err != nil {
		return nil, fmt.Errorf("put manifest %s@%s: %w", p.Name, p.Digest, err)
	}
	return missing, nil
}

// asBefore stands for the description of a manifest that is here already, with the same media type and described.
var asBefore = &description{}

// errUndescribed says that a manifest went that was to be as before. Nobody is told.
var errUndescribed = refusal("manifest undescribed")

// describeNew returns the description of a manifest, or asBefore.
func (s *Store) describeNew(ctx context.Context, p ManifestPut) (*description, error) {
	var described bool
	err := s.db.queryRow(ctx, `SELECT EXISTS (SELECT 1 FROM repositories r JOIN digests d JOIN manifests m ON m.repository = r.id AND m.digest = d.id
		JOIN manifest_facts f ON f.manifest = m.id WHERE r.name = ? AND d.digest = ? AND m.media_type = ?)`,
		p.Name.String(), p.Digest.String(), p.Manifest.MediaType).Scan(&described)
	if err != nil {
		return nil, err
	}
	if described {
		return asBefore, nil
	}
	return s.tryDescribe(ctx, p), ctx.Err()
}

// tryDescribe returns the description of a manifest, or nil where that is not possible: it is stored all the same.
func (s *Store) tryDescribe(ctx context.Context, p ManifestPut) *description {
	described, err := s.describe(ctx, p.Name, p.Manifest)
	if err != nil {
		s.log.Debug("manifest not described", "repo", p.Name.String(), "digest", p.Digest, "err", err)
	}
	return described
}

func (t *tx) putManifest(p ManifestPut, damaged map[digest.Digest]bool, described *description, boundsOf func(oci.Tag) tagBounds) (missing []digest.Digest, err error) {
	repository, err := t.makeRepository(p.Name)
	if err != nil {
		return nil, err
	}
	id, err := t.digestID(p.Digest)
	if err != nil {
		return nil, err
	}
	here, err := t.standing(repository, id)
	if err != nil {
		return nil, err
	}
	if err := t.checkCondition(repository, here, p); err != nil {
		return nil, err
	}
	manifest := here.id
	if here.is(p.Manifest) && here.needed == p.Manifest.Needed() && len(damaged) == 0 {
		err = t.refresh(manifest, described)
	} else {
		manifest, missing, err = t.checkAndStore(repository, id, here, p, damaged, described, boundsOf)
	}
	if err != nil {
		return nil, err
	}
	if _, err := t.exec(`UPDATE repositories SET pushed_at = ?2 WHERE id = ?1 AND pushed_at < ?2`, repository, t.now); err != nil {
		return nil, err
	}
	for _, tag := range p.Tags {
		if err := t.setTag(repository, tag, manifest, id, boundsOf(tag), p.By); err != nil {
			return nil, err
		}
	}
	reference := p.Digest.String()
	if len(p.Tags) > 0 {
		reference = joinTags(p.Tags)
	}
	return missing, t.audit(AuditEntry{Action: AuditPush, Repository: p.Name.String(), Reference: reference, Detail: p.Digest.String()}, p.By)
}

func joinTags(tags []oci.Tag) string {
	names := make([]string, len(tags))
	for i, tag := range tags {
		names[i] = tag.String()
	}
	return strings.Join(names, ", ")
}

// A standing is what a repository has of a manifest that is put; its zero value is nothing.
type standing struct {
	id        int64
	mediaType string
	needed    int // references whose content was there when it was put, and which I3 has kept there since
}

// is reports whether it is the same manifest: of its digest it has the media type too.
func (here standing) is(m oci.Manifest) bool { return here.id != 0 && here.mediaType == m.MediaType }

func (t *tx) standing(repository, dgst int64) (here standing, err error) {
	err = t.queryRow(t.ctx, `SELECT id, media_type, (SELECT count(*) FROM manifest_references WHERE manifest = manifests.id AND needed)
		FROM manifests WHERE repository = ? AND digest = ?`, repository, dgst).Scan(&here.id, &here.mediaType, &here.needed)
	if errors.Is(err, sql.ErrNoRows) {
		return standing{}, nil
	}
	return here, err
}

// checkCondition compares the request's condition with each tag, or with the manifest when it names no tag.
func (t *tx) checkCondition(repository int64, here standing, p ManifestPut) error {
	if p.Condition.isZero() {
		return nil
	}
	for _, tag := range p.Tags {
		old, err := t.tagged(repository, tag)
		if err != nil {
			return err
		}
		if err := p.Condition.check(old.digest); err != nil {
			return fmt.Errorf("tag %s: %w", tag, err)
		}
	}
	switch {
	case len(p.Tags) > 0:
		return nil
	case here.id != 0:
		return p.Condition.check(p.Digest.String())
	}
	return p.Condition.check("")
}

// checkAndStore stores a manifest whose content must be looked for. It returns what of it is missing: that is refused, or
// allowed by the policy.
func (t *tx) checkAndStore(repository, dgst int64, here standing, p ManifestPut, damaged map[digest.Digest]bool, described *description, boundsOf func(oci.Tag) tagBounds) (id int64, missing []digest.Digest, err error) {
	refs, err := t.resolve(repository, p.Manifest, damaged)
	if err != nil {
		return 0, nil, err
	}
	for _, r := range refs {
		if r.Needed && !r.present {
			missing = append(missing, r.Digest)
		}
	}
	if len(missing) > 0 && !p.Sparse.allows(p.Manifest.Kind) {
		return 0, nil, &MissingError{Digests: missing}
	}
	if here.is(p.Manifest) {
		return here.id, missing, t.refresh(here.id, described)
	}
	id, err = t.upsertManifest(repository, dgst, here, p, refs, described, boundsOf)
	return id, missing, err
}

// refresh notes that a manifest was put once more, as it is.
func (t *tx) refresh(id int64, described *description) error {
	// 201 promises that an index naming it can follow: its keep time begins anew.
	_, err := t.exec(`UPDATE manifests SET pushed_at = ?2, untagged_since = CASE WHEN untagged_since IS NULL THEN NULL ELSE ?2 END
		WHERE id = ?1 AND (pushed_at <> ?2 OR untagged_since <> ?2)`, id, t.now)
	if err == nil && described != nil && described != asBefore {
		err = t.addFacts(id, described) // its config may have come since
	}
	return err
}

// upsertManifest stores a manifest with its references and counts. One that is there with another media type keeps its
// row, and is read anew, because the same bytes may name other content then.
func (t *tx) upsertManifest(repository, dgst int64, here standing, p ManifestPut, refs []resolved, described *description, boundsOf func(oci.Tag) tagBounds) (int64, error) {
	if described == asBefore {
		return 0, errUndescribed
	}
	annotations, subject, err := t.facts(p.Manifest)
	if err != nil {
		return 0, err
	}
	if id := here.id; id != 0 {
		// Nor may an index find its child changed.
		var named bool
		if err := t.queryRow(t.ctx, `SELECT refs > 0 FROM manifests WHERE id = ?`, id).Scan(&named); err != nil {
			return 0, err
		}
		if named {
			return 0, t.inUse(repository, dgst, p.Digest)
		}
		if err := t.checkTags(id, p.Digest, boundsOf); err != nil {
			return 0, err
		}
		if err := t.dropReferences(repository, id, Lease); err != nil {
			return 0, err
		}
		_, err = t.exec(`UPDATE manifests SET media_type = ?, artifact_type = ?, subject = ?, annotations = ?, cache = ?, pushed_at = ?6,
			untagged_since = CASE WHEN untagged_since IS NULL THEN NULL ELSE ?6 END WHERE id = ?7`,
			p.Manifest.MediaType, p.Manifest.ArtifactType, subject, annotations, p.Manifest.Cache, t.now, id)
		if err != nil {
			return 0, err
		}
		if err := t.keepFacts(id, described); err != nil {
			return 0, err
		}
		return id, t.addReferences(repository, id, refs)
	}
	id, err := t.insert(`INSERT INTO manifests (repository, digest, media_type, artifact_type, subject, size, refs, pushed_at, untagged_since, annotations, cache)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, (SELECT count(*) FROM manifest_references WHERE repository = ?1 AND target = ?2), ?7, ?7, ?8, ?9)`,
		repository, dgst, p.Manifest.MediaType, p.Manifest.ArtifactType, subject, len(p.Manifest.Raw), t.now, annotations, p.Manifest.Cache)
	if err != nil {
		return 0, err
	}
	if _, err := t.insert(`INSERT INTO manifest_bodies (manifest, body) VALUES (?, ?)`, id, p.Manifest.Raw); err != nil {
		return 0, err
	}
	if described != nil {
		if err := t.addFacts(id, described); err != nil {
			return 0, err
		}
	}
	return id, t.addReferences(repository, id, refs)
}

// checkTags refuses to change or remove what the tags of a manifest serve, where one of them must not move.
func (t *tx) checkTags(manifest int64, dgst digest.Digest, boundsOf func(oci.Tag) tagBounds) error {
	tags, err := collect(t.ctx, t, scanString, `SELECT name FROM tags WHERE manifest = ?`, manifest)
	if err != nil {
		return err
	}
	for _, v := range tags {
		tag, err := oci.ParseTag(v)
		if err != nil {
			return err
		}
		if err := boundsOf(tag).check(tag, dgst.String()); err != nil {
			return err
		}
	}
	return nil
}

// facts returns the columns of a manifest that need work: its annotations as JSON, or "", and its subject's id.
func (t *tx) facts(m oci.Manifest) (annotations string, subject sql.NullInt64, err error) {
	if len(m.Annotations) > 0 {
		b, err := json.Marshal(m.Annotations)
		if err != nil {
			return "", subject, err
		}
		annotations = string(b)
	}
	if m.Subject != "" {
		subject.Valid = true
		subject.Int64, err = t.digestID(m.Subject)
	}
	return annotations, subject, err
}

// DeleteManifest removes a manifest and its tags (end-9). It is ErrManifestUnknown when it is not there, and an
// *InUseError when an index of the repository names it. What it named is left to collection.
func (s *Store) DeleteManifest(ctx context.Context, name oci.Name, dgst digest.Digest, c Condition, by Actor) error {
	err := s.change(within(name), func(t *tx) error {
		repository, err := t.repository(name)
		if err != nil {
			return err
		}
		var id, digestID, refs int64
		err = t.queryRow(t.ctx, `SELECT m.id, m.digest, m.refs FROM digests d JOIN manifests m ON m.digest = d.id
			WHERE d.digest = ? AND m.repository = ?`, dgst.String(), repository).Scan(&id, &digestID, &refs)
		if errors.Is(err, sql.ErrNoRows) {
			if err := c.check(""); err != nil {
				return err
			}
			return ErrManifestUnknown
		}
		if err != nil {
			return err
		}
		if err := c.check(dgst.String()); err != nil {
			return err
		}
		if refs > 0 {
			return t.inUse(repository, digestID, dgst)
		}
		if err := t.checkTags(id, dgst, func(tag oci.Tag) tagBounds { return tagBounds{immutable: s.immutableBy(name, tag)} }); err != nil {
			return err
		}
		if err := t.audit(AuditEntry{Action: AuditDelete, Repository: name.String(), Reference: dgst.String()}, by); err != nil {
			return err
		}
		return t.deleteManifest(repository, id, digestID, by)
	})
	if err != nil {
		return fmt.Errorf("delete manifest %s@%s: %w", name, dgst, err)
	}
	return nil
}

func (t *tx) deleteManifest(repository, id, digestID int64, by Actor) error {
	tags, err := collect(t.ctx, t, scanString, `SELECT name FROM tags WHERE manifest = ?`, id)
	if err != nil {
		return err
	}
	for _, tag := range tags {
		if err := t.logTag(repository, tag, sql.NullInt64{Int64: digestID, Valid: true}, sql.NullInt64{}, by); err != nil {
			return err
		}
	}
	if _, err := t.exec(`DELETE FROM tags WHERE manifest = ?`, id); err != nil {
		return err
	}
	// Referrers of what goes are kept for a while from now on.
	if _, err := t.exec(`UPDATE manifests SET untagged_since = ?3 WHERE repository = ?1 AND subject = ?2 AND untagged_since IS NOT NULL`,
		repository, digestID, t.now); err != nil {
		return err
	}
	return t.dropManifest(repository, id, digestID, Lease, by)
}

// removeManifest removes the row of a manifest without tags for collection. Content that nothing names any more is kept
// for lease.
func (t *tx) removeManifest(repository, id, digestID int64, lease time.Duration) error {
	return t.dropManifest(repository, id, digestID, lease, Actor{Name: "collection"})
}

func (t *tx) dropManifest(repository, id, digestID int64, lease time.Duration, by Actor) error {
	if err := t.dropReferences(repository, id, lease); err != nil {
		return err
	}
	if err := t.logDeleted(repository, digestID, by); err != nil {
		return err
	}
	_, err := t.exec(`DELETE FROM manifests WHERE id = ?`, id)
	return err
}
