package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"

	"cubby/server/auth"
	"cubby/store"
	"cubby/store/oci"
)

// A code is an error code of the spec ("Error Codes").
type code string

const (
	codeBlobUnknown         code = "BLOB_UNKNOWN"
	codeBlobUploadInvalid   code = "BLOB_UPLOAD_INVALID"
	codeBlobUploadUnknown   code = "BLOB_UPLOAD_UNKNOWN"
	codeDigestInvalid       code = "DIGEST_INVALID"
	codeManifestBlobUnknown code = "MANIFEST_BLOB_UNKNOWN"
	codeManifestInvalid     code = "MANIFEST_INVALID"
	codeManifestUnknown     code = "MANIFEST_UNKNOWN"
	codeNameInvalid         code = "NAME_INVALID"
	codeNameUnknown         code = "NAME_UNKNOWN"
	codeSizeInvalid         code = "SIZE_INVALID"
	codeUnauthorized        code = "UNAUTHORIZED"
	codeDenied              code = "DENIED"
	codeUnsupported         code = "UNSUPPORTED"
	codeTooManyRequests     code = "TOOMANYREQUESTS"

	// codeUnknown goes with a 500, which a client cannot cause; the spec has no code for it.
	codeUnknown code = "UNKNOWN"
)

// These errors are about the request itself.
var (
	errPathUnknown   = errors.New("no such path in the API")
	errMethod        = errors.New("method not allowed")
	errParameter     = errors.New("parameter invalid")
	errTagsTooMany   = errors.New("too many tags in one request")
	errLargeTooMany  = errors.New("too many large manifests are being pushed at the moment")
	errContentRange  = errors.New("Content-Range invalid")
	errDigestMissing = errors.New("parameter digest is missing")
	errTimeout       = errors.New("the request made no progress")
	errRange         = errors.New("range not satisfiable")
)

// table maps errors to answers; the first row that matches decides. What is not in it is a 500.
var table = []struct {
	is     error
	status int
	code   code
}{
	{oci.ErrNameInvalid, http.StatusBadRequest, codeNameInvalid},
	{oci.ErrTagInvalid, http.StatusBadRequest, codeManifestInvalid},
	// A manifest that names an invalid digest is an invalid manifest.
	{oci.ErrManifestInvalid, http.StatusBadRequest, codeManifestInvalid},
	{oci.ErrDigestInvalid, http.StatusBadRequest, codeDigestInvalid},
	{store.ErrNameUnknown, http.StatusNotFound, codeNameUnknown},
	{store.ErrBlobUnknown, http.StatusNotFound, codeBlobUnknown},
	{store.ErrManifestUnknown, http.StatusNotFound, codeManifestUnknown},
	{store.ErrManifestBlobUnknown, http.StatusNotFound, codeManifestBlobUnknown},
	{store.ErrUploadUnknown, http.StatusNotFound, codeBlobUploadUnknown},
	{store.ErrUploadBusy, http.StatusConflict, codeBlobUploadInvalid},
	{store.ErrUploadsTooMany, http.StatusTooManyRequests, codeTooManyRequests},
	{store.ErrRangeInvalid, http.StatusRequestedRangeNotSatisfiable, codeBlobUploadInvalid},
	{store.ErrDigestMismatch, http.StatusBadRequest, codeDigestInvalid},
	{store.ErrSizeMismatch, http.StatusBadRequest, codeSizeInvalid},
	{store.ErrInUse, http.StatusMethodNotAllowed, codeUnsupported},
	{store.ErrPrecondition, http.StatusPreconditionFailed, codeDenied},
	// Not 507: docker repeats a push after any 5xx, but a full disk does not get better by asking.
	{store.ErrFull, http.StatusForbidden, codeDenied},
	{store.ErrReadOnly, http.StatusMethodNotAllowed, codeUnsupported},
	{store.ErrTarget, http.StatusConflict, codeUnsupported},
	{store.ErrHistoryUnknown, http.StatusNotFound, codeManifestUnknown},
	{store.ErrContentDeleted, http.StatusNotFound, codeManifestUnknown},
	{store.ErrImmutable, http.StatusConflict, codeDenied},
	{auth.ErrUnauthorized, http.StatusUnauthorized, codeUnauthorized},
	{auth.ErrCredentials, http.StatusUnauthorized, codeUnauthorized},
	{auth.ErrSlowDown, http.StatusTooManyRequests, codeTooManyRequests},
	{auth.ErrDenied, http.StatusForbidden, codeDenied},
	{store.ErrOverwrite, http.StatusForbidden, codeDenied},
	{store.ErrUserUnknown, http.StatusNotFound, codeUnsupported},
	{store.ErrUserExists, http.StatusConflict, codeUnsupported},
	{store.ErrUserInvalid, http.StatusBadRequest, codeUnsupported},
	{store.ErrActionsInvalid, http.StatusBadRequest, codeUnsupported},
	{store.ErrGrantUnknown, http.StatusNotFound, codeUnsupported},
	{store.ErrTokenUnknown, http.StatusNotFound, codeUnsupported},
	{oci.ErrGlobInvalid, http.StatusBadRequest, codeUnsupported},
	{errPathUnknown, http.StatusNotFound, codeUnsupported},
	{errMethod, http.StatusMethodNotAllowed, codeUnsupported},
	{errParameter, http.StatusBadRequest, codeUnsupported},
	{errTagsTooMany, http.StatusRequestURITooLong, codeManifestInvalid},
	{errLargeTooMany, http.StatusTooManyRequests, codeTooManyRequests},
	{errContentRange, http.StatusBadRequest, codeBlobUploadInvalid},
	{errDigestMissing, http.StatusBadRequest, codeDigestInvalid},
	{auth.ErrCrossOrigin, http.StatusForbidden, codeDenied},
	{errTimeout, http.StatusRequestTimeout, codeBlobUploadInvalid},
	{errPlain, http.StatusBadRequest, codeUnsupported},
	{errRange, http.StatusRequestedRangeNotSatisfiable, codeUnsupported},
	{context.Canceled, http.StatusRequestTimeout, codeUnsupported}, // nobody waits for the answer
	{os.ErrDeadlineExceeded, http.StatusRequestTimeout, codeBlobUploadInvalid},
	// Behind the rows for what can be wrong with a body in particular.
	{store.ErrReceive, http.StatusBadRequest, codeBlobUploadInvalid},
}

