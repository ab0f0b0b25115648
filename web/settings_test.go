package web

import (
	"regexp"
	"strings"
	"testing"
)

// TestSessions logs another browser of a user out, and nobody else's.
func TestSessions(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fill()
	s.session(reader)
	leads(t, "a second browser", s.post(anonymous, "/-/login", "user", reader, "password", reader+"-password"), "/")
	page := s.get(reader, "/-/settings")
	wants(t, "settings", page, 200, "This browser", "Log out in all browsers")
	ids := regexp.MustCompile(`name="session" value="([0-9a-f]+)"`).FindAllStringSubmatch(page.body, -1)
	if len(ids) != 1 {
		t.Fatalf("sessions to end: %v", ids)
	}
	end := func(viewer string) string { return flashed(t, s.post(viewer, "/-/session", "session", ids[0][1])).Text }
	if got := end(writer); got != "That session had ended already." {
		t.Errorf("somebody else: %q", got)
	}
	if got := end(reader); got != "That browser is logged out." {
		t.Errorf("the user: %q", got)
	}
	if body := s.get(reader, "/-/settings").body; strings.Contains(body, `name="session"`) || !strings.Contains(body, "You are logged in as") {
		t.Error("the other session is still there, or this one is not")
	}
}

// TestNames: who did something is told to who is logged in, from where to administrators.
func TestNames(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fill()
	leads(t, "a restore", s.post(admin, "/public/tool/-/restore", "tag", "again", "to", s.at("public/tool", s.tagsOf("public/tool")[0]).String()), "/public/tool")
	const path = "/public/tool/-/history"
	for viewer, want := range map[string]struct{ name, address bool }{anonymous: {}, reader: {name: true}, admin: {name: true, address: true}} {
		body := s.get(viewer, path).body
		if got := strings.Contains(body, "<bdi>admin</bdi> ") || strings.Contains(body, "by <bdi>admin</bdi>"); got != want.name {
			t.Errorf("%s reads the name: %v", viewer, got)
		}
		if got := strings.Contains(body, "127.0.0.1</span>"); got != want.address {
			t.Errorf("%s reads the address: %v", viewer, got)
		}
	}
}
