package oci

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// An ArtifactKind is what a person calls an artifact.
type ArtifactKind string

// The kinds of artifacts.
const (
	KindContainer   ArtifactKind = "image"       // a container image, or an index of some
	KindChart       ArtifactKind = "chart"       // of Helm
	KindModule      ArtifactKind = "module"      // of OpenTofu
	KindProvider    ArtifactKind = "provider"    // of OpenTofu
	KindSignature   ArtifactKind = "signature"   // of cosign, sigstore or notation
	KindSBOM        ArtifactKind = "sbom"        // SPDX, CycloneDX or syft
	KindAttestation ArtifactKind = "attestation" // in-toto
	KindCache       ArtifactKind = "cache"       // of BuildKit
	KindAny         ArtifactKind = "artifact"    // anything else
)

// IsAttached reports whether artifacts of the kind say something about another one.
func (k ArtifactKind) IsAttached() bool {
	return k == KindSignature || k == KindSBOM || k == KindAttestation
}

// What a manifest can tell about its subject.
const (
	ProvidesSignature   = "signature"
	ProvidesSBOM        = "sbom"
	ProvidesProvenance  = "provenance"
	ProvidesAttestation = "attestation" // of any other predicate
)

const (
	factText      = 4 << 10   // bytes of a text that is kept
	factList      = 1000      // elements of a list that are kept
	factsMax      = 256 << 10 // bytes of all facts as JSON
	platformsText = 100       // bytes of a platform
)

// Facts are what people ask about a manifest. They come from strangers: texts are as they were pushed, bounded to 4 KiB,
// lists to 1000 elements, and all of it to 256 KiB as JSON.
type Facts struct {
	Kind ArtifactKind `json:"kind"`
	// Platforms are distinct, as linux/arm64/v8, in the order of the manifest: of an image from its config, of an index what
	// its entries say, without attestations.
	Platforms []string `json:"platforms,omitempty"`
	// PullSize is what a client fetches, in bytes: manifest, config and layers, each digest once. It is 0 of an index, whose
	// entries have one each.
	PullSize  int64     `json:"pull_size,omitempty"`
	CreatedAt time.Time `json:"created_at,omitzero"` // zero when it does not say, or not believably
	// Provides is what it tells about its subject: "signature", "sbom", "provenance" or "attestation".
	Provides []string `json:"provides,omitempty"`
	// Annotations are those that the image-spec defines for descriptions: of the manifest, else labels of its config.
	Annotations map[string]string `json:"annotations,omitempty"`
	Config      *ImageConfig      `json:"config,omitempty"` // of an image; nil when it was not read
	// Chain is the ChainID of all its layers (image-spec, "Layer ChainID"), or "" when it is no image or does not say. It is
	// not in the JSON.
	Chain digest.Digest `json:"-"`
}

// factAnnotations are the annotations that Facts keep (image-spec, "Pre-Defined Annotation Keys").
var factAnnotations = []string{
	v1.AnnotationTitle, v1.AnnotationDescription, v1.AnnotationVersion, v1.AnnotationSource, v1.AnnotationURL,
	v1.AnnotationDocumentation, v1.AnnotationLicenses, v1.AnnotationVendor, v1.AnnotationRevision, v1.AnnotationCreated,
	v1.AnnotationBaseImageName, v1.AnnotationBaseImageDigest,
}

// ConfigToRead returns the digest of the config that Describe wants, if it wants one.
func (m *Manifest) ConfigToRead() (digest.Digest, bool) {
	f := m.describable()
	if !m.wantsConfig(f, kindOf(m, f)) {
		return "", false
	}
	dgst, err := ParseDigest(f.Config.Digest.String())
	return dgst, err == nil
}

func (m *Manifest) wantsConfig(f fields, kind ArtifactKind) bool {
	return m.Kind == KindImage && kind == KindContainer && f.Config != nil && isImageConfig(f.Config.MediaType)
}

// Describe returns the facts of a manifest. config is the content of what ConfigToRead names, or nil when it was not read.
// What cannot be read is left out.
func Describe(m Manifest, config []byte) Facts {
	f := m.describable()
	kind := kindOf(&m, f)
	facts := Facts{Kind: kind, PullSize: pullSize(&m, f), Provides: provides(&m, f, kind)}
	var labels map[string]string
	if m.wantsConfig(f, kind) && config != nil {
		if c, ok := readConfig(config); ok {
			facts.Config, labels = c.image(), c.Config.Labels.m
			facts.Platforms = platforms([]v1.Platform{{OS: c.OS, Architecture: c.Architecture, Variant: c.Variant}})
			facts.CreatedAt = believable(c.Created)
			if chain := ChainIDs(c.diffIDs()); len(chain) > 0 {
				facts.Chain = chain[len(chain)-1]
			}
		}
	}
	if m.Kind == KindIndex {
		facts.Platforms = entryPlatforms(f.Manifests)
	}
	facts.Annotations = describing(m.Annotations, labels)
	if facts.CreatedAt.IsZero() {
		facts.CreatedAt = believable(facts.Annotations[v1.AnnotationCreated])
	}
	facts.bound()
	return facts
}

