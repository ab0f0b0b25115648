package server

import (
	"strings"

	"cubby/server/auth"
	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// A resource is what a path below /v2/ names.
type resource int

const (
	resourceBase      resource = iota + 1 // end-1
	resourceCatalog                       // not in the spec, known to every client
	resourceBlob                          // end-2, end-10
	resourceManifest                      // end-3, end-7, end-9
	resourceUploads                       // end-4, end-11
	resourceUpload                        // end-5, end-6, end-13, end-14
	resourceTags                          // end-8
	resourceReferrers                     // end-12
)

// A route is a parsed path. The fields that its resource does not have are zero.
type route struct {
	resource resource
	name     oci.Name
	ref      oci.Reference // resourceManifest
	digest   digest.Digest // resourceBlob, resourceReferrers
	upload   string        // resourceUpload

	who *auth.Principal // who is asking; set by serveAPI
}

// parsePath parses what stands behind /v2/. It reads from the right, because a repository name may hold any of the
// words: blobs/uploads, a/manifests/b and x/tags/list are all valid names.
func parsePath(path string) (route, error) {
	switch path {
	case "":
		return route{resource: resourceBase}, nil
	case "_catalog":
		return route{resource: resourceCatalog}, nil
	}
	rest, last, ok := cutLast(path)
	if !ok {
		return route{}, errPathUnknown
	}
	name, word, _ := cutLast(rest)
	switch {
	case word == "tags" && last == "list":
		return named(route{resource: resourceTags}, name)
	case word == "manifests":
		ref, err := oci.ParseReference(last)
		if err != nil {
			return route{}, err
		}
		return named(route{resource: resourceManifest, ref: ref}, name)
	case word == "referrers":
		dgst, err := oci.ParseDigest(last)
		if err != nil {
			return route{}, err
		}
		return named(route{resource: resourceReferrers, digest: dgst}, name)
	case word == "blobs" && last == "uploads":
		return named(route{resource: resourceUploads}, name)
	case word == "blobs":
		dgst, err := oci.ParseDigest(last)
		if err != nil {
			return route{}, err
		}
		return named(route{resource: resourceBlob, digest: dgst}, name)
	case word == "uploads":
		repository, blobs, _ := cutLast(name)
		switch {
		case blobs != "blobs":
			return route{}, errPathUnknown
		case last == "":
			return named(route{resource: resourceUploads}, repository)
		}
		return named(route{resource: resourceUpload, upload: last}, repository)
	}
	return route{}, errPathUnknown
}

func named(rt route, name string) (route, error) {
	var err error
	if rt.name, err = oci.ParseName(name); err != nil {
		return route{}, err
	}
	return rt, nil
}

// cutLast splits a path at its last slash. Without one, all of it is last.
func cutLast(path string) (rest, last string, ok bool) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path, false
	}
	return path[:i], path[i+1:], true
}
