package store

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

const (
	// configMax bounds the config that is read to describe an image, in bytes; a larger one is not looked at.
	configMax = 1 << 20
	// labelsMax bounds the labels of a manifest that can be searched for, labelText a key or value in bytes: an annotation
	// may be as large as a manifest.
	labelsMax = 64
	labelText = 256
)

// A description is what a manifest is, as it is stored.
type description struct {
	facts  oci.Facts
	packed []byte // the facts
	labels string // what can be searched for, as a JSON object
}

// describe describes a manifest of a repository. It is nil when its config is not there: that may come later.
func (s *Store) describe(ctx context.Context, name oci.Name, m oci.Manifest) (*description, error) {
	var config []byte
	if dgst, ok := m.ConfigToRead(); ok {
		var err error
		config, err = s.readConfig(ctx, name, dgst)
		if errors.Is(err, ErrBlobUnknown) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
	}
	facts := oci.Describe(m, config)
	packed, err := packFacts(facts)
	if err != nil {
		return nil, err
	}
	labels, err := json.Marshal(searchable(m, facts))
	if err != nil {
		return nil, err
	}
	return &description{facts: facts, packed: packed, labels: string(labels)}, nil
}

// readConfig returns a config, or nil when it is larger than configMax.
func (s *Store) readConfig(ctx context.Context, name oci.Name, dgst digest.Digest) ([]byte, error) {
	b, err := s.OpenBlob(ctx, name, dgst)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	if b.Size > configMax {
		return nil, nil
	}
	return io.ReadAll(b)
}

// searchable returns the labels and annotations that can be searched for: the first in the order of their keys.
func searchable(m oci.Manifest, facts oci.Facts) map[string]string {
	all := make(map[string]string)
	if facts.Config != nil {
		maps.Copy(all, facts.Config.Labels)
	}
	maps.Copy(all, m.Annotations)
	kept := make(map[string]string)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		value := all[key]
		if len(value) > labelText {
			value = strings.ToValidUTF8(value[:labelText], "")
		}
		if key == "" || len(key) > labelText || strings.ContainsFunc(key+value, unicode.IsControl) {
			continue
		}
		if kept[key] = value; len(kept) == labelsMax {
			break
		}
	}
	return kept
}

// deflaters are kept because a new one takes more than half a megabyte.
var deflaters = sync.Pool{New: func() any {
	w, _ := flate.NewWriter(nil, flate.BestSpeed) // its error is about the level
	return w
}}

func packFacts(facts oci.Facts) ([]byte, error) {
	plain, err := json.Marshal(facts)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := deflaters.Get().(*flate.Writer)
	defer deflaters.Put(w)
	w.Reset(&b)
	_, err = w.Write(plain)
	err = errors.Join(err, w.Close())
	return b.Bytes(), err
}

func unpackFacts(packed []byte) (facts oci.Facts, err error) {
	err = json.NewDecoder(flate.NewReader(bytes.NewReader(packed))).Decode(&facts)
	return facts, err
}

// keepFacts stores a description in place of the one that is there, if any. With nil there is none.
func (t *tx) keepFacts(manifest int64, d *description) error {
	if _, err := t.exec(`DELETE FROM manifest_facts WHERE manifest = ?`, manifest); err != nil {
		return err
	}
	if _, err := t.exec(`DELETE FROM manifest_labels WHERE manifest = ?`, manifest); err != nil || d == nil {
		return err
	}
	return t.addFacts(manifest, d)
}