// describable returns the fields of a manifest, those that can be read.
func (m *Manifest) describable() (f fields) {
	if m.fields != nil {
		return *m.fields
	}
	if m.Kind != KindOther {
		_ = json.Unmarshal(m.Raw, &f)
	}
	return f
}

// kindOf tells the kind by the type of the artifact, then by what it holds: cosign packs signatures as images.
func kindOf(m *Manifest, f fields) ArtifactKind {
	if m.Cache {
		return KindCache
	}
	artifactType := m.ArtifactType
	if m.Kind == KindImage && isImageConfig(artifactType) {
		artifactType = ""
	}
	if artifactType != "" {
		if kind := kindOfType(artifactType); kind != KindAny {
			return kindOfBundle(kind, artifactType, m.Annotations)
		}
	}
	if kind := kindOfContent(f); kind != KindAny {
		return kind
	}
	switch {
	case artifactType != "":
		return KindAny
	case m.Kind == KindImage && f.Config != nil && isImageConfig(f.Config.MediaType):
		return KindContainer
	case m.Kind == KindIndex && slices.ContainsFunc(f.Manifests, isImageEntry):
		return KindContainer
	}
	return KindAny
}

// kindOfContent tells the kind of an artifact whose layers or blobs are all of one kind.
func kindOfContent(f fields) ArtifactKind {
	kind := KindAny
	for i, d := range slices.Concat(f.Layers, f.Blobs) {
		k := kindOfType(d.MediaType)
		if i > 0 && k != kind {
			return KindAny
		}
		kind = k
	}
	return kind
}

// kindOfType tells the kind by the media type of an artifact, a config or a layer.
func kindOfType(mediaType string) ArtifactKind {
	t := strings.ToLower(trimParameters(mediaType))
	has := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(t, part) })
	}
	switch {
	case t == mediaTypeBuildKitCache:
		return KindCache
	case strings.HasPrefix(t, "application/vnd.cncf.helm.config."):
		return KindChart
	case t == "application/vnd.opentofu.modulepkg":
		return KindModule
	case t == "application/vnd.opentofu.provider" || t == "application/vnd.opentofu.provider-target":
		return KindProvider
	case has("spdx", "cyclonedx", "syft+json", "vnd.syft"):
		return KindSBOM
	case has("vnd.dev.cosign.simplesigning", "vnd.cncf.notary.signature", "vnd.dev.sigstore.bundle", "vnd.dev.cosign.artifact.sig"):
		return KindSignature
	case has("vnd.in-toto", "dsse.envelope", "vnd.docker.attestation", "vnd.dev.cosign.attestation"):
		return KindAttestation
	}
	return KindAny
}

// Annotations of sigstore bundles, and of layers that are statements of in-toto.
const (
	annotationBundlePredicate = "dev.sigstore.bundle.predicateType"
	annotationInTotoPredicate = "in-toto.io/predicate-type"
	annotationPredicate       = "predicateType" // of cosign
	predicateSignature        = "https://sigstore.dev/cosign/sign/"
)

// kindOfBundle tells signatures from attestations in a sigstore bundle: cosign 3 signs with a statement of its own.
func kindOfBundle(kind ArtifactKind, artifactType string, annotations map[string]string) ArtifactKind {
	predicate := annotations[annotationBundlePredicate]
	if !strings.Contains(artifactType, "sigstore.bundle") || predicate == "" || strings.HasPrefix(predicate, predicateSignature) {
		return kind
	}
	return KindAttestation
}

