package web

import (
	"errors"
	"net/http"

	"cubby/server/auth"
)

// loginData is what the page to log in shows.
type loginData struct {
	Next    string
	User    string
	Problem string
	Fresh   bool // the first user's password is the one that was made up
	Nobody  bool // nobody can log in
	Public  bool // something may be seen without
}

func (h *Handler) loginPage(w http.ResponseWriter, r *request) error {
	next := ownPathOr(r.URL.Query().Get("next"), "/")
	if r.who.Known() {
		redirect(w, r, next)
		return nil
	}
	return h.showLogin(w, r, http.StatusOK, loginData{Next: next})
}

func (h *Handler) showLogin(w http.ResponseWriter, r *request, status int, d loginData) error {
	d.Nobody, d.Fresh = h.Guard.Open(), h.FreshPassword != nil && h.FreshPassword()
	d.Public = !d.Nobody && r.who.AnonymousAllowed()
	return h.render(w, r, status, "login", h.view(w, r, "Log in", d))
}

func (h *Handler) login(w http.ResponseWriter, r *request) error {
	next := ownPathOr(r.PostForm.Get("next"), "/")
	user := r.PostForm.Get("user")
	cookie, err := h.Guard.Login(r.Context(), r.Request, user, r.PostForm.Get("password"))
	slow, isSlow := errors.AsType[*auth.SlowDownError](err)
	switch {
	case isSlow:
		w.Header().Set("Retry-After", formatSeconds(slow.After))
		return h.showLogin(w, r, http.StatusTooManyRequests, loginData{Next: next, User: user, Problem: sentence(err)})
	case errors.Is(err, auth.ErrCredentials):
		return h.showLogin(w, r, http.StatusUnauthorized, loginData{Next: next, User: user, Problem: sentence(err)})
	case err != nil:
		return err
	}
	http.SetCookie(w, cookie)
	redirect(w, r, next)
	return nil
}

func (h *Handler) logout(w http.ResponseWriter, r *request) error {
	end := h.Guard.Logout
	if r.PostForm.Get("everywhere") == "1" {
		end = h.Guard.LogoutEverywhere
	}
	http.SetCookie(w, end(r.Request))
	h.putFlash(w, r, flash{Text: "You are logged out."})
	redirect(w, r, "/-/login")
	return nil
}
