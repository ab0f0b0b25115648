package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"cubby/store"

	"golang.org/x/crypto/bcrypt"
)

const (
	// passwordCost makes one comparison some hundred milliseconds of CPU.
	passwordCost = bcrypt.DefaultCost
	// PasswordMin and PasswordMax are the lengths of a password in bytes; bcrypt knows no longer ones.
	PasswordMin = 8
	PasswordMax = 72
)

// HashPassword returns the bcrypt hash of a password, or what is wrong with its length.
func HashPassword(password string) (string, error) {
	if len(password) < PasswordMin || len(password) > PasswordMax {
		return "", fmt.Errorf("a password has %d to %d bytes", PasswordMin, PasswordMax)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), passwordCost)
	return string(hash), err
}

// passwordHash returns the bcrypt hash of a user's password, or "". A user of the store hides one of the htpasswd file.
func (g *Guard) passwordHash(a *store.Access, user string) string {
	if u := a.Users[user]; u != nil {
		return u.Password
	}
	return g.htpasswdUsers()[user]
}

// become makes the principal a user who is known.
func (g *Guard) become(p *Principal, user string) {
	p.Name, p.known, p.user = user, true, htpasswdGrants
	if u := p.access.Users[user]; u != nil {
		p.user, p.userID = u.Grants, u.ID
	}
}

// maxCost returns the highest cost of any user's hash.
func (g *Guard) maxCost() int {
	cost := g.cost
	for _, hash := range g.htpasswdUsers() {
		if c, err := bcrypt.Cost([]byte(hash)); err == nil {
			cost = max(cost, c)
		}
	}
	return cost
}

