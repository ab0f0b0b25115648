package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"cubby/server/auth"

	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// pageMax bounds every list. A larger n is taken for this, and a Link header leads on.
const pageMax = 10_000

// pageSize returns the parameter n: at most pageMax, and pageMax when it is absent.
func pageSize(query url.Values) (int, error) {
	if !query.Has("n") {
		return pageMax, nil
	}
	value := query.Get("n")
	for i := range len(value) {
		if value[i] < '0' || value[i] > '9' {
			return 0, fmt.Errorf("%w: n=%.20q is not a number", errParameter, value)
		}
	}
	if value == "" {
		return 0, fmt.Errorf("%w: n is empty", errParameter)
	}
	n, err := strconv.Atoi(value)
	if err != nil || n > pageMax {
		return pageMax, nil // digits only, so it is too large
	}
	return n, nil
}

// nextPage sets the Link header to the same list behind last.
func nextPage(w http.ResponseWriter, path string, params url.Values) {
	w.Header().Set(headerLink, "<"+path+"?"+params.Encode()+`>; rel="next"`)
}

func writeJSON(w http.ResponseWriter, contentType string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set(headerContentType, contentType)
	h.Set(headerContentLength, strconv.Itoa(len(body)))
	h.Set(headerNoSniff, "nosniff")
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body) // the client has gone; net/http drops the body of a HEAD
	return nil
}

// cut returns the first n of at most n+1 items and whether there are more.
func cut[T any](items []T, n int) ([]T, bool) {
	if items == nil {
		items = []T{}
	}
	if len(items) > n {
		return items[:n], true
	}
	return items, false
}

// listTags serves end-8.
func (s *Server) listTags(w http.ResponseWriter, r *http.Request, rt route) error {
	query := r.URL.Query()
	n, err := pageSize(query)
	if err != nil {
		return err
	}
	tags, err := s.store.Tags(r.Context(), rt.name, query.Get("last"), n+1)
	if err != nil {
		return err
	}
	tags, more := cut(tags, n)
	if more && n > 0 { // spec: with n=0 there MUST NOT be a Link
		nextPage(w, "/v2/"+rt.name.String()+"/tags/list", url.Values{"n": {strconv.Itoa(n)}, "last": {tags[n-1]}})
	}
	return writeJSON(w, "application/json", struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{rt.name.String(), tags})
}

// listRepositories serves the catalog: repositories that hold a manifest.
func (s *Server) listRepositories(w http.ResponseWriter, r *http.Request, rt route) error {
	query := r.URL.Query()
	n, err := pageSize(query)
	if err != nil {
		return err
	}
	names, err := s.visibleNames(r.Context(), rt.who, query.Get("last"), n+1)
	if err != nil {
		return err
	}
	names, more := cut(names, n)
	if more && n > 0 {
		nextPage(w, "/v2/_catalog", url.Values{"n": {strconv.Itoa(n)}, "last": {names[n-1]}})
	}
	return writeJSON(w, "application/json", struct {
		Repositories []string `json:"repositories"`
	}{names})
}

// visibleNames returns at most n names of repositories that the principal may see, in byte order after last.
func (s *Server) visibleNames(ctx context.Context, who *auth.Principal, last string, n int) (names []string, err error) {
	for {
		page, err := s.store.Names(ctx, last, max(n, 100))
		if err != nil {
			return nil, err
		}
		for _, name := range page {
			last = name.String()
			if who.Sees(name) {
				names = append(names, last)
			}
			if len(names) == n {
				return names, nil
			}
		}
		if len(page) < max(n, 100) {
			return names, nil
		}
	}
}

// referrersMax bounds a page of referrers, whose entries are larger than names.
const referrersMax = 1000

// listReferrers serves end-12. A subject or repository that does not exist has no referrers; spec: "MUST NOT return a
// 404 Not Found".
func (s *Server) listReferrers(w http.ResponseWriter, r *http.Request, rt route) error {
	query := r.URL.Query()
	n, err := pageSize(query)
	if err != nil {
		return err
	}
	n = min(max(n, 1), referrersMax)
	after := int64(0)
	if query.Has("after") {
		if after, err = strconv.ParseInt(query.Get("after"), 10, 64); err != nil || after < 0 {
			return fmt.Errorf("%w: after=%.20q is not a cursor of ours", errParameter, query.Get("after"))
		}
	}
	artifactType := query.Get("artifactType")
	page, err := s.store.Referrers(r.Context(), rt.name, rt.digest, artifactType, after, n)
	if err != nil {
		return err
	}
	if artifactType != "" {
		w.Header().Set(headerFiltersApplied, "artifactType")
	}
	if page.Next > 0 {
		params := url.Values{"n": {strconv.Itoa(n)}, "after": {strconv.FormatInt(page.Next, 10)}}
		if artifactType != "" {
			params.Set("artifactType", artifactType)
		}
		nextPage(w, "/v2/"+rt.name.String()+"/referrers/"+rt.digest.String(), params)
	}
	manifests, _ := cut(page.Descriptors, len(page.Descriptors))
	return writeJSON(w, v1.MediaTypeImageIndex, v1.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: manifests,
	})
}
