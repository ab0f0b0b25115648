package web

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"cubby/store"
)

// A view is what every page is made of.
type view struct {
	Title    string // of the page, without the host
	Data     any
	Search   string // what stands in the search field
	Section  string // of the navigation: repositories, storage or help
	Path     string // of this page with its query, to come back to
	Host     string
	HTTPS    bool
	Version  string
	Now      time.Time
	ReadOnly bool

	User     string // who is logged in, or ""
	Known    bool
	Admin    bool
	CanLogin bool // somebody could log in
	// SeesAll is whether nothing is hidden from the viewer. What no other repository has tells of those too.
	SeesAll bool
	// Names is whether the viewer is told who did something: not who is nobody himself. Addresses are for administrators.
	Names bool
	// Secret is set when the page shows what nothing may keep.
	Secret bool

	Theme   string // light, dark, or "" for the system's
	Dense   bool
	Client  string // preferred for images
	Flash   *flash
	Banners []banner
	CSS, JS string
	Icon    string
}

// A flash tells once what was done.
type flash struct {
	Text   string `json:"t"`
	Action string `json:"a,omitempty"` // path of a form that undoes it
	Label  string `json:"l,omitempty"`
	Tag    string `json:"g,omitempty"` // fields of the form
	To     string `json:"d,omitempty"`
}

// Names of cookies. All but the session are settings of a browser and tell nothing.
const (
	cookieTheme   = "cubby_theme"
	cookieDensity = "cubby_density"
	cookieClient  = "cubby_client"
	cookieFlash   = "cubby_flash"
)

// view returns what the layout of a page needs, and takes the flash that waits.
func (h *Handler) view(w http.ResponseWriter, r *request, title string, data any) *view {
	v := &view{
		Title: title, Data: data, Path: r.URL.RequestURI(), Host: h.host(r), HTTPS: h.Guard.Secure(r.Request), Version: h.Version,
		Now: h.now(), ReadOnly: h.ReadOnly, CanLogin: !h.Guard.Open(),
		Theme: setting(r, cookieTheme, "light", "dark"), Dense: setting(r, cookieDensity, "compact") != "",
		Client: setting(r, cookieClient, imageClients...),
		CSS:    h.assets().paths["css"], JS: h.assets().paths["js"], Icon: h.assets().paths["svg"],
	}
	if v.Client == "" {
		v.Client = imageClients[0]
	}
	if r.who != nil {
		v.Known, v.Admin, v.SeesAll = r.who.Known(), r.who.IsAdmin(), r.who.SeesAll()
		v.Names = v.Known || v.Admin
		if v.Known {
			v.User = r.who.Name
		}
	}
	if v.Admin {
		v.Banners = h.banners(r, v)
	}
	v.Flash = takeFlash(w, r)
	return v
}

// setting returns the value of a cookie if it is one of those that there are, else "".
func setting(r *request, name string, values ...string) string {
	c, err := r.Cookie(name)
	if err != nil || !slices.Contains(values, c.Value) {
		return ""
	}
	return c.Value
}

var hostForm = regexp.MustCompile(`^([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$`)

// host returns the host as the browser wrote it, for commands to copy: it must be nothing but a host.
func (h *Handler) host(r *request) string {
	if host := h.Guard.Host(r.Request); len(host) <= 255 && hostForm.MatchString(host) {
		return host
	}
	return "localhost:5000"
}

// putFlash leaves a text for the next page. It stands in a cookie, because a link must not be able to put words into
// our mouth.
func (h *Handler) putFlash(w http.ResponseWriter, r *request, f flash) {
	b, err := json.Marshal(f)
	if err != nil || len(b) > 3000 {
		return
	}
	http.SetCookie(w, &http.Cookie{
		Name: cookieFlash, Value: base64.RawURLEncoding.EncodeToString(b), Path: "/", MaxAge: 60, HttpOnly: true,
		SameSite: http.SameSiteLaxMode, Secure: h.Guard.Secure(r.Request),
	})
}

func takeFlash(w http.ResponseWriter, r *request) *flash {
	c, err := r.Cookie(cookieFlash)
	if err != nil {
		return nil
	}
	http.SetCookie(w, &http.Cookie{Name: cookieFlash, Path: "/", MaxAge: -1})
	b, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil {
		return nil
	}
	f := &flash{}
	if json.Unmarshal(b, f) != nil || f.Text == "" {
		return nil
	}
	if rt, err := parsePath(f.Action); err != nil || rt.place != placeRestore {
		f.Action = "" // whoever can plant a cookie must not choose what a button does
	}
	return f
}

// redirect sends the browser to another page of ours after a change.
func redirect(w http.ResponseWriter, r *request, path string) {
	http.Redirect(w, r.Request, path, http.StatusSeeOther)
}

// ownPath returns where a form wants to go back to, if that is a path of ours, else the front page.
func ownPath(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(u.Path, "/") || strings.HasPrefix(s, "//") ||
		strings.ContainsAny(s, "\\\n\r\t") || strings.HasPrefix(u.Path, "//") {
		return "/"
	}
	return u.RequestURI()
}

// A banner tells an administrator what should not stay so.
type banner struct {
	Text, Link, Label string
}

// warnings are the banners that need a look at the store, kept for a while.
type warnings struct {
	mu  sync.Mutex
	at  time.Time
	all []banner
}

// warningsKept is how long they are shown without looking anew.
const warningsKept = 10 * time.Second

func (h *Handler) banners(r *request, v *view) []banner {
	h.warnings.mu.Lock()
	defer h.warnings.mu.Unlock()
	if now := h.now(); now.Sub(h.warnings.at) >= warningsKept || now.Before(h.warnings.at) {
		h.warnings.at, h.warnings.all = now, h.look(r)
	}
	all := h.warnings.all
	if !v.HTTPS && !isLoopback(v.Host) {
		all = append(slices.Clip(all), banner{Text: "This connection is not encrypted: passwords and images cross the network in clear. Start the server with TLS, or put it behind a proxy that speaks it."})
	}
	return all
}

// diskFull is the part of the disk, in percent, above which a banner says so.
const diskFull = 90

func (h *Handler) look(r *request) []banner {
	all := diskBanner(h.Store.Space())
	runs, err := h.Store.Collections(r.Context(), 1)
	if err == nil && len(runs) > 0 && runs[0].Outcome != "done" {
		all = append(all, banner{"The last collection was " + runs[0].Outcome + ": " + runs[0].Reason, "/-/storage/gc", "See collections"})
	}
	if h.Problem != nil && h.Problem() != "" {
		all = append(all, banner{Text: "The configuration file is not in force: " + h.Problem()})
	}
	return all
}

func diskBanner(free, total int64) []banner {
	if total <= 0 || (total-free)*100/total < diskFull {
		return nil
	}
	return []banner{{"The disk is " + percent(total-free, total) + " full: " + size(free) + " are left. Pushes are refused when it is full.", "/-/storage", "See what takes space"}}
}

func percent(part, whole int64) string {
	if whole <= 0 {
		return "0 %"
	}
	return strconv.FormatInt(part*100/whole, 10) + " %"
}

// actor is whom the history names for what a page does.
func (r *request) actor() store.Actor { return r.who.Actor() }
