package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// ErrManifestInvalid says that a manifest is refused for what it is. It is wrapped with a sentence for its author.
var ErrManifestInvalid = errors.New("manifest invalid")

// A Referenced is a digest that a manifest names, other than its subject.
type Referenced struct {
	Digest digest.Digest
	// Manifest is set when the reference names a manifest (an entry of an index); it may name a blob all the same.
	Manifest bool
	// Needed is set when a registry may refuse the manifest because the content is absent: config and layers of an
	// image, entries of an index, blobs of an artifact. Foreign layers and mere mentions are not needed.
	Needed bool
}

// A Manifest is what a registry must know of a manifest: it is parsed once, when it is put. Raw is never changed.
type Manifest struct {
	MediaType string
	Kind      Kind
	Raw       []byte

	// ArtifactType as the referrers API reports it: the manifest's own, else an image's config media type.
	ArtifactType string
	Annotations  map[string]string
	// Cache is set for BuildKit's cache manifests, which nobody pulls to run.
	Cache bool
	// Subject is the digest of the manifest this one refers to, or "". It adds no reference.
	Subject digest.Digest
	// References are the distinct digests that the manifest names, in the order of their first appearance.
	References []Referenced

	index  map[digest.Digest]int // position in References
	fields *fields               // nil when they were not decoded
}

// Needed returns how many references are needed.
func (m Manifest) Needed() (n int) {
	for _, ref := range m.References {
		if ref.Needed {
			n++
		}
	}
	return n
}

// fields are the parts of all known manifests, decoded at once.
type fields struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        *v1.Descriptor    `json:"config"`
	Layers        []v1.Descriptor   `json:"layers"`
	Manifests     []v1.Descriptor   `json:"manifests"`
	Blobs         []v1.Descriptor   `json:"blobs"`
	Subject       *v1.Descriptor    `json:"subject"`
	Annotations   map[string]string `json:"annotations"`
}

// ParseManifest reads a manifest that was put with a Content-Type. Errors wrap ErrManifestInvalid.
//
// A manifest whose mediaType field contradicts the Content-Type, or that could be read as an image and as an index,
// is refused (CVE-2021-41190). Duplicate keys, trailing data and deep nesting are refused for every media type.
func ParseManifest(contentType string, raw []byte) (Manifest, error) {
	m, err := parseManifest(contentType, raw)
	if err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", ErrManifestInvalid, err)
	}
	return m, nil
}

func parseManifest(contentType string, raw []byte) (Manifest, error) {
	given := trimParameters(contentType)
	if contentType != "" && given == "" {
		return Manifest{}, fmt.Errorf("its Content-Type %s is not a media type", quoteShort(contentType))
	}
	if given == MediaTypeDockerSchema1 || given == MediaTypeDockerSchema1JWS {
		return Manifest{}, errors.New("it is of Docker schema 1, which is not supported; push the image again with a current client")
	}
	if given != "" && !isJSON(given) {
		return Manifest{}, fmt.Errorf("media type %s is not one of JSON; push other content as blobs with a manifest", quoteShort(given))
	}
	var mentioned []digest.Digest
	var subjects []digest.Digest
	err := walkJSON(raw, KindOf(given) != KindOther, func(path []string, dgst digest.Digest) {
		switch {
		case slices.Equal(path, []string{"subject", "digest"}):
			subjects = append(subjects, dgst)
		case len(path) > 0 && path[len(path)-1] == "digest" || KindOf(given) == KindOther:
			mentioned = append(mentioned, dgst)
		}
	})
	if err != nil {
		return Manifest{}, err
	}
	if given == "" {
		return parseUntyped(raw)
	}
	m := Manifest{MediaType: given, Kind: KindOf(given), Raw: raw}
	if m.Kind == KindOther {
		return m, m.other(raw, subjects, mentioned)
	}
	var f fields
	if err := json.Unmarshal(raw, &f); err != nil {
		return Manifest{}, err
	}
	if err := f.check(m.Kind, given); err != nil {
		return Manifest{}, err
	}
	if err := m.read(f); err != nil {
		return Manifest{}, err
	}
	m.fields = &f
	for _, dgst := range mentioned {
		m.refer(Referenced{Digest: dgst})
	}
	return m, nil
}

// parseUntyped reads a manifest that came without a Content-Type by the mediaType field of its body.
func parseUntyped(raw []byte) (Manifest, error) {
	var f struct {
		MediaType string `json:"mediaType"`
	}
	if err := json.Unmarshal(raw, &f); err != nil {
		return Manifest{}, err
	}
	if trimParameters(f.MediaType) == "" {
		return Manifest{}, errors.New("it has no Content-Type and no mediaType field")
	}
	return parseManifest(f.MediaType, raw)
}