// login makes the principal whom a user name and a password prove. The password may be an access token, with any name.
func (g *Guard) login(ctx context.Context, p *Principal, user, password string) error {
	if strings.HasPrefix(password, tokenPrefix) {
		t := findToken(p.access, password)
		if t == nil {
			return g.noToken(p, user)
		}
		return g.loginWith(p, t)
	}
	hash := g.passwordHash(p.access, user)
	verified := func() bool {
		if hash == "" || !g.passwords.isVerified(user, password, hash) {
			return false
		}
		g.become(p, user)
		return true
	}
	if verified() {
		return nil
	}
	// A client asks for several things at once; one comparison answers all of them.
	flight, first := g.passwords.join(g.passwords.keyOf(AddressKey(p.Address), user, password, hash))
	if first {
		// Whatever becomes of this one, the others must not wait for ever.
		defer g.passwords.land(flight)
		flight.err = errBusy
		if verified() { // the one before landed between the two questions
			flight.err = nil
			return nil
		}
		flight.err = g.prove(ctx, p, user, password, hash)
		return flight.err
	}
	select {
	case <-flight.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if errors.Is(flight.err, context.Canceled) {
		return errBusy // the one that asked first went away
	}
	if flight.err == nil {
		g.become(p, user)
	}
	return flight.err
}

// prove compares a password, unless too many failed before.
func (g *Guard) prove(ctx context.Context, p *Principal, user, password, hash string) error {
	// Looked at before the comparison, and for unknown users alike.
	wait := func() error {
		if after := g.passwords.wait(p.Address, user, hash); after > 0 {
			return &SlowDownError{After: after}
		}
		return nil
	}
	if err := wait(); err != nil {
		return err
	}
	try := g.passwords.keyOf(AddressKey(p.Address), user, password, hash)
	if g.passwords.wasWrong(try) {
		return ErrCredentials
	}
	ok, err := g.passwords.compare(ctx, p.Address, hash, password, g.maxCost(), wait)
	if err != nil {
		return err
	}
	if !ok {
		return g.failed(p, user, hash, try, ErrCredentials)
	}
	g.passwords.verified(user, password, hash)
	g.passwords.succeeded(p.Address, user, hash)
	g.become(p, user)
	g.loggedIn(p)
	return nil
}

// noToken refuses what looks like an access token and is none. It says nothing about the password of a user, so nobody's
// logins are slowed down for it.
func (g *Guard) noToken(p *Principal, user string) error {
	if g.passwords.once("no token\x00"+p.Address+"\x00"+user, time.Minute) {
		g.auditFailed(p, user, "", "no such access token")
	}
	return fmt.Errorf("%w: there is no such access token", ErrCredentials)
}

// auditFailed notes a failed login of whoever was claimed.
func (g *Guard) auditFailed(p *Principal, user, token, detail string) {
	as := *p
	as.Name = shown(user)
	if token != "" {
		as.token = &store.Token{ID: token}
	}
	g.auditSome(&as, AddressKey(p.Address), store.AuditEntry{Action: store.AuditLoginFailed, Detail: detail})
}

// shown returns a name that a stranger gave as logs show it. Some clients take an access token for it.
func shown(user string) string {
	if store.CheckUserName(user) != nil {
		return fmt.Sprintf("%.64q", user)
	}
	if strings.HasPrefix(user, tokenPrefix) {
		return TokenID(user)[:min(len(TokenID(user)), idLength)]
	}
	return user
}

// loginWith makes the principal the user of an access token.
func (g *Guard) loginWith(p *Principal, t *store.Token) error {
	if err := g.useToken(p, t); err != nil {
		if g.passwords.once("refused\x00"+t.ID+"\x00"+p.Address, time.Minute) {
			g.auditFailed(p, t.User.Name, t.ID, err.Error())
		}
		return err
	}
	g.loggedIn(p)
	return nil
}

// loggedIn notes a login: of an access token once in a few minutes, because it comes with every request.
func (g *Guard) loggedIn(p *Principal) {
	if p.page {
		return
	}
	if p.token != nil {
		g.store.TokenUsed(p.token.ID, p.Address)
		if !g.passwords.once("token\x00"+p.token.ID+"\x00"+p.Address, verifiedTime) {
			return
		}
	}
	g.store.Audit(store.AuditEntry{Action: store.AuditLogin}, p.Actor())
}

// failed notes a failed login, and logs the one that makes the next ones slow. The same try again is not noted.
func (g *Guard) failed(p *Principal, user, hash string, try [32]byte, err error) error {
	n := g.passwords.fail(p.Address, user, hash, try)
	if n == 0 {
		return err
	}
	if n == failuresFree+1 {
		g.log.Warn("repeated failed logins", "user", shown(user), "addr", p.Address, "client", p.Client)
	}
	g.auditFailed(p, user, "", "password")
	return err
}

const (
	// verifiedTime is how long a password that was right is not compared again.
	verifiedTime = 5 * time.Minute
	// passwordsMax bounds what is remembered of each kind.
	passwordsMax = 10_000
	// failuresFree are the failed logins of one user from one address that cost no waiting; then it doubles from a
	// second up to failuresWait.
	failuresFree = 5
	failuresWait = time.Minute
	// failuresKept is how long failures are remembered. For as long a password that was wrong does not count again: it
	// guesses nothing, and one push of containerd with it is a dozen failed logins, which would lock out who knows better.
	failuresKept = 10 * failuresWait
	// comparisonsWaiting bounds the logins that wait for their comparison.
	comparisonsWaiting = 32
)

// passwords remember for minutes which passwords were right, and who fails. Nothing in it can be turned back into a
// password: keys are hashes with a key of this process.
type passwords struct {
	key [32]byte
	now func() time.Time

	// comparing holds a token for each comparison that may run at a time: bcrypt must not take every core.
	comparing chan struct{}
	waiting   chan struct{} // holds a token for each login that waits for one

	mu       sync.Mutex
	right    map[[32]byte]time.Time // guarded by mu; until when
	failures map[[32]byte]failure   // guarded by mu
	wrong    map[[32]byte]time.Time // guarded by mu; passwords that were wrong, until when
	seen     map[[32]byte]time.Time // guarded by mu; see once
	noted    map[[32]byte]failure   // guarded by mu; see countNoted
	lanes    map[string]*lane       // guarded by mu; see enter
	flights  map[[32]byte]*flight   // guarded by mu; see join

	patience time.Duration // how long a login waits for its turn

	bcrypt func(hash, password []byte) error
}

type failure struct {
	count int
	until time.Time // when the next login is looked at
}

func newPasswords(now func() time.Time) *passwords {
	w := &passwords{
		now: now, comparing: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), waiting: make(chan struct{}, comparisonsWaiting),
		right: make(map[[32]byte]time.Time), failures: make(map[[32]byte]failure), wrong: make(map[[32]byte]time.Time), seen: make(map[[32]byte]time.Time),
		noted: make(map[[32]byte]failure), lanes: make(map[string]*lane), flights: make(map[[32]byte]*flight), patience: comparisonPatience,
		bcrypt: bcrypt.CompareHashAndPassword,
	}
	_, _ = rand.Read(w.key[:]) // it never fails
	return w
}

