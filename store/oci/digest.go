package oci

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"

	"github.com/opencontainers/go-digest"
)

// ParseDigest returns the digest that s spells. Only sha256 and sha512 with their full, lower-case hex are
// accepted, so a digest is always safe as a file name. Its error wraps ErrDigestInvalid.
func ParseDigest(s string) (digest.Digest, error) {
	algorithm, encoded, ok := strings.Cut(s, ":")
	if !ok {
		return "", fmt.Errorf("%w: %s has no algorithm", ErrDigestInvalid, quoteShort(s))
	}
	a, err := ParseAlgorithm(algorithm)
	if err != nil {
		return "", err
	}
	if len(encoded) != a.Size()*2 {
		return "", fmt.Errorf("%w: %s needs %d hex digits, not %d", ErrDigestInvalid, a, a.Size()*2, len(encoded))
	}
	if !isLowerHex(encoded) {
		return "", fmt.Errorf("%w: %s is not lower-case hex", ErrDigestInvalid, quoteShort(encoded))
	}
	return digest.Digest(s), nil
}

// ParseAlgorithm returns the digest algorithm that s names; sha256 and sha512 are supported. Its error wraps
// ErrDigestInvalid.
func ParseAlgorithm(s string) (digest.Algorithm, error) {
	switch a := digest.Algorithm(s); a {
	case digest.SHA256, digest.SHA512:
		return a, nil
	}
	return "", fmt.Errorf("%w: algorithm %s is not supported, use sha256 or sha512", ErrDigestInvalid, quoteShort(s))
}

// NewHash returns the hash of an algorithm that ParseAlgorithm accepted.
func NewHash(a digest.Algorithm) hash.Hash {
	if a == digest.SHA512 {
		return sha512.New()
	}
	return sha256.New()
}

// SumDigest returns the digest of b.
func SumDigest(a digest.Algorithm, b []byte) digest.Digest {
	h := NewHash(a)
	h.Write(b)
	return digest.NewDigestFromEncoded(a, hex.EncodeToString(h.Sum(nil)))
}

func isLowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// quoteShort quotes s for a message, cut so that hostile input does not fill a log.
func quoteShort(s string) string {
	if len(s) > 80 {
		return fmt.Sprintf("%q…", s[:80])
	}
	return fmt.Sprintf("%q", s)
}

// A Reference is a tag or a digest (`<tag-or-digest>` of the spec). Exactly one of the two is set.
type Reference struct {
	Tag    Tag
	Digest digest.Digest
}

// ParseReference returns the reference that s spells. A colon makes it a digest, because no tag has one. Its error
// wraps ErrTagInvalid or ErrDigestInvalid.
func ParseReference(s string) (Reference, error) {
	if strings.Contains(s, ":") {
		dgst, err := ParseDigest(s)
		return Reference{Digest: dgst}, err
	}
	tag, err := ParseTag(s)
	return Reference{Tag: tag}, err
}

// IsDigest reports whether the reference is a digest.
func (r Reference) IsDigest() bool { return r.Digest != "" }

// String returns the tag or the digest.
func (r Reference) String() string {
	if r.IsDigest() {
		return r.Digest.String()
	}
	return r.Tag.String()
}

// ReferrersTag returns the tag under which clients keep the referrers of a subject at registries without the
// referrers API (distribution-spec, "Referrers Tag Schema").
func ReferrersTag(subject digest.Digest) Tag {
	encoded := subject.Encoded()
	return Tag{subject.Algorithm().String() + "-" + encoded[:min(len(encoded), 64)]}
}
