package server

import (
	"strings"
	"testing"
)

// TestConnect: every client gets a text for every way to reach the registry, without what the others need.
func TestConnect(t *testing.T) {
	const ca = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
	for _, client := range ConnectClients() {
		for _, c := range []ConnectItem{{Host: "nas:5000"}, {Host: "localhost:5000"}, {Host: "reg.example", HTTPS: true}, {Host: "nas:5000", HTTPS: true, CA: ca}} {
			for _, user := range []string{"", "alice"} {
				text, err := Connect(client, c, user)
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(text, c.Host) || strings.Contains(text, "<no value>") || !strings.HasSuffix(text, "\n") || strings.HasPrefix(text, "\n") || strings.Contains(text, "\n\n\n") {
					t.Errorf("%s %+v %q:\n%s", client, c, user, text)
				}
				if strings.Contains(text, "AAAA") != (c.CA != "") {
					t.Errorf("%s %+v: the certificate:\n%s", client, c, text)
				}
				if _, after, found := strings.Cut(text, "-----END CERTIFICATE-----"); found && after[:3] != "\n# " && !strings.HasPrefix(after, "\n\n# ") {
					t.Errorf("%s %+v %q: nothing ends the file of the certificate:\n%s", client, c, user, text)
				}
				if strings.Contains(text, "alice") != (user != "") {
					t.Errorf("%s %+v %q: the user:\n%s", client, c, user, text)
				}
				insecure := strings.Contains(text, "insecure") || strings.Contains(text, "plain-http") || strings.Contains(text, "http://") || strings.Contains(text, "http = true")
				if insecure != (!c.HTTPS && (client != "docker" && client != "crane" || !c.Local())) {
					t.Errorf("%s %+v: plain HTTP:\n%s", client, c, text)
				}
			}
		}
	}
	if _, err := Connect("netscape", ConnectItem{}, ""); err == nil || !strings.Contains(err.Error(), "podman") {
		t.Errorf("unknown client: %v", err)
	}
}
