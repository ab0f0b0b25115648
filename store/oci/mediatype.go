package oci

import (
	"mime"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of manifests that the image-spec module does not name.
const (
	MediaTypeDockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	MediaTypeDockerSchema1      = "application/vnd.docker.distribution.manifest.v1+json"
	MediaTypeDockerSchema1JWS   = "application/vnd.docker.distribution.manifest.v1+prettyjws"
	MediaTypeArtifactManifest   = "application/vnd.oci.artifact.manifest.v1+json"
	mediaTypeBuildKitCache      = "application/vnd.buildkit.cacheconfig.v0"
)

// Kind says how the references of a manifest are read.
type Kind int

const (
	KindOther    Kind = iota // any other JSON document: it pins every digest it mentions and needs none of them
	KindImage                // OCI image manifest or Docker schema 2: config and layers
	KindIndex                // OCI image index or Docker manifest list: manifests
	KindArtifact             // OCI artifact manifest of 1.1-rc: blobs
)

// KindOf returns how a manifest of the media type is read.
func KindOf(mediaType string) Kind {
	switch mediaType {
	case v1.MediaTypeImageManifest, MediaTypeDockerManifest:
		return KindImage
	case v1.MediaTypeImageIndex, MediaTypeDockerManifestList:
		return KindIndex
	case MediaTypeArtifactManifest:
		return KindArtifact
	}
	return KindOther
}

// trimParameters returns a Content-Type without parameters, in lower case, or "" when it is not a media type.
// Spec: "The registry SHOULD ignore parameters on the Content-Type header."
func trimParameters(contentType string) string {
	if contentType == "" {
		return ""
	}
	mediaType, _, err := mime.ParseMediaType(contentType)
	if err != nil || !strings.Contains(mediaType, "/") || len(mediaType) > 255 {
		return ""
	}
	return mediaType
}

// isForeignLayer reports whether a layer is fetched from elsewhere and may be absent here.
func isForeignLayer(d v1.Descriptor) bool {
	switch d.MediaType {
	case "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
		"application/vnd.oci.image.layer.nondistributable.v1.tar",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd":
		return true
	}
	return false
}

// isJSON reports whether a media type is of JSON, so that no manifest can be served as a page.
func isJSON(mediaType string) bool {
	return strings.HasPrefix(mediaType, "application/") && (strings.HasSuffix(mediaType, "+json") || mediaType == "application/json")
}
