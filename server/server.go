// Package server speaks the OCI distribution API over HTTP, and serves the administrative commands on a socket. It
// knows HTTP; what is stored, and where, only store knows.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"cubby/server/auth"
	"cubby/server/certs"
	"cubby/store"

	"github.com/julienschmidt/httprouter"
	"golang.org/x/sync/semaphore"
)

// Header names.
const (
	headerAllow           = "Allow"
	headerCacheControl    = "Cache-Control"
	headerConnection      = "Connection"
	headerContentLength   = "Content-Length"
	headerContentRange    = "Content-Range"
	headerContentType     = "Content-Type"
	headerCSP             = "Content-Security-Policy"
	headerDigest          = "Docker-Content-Digest"
	headerETag            = "ETag"
	headerFiltersApplied  = "OCI-Filters-Applied"
	headerIfMatch         = "If-Match"
	headerIfNoneMatch     = "If-None-Match"
	headerLink            = "Link"
	headerLocation        = "Location"
	headerNoSniff         = "X-Content-Type-Options"
	headerRange           = "Range"
	headerRetryAfter      = "Retry-After"
	headerSubject         = "OCI-Subject"
	headerTag             = "OCI-Tag"
	headerUploadUUID      = "Docker-Upload-UUID"
	headerVersion         = "Docker-Distribution-Api-Version"
	headerWarning         = "Warning"
	headerWWWAuthenticate = "WWW-Authenticate"
)

// DefaultMaxManifest is the largest manifest in bytes unless configured: what the spec asks registries to take.
const DefaultMaxManifest = 4 << 20

// A Config says what a server serves and to whom.
type Config struct {
	Store       *store.Store
	Guard       *auth.Guard
	Pages       Pages         // nil: none, the API alone
	Log         *slog.Logger  // nil: silent
	MaxManifest int64         // bytes; 0: DefaultMaxManifest
	Sparse      store.Sparse  // "": store.SparseIndex
	Version     string        // of the program, for the page at /
	Certs       *certs.Source // nil: no TLS
}

// A Server answers HTTP requests. It is safe for concurrent use.
type Server struct {
	store       *store.Store
	guard       *auth.Guard
	pages       Pages // may be nil
	log         *slog.Logger
	maxManifest int64
	sparse      store.Sparse
	version     string
	certs       *certs.Source

	router *httprouter.Router
	origin *http.CrossOriginProtection

	warnProxy sync.Once

	parsing chan struct{}       // holds a token for each manifest being parsed, which takes some times its size of memory
	large   *semaphore.Weighted // bytes of the large manifests that are being put
	answers answers

	lingering chan struct{} // holds a token for each request that was refused and whose client still sends
}

// A handler serves one endpoint. It returns an error instead of writing one.
type handler func(s *Server, w http.ResponseWriter, r *http.Request, rt route) error

// An endpoint is a handler and the action that authorize checks before it runs.
type endpoint struct {
	action auth.Action
	handle handler
}

// endpoints are all that the API does. What is not here does not exist: 405.
var endpoints = map[resource]map[string]endpoint{
	resourceBase:      {http.MethodGet: {auth.Ping, (*Server).ping}},
	resourceCatalog:   {http.MethodGet: {auth.List, (*Server).listRepositories}},
	resourceTags:      {http.MethodGet: {auth.Pull, (*Server).listTags}},
	resourceReferrers: {http.MethodGet: {auth.Pull, (*Server).listReferrers}},
	resourceBlob: {
		http.MethodGet:    {auth.Pull, (*Server).getBlob},
		http.MethodDelete: {auth.Delete, (*Server).deleteBlob},
	},
	resourceManifest: {
		http.MethodGet:    {auth.Pull, (*Server).getManifest},
		http.MethodPut:    {auth.Push, (*Server).putManifest},
		http.MethodDelete: {auth.Delete, (*Server).deleteManifest},
	},
	resourceUploads: {http.MethodPost: {auth.Push, (*Server).postUpload}},
	resourceUpload: {
		http.MethodGet:    {auth.Push, (*Server).getUpload},
		http.MethodPatch:  {auth.Push, (*Server).patchUpload},
		http.MethodPut:    {auth.Push, (*Server).putUpload},
		http.MethodDelete: {auth.Push, (*Server).deleteUpload},
	},
}

