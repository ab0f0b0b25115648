package auth

import (
	"context"
	"crypto/rand"
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
		p.user = u.Grants
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
			try := g.passwords.keyOf(p.Address, user, password, "")
			return g.failed(p, user, try, fmt.Errorf("%w: there is no such access token", ErrCredentials))
		}
		return g.loginWith(p, t)
	}
	hash := g.passwordHash(p.access, user)
	if hash != "" && g.passwords.isVerified(user, password, hash) {
		g.become(p, user)
		return nil
	}
	// Looked at before the comparison, and for unknown users alike.
	if wait := g.passwords.wait(p.Address, user); wait > 0 {
		return &SlowDownError{After: wait}
	}
	try := g.passwords.keyOf(p.Address, user, password, hash)
	if g.passwords.wasWrong(try) {
		return ErrCredentials
	}
	ok, err := g.passwords.compare(ctx, hash, password, g.maxCost())
	if err != nil {
		return err
	}
	if !ok {
		return g.failed(p, user, try, ErrCredentials)
	}
	g.passwords.verified(user, password, hash)
	g.passwords.succeeded(p.Address, user)
	g.become(p, user)
	g.loggedIn(p)
	return nil
}

// loginWith makes the principal the user of an access token.
func (g *Guard) loginWith(p *Principal, t *store.Token) error {
	if err := g.useToken(p, t); err != nil {
		if g.passwords.once("refused\x00"+t.ID+"\x00"+p.Address, time.Minute) {
			g.audit(p, store.AuditEntry{Action: store.AuditLoginFailed, Detail: err.Error()})
		}
		return err
	}
	g.loggedIn(p)
	return nil
}

// loggedIn notes a login: of an access token once in a few minutes, because it comes with every request.
func (g *Guard) loggedIn(p *Principal) {
	if p.token != nil {
		g.store.TokenUsed(p.token.ID, p.Address)
		if !g.passwords.once("token\x00"+p.token.ID+"\x00"+p.Address, verifiedTime) {
			return
		}
	}
	g.audit(p, store.AuditEntry{Action: store.AuditLogin})
}

// failed notes a failed login, and logs the one that makes the next ones slow. The same try again is not noted.
func (g *Guard) failed(p *Principal, user string, try [32]byte, err error) error {
	n := g.passwords.fail(p.Address, user, try)
	if n == 0 {
		return err
	}
	shown := user
	if store.CheckUserName(user) != nil {
		shown = fmt.Sprintf("%.64q", user)
	}
	if n == failuresFree+1 {
		g.log.Warn("repeated failed logins", "user", shown, "addr", p.Address, "client", p.Client)
	}
	g.audit(p, store.AuditEntry{Action: store.AuditLoginFailed, Detail: shown})
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
}

type failure struct {
	count int
	until time.Time // when the next login is looked at
}

func newPasswords(now func() time.Time) *passwords {
	w := &passwords{
		now: now, comparing: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), waiting: make(chan struct{}, comparisonsWaiting),
		right: make(map[[32]byte]time.Time), failures: make(map[[32]byte]failure), wrong: make(map[[32]byte]time.Time), seen: make(map[[32]byte]time.Time),
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
	return w.now().Before(w.right[key])
}

func (w *passwords) verified(user, password, hash string) {
	key := w.keyOf(user, password, hash)
	w.mu.Lock()
	defer w.mu.Unlock()
	makeRoom(w.right, func(until time.Time) bool { return !w.now().Before(until) })
	w.right[key] = w.now().Add(verifiedTime)
}

// makeRoom drops what is over from a full map, and if nothing is, everything: to forget costs a comparison.
func makeRoom[V any](m map[[32]byte]V, over func(V) bool) {
	if len(m) < passwordsMax {
		return
	}
	for k, v := range m {
		if over(v) {
			delete(m, k)
		}
	}
	if len(m) >= passwordsMax {
		clear(m)
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
func (w *passwords) wait(address, user string) time.Duration {
	key := w.keyOf(address, user)
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
func (w *passwords) fail(address, user string, try [32]byte) int {
	key := w.keyOf(address, user)
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

func (w *passwords) succeeded(address, user string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.failures, w.keyOf(address, user))
}

// errBusy says that too many logins wait.
var errBusy = &SlowDownError{After: 5 * time.Second}

// compare compares a password with a hash, which is "" for a user who is not known. A failure takes as long as a hash of
// the cost max takes, whoever it is.
func (w *passwords) compare(ctx context.Context, hash, password string, max int) (bool, error) {
	select {
	case w.waiting <- struct{}{}:
		defer func() { <-w.waiting }()
	default:
		return false, errBusy
	}
	select {
	case w.comparing <- struct{}{}:
		defer func() { <-w.comparing }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	// bcrypt would ignore what is longer.
	text := []byte(password[:min(len(password), PasswordMax)])
	cost, err := bcrypt.Cost([]byte(hash))
	if err != nil {
		_ = bcrypt.CompareHashAndPassword([]byte(dummyHash(max)), text)
		return false, nil
	}
	if bcrypt.CompareHashAndPassword([]byte(hash), text) == nil && len(password) <= PasswordMax {
		return true, nil
	}
	// A hash of lower cost was done sooner; what is missing is made up for. The costs from c to n-1 together take as long
	// as n takes more than c.
	for c := cost; c < max; c++ {
		_ = bcrypt.CompareHashAndPassword([]byte(dummyHash(c)), text)
	}
	return false, nil
}

// dummyHash returns a hash of a cost that no password is known for.
func dummyHash(cost int) string {
	return fmt.Sprintf("$2a$%02d$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy", cost)
}