// An apiError is one entry of an error answer.
type apiError struct {
	Code    code   `json:"code"`
	Message string `json:"message"`
	Detail  any    `json:"detail,omitempty"`
}

// translate returns the answer to an error. internal is set when its cause must not be shown.
func translate(err error) (status int, entries []apiError, internal bool) {
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		message := fmt.Sprintf("manifest is larger than the limit of %d bytes", tooLarge.Limit)
		return http.StatusRequestEntityTooLarge, []apiError{{Code: codeManifestInvalid, Message: message}}, false
	}
	if missing, ok := errors.AsType[*store.MissingError](err); ok {
		// Spec: a refused manifest "MUST result in one or more MANIFEST_BLOB_UNKNOWN errors": one for each.
		for _, dgst := range missing.Digests {
			entries = append(entries, apiError{codeManifestBlobUnknown, "this repository has no " + dgst.String() + "; push it first", map[string]string{"digest": dgst.String()}})
		}
		return http.StatusNotFound, entries, false
	}
	for _, row := range table {
		if errors.Is(err, row.is) {
			return row.status, []apiError{{Code: row.code, Message: err.Error()}}, false
		}
	}
	return http.StatusInternalServerError, []apiError{{Code: codeUnknown, Message: "internal error"}}, true
}

// writeError answers a request with an error, and logs it if somebody should look. Nothing of the body may have been
// sent yet.
func (s *Server) writeError(w http.ResponseWriter, r *http.Request, err error) {
	status, entries, internal := translate(err)
	switch {
	case r.Context().Err() != nil || errors.Is(err, context.Canceled):
		s.log.Debug("client went away", "err", err)
	case internal:
		s.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	h := w.Header()
	switch status {
	case http.StatusMethodNotAllowed:
		if h.Get(headerAllow) == "" {
			h.Set(headerAllow, strings.Join(allowedMethods(strings.TrimPrefix(r.URL.Path, "/v2/")), ", "))
		}
	case http.StatusTooManyRequests:
		h.Set(headerRetryAfter, "60")
		if slow, ok := errors.AsType[*auth.SlowDownError](err); ok {
			h.Set(headerRetryAfter, strconv.Itoa(int(slow.After.Seconds())+1))
		}
	}
	if offset, ok := errors.AsType[*store.OffsetError](err); ok {
		h.Set(headerRange, uploadRange(offset.Offset))
	}
	body, err := json.Marshal(map[string][]apiError{"errors": entries})
	if err != nil {
		panic(err) // strings and string maps always marshal
	}
	h.Set(headerContentType, "application/json")
	h.Set(headerContentLength, strconv.Itoa(len(body)))
	h.Set(headerNoSniff, "nosniff")
	h.Del(headerETag)
	h.Del(headerCacheControl)
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}

// suggest adds the nearest names that exist and that the client may see.
func (s *Server) suggest(ctx context.Context, who *auth.Principal, unknown *store.NameUnknownError) error {
	near, err := s.store.Nearest(ctx, unknown.Name, func(name oci.Name) bool { return who.May(store.ActionPull, name) })
	if err != nil || len(near) == 0 {
		return unknown
	}
	names := make([]string, len(near))
	for i, name := range near {
		names[i] = name.String()
	}
	return fmt.Errorf("%w; nearest: %s", unknown, strings.Join(names, ", "))
}
