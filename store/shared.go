package store

import (
	"context"
	"encoding/json"

	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// SharedMax bounds the repositories that SharedBlobs returns for one blob.
const SharedMax = 200

// A BlobUse is a repository that has a blob.
type BlobUse struct {
	Name      oci.Name
	Manifests int64 // of it that name the blob, in any field
}

// SharedBlobs returns which repositories have blobs, at most SharedMax for each, in no order. It takes one statement. Whoever
// shows them leaves out what the viewer may not see.
func (s *Store) SharedBlobs(ctx context.Context, blobs []digest.Digest) (map[digest.Digest][]BlobUse, error) {
	list, err := json.Marshal(blobs)
	if err != nil {
		return nil, err
	}
	type use struct {
		BlobUse
		blob string
	}
	uses, err := collect(ctx, s.db, func(r row) (u use, err error) {
		var name string
		if err := r.Scan(&u.blob, &name, &u.Manifests); err != nil {
			return u, err
		}
		u.Name, err = oci.ParseName(name)
		return u, err
	}, `SELECT d.digest, r.name, rb.refs FROM json_each(?1) j JOIN digests d ON d.digest = j.value
		JOIN repository_blobs rb ON rb.blob = d.id AND rb.repository IN
			(SELECT n.repository FROM repository_blobs n INDEXED BY repository_blobs_blob WHERE n.blob = d.id LIMIT ?2)
		JOIN repositories r ON r.id = rb.repository`, string(list), SharedMax)
	if err != nil {
		return nil, err
	}
	all := make(map[digest.Digest][]BlobUse)
	for _, u := range uses {
		all[digest.Digest(u.blob)] = append(all[digest.Digest(u.blob)], u.BlobUse)
	}
	return all, nil
}

// baseImagesMax bounds what BaseImages returns.
const baseImagesMax = 200

// A BaseImage is an image that others are built on.
type BaseImage struct {
	Layers int // how many it has
	Name   oci.Name
	Digest digest.Digest
	Tag    string // one of its tags, or ""
}

// BaseImages returns images whose layers are exactly the first ones of chain, which oci.ChainIDs returned: not all of them,
// those with most layers first. It takes one statement. Whoever shows them leaves out what the viewer may not see.
func (s *Store) BaseImages(ctx context.Context, chain []digest.Digest) ([]BaseImage, error) {
	if len(chain) < 2 {
		return nil, nil
	}
	var hex []string
	for _, id := range chain[:len(chain)-1] {
		hex = append(hex, id.Encoded())
	}
	list, err := json.Marshal(hex)
	if err != nil {
		return nil, err
	}
	return collect(ctx, s.db, func(r row) (b BaseImage, err error) {
		var name string
		if err := r.Scan(&b.Layers, &name, &b.Digest, &b.Tag); err != nil {
			return b, err
		}
		b.Name, err = oci.ParseName(name)
		return b, err
	}, `SELECT j.key + 1, r.name, d.digest, COALESCE((SELECT t.name FROM tags t INDEXED BY tags_manifest WHERE t.manifest = m.id ORDER BY t.sort_key DESC LIMIT 1), '')
		FROM json_each(?1) j CROSS JOIN manifest_facts f ON f.chain = unhex(j.value) CROSS JOIN manifests m ON m.id = f.manifest
		JOIN repositories r ON r.id = m.repository JOIN digests d ON d.id = m.digest
		ORDER BY j.key DESC, (m.untagged_since IS NOT NULL), m.id DESC LIMIT ?2`, string(list), baseImagesMax)
}
