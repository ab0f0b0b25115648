package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode"

	"cubby/server/auth"
	"cubby/store"
)

// tokensData is what the page of one's own access tokens shows.
type tokensData struct {
	Tokens tokensView
	None   string // why the viewer can have none
	Grants []store.Grant

	Problems    problems
	Description string // as it was filled in
	Grant       grantForm
	Ends        []choice
	End         string
}

// madeData is what the page of a new access token shows, this once.
type madeData struct {
	*store.Token
	Text     string
	Commands []command // that log in with it
}

// tokenEnds are how long a new access token may be valid.
var tokenEnds = []choice{{"7d", "7 days"}, {"30d", "30 days"}, {"90d", "90 days"}, {"365d", "a year"}, {"", "until it is revoked"}}

const (
	tokenEnd = "90d" // unless something else is chosen
	// tokensMax bounds the access tokens that a user makes here, and descriptionMax the bytes of a description: everybody
	// reads all of them again at each change.
	tokensMax      = 100
	descriptionMax = 100
)

// owner returns the user whose access tokens the viewer's are. errNoUser says why there is none.
func (h *Handler) owner(r *request) (*store.User, error) {
	if !r.who.Known() {
		return nil, fmt.Errorf("%w: this registry has no users, so nobody needs one", errNoUser)
	}
	u := h.Store.Access().Users[r.who.Name]
	if u == nil {
		return nil, fmt.Errorf("%w for users of the htpasswd file: clients log in with the password", errNoUser)
	}
	return u, nil
}

func (h *Handler) tokensPage(w http.ResponseWriter, r *request) error {
	form := url.Values{"pattern": {"**"}, "actions": {store.ActionPull.String()}}
	return h.showTokens(w, r, http.StatusOK, tokensData{Grant: filledGrant(form), End: tokenEnd})
}

func (h *Handler) showTokens(w http.ResponseWriter, r *request, status int, d tokensData) error {
	u, err := h.owner(r)
	if errors.Is(err, errNoUser) {
		d.None, u, err = sentence(err), nil, nil
	}
	if u != nil {
		d.Grants, d.Ends = u.Grants, tokenEnds
		d.Grant.Boxes = offered(d.Grant.Boxes, u)
		d.Tokens = tokensView{Revoke: "/-/tokens/revoke", Now: h.now(), Fixed: h.ReadOnly}
		d.Tokens.Rows, d.Tokens.More, err = h.tokenRows(r, u)
	}
	if err != nil {
		return err
	}
	return h.render(w, r, status, "tokens", h.view(w, r, "Access tokens", &d))
}

// offered returns the boxes of what a user may do anywhere.
func offered(all []box, u *store.User) (some []box) {
	var may store.Actions
	for _, g := range u.Grants {
		may |= g.Actions
	}
	for _, b := range all {
		if a, err := store.ParseActions(b.Name); err == nil && may.Has(a) {
			some = append(some, b)
		}
	}
	return some
}

// makeToken makes an access token, and shows it in the answer: nowhere else, and never again.
func (h *Handler) makeToken(w http.ResponseWriter, r *request) error {
	f := r.PostForm
	d := tokensData{Description: strings.TrimSpace(f.Get("description")), Grant: filledGrant(f), End: f.Get("end")}
	if len(d.Description) > descriptionMax || strings.ContainsFunc(d.Description, unicode.IsControl) {
		d.Problems.add("description", fmt.Errorf("a description has at most %d bytes, in one line", descriptionMax))
	}
	t := store.Token{Description: d.Description, Grant: readGrant(f, &d.Problems)}
	var err error
	t.ExpiresAt, err = auth.TokenEnd(d.End, h.now())
	d.Problems.add("end", err)
	u, err := h.owner(r)
	if err != nil {
		return err
	}
	if len(d.Problems) == 0 && len(auth.Shares(t.Grant, u.Grants)) == 0 {
		d.Problems.add("actions", errors.New("you may do nothing of that yourself, so the token would allow nothing"))
	}
	if len(d.Problems) > 0 {
		return h.showTokens(w, r, http.StatusUnprocessableEntity, d)
	}
	done, err := h.changePeople(r, members)
	if err != nil {
		return err
	}
	defer done()
	if u, err = h.owner(r); err != nil {
		return err
	}
	if len(auth.Tokens(h.Store.Access(), u.Name)) >= tokensMax {
		d.Problems.add("", fmt.Errorf("you have %d access tokens, which are as many as there may be: revoke some first", tokensMax))
		return h.showTokens(w, r, http.StatusUnprocessableEntity, d)
	}
	made, text, err := auth.MakeToken(r.Context(), h.Store, u.Name, t, r.actor())
	if err != nil {
		return err
	}
	v := h.view(w, r, "Your new access token", nil)
	v.Data, v.Secret = madeData{Token: made, Text: text, Commands: loginCommands(v.Host, v.HTTPS, u.Name)}, true
	return h.render(w, r, http.StatusOK, "token", v)
}

// loginCommands returns how clients log in with what they read from their standard input.
func loginCommands(host string, https bool, user string) []command {
	t := target{Host: host, HTTPS: https}
	who := " " + host + " -u " + user + " --password-stdin"
	return []command{
		{"docker", "docker login" + who},
		{"podman", "podman login" + t.plain("--tls-verify=false", false) + who},
		{"skopeo", "skopeo login" + t.plain("--tls-verify=false", false) + who},
		{"helm", "helm registry login" + t.plain("--plain-http", false) + who},
		{"oras", "oras login" + t.plain("--plain-http", false) + who},
	}
}

// revokeToken revokes one of the viewer's own access tokens.
func (h *Handler) revokeToken(w http.ResponseWriter, r *request) error {
	done, err := h.changePeople(r, members)
	if err != nil {
		return err
	}
	defer done()
	u, err := h.owner(r)
	if err != nil {
		return err
	}
	text, err := h.revoke(r, u.Name)
	if err != nil {
		return err
	}
	h.putFlash(w, r, flash{Text: text})
	redirect(w, r, "/-/tokens")
	return nil
}

// revoke revokes an access token of a user, and says so. One of somebody else is none.
func (h *Handler) revoke(r *request, user string) (text string, err error) {
	id := r.PostForm.Get("id")
	t := h.Store.Access().Tokens[id]
	if t == nil || t.User.Name != user {
		return "That access token was revoked already.", nil
	}
	if err := h.Store.RemoveToken(r.Context(), id, r.actor()); err != nil && !errors.Is(err, store.ErrTokenUnknown) {
		return "", err
	}
	return "The access token " + id + " is revoked. What used it is refused from now on.", nil
}
