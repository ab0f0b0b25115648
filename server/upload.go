package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"

	"cubby/store"
	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// postUpload serves end-4a, end-4b, end-4c and end-11.
func (s *Server) postUpload(w http.ResponseWriter, r *http.Request, rt route) error {
	query := r.URL.Query()
	if query.Has("mount") {
		mounted, err := s.mountBlob(w, r, rt, query)
		if mounted || err != nil {
			return err
		}
	}
	if query.Has("digest") {
		return s.postBlob(w, r, rt, query.Get("digest"))
	}
	algorithm := digest.SHA256
	if query.Has("digest-algorithm") {
		var err error
		if algorithm, err = oci.ParseAlgorithm(query.Get("digest-algorithm")); err != nil {
			return err
		}
	}
	id, err := s.store.StartCountedUpload(rt.name, rt.who.Owner(), rt.who.Quota(), algorithm)
	if err != nil {
		return err
	}
	writeSession(w, rt.name, id, 0, http.StatusAccepted)
	return nil
}

// postBlob takes a whole blob in one POST (end-4b).
func (s *Server) postBlob(w http.ResponseWriter, r *http.Request, rt route, param string) error {
	dgst, err := oci.ParseDigest(param)
	if err != nil {
		return err
	}
	who := rt.who.Owner()
	id, err := s.store.StartCountedUpload(rt.name, who, rt.who.Quota(), dgst.Algorithm())
	if err != nil {
		return err
	}
	if err = s.store.FinishUpload(r.Context(), rt.name, who, id, 0, r.Body, dgst); err != nil {
		// The client has never seen the session's id, and may be gone.
		if cancelErr := s.store.CancelUpload(context.WithoutCancel(r.Context()), rt.name, who, id); cancelErr != nil && !errors.Is(cancelErr, store.ErrUploadUnknown) {
			s.log.Debug("cancel upload", "upload", id, "err", cancelErr)
		}
		return receiveError(err)
	}
	writeBlobCreated(w, rt.name, dgst)
	return nil
}

// mountBlob makes a blob of another repository readable here. It reports whether it did; if not, the client uploads:
// spec, "if a registry … is unable to mount the requested blob, it SHOULD return a 202". Without from, any
// repository that the client may read will do.
func (s *Server) mountBlob(w http.ResponseWriter, r *http.Request, rt route, query url.Values) (bool, error) {
	dgst, err := oci.ParseDigest(query.Get("mount"))
	if err != nil {
		return false, err
	}
	var candidates []oci.Name
	if query.Has("from") {
		// A name that cannot exist is like one that does not: clients send names of other registries here.
		if from, err := oci.ParseName(query.Get("from")); err == nil {
			candidates = append(candidates, from)
		}
	} else if candidates, err = s.store.BlobRepositories(r.Context(), dgst, 100); err != nil {
		return false, err
	}
	for _, from := range candidates {
		if !rt.who.May(store.ActionPull, from) {
			continue
		}
		switch err := s.store.MountBlob(r.Context(), from, rt.name, dgst); {
		case err == nil:
			writeBlobCreated(w, rt.name, dgst)
			return true, nil
		case !errors.Is(err, store.ErrBlobUnknown):
			return false, err
		}
	}
	return false, nil
}

// patchUpload serves end-5: with Content-Range a chunk, without it whatever follows.
func (s *Server) patchUpload(w http.ResponseWriter, r *http.Request, rt route) error {
	start, body, err := chunkOf(r)
	if err != nil {
		return err
	}
	size, err := s.store.WriteUpload(r.Context(), rt.name, rt.who.Owner(), rt.upload, start, body)
	if err != nil {
		return sessionError(w, rt, err)
	}
	writeSession(w, rt.name, rt.upload, size, http.StatusAccepted)
	return nil
}

// putUpload serves end-6: the last chunk, if any, and the digest.
func (s *Server) putUpload(w http.ResponseWriter, r *http.Request, rt route) error {
	query := r.URL.Query()
	if !query.Has("digest") {
		return errDigestMissing
	}
	dgst, err := oci.ParseDigest(query.Get("digest"))
	if err != nil {
		return err
	}
	start, body, err := chunkOf(r)
	if err != nil {
		return err
	}
	if err := s.store.FinishUpload(r.Context(), rt.name, rt.who.Owner(), rt.upload, start, body, dgst); err != nil {
		return sessionError(w, rt, err)
	}
	writeBlobCreated(w, rt.name, dgst)
	return nil
}

