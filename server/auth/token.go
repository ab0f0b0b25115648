package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strings"
	"time"

	"cubby/store"
	"cubby/store/oci"
)

// An access token is the text cubby_ID_SECRETCHECK: an id of 10 characters, a secret of 32 and a checksum of 7, in
// lower-case base32. The checksum tells a mistyped or cut one from a wrong one, also to scanners that look for leaked
// secrets.
const (
	tokenPrefix  = "cubby_"
	idLength     = 10
	secretLength = 32
	checkLength  = 7
)

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewToken makes an access token: its id, the text to give out once, and the hash to keep.
func NewToken() (id, text string, secret []byte) {
	var b [26]byte
	_, _ = rand.Read(b[:]) // it never fails
	random := base32Lower.EncodeToString(b[:])
	id = random[:idLength]
	body := tokenPrefix + id + "_" + random[idLength:idLength+secretLength]
	hash := sha256.Sum256([]byte(body))
	return id, body + checksum(body), hash[:]
}

func checksum(body string) string {
	return base32Lower.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(body))))
}

// IsToken reports whether a password has the form of an access token.
func IsToken(s string) bool {
	const length = len(tokenPrefix) + idLength + 1 + secretLength + checkLength
	return len(s) == length && strings.HasPrefix(s, tokenPrefix) && checksum(s[:length-checkLength]) == s[length-checkLength:]
}

// TokenID returns the id of an access token, or s when it is none.
func TokenID(s string) string {
	if IsToken(s) {
		return s[len(tokenPrefix) : len(tokenPrefix)+idLength]
	}
	return s
}

// findToken returns the access token that a password is, or nil.
func findToken(a *store.Access, s string) *store.Token {
	if !IsToken(s) {
		return nil
	}
	t := a.Tokens[s[len(tokenPrefix):len(tokenPrefix)+idLength]]
	hash := sha256.Sum256([]byte(s[:len(s)-checkLength]))
	if t == nil || !sameText(t.Secret, hash[:]) {
		return nil
	}
	return t
}

// A scope is what a token of the token service may be used for, as clients ask for it: repository:NAME:ACTIONS.
type scope struct {
	Name    string        `json:"n"`
	Actions store.Actions `json:"a"`
}

// allowedBy returns what scopes leave of the rights to a repository.
func allowedBy(scopes []scope, name oci.Name) (a store.Actions) {
	for _, s := range scopes {
		if s.Name == name.String() {
			a |= s.Actions
		}
	}
	return a
}

// CatalogScope is the scope of lists of repositories.
const CatalogScope = "registry:catalog:*"

// parseScopes reads the scope parameters of a token request: each may hold several with spaces between. What nobody
// knows is left out. The scope without a name is CatalogScope.
func parseScopes(params []string) (scopes []scope) {
	for _, param := range params {
		for text := range strings.FieldsSeq(param) {
			if len(scopes) >= scopesMax {
				return scopes
			}
			if text == CatalogScope {
				scopes = append(scopes, scope{Actions: store.ActionPull})
				continue
			}
			kind, rest, _ := strings.Cut(text, ":")
			i := strings.LastIndexByte(rest, ':')
			if kind != "repository" && !strings.HasPrefix(kind, "repository(") || i < 0 {
				continue
			}
			name, err := oci.ParseName(rest[:i])
			if err != nil {
				continue
			}
			scopes = append(scopes, scope{name.String(), parseScopeActions(rest[i+1:])})
		}
	}
	return scopes
}

// scopesMax bounds the scopes of one token: a push with mounts asks for a few.
const scopesMax = 64

// parseScopeActions reads the actions of a scope. Clients know no overwrite: who asks to push gets both as far as the
// grants go.
func parseScopeActions(s string) (a store.Actions) {
	for word := range strings.SplitSeq(s, ",") {
		switch word {
		case "pull":
			a |= store.ActionPull
		case "push":
			a |= store.ActionPush | store.ActionOverwrite
		case "delete":
			a |= store.ActionDelete
		case "*":
			a |= store.ActionsAll
		}
	}
	return a
}

// BearerTime is how long a token of the token service is valid.
const BearerTime = 5 * time.Minute

