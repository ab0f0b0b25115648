package server

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"cubby/store"
	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// tagsMax bounds the tags of one PUT. The spec asks for at least 10.
const tagsMax = 100

// getManifest serves GET and HEAD (end-3) with exactly the bytes and the media type that were put.
func (s *Server) getManifest(w http.ResponseWriter, r *http.Request, rt route) error {
	m, err := s.store.Manifest(r.Context(), rt.name, rt.ref, r.Method == http.MethodGet)
	if err != nil {
		return err
	}
	s.store.Used(rt.name, rt.ref, m.Digest, r.Method == http.MethodGet)
	h := w.Header()
	setContentHeaders(h, m.MediaType, m.Digest)
	h.Set(headerCacheControl, "no-cache")
	if rt.ref.IsDigest() {
		h.Set(headerCacheControl, immutable)
	}
	if etags := etagList(r.Header.Values(headerIfNoneMatch)); slices.Contains(etags, "*") || slices.Contains(etags, m.Digest.String()) {
		h.Del(headerContentType)
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.Set(headerContentLength, strconv.FormatInt(m.Size, 10))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		// An error here means that the client has gone: the header is sent, nothing can be said.
		_, _ = w.Write(m.Raw)
	}
	return nil
}

// etagList returns the values of If-Match or If-None-Match without quotes; a weak tag is compared like a strong one.
func etagList(headers []string) []string {
	var etags []string
	for _, header := range headers {
		for etag := range strings.SplitSeq(header, ",") {
			etags = append(etags, strings.Trim(strings.TrimPrefix(strings.TrimSpace(etag), "W/"), `"`))
		}
	}
	return etags
}

func conditionOf(r *http.Request) store.Condition {
	return store.Condition{Match: etagList(r.Header.Values(headerIfMatch)), NoneMatch: etagList(r.Header.Values(headerIfNoneMatch))}
}

const (
	// largeBytes bounds what large manifests that are being put hold together.
	largeBytes = 32 << 20
	// largeWait is how long one waits for its part of that.
	largeWait = 20 * time.Second
	// largeTime is how long one of DefaultMaxManifest may then take to come; a larger one has more.
	largeTime = time.Minute
)

// receiveManifest reads a manifest. One that is large waits until there is memory for it, which it has until release.
func (s *Server) receiveManifest(w http.ResponseWriter, r *http.Request) (raw []byte, release func(), err error) {
	body := http.MaxBytesReader(w, r.Body, s.maxManifest)
	first, err := io.ReadAll(io.LimitReader(body, lightBytes))
	if err != nil || len(first) < lightBytes {
		return first, func() {}, err
	}
	size := s.maxManifest
	if r.ContentLength >= 0 {
		size = min(size, r.ContentLength)
	}
	if b, ok := r.Body.(*requestBody); ok {
		b.allow(largeWait + largeTime*time.Duration(max(1, size/DefaultMaxManifest)))
	}
	held := min(size, largeBytes)
	wait, cancel := context.WithTimeout(r.Context(), largeWait)
	defer cancel()
	if err := s.large.Acquire(wait, held); err != nil {
		if r.Context().Err() == nil {
			err = errLargeTooMany
		}
		return nil, nil, err
	}
	release = func() { s.large.Release(held) }
	all := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead)) // so that it does not grow by doubling
	all.Write(first)
	if _, err := all.ReadFrom(body); err != nil {
		release()
		return nil, nil, err
	}
	return all.Bytes(), release, nil
}

// putManifest serves end-7a and end-7b.
func (s *Server) putManifest(w http.ResponseWriter, r *http.Request, rt route) error {
	tags, err := tagsOf(r, rt.ref)
	if err != nil {
		return err
	}
	raw, release, err := s.receiveManifest(w, r)
	if err != nil {
		return receiveError(fmt.Errorf("%w: %w", store.ErrReceive, err))
	}
	defer release()
	// A cut or changed body is a wrong digest before it is a wrong manifest.
	algorithm := digest.SHA256
	if rt.ref.IsDigest() {
		algorithm = rt.ref.Digest.Algorithm()
	}
	dgst := oci.SumDigest(algorithm, raw)
	if rt.ref.IsDigest() && dgst != rt.ref.Digest {
		return fmt.Errorf("%w: the %d bytes received have digest %s", store.ErrDigestMismatch, len(raw), dgst)
	}
	s.parsing <- struct{}{}
	m, err := oci.ParseManifest(r.Header.Get(headerContentType), raw)
	<-s.parsing
	if err != nil {
		return err
	}
	missing, err := s.store.PutManifest(r.Context(), store.ManifestPut{
		Name: rt.name, Digest: dgst, Manifest: m, Tags: tags, Sparse: s.sparse, Condition: conditionOf(r),
		NoOverwrite: !rt.who.May(store.ActionOverwrite, rt.name), By: rt.who.Actor(),
	})
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set(headerLocation, "/v2/"+rt.name.String()+"/manifests/"+rt.ref.String())
	h.Set(headerDigest, dgst.String())
	h.Set(headerETag, `"`+dgst.String()+`"`)
	if m.Subject != "" {
		h.Set(headerSubject, m.Subject.String())
	}
	if rt.ref.IsDigest() && len(tags) > 0 {
		h.Set(headerTag, joinTags(tags))
	}
	if len(missing) > 0 {
		h.Set(headerWarning, fmt.Sprintf(`299 - "sparse: this manifest names content that is not here: %d missing, first %s"`, len(missing), missing[0]))
	}
	h.Set(headerContentLength, "0")
	w.WriteHeader(http.StatusCreated)
	return nil
}

// tagsOf returns the tags that a PUT sets: the one in the path, and those of the tag parameters.
func tagsOf(r *http.Request, ref oci.Reference) ([]oci.Tag, error) {
	params := r.URL.Query()["tag"]
	if len(params) > tagsMax {
		return nil, fmt.Errorf("%w: %d, at most %d are taken", errTagsTooMany, len(params), tagsMax)
	}
	var tags []oci.Tag
	if !ref.IsDigest() {
		tags = append(tags, ref.Tag)
	}
	for _, param := range params {
		tag, err := oci.ParseTag(param)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	return tags, nil
}

func joinTags(tags []oci.Tag) string {
	names := make([]string, len(tags))
	for i, tag := range tags {
		names[i] = tag.String()
	}
	return strings.Join(names, ", ")
}

// deleteManifest serves end-9: a tag alone, or a manifest with its tags.
func (s *Server) deleteManifest(w http.ResponseWriter, r *http.Request, rt route) error {
	var err error
	if rt.ref.IsDigest() {
		err = s.store.DeleteManifest(r.Context(), rt.name, rt.ref.Digest, conditionOf(r), rt.who.Actor())
	} else {
		err = s.store.DeleteTag(r.Context(), rt.name, rt.ref.Tag, conditionOf(r), rt.who.Actor())
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}