// keyOf hashes texts with the process's key; a length before each keeps them apart.
func (w *passwords) keyOf(texts ...string) [32]byte {
	var b strings.Builder
	for _, s := range texts {
		fmt.Fprintf(&b, "%d:%s", len(s), s)
	}
	return [32]byte(sign(w.key[:], "", b.String()))
}

// isVerified reports whether a password was right a few minutes ago. The hash is part of the key: a password that was
// changed is forgotten at once.
func (w *passwords) isVerified(user, password, hash string) bool {
	key := w.keyOf(user, password, hash)
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	if !now.Before(w.right[key]) {
		return false
	}
	w.right[key] = now.Add(verifiedTime) // a long push must not stumble over its end
	return true
}

// A flight is a login that others wait for.
type flight struct {
	key  [32]byte
	done chan struct{}
	err  error // valid once done is closed
}

// join returns the login of the same user, password and address that is under way, or begins one: then first is set, and
// the caller lands it.
func (w *passwords) join(key [32]byte) (f *flight, first bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if f := w.flights[key]; f != nil {
		return f, false
	}
	f = &flight{key: key, done: make(chan struct{})}
	w.flights[key] = f
	return f, true
}

func (w *passwords) land(f *flight) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.flights, f.key)
	close(f.done)
}

func (w *passwords) verified(user, password, hash string) {
	key := w.keyOf(user, password, hash)
	w.mu.Lock()
	defer w.mu.Unlock()
	makeRoom(w.right, func(until time.Time) bool { return !w.now().Before(until) })
	w.right[key] = w.now().Add(verifiedTime)
}

// makeRoom drops what is over from a full map, and a tenth of it if that is not enough.
func makeRoom[V any](m map[[32]byte]V, over func(V) bool) {
	if len(m) < passwordsMax {
		return
	}
	for k, v := range m {
		if over(v) {
			delete(m, k)
		}
	}
	// Some of them, whichever come first: who fills it must not make it forget everything.
	for k := range m {
		if len(m) < passwordsMax*9/10 {
			break
		}
		delete(m, k)
	}
}

// once reports whether this is the first time for a while that it is asked for a text.
func (w *passwords) once(text string, while time.Duration) bool {
	key := w.keyOf(text)
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	if now.Before(w.seen[key]) {
		return false
	}
	makeRoom(w.seen, func(until time.Time) bool { return !now.Before(until) })
	w.seen[key] = now.Add(while)
	return true
}

// wait returns how long a login of this user from this address must wait.
func (w *passwords) wait(address, user, hash string) time.Duration {
	key := w.keyOf(AddressKey(address), user, hash)
	w.mu.Lock()
	defer w.mu.Unlock()
	return max(0, w.failures[key].until.Sub(w.now()))
}

// wasWrong reports whether the same address tried the same password of a user before, and remembers it for longer. The
// key says also against which hash, so that a password that was changed to it is right.
func (w *passwords) wasWrong(try [32]byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.repeats(try)
}

// repeats is wasWrong for a caller that holds mu.
func (w *passwords) repeats(try [32]byte) bool {
	now := w.now()
	if !now.Before(w.wrong[try]) {
		return false
	}
	w.wrong[try] = now.Add(failuresKept)
	return true
}

