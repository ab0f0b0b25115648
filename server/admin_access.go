package server

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"cubby/server/auth"
	"cubby/store"
	"cubby/store/oci"

	"golang.org/x/crypto/bcrypt"
)

// A UserItem is a line of `cubby user ls`.
type UserItem struct {
	Name      string      `json:"name"`
	Grants    []GrantItem `json:"grants"`
	Tokens    int         `json:"tokens"`
	CreatedAt time.Time   `json:"created_at"`
}

// A GrantItem is what may be done to the repositories of a pattern. User is "" for everybody.
type GrantItem struct {
	User         string `json:"user,omitempty"`
	Repositories string `json:"repositories"`
	Actions      string `json:"actions"` // "" for nothing
}

// A TokenItem is an access token. Text is set only when it was just made.
type TokenItem struct {
	ID           string    `json:"id"`
	User         string    `json:"user"`
	Description  string    `json:"description,omitempty"`
	Repositories string    `json:"repositories"`
	Actions      string    `json:"actions"`
	Networks     []string  `json:"networks,omitempty"`
	CreatedAt    time.Time `json:"created_at"`
	ExpiresAt    time.Time `json:"expires_at,omitzero"`
	UsedAt       time.Time `json:"used_at,omitzero"`
	UsedFrom     string    `json:"used_from,omitempty"`
	Text         string    `json:"token,omitempty"`
	Host         string    `json:"host,omitempty"` // where to use it
}

// accessCommands are the administrative commands about users, grants and tokens.
var accessCommands = map[string]AdminFunc{
	"GET /user/ls":       adminUsers,
	"POST /user/add":     adminAddUser,
	"POST /user/passwd":  adminSetPassword,
	"POST /user/rm":      adminRemoveUser,
	"POST /grant":        adminGrant,
	"POST /revoke":       adminRevoke,
	"GET /anonymous":     adminAnonymous,
	"POST /anonymous":    adminSetAnonymous,
	"GET /token/ls":      adminTokens,
	"POST /token/create": adminCreateToken,
	"POST /token/revoke": adminRevokeToken,
	"GET /audit":         adminAudit,
	"GET /connect":       adminConnect,
}

func sendGrants(user string, grants []store.Grant) []GrantItem {
	items := []GrantItem{}
	for _, g := range grants {
		items = append(items, GrantItem{User: user, Repositories: g.Repositories.String(), Actions: g.Actions.String()})
	}
	return items
}

func adminUsers(_ context.Context, st *store.Store, _ *http.Request, send func(Event)) error {
	a := st.Access()
	tokens := make(map[string]int)
	for _, t := range a.Tokens {
		tokens[t.User.Name]++
	}
	for _, u := range auth.Users(a) {
		send(Event{User: &UserItem{Name: u.Name, Grants: sendGrants("", u.Grants), Tokens: tokens[u.Name], CreatedAt: u.CreatedAt}})
	}
	return nil
}

// grantParameter reads a pattern and actions.
func grantParameter(query url.Values) (store.Grant, error) {
	return auth.ParseGrant(query.Get("repositories"), query.Get("actions"))
}

// passwordParameter reads the bcrypt hash of a password. Commands never send the password itself.
func passwordParameter(query url.Values) (string, error) {
	hash := query.Get("password")
	if _, err := bcrypt.Cost([]byte(hash)); err != nil {
		return "", fmt.Errorf("%w: password is no bcrypt hash", errParameter)
	}
	return hash, nil
}

func adminAddUser(ctx context.Context, st *store.Store, r *http.Request, send func(Event)) error {
	query := r.URL.Query()
	name := query.Get("name")
	hash, err := passwordParameter(query)
	if err != nil {
		return err
	}
	var grants []store.Grant
	if len(query["repositories"]) != len(query["actions"]) {
		return fmt.Errorf("%w: each pattern needs its actions", errParameter)
	}
	for i, pattern := range query["repositories"] {
		g, err := auth.ParseGrant(pattern, query["actions"][i])
		if err != nil {
			return err
		}
		grants = auth.AddGrant(grants, g)
	}
	grants, first, err := st.AddUser(ctx, name, hash, grants, AdminActor)
	if err != nil {
		return err
	}
	send(Event{User: &UserItem{Name: name, Grants: sendGrants("", grants), CreatedAt: time.Now()}})
	if first {
		send(Event{Note: "This is the first user: from now on everyone must log in, on this machine too. " + anonymousNote(st)})
	}
	if len(grants) == 0 {
		send(Event{Note: fmt.Sprintf("%s may do nothing yet: cubby grant %s 'team/**' pull,push", name, name)})
	}
	return nil
}

func anonymousNote(st *store.Store) string {
	if len(st.Access().Anonymous) == 0 {
		return "To keep pulls open for everybody: cubby anonymous pull"
	}
	return "What was open without logging in stays so, see cubby anonymous"
}

func adminSetPassword(ctx context.Context, st *store.Store, r *http.Request, send func(Event)) error {
	hash, err := passwordParameter(r.URL.Query())
	if err != nil {
		return err
	}
	name := r.URL.Query().Get("name")
	if err := st.SetPassword(ctx, name, hash, AdminActor); err != nil {
		return err
	}
	send(Event{User: &UserItem{Name: name}})
	return nil
}

