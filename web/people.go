package web

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"cubby/server/auth"
	"cubby/store"
	"cubby/store/oci"
)

// These errors refuse a change of who may do what.
var (
	errLastAdmin = errors.New("somebody must be able to administer: make another user an administrator first")
	errNoUser    = errors.New("there are no access tokens")
)

// ofUser are the pages of a user, by what follows the name.
var ofUser = map[string]place{
	"": placeUser, "grant": placeUserGrant, "revoke": placeUserRevoke, "password": placeUserPassword, "token": placeUserToken, "remove": placeUserRemove,
}

// parseUser reads what follows /-/admin/users/.
func parseUser(rest string) (route, error) {
	name, below, deeper := strings.Cut(rest, "/")
	if dots := strings.TrimPrefix(name, "~"); isDots(dots) {
		name = dots
	}
	p, ok := ofUser[below]
	if !ok || deeper && below == "" {
		return route{}, errPath
	}
	return route{place: p, arg: name}, store.CheckUserName(name)
}

// userPath returns the path of a user's page. Browsers take . and .. for steps up, so these have a sign in front that no
// name has.
func userPath(name string) string {
	if isDots(name) {
		name = "~" + name
	}
	return "/-/admin/users/" + url.PathEscape(name)
}

func isDots(s string) bool { return s == "." || s == ".." }

// changePeople begins a change of who may do what, and returns what ends it. One at a time: two administrators who remove
// each other must not both have their way. So who asks is looked at once more.
func (h *Handler) changePeople(r *request, need access) (done func(), err error) {
	h.people.Lock()
	who, err := h.Guard.IdentifyPage(r.Request)
	if err == nil {
		r.who = who
		err = h.allow(r, need)
	}
	if err != nil {
		h.people.Unlock()
		return nil, err
	}
	return r.hold(h.people.Unlock), nil
}

// A problem is what is wrong with a field of a form, or with the whole when Field is "".
type problem struct{ Field, Text string }

// problems are what a form is shown again with.
type problems []problem

func (p *problems) add(field string, err error) {
	if err != nil {
		*p = append(*p, problem{field, sentence(err)})
	}
}

// Of returns what is wrong with a field, or "".
func (p problems) Of(field string) string {
	if i := slices.IndexFunc(p, func(one problem) bool { return one.Field == field }); i >= 0 {
		return p[i].Text
	}
	return ""
}

// A box is an action to choose.
type box struct {
	Name, Text string
	Checked    bool
}

// actionTexts say what actions allow, in the words of pages.
var actionTexts = []struct {
	action store.Actions
	text   string
}{
	{store.ActionPull, ""}, {store.ActionPush, "new content and new tags"}, {store.ActionOverwrite, "tags that are there"},
	{store.ActionDelete, ""}, {store.ActionAdmin, "all of these"},
}

// boxes returns those of the actions that may be chosen.
func boxes(offered, chosen store.Actions) (all []box) {
	for _, t := range actionTexts {
		if offered.Has(t.action) {
			all = append(all, box{t.action.String(), t.text, chosen&t.action != 0})
		}
	}
	return all
}

// chosenActions reads the boxes of a form.
func chosenActions(form url.Values) (store.Actions, error) {
	if len(form["actions"]) == 0 {
		return 0, fmt.Errorf("%w: choose what is allowed", store.ErrActionsInvalid)
	}
	return store.ParseActions(strings.Join(form["actions"], ","))
}

// readGrant reads a pattern and boxes, and what is wrong with them.
func readGrant(form url.Values, wrong *problems) (g store.Grant) {
	actions, err := chosenActions(form)
	if err != nil {
		*wrong = append(*wrong, problem{"actions", "Choose what is allowed."})
	}
	// The actions are known to be good, or are put in place of what is not there, for the pattern to be read.
	g, err = auth.ParseGrant(strings.TrimSpace(form.Get("pattern")), max(actions, store.ActionPull).String())
	wrong.add("pattern", err)
	g.Actions = actions
	return g
}

// A grantForm is the form that allows something, as it was filled in.
type grantForm struct {
	Pattern string
	Boxes   []box
}

func filledGrant(form url.Values) grantForm {
	actions, _ := chosenActions(form) // what cannot be read is not chosen
	return grantForm{Pattern: form.Get("pattern"), Boxes: boxes(store.ActionsAll, actions)}
}

// A tokenRow is an access token in a list.
type tokenRow struct {
	*store.Token
	Use     store.TokenUse
	Expired bool
	From    []string     // where it may be used, empty for everywhere
	Whole   bool         // its user may do all that it says
	Shares  []auth.Share // else what is left of it
}

// tokensShown bounds the access tokens of a list.
const tokensShown = 200

// tokenRows returns the access tokens of a user, the newest first, and how many more there are.
func (h *Handler) tokenRows(r *request, u *store.User) (rows []tokenRow, more int, err error) {
	uses, err := h.Store.TokenUses(r.Context())
	if err != nil {
		return nil, 0, err
	}
	tokens := auth.Tokens(h.Store.Access(), u.Name)
	slices.Reverse(tokens)
	for _, t := range tokens[:min(len(tokens), tokensShown)] {
		row := tokenRow{Token: t, Use: uses[t.ID], Expired: t.Expired(h.now()), Shares: auth.Shares(t.Grant, u.Grants)}
		for _, n := range t.Networks {
			row.From = append(row.From, n.String())
		}
		row.Whole = slices.ContainsFunc(row.Shares, func(s auth.Share) bool {
			return slices.Equal(s.Patterns, []oci.Glob{t.Grant.Repositories}) && s.Actions.Has(t.Grant.Actions)
		})
		rows = append(rows, row)
	}
	return rows, max(0, len(tokens)-tokensShown), nil
}

// A tokensView is what the list of access tokens is made of.
type tokensView struct {
	Rows   []tokenRow
	More   int
	Revoke string // path of the form
	User   string // for the form, on the page of a user
	Now    time.Time
	Fixed  bool // nothing can be changed
}