// A claim is what a token of the token service says. It names credentials, and what they are good for is looked up anew
// at each request.
type claim struct {
	User    string  `json:"u,omitempty"` // "" for anonymous
	Epoch   []byte  `json:"e,omitempty"` // names the password of the user
	Token   string  `json:"t,omitempty"` // id of the access token it was derived from
	Scopes  []scope `json:"s,omitempty"`
	Asked   bool    `json:"q,omitempty"` // for scopes, granted or not
	Expires int64   `json:"x"`           // unix seconds
}

// bearerPrefix tells tokens of the token service from access tokens.
const bearerPrefix = "cubby-bearer."

// Issue returns a token for the principal, good for what it asks for and may do, and when it ends.
func (g *Guard) Issue(p *Principal, params []string) (text string, expires time.Time, err error) {
	if p.scoped {
		return "", expires, fmt.Errorf("%w: a token cannot be had for a token; log in", ErrUnauthorized)
	}
	expires = g.now().Add(BearerTime)
	c := claim{Expires: expires.Unix(), Asked: strings.Join(params, "") != ""}
	if p.known {
		c.User = p.Name
		if p.token != nil {
			c.Token = p.token.ID
		} else {
			c.Epoch = epoch(g.key, g.passwordHash(p.access, p.Name))
		}
	}
	for _, s := range parseScopes(params) {
		if s.Name == "" {
			c.Scopes = append(c.Scopes, s)
			continue
		}
		name, err := oci.ParseName(s.Name)
		if err != nil {
			return "", expires, err
		}
		if s.Actions &= p.Rights(name); s.Actions != 0 {
			c.Scopes = append(c.Scopes, s)
		}
	}
	payload, err := json.Marshal(c)
	if err != nil {
		return "", expires, err
	}
	body := bearerPrefix + base64.RawURLEncoding.EncodeToString(payload)
	return body + "." + base64.RawURLEncoding.EncodeToString(sign(g.key, "bearer", body)), expires, nil
}

// sign returns a keyed hash of a text for one purpose.
func sign(key []byte, purpose, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(purpose + "\x00" + text))
	return mac.Sum(nil)
}

// epoch names a password without telling it: it changes when the password does.
func epoch(key []byte, hash string) []byte { return sign(key, "epoch", hash)[:12] }

// bearer makes the principal who a token of the token service says. An access token is taken here too.
func (g *Guard) bearer(p *Principal, text string) error {
	if t := findToken(p.access, text); t != nil {
		return g.loginWith(p, t)
	}
	if strings.HasPrefix(text, tokenPrefix) {
		return g.noToken(p, "")
	}
	i := strings.LastIndexByte(text, '.')
	if !strings.HasPrefix(text, bearerPrefix) || i < len(bearerPrefix) {
		return fmt.Errorf("%w: the bearer token is not one of this registry", ErrCredentials)
	}
	mac, err := base64.RawURLEncoding.DecodeString(text[i+1:])
	if err != nil || !hmac.Equal(mac, sign(g.key, "bearer", text[:i])) {
		return fmt.Errorf("%w: the bearer token is not one of this registry", ErrCredentials)
	}
	var c claim
	payload, err := base64.RawURLEncoding.DecodeString(text[len(bearerPrefix):i])
	if err == nil {
		err = json.Unmarshal(payload, &c)
	}
	if err != nil {
		return fmt.Errorf("%w: the bearer token cannot be read", ErrCredentials)
	}
	if now := g.now().Unix(); now >= c.Expires || c.Expires > now+int64(BearerTime.Seconds())+1 {
		return fmt.Errorf("%w: the bearer token has expired", ErrCredentials)
	}
	p.scopes, p.scoped, p.asked = c.Scopes, true, c.Asked
	switch {
	case c.Token != "":
		t := p.access.Tokens[c.Token]
		if t == nil || t.User.Name != c.User {
			return fmt.Errorf("%w: the access token was revoked", ErrCredentials)
		}
		return g.useToken(p, t)
	case c.User != "":
		hash := g.passwordHash(p.access, c.User)
		if hash == "" || !sameText(epoch(g.key, hash), c.Epoch) {
			return fmt.Errorf("%w: the password was changed, or the user removed", ErrCredentials)
		}
		g.become(p, c.User)
	}
	return nil
}
