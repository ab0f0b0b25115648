package oci

import (
	"github.com/opencontainers/go-digest"
)

// DiffIDs returns the digests of an image's layers when they are not compressed, the lowest first, from its configuration.
// There are none when it does not say them all in a way that can be read, or more than 1000.
func DiffIDs(config []byte) []digest.Digest {
	c, ok := readConfig(config)
	if !ok {
		return nil
	}
	return c.diffIDs()
}

func (c *configFile) diffIDs() []digest.Digest {
	if c.RootFS.DiffIDs.n != len(c.RootFS.DiffIDs.s) {
		return nil
	}
	var all []digest.Digest
	for _, text := range c.RootFS.DiffIDs.s {
		dgst, err := ParseDigest(text)
		if err != nil {
			return nil
		}
		all = append(all, dgst)
	}
	return all
}

// ChainIDs returns for each layer the digest that stands for it and all below it (image-spec, "Layer ChainID"): images that
// begin with the same layers have the same ones there. They are SHA-256, whatever the layers are.
func ChainIDs(diffIDs []digest.Digest) []digest.Digest {
	all := make([]digest.Digest, len(diffIDs))
	for i, dgst := range diffIDs {
		if i == 0 {
			if all[i] = dgst; dgst.Algorithm() != digest.SHA256 {
				all[i] = digest.FromString(dgst.String())
			}
			continue
		}
		all[i] = digest.FromString(all[i-1].String() + " " + dgst.String())
	}
	return all
}
