// Package auth knows who is asking and what they may do. Every request is evaluated against what store.Access says at
// that moment: a change is in force with the next request, also for what was derived from what it took away.
package auth

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"cubby/store"
	"cubby/store/oci"
)

// An Action is what a request does.
type Action int

const (
	// Public is for routes that tell nothing: OPTIONS and health checks.
	Public Action = iota + 1
	// Ping is GET /v2/: clients learn from it that they must log in.
	Ping
	// List is for lists of repositories, which hold what the principal may see.
	List
	Pull
	Push
	Delete
)

func (a Action) String() string {
	return [...]string{"nothing", "public", "ping", "list", "pull", "push", "delete"}[a]
}

// needs returns what must be allowed for a repository.
func (a Action) needs() store.Actions {
	return map[Action]store.Actions{Pull: store.ActionPull, Push: store.ActionPush, Delete: store.ActionDelete}[a]
}

// These errors refuse a request.
var (
	ErrUnauthorized = errors.New("authentication required")            // nobody said who is asking, or not with enough scope
	ErrCredentials  = errors.New("user name or password is not right") // 401 too
	ErrDenied       = errors.New("not allowed")                        // who is asking is known, and may not
	ErrSlowDown     = errors.New("too many failed logins")
	ErrBusy         = errors.New("busy") // come back in a moment; it is ErrSlowDown too
	ErrCrossOrigin  = errors.New("request from another web site refused")
)

// A SlowDownError tells when the next login is looked at. It is ErrSlowDown.
type SlowDownError struct {
	After time.Duration
	Busy  bool // not for failed logins: too many are under way
}

func (e *SlowDownError) Error() string {
	if e.Busy {
		return "too many logins at a time; try again in a moment"
	}
	return fmt.Sprintf("%v from this address; the next is looked at in %s", ErrSlowDown, e.After.Round(time.Second))
}

func (e *SlowDownError) Unwrap() error { return ErrSlowDown }

// Is reports whether it is ErrBusy.
func (e *SlowDownError) Is(target error) bool { return e.Busy && target == ErrBusy }

// A Principal is who is asking, and with what credentials. It is made by Guard.Identify and Guard.IdentifyPage.
type Principal struct {
	Name    string // "anonymous" when nobody logged in
	Address string // the client's IP address
	Client  string // as the client calls itself
	Local   bool   // on this machine, while nobody can log in
	// StaleSession is set when the browser sent a session that is over: its cookie should be cleared.
	StaleSession bool

	user   []store.Grant // of who logged in
	userID int64         // of a user of the store
	access *store.Access
	token  *store.Token // the access token that was used, else nil
	known  bool         // somebody logged in
	scopes []scope      // of a token of the token service
	scoped bool         // there is one
	asked  bool         // and it was asked for scopes

	session *store.Session // by which a page was asked for, else nil
	page    bool           // it logs in by a page, which notes that itself
}

// Actor returns the principal as the history names it.
func (p *Principal) Actor() store.Actor {
	a := store.Actor{Name: p.Name, Address: p.Address, Client: p.Client}
	if p.token != nil {
		a.Token = p.token.ID
	}
	return a
}

// Owner names whose an upload session is: a user who is made anew under an old name is another.
func (p *Principal) Owner() string {
	if p.userID == 0 {
		return p.Name
	}
	return p.Name + "#" + strconv.FormatInt(p.userID, 10)
}

// Quota names who is counted together: a user, or an address that did not log in.
func (p *Principal) Quota() string {
	if p.known {
		return p.Owner()
	}
	return "address " + AddressKey(p.Address)
}

// AnonymousAllowed reports whether anything may be done without logging in.
func (p *Principal) AnonymousAllowed() bool { return len(p.access.Anonymous) > 0 }

// Known reports whether somebody logged in.
func (p *Principal) Known() bool { return p.known }

// rights returns what the principal may do to a repository, without the limits of a scope: what everybody may, and what
// the user may as far as the access token allows it too.
func (p *Principal) rights(name oci.Name) store.Actions {
	if p.Local {
		return store.ActionsAll
	}
	everybody := store.Allowed(p.access.Anonymous, name)
	if !p.known {
		return everybody
	}
	user := expand(store.Allowed(p.user, name))
	if p.token != nil {
		user &= expand(store.Allowed([]store.Grant{p.token.Grant}, name))
	}
	return user | everybody
}

