package auth

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"cubby/store"

	"golang.org/x/crypto/bcrypt"
)

// FuzzHtpasswd: what is taken is users with hashes that can be compared, and written again it is the same.
func FuzzHtpasswd(f *testing.F) {
	hash, err := bcrypt.GenerateFromPassword([]byte("x"), bcrypt.MinCost)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("alice:" + string(hash) + "\n# x\n\nbob:" + string(hash))
	f.Add("alice:{SHA}x")
	f.Add(":\n")
	f.Add("a:$2y$31$" + strings.Repeat("x", 53))
	f.Fuzz(func(t *testing.T, text string) {
		users, err := parseHtpasswd([]byte(text))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "line ") {
				t.Fatalf("the error does not name the line: %v", err)
			}
			return
		}
		var again strings.Builder
		for name, hash := range users {
			if cost, err := bcrypt.Cost([]byte(hash)); err != nil || cost > htpasswdCostMax || store.CheckUserName(name) != nil {
				t.Fatalf("user %q with %q, %v", name, hash, err)
			}
			again.WriteString(name + ":" + hash + "\n")
		}
		if read, err := parseHtpasswd([]byte(again.String())); err != nil || len(read) != len(users) {
			t.Fatalf("%d users, and read again %d, %v", len(users), len(read), err)
		}
	})
}

// FuzzScopes: scopes are of valid names and read again the same, and none grants what it does not name.
func FuzzScopes(f *testing.F) {
	for _, s := range []string{"repository:a/b:pull,push", "registry:catalog:*", "repository(plugin):a:*", "repository:host:5000/a:pull", "repository:a:pull repository:b:delete", "repository::pull", "a:b:c"} {
		f.Add(s)
	}
	words := map[store.Actions]string{store.ActionPull: "pull", store.ActionPush | store.ActionOverwrite: "push", store.ActionDelete: "delete", store.ActionsAll: "*"}
	f.Fuzz(func(t *testing.T, text string) {
		scopes := parseScopes([]string{text})
		var again []string
		for _, s := range scopes {
			written := "repository:" + s.Name + ":"
			for actions, word := range words {
				if s.Actions&actions != actions {
					continue
				}
				written += word + ","
				if s.Name != "" && !strings.Contains(text, word) && !strings.Contains(text, "*") {
					t.Fatalf("%q grants %s", text, word)
				}
			}
			if s.Name == "" {
				written = CatalogScope
			}
			again = append(again, written)
		}
		if read := parseScopes(again); !slices.Equal(read, scopes) {
			t.Fatalf("%q is %v, and read again %v", text, scopes, read)
		}
	})
}

// FuzzBearer: a token of the token service that was changed anywhere proves nothing.
func FuzzBearer(f *testing.F) {
	st, err := store.Open(f.Context(), store.Options{Dir: f.TempDir(), Role: store.RoleServe, Create: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { st.Close() })
	hash, err := bcrypt.GenerateFromPassword([]byte("secret password"), bcrypt.MinCost)
	if err != nil {
		f.Fatal(err)
	}
	if _, _, err := st.AddUser(f.Context(), "alice", string(hash), nil, store.Actor{}); err != nil {
		f.Fatal(err)
	}
	g := New(Options{Store: st, Cost: bcrypt.MinCost})
	request := func(authorization func(*http.Request)) *http.Request {
		r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
		r.RemoteAddr = "192.0.2.1:1"
		authorization(r)
		return r
	}
	who, err := g.Identify(request(func(r *http.Request) { r.SetBasicAuth("alice", "secret password") }))
	if err != nil {
		f.Fatal(err)
	}
	token, _, err := g.Issue(who, []string{"repository:a:pull"})
	if err != nil {
		f.Fatal(err)
	}
	signed := token[:strings.LastIndexByte(token, '.')]
	f.Add(uint16(0), uint16(1), "x")
	f.Add(uint16(len(bearerPrefix)), uint16(4), "eyJ1")
	f.Add(uint16(len(token)-1), uint16(1), "A")
	f.Fuzz(func(t *testing.T, at, removed uint16, put string) {
		i := min(int(at), len(token))
		changed := token[:i] + put + token[min(i+int(removed), len(token)):]
		p, err := g.Identify(request(func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+changed) }))
		// The last character of the signature has two bits that say nothing.
		same := strings.HasPrefix(strings.TrimSpace(changed), signed+".")
		if err == nil && p.Known() && !same {
			t.Fatalf("%q is %s", changed, p.Name)
		}
		if changed == token && (err != nil || p.Name != "alice") {
			t.Fatalf("the token itself is %s, %v", p.Name, err)
		}
	})
}

// FuzzAddress: behind a proxy that is believed, a client has an address, whatever the proxy says.
func FuzzAddress(f *testing.F) {
	for _, s := range []string{"203.0.113.9", "203.0.113.9, 192.0.2.7", ",,", "::1%eth0", "unknown", "1.2.3.4:5", "::ffff:203.0.113.9"} {
		f.Add(s)
	}
	g := &Guard{proxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
	f.Fuzz(func(t *testing.T, forwarded string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = "192.0.2.1:1"
		r.Header.Set("X-Forwarded-For", forwarded)
		if addr, err := netip.ParseAddr(g.Address(r)); err != nil || addr.Zone() != "" || addr.Is4In6() {
			t.Fatalf("%q is from %q", forwarded, g.Address(r))
		}
	})
}
