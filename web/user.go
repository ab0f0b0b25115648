package web

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"cubby/server/auth"
	"cubby/store"
	"cubby/store/oci"
)

// userData is what the pages of one user show.
type userData struct {
	*store.User
	Path     string
	Mark     string // of the user, for forms
	Self     bool   // the viewer is the user
	Admin    bool
	Last     bool // the last administrator
	Fixed    bool // nothing can be changed
	Use      store.TokenUse
	Sessions int
	Tokens   tokensView

	Problems problems
	Grant    grantForm
}

// LocksOut reports whether taking a grant away would leave no administrator.
func (d *userData) LocksOut(g store.Grant) bool { return d.Last && isEverything(g) }

func isEverything(g store.Grant) bool {
	return g.Repositories == everything[0].Repositories && g.Actions&store.ActionAdmin != 0
}

// user returns the user of the route. A form names who that was when it was shown: a namesake who came since is another.
func (h *Handler) user(r *request) (*store.User, error) {
	u := h.Store.Access().Users[r.route.arg]
	if u == nil {
		return nil, fmt.Errorf("%w: %s", store.ErrUserUnknown, r.route.arg)
	}
	if r.Method != http.MethodPost {
		return u, nil
	}
	switch r.PostForm.Get("user") {
	case markOf(u):
	case "":
		return nil, fmt.Errorf("%w: it does not say which user was shown", errForm)
	default:
		return nil, fmt.Errorf("%w: there is another user of the name %s", store.ErrPrecondition, u.Name)
	}
	return u, nil
}

// markOf tells a user from others of the name, before and after. The number alone may be that of the last who was removed.
func markOf(u *store.User) string { return fmt.Sprintf("%d-%d", u.ID, u.CreatedAt.Unix()) }

func (h *Handler) userPage(w http.ResponseWriter, r *request) error {
	u, err := h.user(r)
	if err != nil {
		return err
	}
	form := filledGrant(url.Values{"actions": {store.ActionPull.String()}})
	return h.showUser(w, r, http.StatusOK, "user", u.Name, userData{User: u, Grant: form})
}

func (h *Handler) showUser(w http.ResponseWriter, r *request, status int, template, title string, d userData) (err error) {
	done, err := h.costly(r)
	if err != nil {
		return err
	}
	defer done()
	a := h.Store.Access()
	uses, err := h.Store.UserUses(r.Context())
	if err != nil {
		return err
	}
	d.Path, d.Mark, d.Self, d.Admin, d.Fixed, d.Use = userPath(d.Name), markOf(d.User), d.Name == r.who.Name, d.User.IsAdmin(), h.ReadOnly, uses[d.Name]
	d.Last = d.Admin && auth.Admins(a) == 1
	for _, v := range a.Sessions {
		if v.UserID == d.ID && !v.Expired(h.now()) {
			d.Sessions++
		}
	}
	d.Tokens = tokensView{Revoke: d.Path + "/token", User: d.Mark, Now: h.now(), Fixed: h.ReadOnly}
	if d.Tokens.Rows, d.Tokens.More, err = h.tokenRows(r, d.User); err != nil {
		return err
	}
	v := h.view(w, r, title, &d)
	v.Path = d.Path // a form is shown again elsewhere than it was
	return h.render(w, r, status, template, v)
}

// grantUser allows a user more.
func (h *Handler) grantUser(w http.ResponseWriter, r *request) error {
	u, err := h.user(r)
	if err != nil {
		return err
	}
	d := userData{User: u, Grant: filledGrant(r.PostForm)}
	g := readGrant(r.PostForm, &d.Problems)
	if len(d.Problems) > 0 {
		return h.showUser(w, r, http.StatusUnprocessableEntity, "user", u.Name, d)
	}
	return h.changeUser(w, r, func() (string, error) {
		now, err := h.Store.AddGrant(r.Context(), u.Name, g, r.actor())
		text := fmt.Sprintf("%s may now do this by the pattern %s: %s.", u.Name, now.Repositories, now.Actions)
		if !now.Actions.Has(store.ActionPull) {
			text += " Most clients cannot push without pull: they look first whether something is there."
		}
		return text, err
	})
}