// getUpload serves end-13.
func (s *Server) getUpload(w http.ResponseWriter, r *http.Request, rt route) error {
	size, err := s.store.UploadOffset(rt.name, rt.who.Owner(), rt.upload)
	if err != nil {
		return err
	}
	writeSession(w, rt.name, rt.upload, size, http.StatusNoContent)
	return nil
}

// deleteUpload serves end-14.
func (s *Server) deleteUpload(w http.ResponseWriter, r *http.Request, rt route) error {
	if err := s.store.CancelUpload(r.Context(), rt.name, rt.who.Owner(), rt.upload); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// contentRange is the form of the spec (end-5); some clients put the unit in front.
var contentRange = regexp.MustCompile(`^(?:bytes[ =])?([0-9]{1,18})-([0-9]{1,18})(?:/(?:[0-9]{1,18}|\*))?$`)

// chunkOf returns where the chunk of a request says it begins, or -1 when it does not say, and its bytes.
func chunkOf(r *http.Request) (start int64, body io.Reader, err error) {
	value := r.Header.Get(headerContentRange)
	if value == "" {
		return -1, r.Body, nil
	}
	start, length, err := parseContentRange(value, r.ContentLength)
	if err != nil {
		return 0, nil, err
	}
	return start, &exactReader{r: r.Body, left: length}, nil
}

// An exactReader fails when its source is longer or shorter than a Content-Range said. It matters for bodies whose
// length is not known beforehand.
type exactReader struct {
	r    io.Reader
	left int64
}

func (e *exactReader) Read(p []byte) (int, error) {
	if e.left == 0 {
		var extra [1]byte
		if n, _ := io.ReadFull(e.r, extra[:]); n > 0 {
			return 0, fmt.Errorf("%w: the body is longer than its Content-Range", store.ErrSizeMismatch)
		}
		return 0, io.EOF
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if errors.Is(err, io.EOF) && e.left > 0 {
		return n, fmt.Errorf("%w: the body is shorter than its Content-Range", store.ErrSizeMismatch)
	}
	if errors.Is(err, io.EOF) {
		err = nil // said by the next call
	}
	return n, err
}

// parseContentRange checks a Content-Range against the length of the body, -1 when it is not known beforehand.
func parseContentRange(value string, contentLength int64) (start, length int64, err error) {
	m := contentRange.FindStringSubmatch(value)
	if m == nil {
		return 0, 0, fmt.Errorf("%w: %.80q is not of the form first-last", errContentRange, value)
	}
	start, err = strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("%w: %w", errContentRange, err)
	}
	end, err := strconv.ParseInt(m[2], 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("%w: %w", errContentRange, err)
	}
	if end < start {
		return 0, 0, fmt.Errorf("%w: %.80q ends before it begins", errContentRange, value)
	}
	length = end - start + 1
	if contentLength >= 0 && contentLength != length {
		return 0, 0, fmt.Errorf("%w: Content-Range says %d bytes, Content-Length %d", store.ErrSizeMismatch, length, contentLength)
	}
	return start, length, nil
}

// sessionError adds to a refusal where the session is.
func sessionError(w http.ResponseWriter, rt route, err error) error {
	if errors.Is(err, store.ErrRangeInvalid) {
		w.Header().Set(headerLocation, sessionLocation(rt.name, rt.upload))
	}
	return receiveError(err)
}

// receiveError names what is wrong with a body that could not be read: that is the client's fault, whatever it is.
func receiveError(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: the body ended early", store.ErrSizeMismatch)
	}
	return err
}

func sessionLocation(name oci.Name, id string) string {
	return "/v2/" + name.String() + "/blobs/uploads/" + id
}

// uploadRange is the Range header of a session: docker wants it on every answer. The spec has no form for an empty
// session; "0-0" is what registries have always sent.
func uploadRange(size int64) string {
	return "0-" + strconv.FormatInt(max(size-1, 0), 10)
}

func writeSession(w http.ResponseWriter, name oci.Name, id string, size int64, status int) {
	h := w.Header()
	h.Set(headerLocation, sessionLocation(name, id))
	h.Set(headerRange, uploadRange(size))
	h.Set(headerUploadUUID, id)
	if status != http.StatusNoContent {
		h.Set(headerContentLength, "0")
	}
	w.WriteHeader(status)
}

func writeBlobCreated(w http.ResponseWriter, name oci.Name, dgst digest.Digest) {
	h := w.Header()
	h.Set(headerLocation, "/v2/"+name.String()+"/blobs/"+dgst.String())
	h.Set(headerDigest, dgst.String())
	h.Set(headerContentLength, "0")
	w.WriteHeader(http.StatusCreated)
}