// expand makes the actions that admin includes explicit.
func expand(a store.Actions) store.Actions {
	if a&store.ActionAdmin != 0 {
		return store.ActionsAll
	}
	return a
}

// Rights returns what the principal may do to a repository.
func (p *Principal) Rights(name oci.Name) store.Actions {
	rights := p.rights(name)
	if !p.scoped {
		return rights
	}
	return rights & allowedBy(p.scopes, name)
}

// Sees reports whether a list of repositories shows one to the principal.
func (p *Principal) Sees(name oci.Name) bool { return p.rights(name).Has(store.ActionPull) }

// SeesAll reports whether nothing is hidden from the principal: it may pull from all repositories that there can be.
func (p *Principal) SeesAll() bool {
	all := func(grants ...store.Grant) bool {
		return slices.ContainsFunc(grants, func(g store.Grant) bool { return g.Repositories.String() == "**" && g.Actions.Has(store.ActionPull) })
	}
	return p.Local || all(p.access.Anonymous...) || p.known && all(p.user...) && (p.token == nil || all(p.token.Grant))
}

// May reports whether the principal may do all of these actions to a repository.
func (p *Principal) May(a store.Actions, name oci.Name) bool { return p.Rights(name).Has(a) }

// A Guard decides who is asking and what they may do. It is safe for concurrent use.
type Guard struct {
	store    *store.Store
	access   func() *store.Access
	htpasswd func() map[string]string // user → bcrypt hash; may be nil
	proxies  []netip.Prefix
	log      *slog.Logger
	now      func() time.Time
	cost     int
	// key signs what the token service gives out. It is this process's: what it signs lives for minutes, and a key in the
	// database would be in every backup.
	key []byte

	passwords *passwords
	hinted    atomic.Bool // see HintProxy
}

// Options say what a Guard goes by besides its store.
type Options struct {
	Store *store.Store
	// Htpasswd returns more users, by bcrypt hash of their password. They may do everything but administer. It may be nil.
	Htpasswd func() map[string]string
	// Proxies are believed when they say for whom they ask.
	Proxies []netip.Prefix
	Log     *slog.Logger     // nil: silent
	Now     func() time.Time // nil: time.Now
	// Cost is the bcrypt cost that every failed login takes at least; 0: that of HashPassword. Tests lower it.
	Cost int
}

// New returns a guard.
func New(o Options) *Guard {
	g := &Guard{store: o.Store, access: o.Store.Access, htpasswd: o.Htpasswd, proxies: o.Proxies, log: o.Log, now: o.Now, cost: o.Cost}
	if g.cost == 0 {
		g.cost = passwordCost
	}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	if g.now == nil {
		g.now = time.Now
	}
	g.passwords = newPasswords(g.now)
	g.key = g.passwords.key[:]
	return g
}

// htpasswdGrants are what a user of an htpasswd file may do: what registry:2 lets everyone do who can log in.
var htpasswdGrants = func() []store.Grant {
	all, err := oci.ParseGlob("**")
	if err != nil {
		panic(err)
	}
	return []store.Grant{{Repositories: all, Actions: store.ActionsAll &^ store.ActionAdmin}}
}()

// htpasswdUsers returns the users of the file, none without one.
func (g *Guard) htpasswdUsers() map[string]string {
	if g.htpasswd == nil {
		return nil
	}
	return g.htpasswd()
}

// open reports whether nobody can log in: then this machine may do everything.
func (g *Guard) open(a *store.Access) bool {
	return len(a.Users) == 0 && g.htpasswd == nil && !a.Unknown
}