// New returns a server over an open store, which the caller closes after the last request.
func New(c Config) *Server {
	s := &Server{
		store: c.Store, guard: c.Guard, pages: c.Pages, log: c.Log, maxManifest: c.MaxManifest, sparse: c.Sparse, version: c.Version, certs: c.Certs,
		parsing: make(chan struct{}, 4), large: semaphore.NewWeighted(largeBytes),
		lingering: make(chan struct{}, lingerMax),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.maxManifest == 0 {
		s.maxManifest = DefaultMaxManifest
	}
	if s.sparse == "" {
		s.sparse = store.SparseIndex
	}
	// A web page elsewhere must not be able to push or delete through the browser of someone who may.
	s.origin = http.NewCrossOriginProtection()
	s.router = s.routes()
	return s
}

func (s *Server) routes() *httprouter.Router {
	router := httprouter.New()
	router.RedirectTrailingSlash = false
	router.RedirectFixedPath = false
	router.HandleMethodNotAllowed = false
	router.HandleOPTIONS = false
	api := func(w http.ResponseWriter, r *http.Request, params httprouter.Params) {
		s.serveAPI(w, r, strings.TrimPrefix(params.ByName("path"), "/"))
	}
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions} {
		router.Handle(method, "/v2", api)
		router.Handle(method, "/v2/*path", api)
	}
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		router.Handle(method, "/", s.frontPage)
		router.Handle(method, "/-/healthz", s.healthz)
		router.Handle(method, "/-/readyz", s.readyz)
		if s.certs != nil && s.certs.CA != nil {
			router.Handle(method, "/-/ca.crt", s.authorityCertificate)
		}
	}
	router.GET(tokenPath, s.token)
	router.HEAD(tokenPath, s.token)
	router.POST(tokenPath, s.token)
	router.NotFound = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.writeError(w, r, fmt.Errorf("%w: %s", errPathUnknown, r.URL.Path))
	})
	return router
}

// ServeHTTP answers one request and logs it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := newRecorder(w, &s.answers)
	defer limitBody(rec, r, s.lingering)()
	start := time.Now()
	defer func() {
		p := recover()
		s.logRequest(rec, r, time.Since(start), p)
		if p == nil {
			return
		}
		// Once a body has started it cannot become an error: drop the connection.
		if rec.status != 0 || p == http.ErrAbortHandler {
			panic(http.ErrAbortHandler)
		}
		s.answerPanic(rec, r, p)
	}()
	if len(r.TransferEncoding) > 0 {
		// net/http takes a Content-Length beside it out, and goes on behind the last chunk where a proxy that goes by the
		// length has sent somebody else's bytes. RFC 9112, 6.1: "the server MUST close the connection after responding".
		rec.Header().Set(headerConnection, "close")
	}
	if s.servePlain(rec, r) {
		return
	}
	refused := s.origin.Check(r)
	if refused != nil {
		refused = fmt.Errorf("%w: %w", auth.ErrCrossOrigin, refused)
	}
	switch {
	case s.isPage(r.URL.Path):
		s.servePage(rec, r, refused)
		return
	case refused != nil:
		s.writeError(rec, r, refused)
		return
	}
	s.router.ServeHTTP(rec, r)
}

