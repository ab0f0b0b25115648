package web

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"cubby/server/auth"
	"cubby/store"
	"cubby/store/oci"
)

// usersData is what the page of all users shows.
type usersData struct {
	Rows  []userRow
	Total int
	Match string // part of the names that are shown
	After string // the last name of the page before
	Next  string
	Link  func(key, value string) string

	Open      bool // nobody can log in: the first user is made here
	Fixed     bool // nothing can be changed
	Anonymous []store.Grant

	Problems  problems
	Name      string // as it was filled in
	Everybody bool   // what is wrong is in the form for everybody
	Admin     bool
	Grant     grantForm
}

// A userRow is a user in the list.
type userRow struct {
	*store.User
	Path   string
	Admin  bool
	Self   bool
	Tokens int
	Use    store.TokenUse
}

// usersShown is how many users a page lists.
const usersShown = 100

func (h *Handler) usersPage(w http.ResponseWriter, r *request) error {
	pull := store.ActionPull.String()
	return h.showUsers(w, r, http.StatusOK, usersData{Grant: filledGrant(url.Values{"pattern": {"**"}, "actions": {pull}})})
}

func (h *Handler) showUsers(w http.ResponseWriter, r *request, status int, d usersData) error {
	done, err := h.costly(r)
	if err != nil {
		return err
	}
	defer done()
	uses, err := h.Store.UserUses(r.Context())
	if err != nil {
		return err
	}
	a, q := h.Store.Access(), r.URL.Query()
	tokens := make(map[string]int)
	for _, t := range a.Tokens {
		tokens[t.User.Name]++
	}
	d.Match, d.After, d.Link = q.Get("q"), q.Get("after"), linker(&url.URL{Path: "/-/admin/users", RawQuery: r.URL.RawQuery})
	d.Open, d.Fixed, d.Anonymous = h.Guard.Open(), h.ReadOnly, a.Anonymous
	for _, u := range auth.Users(a) {
		if !strings.Contains(strings.ToLower(u.Name), strings.ToLower(d.Match)) {
			continue
		}
		d.Total++
		switch {
		case u.Name <= d.After:
		case len(d.Rows) < usersShown:
			d.Rows = append(d.Rows, userRow{User: u, Path: userPath(u.Name), Admin: u.IsAdmin(), Self: u.Name == r.who.Name, Tokens: tokens[u.Name], Use: uses[u.Name]})
		default:
			d.Next = d.Rows[usersShown-1].Name
		}
	}
	v := h.view(w, r, "Users", &d)
	v.Path = d.Link("after", d.After) // a form is shown again elsewhere than it was
	return h.render(w, r, status, "users", v)
}

// addUser makes a user. The first one becomes administrator whatever the form says: else nobody could be one.
func (h *Handler) addUser(w http.ResponseWriter, r *request) error {
	d := usersData{Name: strings.TrimSpace(r.PostForm.Get("name")), Admin: r.PostForm.Get("role") == "admin", Grant: filledGrant(r.PostForm)}
	d.Problems.add("name", store.CheckUserName(d.Name))
	var grants []store.Grant
	switch {
	case d.Admin || h.Guard.Open():
		grants = everything
	case r.PostForm.Get("pattern") != "" || len(r.PostForm["actions"]) > 0:
		grants = []store.Grant{readGrant(r.PostForm, &d.Problems)}
	}
	hash := ""
	if len(d.Problems) == 0 { // hashing costs
		var err error
		hash, err = auth.HashPassword(r.PostForm.Get("password"))
		d.Problems.add("password", err)
	}
	if len(d.Problems) > 0 {
		return h.showUsers(w, r, http.StatusUnprocessableEntity, d)
	}
	done, err := h.changePeople(r, admins)
	if err != nil {
		return err
	}
	defer done()
	if h.Guard.Open() {
		// A command may make a user at this very moment: then this one is not the first, and gets nothing.
		grants = nil
	}
	grants, first, err := h.Store.AddUser(r.Context(), d.Name, hash, grants, r.actor())
	if errors.Is(err, store.ErrUserExists) {
		d.Problems.add("name", err)
		return h.showUsers(w, r, http.StatusUnprocessableEntity, d)
	}
	if err != nil {
		return err
	}
	text := d.Name + " was added."
	if len(grants) == 0 {
		text += " It may do nothing yet."
	}
	if first {
		h.putFlash(w, r, flash{Text: text + " It is the first user and an administrator: from now on everyone must log in, on this machine too."})
		redirect(w, r, "/-/login?next="+url.QueryEscape("/-/admin/users"))
		return nil
	}
	h.putFlash(w, r, flash{Text: text})
	redirect(w, r, userPath(d.Name))
	return nil
}

// everything is what an administrator is granted.
var everything = func() []store.Grant {
	g, err := auth.ParseGrant("**", store.ActionAdmin.String())
	if err != nil {
		panic(err) // both are ours
	}
	return []store.Grant{g}
}()

// setAnonymous says what everybody may do without logging in, to the repositories of a pattern.
func (h *Handler) setAnonymous(w http.ResponseWriter, r *request) error {
	what := r.PostForm.Get("what")
	actions, err := auth.ParseAnonymous(what)
	d := usersData{Everybody: true, Grant: grantForm{Pattern: r.PostForm.Get("everybody"), Boxes: boxes(store.ActionsAll, store.ActionPull)}}
	d.Problems.add("what", err)
	pattern, err := oci.ParseNameGlob(strings.TrimSpace(d.Grant.Pattern))
	d.Problems.add("everybody", err)
	if len(d.Problems) > 0 {
		return h.showUsers(w, r, http.StatusUnprocessableEntity, d)
	}
	done, err := h.changePeople(r, admins)
	if err != nil {
		return err
	}
	defer done()
	if err := h.Store.SetAnonymous(r.Context(), store.Grant{Repositories: pattern, Actions: actions}, r.actor()); err != nil {
		return err
	}
	may := map[string]string{"none": "nothing more by the pattern", "pull": "pull from", "push": "pull from and push to"}[what]
	h.putFlash(w, r, flash{Text: "Without logging in everybody may " + may + " " + pattern.String() + "."})
	redirect(w, r, "/-/admin/users")
	return nil
}
