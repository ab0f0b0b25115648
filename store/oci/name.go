package oci

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// NameMax is the longest repository name in bytes. Clients limit host and name together to 255.
const NameMax = 255

// TagMax is the longest tag in bytes (distribution-spec, "Pulling manifests").
const TagMax = 128

// These errors say that a name, tag or digest is not of the spec's form. They are wrapped with what is wrong.
var (
	ErrNameInvalid   = errors.New("repository name invalid")
	ErrTagInvalid    = errors.New("tag invalid")
	ErrDigestInvalid = errors.New("digest invalid")
)

// A Name is a valid repository name (`<name>` of the spec). The zero Name is not valid.
type Name struct{ s string }

// ParseName returns the name that s spells. Its error wraps ErrNameInvalid.
func ParseName(s string) (Name, error) {
	if s == "" {
		return Name{}, fmt.Errorf("%w: it is empty", ErrNameInvalid)
	}
	if len(s) > NameMax {
		return Name{}, fmt.Errorf("%w: it has %d bytes, at most %d are allowed", ErrNameInvalid, len(s), NameMax)
	}
	for component := range strings.SplitSeq(s, "/") {
		if !validComponent(component) {
			return Name{}, fmt.Errorf("%w: %q must be lower-case letters and digits, separated by one of . _ __ or dashes", ErrNameInvalid, component)
		}
	}
	return Name{s}, nil
}

// String returns the name as it is spelled.
func (n Name) String() string { return n.s }

// Clone returns the name in memory of its own: one that was parsed holds on to the text in which it stood.
func (n Name) Clone() Name { return Name{strings.Clone(n.s)} }

// IsZero reports whether n is the zero Name.
func (n Name) IsZero() bool { return n.s == "" }

// validComponent matches [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*, by hand because it runs on every request.
func validComponent(s string) bool {
	if s == "" || !isLowerAlnum(s[0]) || !isLowerAlnum(s[len(s)-1]) {
		return false
	}
	for i := 0; i < len(s); {
		if isLowerAlnum(s[i]) {
			i++
			continue
		}
		start := i
		for i < len(s) && s[i] == s[start] {
			i++
		}
		switch n := i - start; s[start] {
		case '-':
		case '.':
			if n > 1 {
				return false
			}
		case '_':
			if n > 2 {
				return false
			}
		default:
			return false
		}
		// A separator must be followed by a letter or a digit; s ends in one, so i is in range.
		if !isLowerAlnum(s[i]) {
			return false
		}
	}
	return true
}

func isLowerAlnum(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

// A Tag is a valid tag. The zero Tag is not valid.
type Tag struct{ s string }

// ParseTag returns the tag that s spells. Its error wraps ErrTagInvalid.
func ParseTag(s string) (Tag, error) {
	if s == "" || len(s) > TagMax {
		return Tag{}, fmt.Errorf("%w: it has %d bytes, 1 to %d are allowed", ErrTagInvalid, len(s), TagMax)
	}
	for i := range len(s) {
		c := s[i]
		word := isLowerAlnum(c) || 'A' <= c && c <= 'Z' || c == '_'
		if !word && (i == 0 || c != '.' && c != '-') {
			return Tag{}, fmt.Errorf("%w: %q must be letters, digits, _ . and -, and not begin with . or -", ErrTagInvalid, s)
		}
	}
	return Tag{s}, nil
}

// String returns the tag as it is spelled.
func (t Tag) String() string { return t.s }

// IsZero reports whether t is the zero Tag.
func (t Tag) IsZero() bool { return t.s == "" }

// Subject returns the digest that a tag belongs to: clients keep signatures and attestations of sha256:0123… under the
// tags sha256-0123….sig, .att and .sbom, and lists of referrers, where a registry has none, under sha256-0123… itself
// (distribution-spec, "Referrers Tag Schema"). ok is false for all other tags.
func Subject(tag string) (dgst digest.Digest, ok bool) {
	stem, suffix, dotted := strings.Cut(tag, ".")
	if dotted && suffix != "sig" && suffix != "att" && suffix != "sbom" {
		return "", false
	}
	algorithm, encoded, _ := strings.Cut(stem, "-")
	dgst, err := ParseDigest(algorithm + ":" + encoded)
	return dgst, err == nil
}
