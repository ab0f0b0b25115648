package uitest

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// testChecks shows that every check can fail: each page has one fault, and the check must find it.
func testChecks(t *testing.T, browserContext context.Context) {
	const head = `<!doctype html><html lang="en"><head><title>Fault · HOST</title><meta name="viewport" content="width=device-width"><link rel="icon" href="/icon"></head>`
	page := func(body string) string { return head + "<body><main><h1>Fault</h1>" + body + "</main></body></html>" }
	faults := []struct{ name, body, want string }{
		{"none", page("<p>Nothing is wrong.</p>"), ""},
		{"axe", page(`<p>Name <input name="a"></p>`), "axe label"},
		{"contrast", page(`<link rel="stylesheet" href="/grey.css"><p class="grey">grey on white</p>`), "axe color-contrast"},
		{"target", page(`<link rel="stylesheet" href="/grey.css"><p><button class="tiny">a</button><button class="tiny">b</button></p>`), "axe target-size"},
		{"scroll", page(`<link rel="stylesheet" href="/grey.css"><p class="broad">broad</p>`), "scrolls sideways"},
		{"shift", page(`<div id="late"></div><p>This moves.</p><script src="/late.js" defer></script>`), "layout shift"},
		{"console", page(`<script src="/complain.js"></script>`), "console: \"complaint\""},
		{"exception", page(`<script src="/throw.js"></script>`), "exception: "},
		{"missing file", page(`<script src="/nothing.js"></script>`), "Failed to load resource"},
		{"inline style", page(`<p style="color: red">red</p>`), "inline: "},
		{"policy", page(`<p style="color: red">red</p>`), "policy: style-src"},
		{"inline script", page(`<script>window.__hit = 1</script>`), "policy: script-src"},
		{"a script that runs", page(`<script src="/hit.js"></script>`), "script ran: 7"},
		{"dialog", page(`<script src="/alert.js"></script>`), "dialog: alert"},
		{"elsewhere", page(`<img alt="a" src="http://127.0.0.1:9/x.png">`), "request elsewhere"},
		{"ids", page(`<p id="a">a</p><p id="a">b</p>`), "id a is there twice"},
		{"fragment", page(`<a href="#nowhere">nowhere</a>`), "nowhere on the page"},
		{"scheme", page(`<a href="javascript:void(0)">run</a>`), "strange scheme"},
		{"refused link", page(`<a href="#ZgotmplZ">refused</a>`), "template refused"},
		{"headings", strings.Replace(page(""), "<h1>Fault</h1>", "<p>No heading</p>", 1), "0 h1"},
		{"title", strings.Replace(page(""), "Fault · HOST", "Fault", 1), "title Fault"},
		{"status", page(`<p>The status is wrong.</p>`), "status 500"},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scripts := map[string]string{
			"/late.js": "requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => { document.getElementById('late').style.height = '200px'; }, 50)))", "/complain.js": "console.error('complaint')",
			"/throw.js": "throw new Error('thrown')", "/hit.js": "window.__hit = 7", "/alert.js": "alert(1)",
		}
		if script, ok := scripts[r.URL.Path]; ok {
			w.Header().Set("Content-Type", "text/javascript")
			fmt.Fprint(w, script)
			return
		}
		switch r.URL.Path {
		case "/grey.css":
			w.Header().Set("Content-Type", "text/css")
			fmt.Fprint(w, ".grey { color: #aaa; background: #fff } .tiny { width: 10px; height: 10px; padding: 0; font-size: 6px; margin: 0; border: 0 } .broad { width: 3000px }")
			return
		case "/nothing.js":
			http.NotFound(w, r)
			return
		}
		for i, fault := range faults {
			if r.URL.Path == fmt.Sprintf("/fault%d", i) {
				w.Header().Set("Content-Type", "text/html; charset=utf-8")
				w.Header().Set("Content-Security-Policy", "default-src 'self'; img-src *")
				if fault.name == "status" {
					w.WriteHeader(http.StatusInternalServerError)
				}
				fmt.Fprint(w, strings.ReplaceAll(fault.body, "HOST", r.Host))
			}
		}
	}))
	defer server.Close()
	b := newTab(t, browserContext, server.URL)
	for i, fault := range faults {
		b.forget()
		b.open(fmt.Sprintf("/fault%d", i))
		if fault.name == "shift" {
			b.waitFor("the shift", func() bool { return eval[int](b, "window.__shifts.length") > 0 })
		}
		found := strings.Join(b.look(http.StatusOK), "\n")
		if fault.want == "" && found != "" || !strings.Contains(found, fault.want) {
			t.Errorf("a page with the fault %q: want %q found, got:\n%s", fault.name, fault.want, found)
		}
	}
}