// addFacts stores a description where there is none.
func (t *tx) addFacts(manifest int64, d *description) error {
	created := int64(0)
	if !d.facts.CreatedAt.IsZero() {
		created = d.facts.CreatedAt.Unix()
	}
	chain := ""
	if d.facts.Chain != "" {
		chain = d.facts.Chain.Encoded()
	}
	n, err := t.exec(`INSERT INTO manifest_facts (manifest, kind, platforms, pull_size, created_at, provides, facts, chain) VALUES (?, ?, ?, ?, ?, ?, ?, unhex(nullif(?, '')))
		ON CONFLICT (manifest) DO NOTHING`, manifest, string(d.facts.Kind), strings.Join(d.facts.Platforms, " "), d.facts.PullSize, created,
		strings.Join(d.facts.Provides, " "), d.packed, chain)
	if err != nil || n == 0 || d.labels == "{}" {
		return err
	}
	if _, err := t.exec(`INSERT INTO labels (key, value) SELECT key, value FROM json_each(?) WHERE true ON CONFLICT DO NOTHING`, d.labels); err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO manifest_labels (label, manifest) SELECT l.id, ?1 FROM json_each(?2) j
		JOIN labels l ON l.key = j.key COLLATE NOCASE AND l.value = j.value COLLATE NOCASE AND l.key = j.key AND l.value = j.value`, manifest, d.labels)
	return err
}

// attached are the kinds that count for a repository only where it has nothing else, as a JSON array.
const attached = `["","signature","sbom","attestation","cache"]`

// setKind takes over the kind of a manifest to which a tag of the repository was set.
func (t *tx) setKind(repository, manifest int64) error {
	_, err := t.exec(`UPDATE repositories SET kind = f.kind FROM manifest_facts f WHERE repositories.id = ?1 AND f.manifest = ?2 AND f.kind <> repositories.kind
		AND (repositories.kind IN (SELECT value FROM json_each(?3)) OR f.kind NOT IN (SELECT value FROM json_each(?3)))`, repository, manifest, attached)
	return err
}

// An undescribed manifest has no facts yet, or not all of this version.
type undescribed struct {
	id, repository, dgst int64
	name                 oci.Name
	mediaType            string
	raw                  []byte
}

// undescribedIs is the condition that a manifest m is one: its parameter is the kind of images, of which older versions
// did not note the chain.
const undescribedIs = `NOT EXISTS (SELECT 1 FROM manifest_facts f WHERE f.manifest = m.id AND (f.kind <> ? OR f.chain IS NOT NULL))`

// describeLater stores the facts of a manifest that was put before: unless it went or was put again meanwhile.
func (t *tx) describeLater(u undescribed, d *description) error {
	var same bool
	if err := t.queryRow(t.ctx, `SELECT EXISTS (SELECT 1 FROM manifests m WHERE m.id = ? AND m.repository = ? AND m.digest = ? AND m.media_type = ? AND `+undescribedIs+`)`,
		u.id, u.repository, u.dgst, u.mediaType, string(oci.KindContainer)).Scan(&same); err != nil || !same {
		return err
	}
	if err := t.keepFacts(u.id, d); err != nil {
		return err
	}
	// The newest tag decides, or what is known first: looking at all tags for each manifest would take too long.
	var decides bool
	if err := t.queryRow(t.ctx, `SELECT EXISTS (SELECT 1 FROM tags WHERE manifest = ?2) AND (
			(SELECT kind FROM repositories WHERE id = ?1) IN (SELECT value FROM json_each(?3))
			OR ?2 = (SELECT manifest FROM tags WHERE repository = ?1 ORDER BY updated_at DESC, name LIMIT 1))`, u.repository, u.id, attached).
		Scan(&decides); err != nil || !decides {
		return err
	}
	return t.setKind(u.repository, u.id)
}

const (
	// settingDescribed says that all manifests were described, by which version of it.
	settingDescribed = "described"
	// factsVersion changes when what an older version described must be described again.
	factsVersion = "2"
	// describeBatch bounds the manifests that are read at once: each may be of several megabytes.
	describeBatch = 16
)

// describing is the background work that describes what older versions have put.
type describing struct {
	count atomic.Int64  // manifests described so far
	done  chan struct{} // closed when it ends
}

// run describes manifests until all are or ctx is done.
func (b *describing) run(ctx context.Context, s *Store) {
	defer close(b.done)
	err := b.all(ctx, s)
	if err != nil && ctx.Err() == nil {
		s.log.Warn("manifests not described; tried again at the next start", "err", err)
	}
}

func (b *describing) all(ctx context.Context, s *Store) error {
	version, err := s.Setting(ctx, settingDescribed)
	if err != nil || version == factsVersion {
		return err
	}
	for last := int64(0); ; {
		page, err := collect(ctx, s.db, scanUndescribed, `SELECT m.id, m.repository, m.digest, r.name, m.media_type, mb.body FROM manifests m
			JOIN repositories r ON r.id = m.repository JOIN manifest_bodies mb ON mb.manifest = m.id
			WHERE m.id > ? AND `+undescribedIs+` ORDER BY m.id LIMIT ?`, last, string(oci.KindContainer), describeBatch)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return s.SetSetting(settingDescribed, factsVersion)
		}
		last = page[len(page)-1].id
		if err := b.batch(ctx, s, page); err != nil {
			return err
		}
	}
}

func scanUndescribed(r row) (u undescribed, err error) {
	var name string
	if err := r.Scan(&u.id, &u.repository, &u.dgst, &name, &u.mediaType, &u.raw); err != nil {
		return u, err
	}
	u.name, err = oci.ParseName(name)
	return u, err
}

// batch describes a page of manifests. One that cannot be read is left.
func (b *describing) batch(ctx context.Context, s *Store, page []undescribed) error {
	all := make([]*description, len(page))
	for i, u := range page {
		m, err := oci.ParseManifest(u.mediaType, u.raw)
		if err == nil {
			all[i], err = s.describe(ctx, u.name, m)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			s.log.Debug("manifest not described", "repo", u.name.String(), "err", err)
		}
	}
	for from := 0; from < len(page); {
		next := from
		err := s.collectSome(func(t *tx, deadline time.Time) error {
			for next = from; next < len(page); {
				if d := all[next]; d != nil {
					if err := t.describeLater(page[next], d); err != nil {
						return err
					}
				}
				if next++; time.Now().After(deadline) {
					break
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		from = next
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	b.count.Add(int64(len(page)))
	return nil
}