// serveAPI finds the endpoint of a request, asks whether it may run, and runs it.
func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request, path string) {
	w.Header().Set(headerVersion, "registry/2.0")
	if r.Method == http.MethodOptions {
		w.Header().Set(headerAllow, strings.Join(allowedMethods(path), ", "))
		w.WriteHeader(http.StatusOK)
		return
	}
	// Names outlive the request, in sessions and promises, and must not hold on to all of its text.
	rt, pathErr := parsePath(strings.Clone(path))
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet // one path for both, so that they never disagree
	}
	e, ok := endpoints[rt.resource][method]
	if pathErr != nil || !ok {
		// Who may do nothing learns nothing, not even which paths exist.
		e = endpoint{auth.Ping, func(*Server, http.ResponseWriter, *http.Request, route) error {
			if pathErr != nil {
				return pathErr
			}
			w.Header().Set(headerAllow, strings.Join(allowedMethods(path), ", "))
			return fmt.Errorf("%w: %s is not possible here", errMethod, quoteMethod(method))
		}}
	}
	// No registry client sends these headers. With --anonymous push even a page of our own address may be somebody
	// else's, by DNS rebinding.
	if method != http.MethodGet && (r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "") {
		s.writeError(w, r, fmt.Errorf("%w: the API is not for web pages", auth.ErrCrossOrigin))
		return
	}
	s.guard.HintProxy(r)
	who, err := s.guard.Identify(r)
	rt.who = who
	if rec, ok := w.(*recorder); ok {
		rec.who = who
	}
	if err == nil {
		if err = s.guard.Authorize(who, e.action, rt.name); err != nil {
			s.guard.Denied(who, r, rt.name)
		}
	}
	if err == nil {
		err = e.handle(s, w, r, rt)
	}
	if err == nil {
		return
	}
	if unknown, ok := errors.AsType[*store.NameUnknownError](err); ok && r.Method != http.MethodHead {
		err = s.suggest(r.Context(), who, unknown)
	}
	if errors.Is(err, auth.ErrUnauthorized) || errors.Is(err, auth.ErrCredentials) {
		s.challenge(w, r, who, e.action, rt.name)
	}
	s.writeError(w, r, err)
}

func quoteMethod(method string) string { return fmt.Sprintf("%.20s", method) }

// allowedMethods returns what may be done to a path, for the Allow header.
func allowedMethods(path string) []string {
	methods := []string{http.MethodOptions}
	rt, err := parsePath(path)
	if err != nil {
		return methods
	}
	for method := range endpoints[rt.resource] {
		methods = append(methods, method)
		if method == http.MethodGet {
			methods = append(methods, http.MethodHead)
		}
	}
	slices.Sort(methods)
	return methods
}

// ping tells that this is a registry (end-1).
func (s *Server) ping(w http.ResponseWriter, r *http.Request, _ route) error {
	return writeJSON(w, "application/json", struct{}{})
}

// frontPage answers people who open the address in a browser.
func (s *Server) frontPage(w http.ResponseWriter, _ *http.Request, _ httprouter.Params) {
	w.Header().Set(headerContentType, "text/plain; charset=utf-8")
	w.Header().Set(headerNoSniff, "nosniff")
	fmt.Fprintf(w, "This is Cubby %s, a container and artifact registry. Its API is at /v2/. List what it holds with `cubby ls`.\n", s.version)
}

// A Tracker counts the requests that run in a handler.
type Tracker struct {
	http.Handler
	running sync.WaitGroup
}

// ServeHTTP serves one request.
func (t *Tracker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t.running.Add(1)
	defer t.running.Done()
	t.Handler.ServeHTTP(w, r)
}

// Wait returns when no request runs any more, or ctx is done. Call it after the http.Server was closed.
func (t *Tracker) Wait(ctx context.Context) {
	idle := make(chan struct{})
	go func() {
		t.running.Wait()
		close(idle)
	}()
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

// connectionsMax bounds the open connections. A listener that limits them would hide sendfile.
const connectionsMax = 2000

// streamsMax bounds the requests that run on one HTTP/2 connection. Clients that want more open another.
const streamsMax = 32

// HTTP returns an http.Server with the limits that protect it: time and size of headers, and idle connections. Bodies
// have a progress deadline instead of a timeout, because a layer may take as long as it keeps moving. In HTTP/2 that
// deadline ends a stream, and waits for what is being written: who takes nothing any more loses the connection.
//
// No more than connectionsMax connections stay open: each upload under way holds a buffer.
func HTTP(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		ConnState:         (&connections{most: connectionsMax}).changed,
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       120 * time.Second,
		MaxHeaderBytes:    32 << 10,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: streamsMax, WriteByteTimeout: progressTime},
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