func adminRemoveUser(ctx context.Context, st *store.Store, r *http.Request, send func(Event)) error {
	name := r.URL.Query().Get("name")
	if err := st.RemoveUser(ctx, name, AdminActor); err != nil {
		return err
	}
	send(Event{User: &UserItem{Name: name}})
	a := st.Access()
	if len(a.Users) > 0 && auth.Admins(a) == 0 {
		send(Event{Note: "Nobody is left who may do everything: cubby grant NAME '**' admin"})
	}
	if len(a.Users) == 0 {
		send(Event{Note: "That was the last user: unless there is an htpasswd file, anyone on this machine may do everything now"})
	}
	return nil
}

func adminGrant(ctx context.Context, st *store.Store, r *http.Request, send func(Event)) error {
	return changeGrant(ctx, r, send, st.AddGrant)
}

func adminRevoke(ctx context.Context, st *store.Store, r *http.Request, send func(Event)) error {
	return changeGrant(ctx, r, send, st.RemoveGrant)
}

func changeGrant(ctx context.Context, r *http.Request, send func(Event), change func(context.Context, string, store.Grant, store.Actor) (store.Grant, error)) error {
	g, err := grantParameter(r.URL.Query())
	if err != nil {
		return err
	}
	name := r.URL.Query().Get("name")
	now, err := change(ctx, name, g, AdminActor)
	if err != nil {
		return err
	}
	send(Event{Grant: &GrantItem{User: name, Repositories: now.Repositories.String(), Actions: now.Actions.String()}})
	if now.Actions != 0 && !now.Actions.Has(store.ActionPull) {
		send(Event{Note: "Most clients cannot push without pull: they look first whether something is there"})
	}
	return nil
}

func adminAnonymous(_ context.Context, st *store.Store, _ *http.Request, send func(Event)) error {
	for _, g := range sendGrants("", st.Access().Anonymous) {
		send(Event{Grant: &g})
	}
	return nil
}

func adminSetAnonymous(ctx context.Context, st *store.Store, r *http.Request, send func(Event)) error {
	if r.URL.Query().Get("what") == "none" && r.URL.Query().Get("repositories") == "" {
		if err := st.ClearAnonymous(ctx, AdminActor); err != nil {
			return err
		}
		send(Event{Grant: &GrantItem{Repositories: "**"}})
		return nil
	}
	pattern, err := oci.ParseNameGlob(r.URL.Query().Get("repositories"))
	if err != nil {
		return err
	}
	actions, err := auth.ParseAnonymous(r.URL.Query().Get("what"))
	if err != nil {
		return fmt.Errorf("%w: %w", errParameter, err)
	}
	if err := st.SetAnonymous(ctx, store.Grant{Repositories: pattern, Actions: actions}, AdminActor); err != nil {
		return err
	}
	send(Event{Grant: &GrantItem{Repositories: pattern.String(), Actions: actions.String()}})
	return nil
}

// SettingHost is the setting that holds HOST:PORT as clients on other machines write it.
const SettingHost = "host"

func tokenItem(t *store.Token) TokenItem {
	item := TokenItem{
		ID: t.ID, User: t.User.Name, Description: t.Description, Repositories: t.Grant.Repositories.String(), Actions: t.Grant.Actions.String(),
		CreatedAt: t.CreatedAt, ExpiresAt: t.ExpiresAt,
	}
	for _, n := range t.Networks {
		item.Networks = append(item.Networks, n.String())
	}
	return item
}

func adminTokens(ctx context.Context, st *store.Store, r *http.Request, send func(Event)) error {
	uses, err := st.TokenUses(ctx)
	if err != nil {
		return err
	}
	for _, t := range auth.Tokens(st.Access(), r.URL.Query().Get("user")) {
		item := tokenItem(t)
		item.UsedAt, item.UsedFrom = uses[t.ID].At, uses[t.ID].Address
		send(Event{Token: &item})
	}
	return nil
}

func adminCreateToken(ctx context.Context, st *store.Store, r *http.Request, send func(Event)) error {
	query := r.URL.Query()
	g, err := grantParameter(query)
	if err != nil {
		return err
	}
	t := store.Token{Grant: g, Description: query.Get("description")}
	if t.Networks, err = auth.ParseNetworks(query["network"]); err != nil {
		return fmt.Errorf("%w: network: %w", errParameter, err)
	}
	if t.ExpiresAt, err = auth.TokenEnd(query.Get("expires"), time.Now()); err != nil {
		return fmt.Errorf("%w: expires: %w", errParameter, err)
	}
	made, text, err := auth.MakeToken(ctx, st, query.Get("user"), t, AdminActor)
	if err != nil {
		return err
	}
	item := tokenItem(made)
	item.Text = text
	if item.Host, err = st.Setting(ctx, SettingHost); err != nil {
		return err
	}
	send(Event{Token: &item})
	return nil
}

func adminRevokeToken(ctx context.Context, st *store.Store, r *http.Request, send func(Event)) error {
	id := r.URL.Query().Get("id")
	if err := st.RemoveToken(ctx, id, AdminActor); err != nil {
		return err
	}
	send(Event{Token: &TokenItem{ID: id}})
	return nil
}

func adminAudit(ctx context.Context, st *store.Store, r *http.Request, send func(Event)) error {
	query := r.URL.Query()
	f := store.AuditFilter{Who: query.Get("user"), Token: query.Get("token"), Repository: query.Get("repo")}
	if v := query.Get("since"); v != "" {
		var err error
		if f.Since, err = time.Parse(time.RFC3339, v); err != nil {
			return fmt.Errorf("%w: since: %w", errParameter, err)
		}
	}
	var last store.AuditEntry
	for {
		page, err := st.AuditEntries(ctx, f, last, listPage)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, e := range page {
			last = e
			send(Event{Audit: &e})
		}
	}
}
