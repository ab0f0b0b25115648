package web

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"cubby/server/auth"
)

// settingsData is what the page of a browser's settings shows.
type settingsData struct {
	Theme   string
	Compact bool
	Client  string
	Clients []string

	Sessions []auth.SessionItem // of the viewer
}

func (h *Handler) settingsPage(w http.ResponseWriter, r *request) error {
	v := h.view(w, r, "Settings", nil)
	sessions, err := h.Guard.Sessions(r.Context(), r.who)
	if err != nil {
		return err
	}
	v.Data = settingsData{Sessions: sessions, Theme: v.Theme, Compact: v.Dense, Client: v.Client, Clients: imageClients}
	return h.render(w, r, http.StatusOK, "settings", v)
}

// settingsKept is how long a browser keeps its settings.
const settingsKept = 400 * 24 * time.Hour

func (h *Handler) saveSettings(w http.ResponseWriter, r *request) error {
	f := r.PostForm
	for name, values := range map[string][]string{cookieTheme: {"light", "dark"}, cookieDensity: {"compact"}, cookieClient: imageClients} {
		field := map[string]string{cookieTheme: "theme", cookieDensity: "density", cookieClient: "client"}[name]
		if f.Has(field) {
			h.keep(w, r, name, f.Get(field), values)
		}
	}
	h.putFlash(w, r, flash{Text: "Saved in this browser."})
	redirect(w, r, ownPathOr(f.Get("next"), "/-/settings"))
	return nil
}

func (h *Handler) setTheme(w http.ResponseWriter, r *request) error {
	theme := r.PostForm.Get("theme")
	if !slices.Contains([]string{"light", "dark", "system"}, theme) {
		return fmt.Errorf("%w: no theme is called %.20q", errForm, theme)
	}
	h.keep(w, r, cookieTheme, theme, []string{"light", "dark"})
	redirect(w, r, ownPath(r.PostForm.Get("next")))
	return nil
}

// endSession logs another browser out.
func (h *Handler) endSession(w http.ResponseWriter, r *request) error {
	text := "That session had ended already."
	if h.Guard.EndSession(r.who, r.PostForm.Get("session")) {
		text = "That browser is logged out."
	}
	h.putFlash(w, r, flash{Text: text})
	redirect(w, r, "/-/settings")
	return nil
}

// keep sets the cookie of a setting, or removes it when the value is none of those that there are.
func (h *Handler) keep(w http.ResponseWriter, r *request, name, value string, values []string) {
	c := &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: int(settingsKept.Seconds()), HttpOnly: true,
		SameSite: http.SameSiteLaxMode, Secure: h.Guard.Secure(r.Request),
	}
	if !slices.Contains(values, value) {
		c.Value, c.MaxAge = "", -1
	}
	http.SetCookie(w, c)
}

// formatSeconds returns a time as the Retry-After header wants it.
func formatSeconds(d time.Duration) string { return strconv.Itoa(int(d.Seconds()) + 1) }
