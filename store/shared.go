package store

import (
	"context"
	"encoding/json"
	"slices"

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
	list, err := json.Marshal(slices.Compact(slices.Sorted(slices.Values(blobs))))
	if err != nil {
		return nil, err
	}
	type shared struct {
		blob digest.Digest
		uses string
	}
	// Each list is made by a subquery of its own, so that its limit ends the look at a blob that very many have.
	rows, err := collect(ctx, s.db, func(r row) (v shared, err error) { return v, r.Scan(&v.blob, &v.uses) },
		`SELECT d.digest, (SELECT json_group_array(json_array(u.name, u.refs)) FROM (SELECT r.name, rb.refs
			FROM repository_blobs rb INDEXED BY repository_blobs_blob JOIN repositories r ON r.id = rb.repository WHERE rb.blob = d.id LIMIT ?2) u)
		FROM json_each(?1) j JOIN digests d ON d.digest = j.value`, string(list), SharedMax)
	if err != nil {
		return nil, err
	}
	all := make(map[digest.Digest][]BlobUse)
	for _, v := range rows {
		var pairs [][2]any
		if err := json.Unmarshal([]byte(v.uses), &pairs); err != nil {
			return nil, err
		}
		for _, p := range pairs {
			text, _ := p[0].(string)
			refs, _ := p[1].(float64)
			name, err := oci.ParseName(text)
			if err != nil {
				return nil, err
			}
			all[v.blob] = append(all[v.blob], BlobUse{name, int64(refs)})
		}
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
	var hex []string // the longest first, so that the limit leaves out the shortest
	for _, id := range slices.Backward(chain[:len(chain)-1]) {
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
	}, `WITH found AS (SELECT j.key, f.manifest FROM json_each(?1) j CROSS JOIN manifest_facts f INDEXED BY manifest_facts_chain ON f.chain = unhex(j.value) LIMIT ?2)
		SELECT ?3 - c.key, r.name, d.digest, COALESCE((SELECT t.name FROM tags t INDEXED BY tags_manifest WHERE t.manifest = m.id ORDER BY t.sort_key DESC LIMIT 1), '')
		FROM found c CROSS JOIN manifests m ON m.id = c.manifest JOIN repositories r ON r.id = m.repository JOIN digests d ON d.id = m.digest
		ORDER BY c.key, (m.untagged_since IS NOT NULL), m.id DESC`, string(list), baseImagesMax, len(hex))
}