// Authorize returns nil when the principal may do the action to the repository, which is zero for actions that concern
// none. Default deny: an action it does not know is refused. Whether a repository exists plays no part.
func (g *Guard) Authorize(p *Principal, action Action, name oci.Name) error {
	switch action {
	case Public:
		return nil
	case Ping:
		// While anybody can log in, whoever has not must be told to: docker and skopeo go by this answer, and would never
		// send their credentials.
		if p.Local || p.known || p.scoped || g.open(p.access) && len(p.access.Anonymous) > 0 {
			return nil
		}
		return g.unauthorized(p, action)
	case List:
		// As for Ping: who sees less than others must be told to log in. A token without any scope, which some clients ask
		// for, is about nothing in particular.
		scoped := p.scoped && (!p.asked || slices.ContainsFunc(p.scopes, func(s scope) bool { return s.Name == "" }))
		if p.Local || p.known && (!p.scoped || scoped) || scoped && p.AnonymousAllowed() || g.open(p.access) && p.AnonymousAllowed() {
			return nil
		}
		return g.unauthorized(p, action)
	case Pull, Push, Delete:
		if p.May(action.needs(), name) {
			return nil
		}
		if p.known && (!p.scoped || !p.rights(name).Has(action.needs())) {
			return fmt.Errorf("%w: %s may not %s %s", ErrDenied, p.Name, action, to(action, name))
		}
	}
	return g.unauthorized(p, action)
}

func to(action Action, name oci.Name) string {
	switch action {
	case Push:
		return "to " + name.String()
	case Delete:
		return "in " + name.String()
	}
	return "from " + name.String()
}

// unauthorized tells who would have to log in, or why nobody can.
func (g *Guard) unauthorized(p *Principal, action Action) error {
	if !g.open(p.access) {
		return fmt.Errorf("%w: log in to %s", ErrUnauthorized, describe(action))
	}
	const local = "by the address localhost and not through a proxy"
	if len(p.access.Anonymous) > 0 {
		return fmt.Errorf("%w: only this registry's own machine may do that, %s, and it has no users yet; cubby user add makes one", ErrUnauthorized, local)
	}
	return fmt.Errorf("%w: this registry is open to its own machine only, %s; cubby user add lets somebody log in, cubby anonymous pull lets everybody pull", ErrUnauthorized, local)
}

func describe(action Action) string {
	switch action {
	case Ping, List:
		return "use this registry"
	}
	return action.String()
}

// Describe tells in a sentence who may do what.
func (g *Guard) Describe(readOnly bool) string {
	a := g.access()
	who := fmt.Sprintf("Who logs in may do what was granted (%d users)", len(a.Users)+len(g.htpasswdUsers()))
	if g.open(a) {
		who = "Open: anyone on this machine may push, pull and delete"
	}
	text := who + "; nobody else may do anything"
	if len(a.Anonymous) > 0 {
		text = who + "; without logging in " + describeGrants(a.Anonymous)
	}
	if readOnly {
		text = "Read-only, so nobody may push or delete. " + text
	}
	return text
}

func describeGrants(grants []store.Grant) string {
	var text strings.Builder
	for i, g := range grants {
		if i > 0 {
			text.WriteString(", and ")
		}
		verb := map[bool]string{true: "anyone may pull and push", false: "anyone may pull"}[g.Actions&store.ActionPush != 0]
		if g.Actions&store.ActionDelete != 0 {
			verb = "anyone may pull, push and delete"
		}
		text.WriteString(verb + " " + g.Repositories.String())
	}
	return text.String()
}

// ParseAnonymous returns the actions that none, pull and push stand for.
func ParseAnonymous(s string) (store.Actions, error) {
	switch s {
	case "none":
		return 0, nil
	case "pull":
		return store.ActionPull, nil
	case "push":
		return store.ActionPull | store.ActionPush | store.ActionOverwrite, nil
	}
	return 0, fmt.Errorf("anonymous access %q is not none, pull or push", s)
}

// notedMax is how many failed logins of one address, and denials of one user, are noted in a minute.
const notedMax = 60

// auditSome notes a failed login or a denial, as far as not too many of the same somebody are noted already.
func (g *Guard) auditSome(p *Principal, of string, e store.AuditEntry) {
	switch n := g.passwords.countNoted(of); {
	case n == notedMax:
		e.Detail, e.Repository = "more of these in this minute are not noted", ""
	case n > notedMax:
		return
	}
	g.store.Audit(e, p.Actor())
}

// Denied notes in the audit log that a request was refused, once a minute for the same.
func (g *Guard) Denied(p *Principal, r *http.Request, name oci.Name) {
	if !p.known {
		return // every client begins so, and names can be made up
	}
	key := p.Name + "\x00" + p.Address + "\x00" + r.Method + "\x00" + name.String()
	if g.passwords.once(key, time.Minute) {
		g.auditSome(p, p.Owner(), store.AuditEntry{Action: store.AuditDenied, Repository: name.String(), Detail: r.Method})
	}
}