// check refuses manifests that contradict themselves or their Content-Type.
func (f *fields) check(kind Kind, given string) error {
	if f.MediaType != "" && f.MediaType != given {
		return contradiction(f.MediaType, given)
	}
	if kind != KindArtifact && f.SchemaVersion != 2 {
		return fmt.Errorf("its schemaVersion must be 2, not %d", f.SchemaVersion)
	}
	image, index := f.Config != nil || f.Layers != nil, f.Manifests != nil
	switch {
	case image && index:
		return errors.New("it has config or layers, and manifests too: it must be an image or an index")
	case kind == KindImage && index, kind == KindImage && f.Config == nil:
		return errors.New("an image manifest needs a config")
	case kind == KindIndex && image:
		return errors.New("an index must not have config or layers")
	}
	return nil
}

// read takes over the descriptors of a known manifest.
func (m *Manifest) read(f fields) error {
	m.ArtifactType, m.Annotations = f.ArtifactType, f.Annotations
	if f.Subject != nil {
		dgst, err := ParseDigest(f.Subject.Digest.String())
		if err != nil {
			return fmt.Errorf("subject: %w", err)
		}
		m.Subject = dgst
	}
	if f.Config != nil {
		m.Cache = f.Config.MediaType == mediaTypeBuildKitCache
		if m.ArtifactType == "" {
			// Spec: "If the artifactType is empty or missing in the image manifest, the value of artifactType MUST be
			// set to the config descriptor mediaType value" (end-12a).
			m.ArtifactType = f.Config.MediaType
		}
		if err := m.descriptors("config", []v1.Descriptor{*f.Config}, false); err != nil {
			return err
		}
	}
	if err := m.descriptors("layers", f.Layers, false); err != nil {
		return err
	}
	if err := m.descriptors("blobs", f.Blobs, false); err != nil {
		return err
	}
	// An index is BuildKit's older form of a cache: its config is an entry.
	m.Cache = m.Cache || slices.ContainsFunc(f.Manifests, func(d v1.Descriptor) bool { return d.MediaType == mediaTypeBuildKitCache })
	return m.descriptors("manifests", f.Manifests, true)
}

func (m *Manifest) descriptors(field string, ds []v1.Descriptor, manifest bool) error {
	for i, d := range ds {
		dgst, err := ParseDigest(d.Digest.String())
		if err != nil {
			return fmt.Errorf("%s[%d]: %w", field, i, err)
		}
		if d.Size < 0 {
			return fmt.Errorf("%s[%d]: size %d is negative", field, i, d.Size)
		}
		m.refer(Referenced{Digest: dgst, Manifest: manifest, Needed: !isForeignLayer(d)})
	}
	return nil
}

// other takes over what an unknown media type mentions. It pins all of that and needs none of it.
func (m *Manifest) other(raw []byte, subjects, mentioned []digest.Digest) error {
	// An unknown type may use these names for other things.
	var f struct{ MediaType, ArtifactType, Annotations json.RawMessage }
	if err := json.Unmarshal(raw, &f); err != nil {
		return err
	}
	var mediaType string
	if json.Unmarshal(f.MediaType, &mediaType) == nil && mediaType != "" && mediaType != m.MediaType {
		return contradiction(mediaType, m.MediaType)
	}
	// A courtesy to the referrers API.
	_ = json.Unmarshal(f.ArtifactType, &m.ArtifactType)
	if json.Unmarshal(f.Annotations, &m.Annotations) != nil {
		m.Annotations = nil
	}
	if len(subjects) > 0 {
		m.Subject = subjects[0]
	}
	for _, dgst := range mentioned {
		m.refer(Referenced{Digest: dgst})
	}
	return nil
}

func contradiction(field, given string) error {
	return fmt.Errorf("its mediaType is %s, but its Content-Type is %s", quoteShort(field), quoteShort(given))
}

// refer adds a reference, or strengthens the one that is there.
func (m *Manifest) refer(r Referenced) {
	if m.index == nil {
		m.index = make(map[digest.Digest]int)
	}
	i, ok := m.index[r.Digest]
	if !ok {
		m.index[r.Digest] = len(m.References)
		m.References = append(m.References, r)
		return
	}
	m.References[i].Manifest = m.References[i].Manifest || r.Manifest
	m.References[i].Needed = m.References[i].Needed || r.Needed
}
