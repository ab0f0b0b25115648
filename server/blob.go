package server

import (
	"bytes"
	"io"
	"net/http"
	"time"

	"cubby/store"

	"github.com/opencontainers/go-digest"
)

// immutable lets clients keep content that is addressed by digest.
const immutable = "private, max-age=31536000, immutable"

// getBlob serves GET and HEAD (end-2), with ranges. Both look at the file, so that they do not disagree.
func (s *Server) getBlob(w http.ResponseWriter, r *http.Request, rt route) error {
	var content io.ReadSeeker
	if r.Method == http.MethodHead {
		// To someone who may push, "it is here" is a promise that the push can go on without it.
		size, err := s.store.StatBlob(r.Context(), rt.name, rt.digest, rt.who.May(store.ActionPush, rt.name))
		if err != nil {
			return err
		}
		content = io.NewSectionReader(bytes.NewReader(nil), 0, size) // it is not sent, so nobody reads it
	} else {
		b, err := s.store.OpenBlob(r.Context(), rt.name, rt.digest)
		if err != nil {
			return err
		}
		defer b.Close()
		content = b.File
	}
	h := w.Header()
	setContentHeaders(h, "application/octet-stream", rt.digest)
	h.Set(headerCacheControl, immutable)
	http.ServeContent(&rangeWriter{ResponseWriter: w, server: s, request: r}, r, "", time.Time{}, content)
	return nil
}

// setContentHeaders sets what all stored content is served with. It comes from strangers, so a browser must neither
// guess its type nor run it.
func setContentHeaders(h http.Header, contentType string, dgst digest.Digest) {
	h.Set(headerContentType, contentType)
	h.Set(headerDigest, dgst.String())
	h.Set(headerETag, `"`+dgst.String()+`"`)
	h.Set(headerNoSniff, "nosniff")
	h.Set(headerCSP, "sandbox; default-src 'none'")
}

// A rangeWriter answers a range that cannot be satisfied in the API's JSON, where http.ServeContent writes text.
type rangeWriter struct {
	http.ResponseWriter
	server  *Server
	request *http.Request
	refused bool
}

func (w *rangeWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *rangeWriter) WriteHeader(status int) {
	if status == http.StatusRequestedRangeNotSatisfiable {
		w.refused = true
		w.server.writeError(w.ResponseWriter, w.request, errRange)
		return
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *rangeWriter) Write(p []byte) (int, error) {
	if w.refused {
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}

// ReadFrom hands on to the recorder's, which leads to sendfile.
func (w *rangeWriter) ReadFrom(r io.Reader) (int64, error) {
	if w.refused {
		return io.Copy(io.Discard, r)
	}
	return io.Copy(w.ResponseWriter, r)
}

// deleteBlob serves end-10.
func (s *Server) deleteBlob(w http.ResponseWriter, r *http.Request, rt route) error {
	if err := s.store.DeleteBlob(r.Context(), rt.name, rt.digest, rt.who.Actor()); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}
