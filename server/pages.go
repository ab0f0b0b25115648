package server

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"cubby/server/auth"
)

// Pages are the web pages. They answer every path that is not the API's, with any method. who is never nil; err says why
// a request must be refused, as a page: auth.ErrCrossOrigin, auth.ErrBusy, or one that nobody is told the cause of.
type Pages interface {
	ServePage(w http.ResponseWriter, r *http.Request, who *auth.Principal, err error)
}

// isPage reports whether a path is one of the pages, if there are any.
func (s *Server) isPage(path string) bool {
	switch path {
	case "/v2", tokenPath, "/-/healthz", "/-/readyz", "/-/ca.crt":
		return false
	}
	return s.pages != nil && strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "/v2/")
}

// servePage lets the pages answer a request. refused is why it must be refused, or nil.
func (s *Server) servePage(rec *recorder, r *http.Request, refused error) {
	s.guard.HintProxy(r)
	who, err := s.guard.IdentifyPage(r)
	rec.who = who
	if refused != nil {
		err = refused
	}
	s.pages.ServePage(rec, r, who, err)
}

// errPanic is all that a page is told of a panic: the log has the rest.
var errPanic = errors.New("internal error")

// answerPanic answers a request whose handler panicked before it sent anything.
func (s *Server) answerPanic(rec *recorder, r *http.Request, panicked any) {
	if !s.isPage(r.URL.Path) || rec.who == nil {
		s.writeError(rec, r, fmt.Errorf("panic: %v", panicked))
		return
	}
	defer func() {
		p := recover()
		switch {
		case p == nil:
		case rec.status != 0 || p == http.ErrAbortHandler:
			panic(http.ErrAbortHandler)
		default:
			clear(rec.Header())
			s.writeError(rec, r, fmt.Errorf("panic in the page of a panic: %v", p))
		}
	}()
	clear(rec.Header()) // of the page that was not sent: a cookie, a length
	s.pages.ServePage(rec, r, rec.who, errPanic)
}