// fail notes a failed login and returns how many there were in a row, or 0 when this try was wrong before.
func (w *passwords) fail(address, user, hash string, try [32]byte) int {
	key := w.keyOf(AddressKey(address), user, hash)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.repeats(try) {
		return 0
	}
	now := w.now()
	makeRoom(w.wrong, func(until time.Time) bool { return !now.Before(until) })
	w.wrong[try] = now.Add(failuresKept)
	// What is long over begins anew.
	over := func(f failure) bool { return now.Sub(f.until) > failuresKept }
	makeRoom(w.failures, over)
	f := w.failures[key]
	if over(f) {
		f = failure{}
	}
	f.count++
	f.until = now
	if slow := f.count - failuresFree; slow > 0 {
		f.until = now.Add(min(time.Second<<min(slow-1, 10), failuresWait))
	}
	w.failures[key] = f
	return f.count
}

func (w *passwords) succeeded(address, user, hash string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.failures, w.keyOf(AddressKey(address), user, hash))
}

// errBusy says that too many logins wait.
var errBusy = &SlowDownError{After: 5 * time.Second, Busy: true}

const (
	// comparisonsOfOne bounds the logins of one network that wait among all.
	comparisonsOfOne = 4
	// comparisonPatience is how long a login waits for its turn; then it is told to come back.
	comparisonPatience = 10 * time.Second
)

// A lane is the logins of one network.
type lane struct {
	turns chan struct{} // holds a token for each that waits among all
	users int           // guarded by passwords.mu
}

// enter waits for a place among the logins that wait for their comparison, first among those of its network. Who gets
// none in time is errBusy.
func (w *passwords) enter(ctx context.Context, address string) (leave func(), err error) {
	network := networkKey(address, 48)
	w.mu.Lock()
	l := w.lanes[network]
	if l == nil {
		l = &lane{turns: make(chan struct{}, comparisonsOfOne)}
		w.lanes[network] = l
	}
	l.users++
	w.mu.Unlock()
	out := func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(w.lanes, network)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, w.patience)
	defer cancel()
	for i, turns := range []chan struct{}{l.turns, w.waiting} {
		select {
		case turns <- struct{}{}:
		case <-ctx.Done():
			if i > 0 {
				<-l.turns
			}
			out()
			return nil, errBusy
		}
	}
	return func() {
		<-w.waiting
		<-l.turns
		out()
	}, nil
}

// countNoted counts what is noted of somebody in a minute.
func (w *passwords) countNoted(of string) int {
	key := w.keyOf("noted", of)
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	over := func(f failure) bool { return !now.Before(f.until) }
	makeRoom(w.noted, over)
	f := w.noted[key]
	if over(f) {
		f = failure{until: now.Add(time.Minute)}
	}
	f.count++
	w.noted[key] = f
	return f.count
}

// compare compares a password with a hash, which is "" for a user who is not known. A failure takes as long as a hash of
// the cost max takes, whoever it is.
//
// allowed is asked once more when it is this login's turn: others may have failed meanwhile.
func (w *passwords) compare(ctx context.Context, address, hash, password string, max int, allowed func() error) (bool, error) {
	leave, err := w.enter(ctx, address)
	if err != nil {
		return false, err
	}
	defer leave()
	select {
	case w.comparing <- struct{}{}:
		defer func() { <-w.comparing }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	if err := allowed(); err != nil {
		return false, err
	}
	// bcrypt would ignore what is longer.
	text := []byte(password[:min(len(password), PasswordMax)])
	cost, costErr := bcrypt.Cost([]byte(hash))
	if costErr != nil {
		_ = w.bcrypt([]byte(dummyHash(max)), text)
		return false, nil
	}
	if w.bcrypt([]byte(hash), text) == nil && len(password) <= PasswordMax {
		return true, nil
	}
	// A hash of lower cost was done sooner; what is missing is made up for. The costs from c to n-1 together take as long
	// as n takes more than c.
	for c := cost; c < max; c++ {
		_ = w.bcrypt([]byte(dummyHash(c)), text)
	}
	return false, nil
}

// dummyHash returns a hash of a cost that no password is known for.
func dummyHash(cost int) string {
	return fmt.Sprintf("$2a$%02d$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy", cost)
}
