package server

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"cubby/server/auth"
	"cubby/store/oci"

	"github.com/julienschmidt/httprouter"
)

// tokenPath is the token service, which clients are sent to by a Bearer challenge.
const tokenPath = "/-/token"

// tokenForm bounds the form of a token request in bytes.
const tokenForm = 64 << 10

// challenge tells in a 401 how to log in. Basic goes through every proxy; but with it clients do not even try to pull
// without credentials, so as soon as anybody may do anything without logging in it is Bearer.
func (s *Server) challenge(w http.ResponseWriter, r *http.Request, who *auth.Principal, action auth.Action, name oci.Name) {
	if !who.AnonymousAllowed() {
		basicChallenge(w)
		return
	}
	value := fmt.Sprintf(`Bearer realm="%s://%s%s",service="cubby"`, s.clientScheme(r), quotable(r.Host), tokenPath)
	if scope := scopeOf(action, name); scope != "" {
		value += `,scope="` + scope + `"`
	}
	w.Header().Set(headerWWWAuthenticate, value)
}

// quotable leaves out of a host what would end a quoted string: HTTP/2 takes any.
func quotable(host string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f || r == '"' || r == '\\' {
			return -1
		}
		return r
	}, host)
}

func basicChallenge(w http.ResponseWriter) {
	w.Header().Set(headerWWWAuthenticate, `Basic realm="cubby", charset="UTF-8"`)
}

// scopeOf returns the scope that a token for a request needs.
func scopeOf(action auth.Action, name oci.Name) string {
	switch action {
	case auth.List:
		return auth.CatalogScope
	case auth.Pull:
		return "repository:" + name.String() + ":pull"
	case auth.Push:
		return "repository:" + name.String() + ":pull,push"
	case auth.Delete:
		return "repository:" + name.String() + ":pull,push,delete"
	}
	return ""
}

// clientScheme returns the scheme that the client used. What a proxy says, or somebody who claims to be one, concerns
// that caller only: it is where it is told to ask for a token.
func (s *Server) clientScheme(r *http.Request) string {
	forwarded, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ",")
	switch forwarded = strings.ToLower(strings.TrimSpace(forwarded)); {
	case r.TLS != nil || forwarded == "https":
		return "https"
	case forwarded == "" && auth.IsProxied(r):
		s.warnProxy.Do(func() {
			s.log.Warn("a proxy does not send X-Forwarded-Proto: clients that used https will be told to ask for tokens by http", "host", r.Host)
		})
	}
	return "http"
}

// token serves the token service: GET with Basic authentication or none, and POST with a form (OAuth 2.0), with any
// number of scopes.
func (s *Server) token(w http.ResponseWriter, r *http.Request, _ httprouter.Params) {
	if err := s.issueToken(w, r); err != nil {
		if errors.Is(err, auth.ErrCredentials) || errors.Is(err, auth.ErrUnauthorized) {
			basicChallenge(w)
		}
		s.writeError(w, r, err)
	}
}

func (s *Server) issueToken(w http.ResponseWriter, r *http.Request) error {
	scopes := r.URL.Query()["scope"]
	if r.Method == http.MethodPost {
		r.Body = http.MaxBytesReader(w, r.Body, tokenForm)
		if err := r.ParseForm(); err != nil {
			return fmt.Errorf("%w: the form cannot be read", errParameter)
		}
		if grant := r.PostForm.Get("grant_type"); grant != "" && grant != "password" {
			return fmt.Errorf("%w: grant_type %.40q; only password is known here", errParameter, grant)
		}
		scopes = r.Form["scope"]
		if r.PostForm.Has("username") || r.PostForm.Has("password") {
			r.SetBasicAuth(r.PostForm.Get("username"), r.PostForm.Get("password"))
		}
	}
	who, err := s.guard.Identify(r)
	if rec, ok := w.(*recorder); ok {
		rec.who = who
	}
	if err != nil {
		return err
	}
	// Without credentials a token is for what everybody may do.
	if !who.Known() && !who.Local && !who.AnonymousAllowed() {
		return fmt.Errorf("%w: log in to get a token", auth.ErrUnauthorized)
	}
	text, expires, err := s.guard.Issue(who, scopes)
	if err != nil {
		return err
	}
	w.Header().Set(headerCacheControl, "no-store")
	return writeJSON(w, "application/json", struct {
		Token       string    `json:"token"`
		AccessToken string    `json:"access_token"`
		ExpiresIn   int       `json:"expires_in"` // seconds
		IssuedAt    time.Time `json:"issued_at"`
	}{text, text, int(auth.BearerTime.Seconds()), expires.Add(-auth.BearerTime).UTC().Truncate(time.Second)})
}