// revokeUser takes away what the page showed of one pattern.
func (h *Handler) revokeUser(w http.ResponseWriter, r *request) error {
	g := store.Grant{}
	var err error
	// A command of before may have taken patterns that no new grant has.
	if g.Repositories, err = oci.ParseGlob(r.PostForm.Get("pattern")); err == nil {
		g.Actions, err = store.ParseActions(r.PostForm.Get("actions"))
	}
	if err != nil {
		return err
	}
	return h.changeUser(w, r, func() (string, error) {
		a := h.Store.Access()
		if u := a.Users[r.route.arg]; u != nil && isEverything(g) && u.IsAdmin() && auth.Admins(a) == 1 {
			return "", errLastAdmin
		}
		now, err := h.Store.RemoveGrant(r.Context(), r.route.arg, g, r.actor())
		if errors.Is(err, store.ErrGrantUnknown) {
			return r.route.arg + " had no such grant any more.", nil
		}
		if now.Actions != 0 {
			return fmt.Sprintf("%s may still do this by the pattern %s: %s.", r.route.arg, now.Repositories, now.Actions), err
		}
		return fmt.Sprintf("%s may do nothing by the pattern %s any more.", r.route.arg, g.Repositories), err
	})
}

// changeUser makes a change of the user of the route, and goes back to its page with what was done, or to where the viewer
// logs in anew if the change ended the session.
func (h *Handler) changeUser(w http.ResponseWriter, r *request, change func() (text string, err error)) error {
	done, err := h.changePeople(r, admins)
	if err != nil {
		return err
	}
	defer done()
	if _, err := h.user(r); err != nil {
		return err
	}
	text, err := change()
	if err != nil {
		return err
	}
	h.putFlash(w, r, flash{Text: text})
	path := userPath(r.route.arg)
	switch who, err := h.Guard.IdentifyPage(r.Request); {
	case err != nil:
		return err
	case !who.MayChange():
		path = "/-/login"
	case !who.IsAdmin(): // who took it from himself
		path = "/"
	case h.Store.Access().Users[r.route.arg] == nil:
		path = "/-/admin/users"
	}
	redirect(w, r, path)
	return nil
}

// setPassword changes a password, which ends the user's sessions.
func (h *Handler) setPassword(w http.ResponseWriter, r *request) error {
	u, err := h.user(r)
	if err != nil {
		return err
	}
	hash, err := auth.HashPassword(r.PostForm.Get("password"))
	if err != nil {
		d := userData{User: u, Grant: filledGrant(url.Values{"actions": {store.ActionPull.String()}})}
		d.Problems.add("password", err)
		return h.showUser(w, r, http.StatusUnprocessableEntity, "user", u.Name, d)
	}
	return h.changeUser(w, r, func() (string, error) {
		return "The password of " + u.Name + " was changed, and its sessions ended.", h.Store.SetPassword(r.Context(), u.Name, hash, r.actor())
	})
}

// revokeUserToken revokes an access token of the user.
func (h *Handler) revokeUserToken(w http.ResponseWriter, r *request) error {
	return h.changeUser(w, r, func() (string, error) { return h.revoke(r, r.route.arg) })
}

// removeUserPage tells what goes with a user.
func (h *Handler) removeUserPage(w http.ResponseWriter, r *request) error {
	u, err := h.user(r)
	if err != nil {
		return err
	}
	return h.showUser(w, r, http.StatusOK, "user-remove", "Remove "+u.Name, userData{User: u})
}

func (h *Handler) removeUser(w http.ResponseWriter, r *request) error {
	return h.changeUser(w, r, func() (string, error) {
		a := h.Store.Access()
		if u := a.Users[r.route.arg]; u != nil && u.IsAdmin() && auth.Admins(a) == 1 {
			return "", errLastAdmin
		}
		return r.route.arg + " was removed. What it pushed stays.", h.Store.RemoveUser(r.Context(), r.route.arg, r.actor())
	})
}

// TokenNames returns what the first access tokens are called.
func (d *userData) TokenNames() (names []string) {
	for _, row := range d.Tokens.Rows {
		names = append(names, cmp.Or(row.Description, row.ID))
	}
	return names
}