// provides tells what a manifest says about its subject.
func provides(m *Manifest, f fields, kind ArtifactKind) []string {
	switch kind {
	case KindSignature:
		return []string{ProvidesSignature}
	case KindSBOM:
		return []string{ProvidesSBOM}
	case KindAttestation:
	default:
		return nil
	}
	predicates := []string{m.Annotations[annotationBundlePredicate], m.Annotations[annotationInTotoPredicate]}
	for _, d := range slices.Concat(f.Layers, f.Blobs) {
		predicates = append(predicates, d.Annotations[annotationInTotoPredicate], d.Annotations[annotationPredicate])
	}
	var all []string
	for _, predicate := range predicates {
		p := strings.ToLower(predicate)
		switch {
		case p == "":
			continue
		case strings.Contains(p, "slsa"):
			p = ProvidesProvenance
		case strings.Contains(p, "spdx") || strings.Contains(p, "cyclonedx"):
			p = ProvidesSBOM
		default:
			p = ProvidesAttestation
		}
		if !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	if len(all) == 0 {
		return []string{ProvidesAttestation}
	}
	return all
}

// pullSize sums what a client fetches.
func pullSize(m *Manifest, f fields) int64 {
	if m.Kind == KindIndex {
		return 0
	}
	sum := int64(len(m.Raw))
	seen := make(map[digest.Digest]bool)
	descriptors := slices.Concat(f.Layers, f.Blobs)
	if f.Config != nil {
		descriptors = append(descriptors, *f.Config)
	}
	for _, d := range descriptors {
		if seen[d.Digest] || d.Size < 0 {
			continue
		}
		seen[d.Digest] = true
		if d.Size > math.MaxInt64-sum {
			return math.MaxInt64
		}
		sum += d.Size
	}
	return sum
}

func isImageConfig(mediaType string) bool {
	return mediaType == v1.MediaTypeImageConfig || mediaType == "application/vnd.docker.container.image.v1+json"
}

// isAttestationEntry reports whether an entry of an index is what BuildKit attaches to its neighbours.
func isAttestationEntry(d v1.Descriptor) bool {
	return d.Annotations["vnd.docker.reference.type"] == "attestation-manifest" ||
		d.Platform != nil && d.Platform.OS == "unknown" && d.Platform.Architecture == "unknown"
}

func isImageEntry(d v1.Descriptor) bool {
	return !isAttestationEntry(d) && (d.ArtifactType == "" || isImageConfig(d.ArtifactType))
}

func entryPlatforms(entries []v1.Descriptor) []string {
	var all []v1.Platform
	for _, d := range entries {
		if d.Platform != nil && !isAttestationEntry(d) {
			all = append(all, *d.Platform)
		}
	}
	return platforms(all)
}

// platforms writes platforms, each once. Those that are no words are left out: they are kept with spaces between.
func platforms(all []v1.Platform) []string {
	var texts []string
	seen := make(map[string]bool)
	for _, p := range all {
		text := p.OS + "/" + p.Architecture
		if p.Variant != "" {
			text += "/" + p.Variant
		}
		if len(texts) == factList {
			break
		}
		if p.OS == "" || p.Architecture == "" || p.OS == "unknown" || len(text) > platformsText || !isWord(text) || seen[text] {
			continue
		}
		seen[text] = true
		texts = append(texts, text)
	}
	return texts
}

func isWord(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// describing picks the annotations that describe, else labels of the same name.
func describing(annotations, labels map[string]string) map[string]string {
	var kept map[string]string
	for _, key := range factAnnotations {
		v, ok := annotations[key]
		if !ok {
			v, ok = labels[key]
		}
		if !ok {
			continue
		}
		if kept == nil {
			kept = make(map[string]string)
		}
		kept[key] = cut(v)
	}
	return kept
}

// believable reads a time. Builds that can be repeated say 1970 or 1980, which is no time at all.
func believable(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() < 1990 || t.Year() > 2100 {
		return time.Time{}
	}
	return t.UTC()
}

// cut bounds a text, between characters.
func cut(s string) string {
	if len(s) <= factText {
		return s
	}
	return strings.ToValidUTF8(s[:factText], "")
}

// bound drops the largest parts, those first that are least missed, until the whole is small enough.
func (f *Facts) bound() {
	c := f.Config
	drops := []func(){func() { f.Annotations = nil }, func() { f.Platforms = nil }}
	if c != nil {
		drops = slices.Concat([]func(){
			func() { c.History = nil }, func() { c.Labels = nil }, func() { c.Env = nil }, func() { c.ExposedPorts, c.Volumes = nil, nil },
			func() { c.Entrypoint, c.Cmd = nil, nil },
		}, drops)
	}
	for _, drop := range drops {
		if f.size() <= factsMax {
			return
		}
		drop()
		if c != nil {
			c.Truncated = true
		}
	}
}

// size is that of the facts as JSON, in bytes.
func (f *Facts) size() int {
	b, err := json.Marshal(f)
	if err != nil {
		return math.MaxInt
	}
	return len(b)
}
