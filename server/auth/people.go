package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"cubby/store"
	"cubby/store/oci"
)

// ParseGrant reads what is allowed to the repositories of a pattern, such as team/** and pull,push.
func ParseGrant(pattern, actions string) (g store.Grant, err error) {
	if g.Repositories, err = oci.ParseNameGlob(pattern); err != nil {
		return g, err
	}
	g.Actions, err = store.ParseActions(actions)
	return g, err
}

// AddGrant returns grants with one more, which joins that of the same pattern.
func AddGrant(grants []store.Grant, g store.Grant) []store.Grant {
	if i := slices.IndexFunc(grants, func(old store.Grant) bool { return old.Repositories == g.Repositories }); i >= 0 {
		grants[i].Actions |= g.Actions
		return grants
	}
	return append(grants, g)
}

// Users returns all users by name.
func Users(a *store.Access) (users []*store.User) {
	for _, u := range a.Users {
		users = append(users, u)
	}
	slices.SortFunc(users, func(a, b *store.User) int { return strings.Compare(a.Name, b.Name) })
	return users
}

// Admins returns how many users may do everything.
func Admins(a *store.Access) (n int) {
	for _, u := range a.Users {
		if u.IsAdmin() {
			n++
		}
	}
	return n
}

// Tokens returns the access tokens of a user, or of everybody for "", the oldest first.
func Tokens(a *store.Access, user string) (tokens []*store.Token) {
	for _, t := range a.Tokens {
		if user == "" || user == t.User.Name {
			tokens = append(tokens, t)
		}
	}
	slices.SortFunc(tokens, func(a, b *store.Token) int {
		if c := a.CreatedAt.Compare(b.CreatedAt); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return tokens
}

// MakeToken makes an access token of a user, with the grant, networks, description and end of t. The text is to be shown
// once: only its hash is kept.
func MakeToken(ctx context.Context, st *store.Store, user string, t store.Token, by store.Actor) (made *store.Token, text string, err error) {
	t.ID, text, t.Secret = NewToken()
	if err := st.AddToken(ctx, user, t, by); err != nil {
		return nil, "", err
	}
	if made = st.Access().Tokens[t.ID]; made == nil {
		return nil, "", errors.New("the token is gone already")
	}
	return made, text, nil
}

// TokenEnd returns when a token ends that is valid for an age such as 90d; "" is never, and the zero time.
func TokenEnd(age string, now time.Time) (time.Time, error) {
	if age == "" {
		return time.Time{}, nil
	}
	d, err := store.ParseAge(age)
	if err != nil {
		return time.Time{}, err
	}
	if d <= 0 {
		return time.Time{}, fmt.Errorf("%q would be over at once", age)
	}
	return now.Add(d), nil
}

// A Share is what an access token allows by one grant of its user.
type Share struct {
	Patterns []oci.Glob // a repository must match all of them
	Actions  store.Actions
}

// Shares returns what is left of a token's grant by the grants of its user: a token allows what both do.
func Shares(token store.Grant, user []store.Grant) (shares []Share) {
	for _, g := range user {
		s := Share{Patterns: []oci.Glob{token.Repositories, g.Repositories}, Actions: both(token.Actions, g.Actions)}
		switch {
		case s.Actions == 0:
			continue
		case within(token.Repositories, g.Repositories):
			s.Patterns = s.Patterns[:1]
		case within(g.Repositories, token.Repositories):
			s.Patterns = s.Patterns[1:]
		}
		shares = append(shares, s)
	}
	return shares
}

// both returns the actions that two sets have in common, in the fewest words: everything is admin.
func both(a, b store.Actions) store.Actions {
	c := expand(a) & expand(b)
	if c&store.ActionAdmin != 0 {
		return store.ActionAdmin
	}
	return c
}

// within reports whether everything that one pattern matches is matched by another, as far as that is plain to see.
func within(inner, outer oci.Glob) bool {
	if inner == outer || outer.String() == "**" {
		return true
	}
	above, ok := strings.CutSuffix(outer.String(), "/**")
	return ok && !oci.IsGlob(above) && strings.HasPrefix(inner.String(), above+"/")
}
