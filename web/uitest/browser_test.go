package uitest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/fetch"
	"github.com/chromedp/cdproto/input"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// patience bounds what a browser does in milliseconds, so that a hang fails its test and not the whole run.
const patience = 20 * time.Second

// startBrowser starts the one Chromium of the suite. It ends, by its context, with the test.
func startBrowser(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("chromium is not installed; run: apt-get install --no-install-recommends chromium fonts-dejavu-core")
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(path),
		chromedp.UserDataDir(t.TempDir()),
		// Everything is on this machine: no name leads out of it, and no service of the browser calls home.
		chromedp.Flag("host-resolver-rules", "MAP nas.test 127.0.0.1, MAP localhost 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
		chromedp.Flag("no-proxy-server", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("lang", "en-US"),
	)
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	if err := chromedp.Run(ctx); err != nil {
		t.Fatalf("chromium does not start: %v", err)
	}
	var product string
	if err := chromedp.Run(ctx, chromedp.ActionFunc(func(ctx context.Context) (err error) {
		_, product, _, _, _, err = browser.GetVersion().Do(ctx)
		return err
	})); err != nil {
		t.Fatal(err)
	}
	t.Log(product)
	return ctx
}

// A tab is a window with cookies of its own, and what was noted about its pages.
type tab struct {
	t    *testing.T
	ctx  context.Context
	id   cdp.BrowserContextID
	base string // of the server, for paths

	mu        sync.Mutex
	loads     int               // guarded by mu, as all below
	status    map[string]int    // of documents, by URL
	messages  []message         // on the console and in the log
	requests  []string          // URLs
	dialogs   []string          // that opened
	delay     time.Duration     // of scripts
	requested map[string]string // kind of resource by URL
}

// A message is what the browser complains about.
type message struct{ text, url string }

func (m message) String() string { return m.text + " " + m.url }

// newTab opens a window on a server.
func newTab(t *testing.T, browserContext context.Context, base string) *tab {
	t.Helper()
	id, window := newWindow(t, browserContext)
	ctx, cancel := chromedp.NewContext(browserContext, chromedp.WithTargetID(window))
	t.Cleanup(cancel)
	b := &tab{t: t, ctx: ctx, id: id, base: base, status: make(map[string]int), requested: make(map[string]string)}
	chromedp.ListenTarget(ctx, b.event)
	b.run(
		network.Enable(), runtime.Enable(), cdplog.Enable(), page.Enable(),
		emulation.SetFocusEmulationEnabled(true),
		chromedp.ActionFunc(func(ctx context.Context) error {
			_, err := page.AddScriptToEvaluateOnNewDocument(observers).Do(ctx)
			return err
		}),
	)
	b.view(1280, "light")
	return b
}

// newWindow opens an empty window of a new context, which chromedp itself would open as a tab of a window that is not there.
func newWindow(t *testing.T, browserContext context.Context) (id cdp.BrowserContextID, window target.ID) {
	t.Helper()
	ctx := cdp.WithExecutor(browserContext, chromedp.FromContext(browserContext).Browser)
	id, err := target.CreateBrowserContext().Do(ctx)
	if err == nil {
		window, err = target.CreateTarget("about:blank").WithBrowserContextID(id).WithNewWindow(true).Do(ctx)
	}
	if err != nil {
		t.Fatalf("no new window: %v", err)
	}
	t.Cleanup(func() {
		if err := target.DisposeBrowserContext(id).Do(ctx); err != nil {
			t.Logf("close the window: %v", err)
		}
	})
	return id, window
}

// observers are told of layout shifts and of what the policy stopped from the first moment of a page. They run beside
// the page, which its policy does not stop.
const observers = `
window.__shifts = []; window.__policy = []; window.__hits = [];
try { new PerformanceObserver((list) => { for (const e of list.getEntries()) if (!e.hadRecentInput)
  window.__shifts.push(e.value.toFixed(4) + " " + e.sources.map((s) => s.node ? (s.node.outerHTML || s.node.textContent).slice(0, 80) : "?").join(" | ")); })
  .observe({type: "layout-shift", buffered: true}); } catch (e) { window.__shifts.push("cannot observe: " + e); }
addEventListener("securitypolicyviolation", (e) => window.__policy.push(e.violatedDirective + " " + e.blockedURI + " " + (e.sample || "")), true);
Object.defineProperty(window, "__hit", {set(v) { window.__hits.push(String(v)); }, get() { return (v) => window.__hits.push(String(v)); }});
`

func (b *tab) event(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *page.EventLoadEventFired:
		b.loads++
	case *network.EventResponseReceived:
		if e.Type == network.ResourceTypeDocument {
			b.status[e.Response.URL] = int(e.Response.Status)
		}
	case *network.EventRequestWillBeSent:
		b.requests = append(b.requests, e.Request.URL)
		b.requested[e.Request.URL] = string(e.Type)
	case *cdplog.EventEntryAdded:
		if e.Entry.Level == cdplog.LevelError || e.Entry.Level == cdplog.LevelWarning || e.Entry.Source == cdplog.SourceSecurity {
			b.messages = append(b.messages, message{fmt.Sprintf("%s %s: %s", e.Entry.Source, e.Entry.Level, e.Entry.Text), e.Entry.URL})
		}
	case *runtime.EventExceptionThrown:
		b.messages = append(b.messages, message{"exception: " + e.ExceptionDetails.Error(), e.ExceptionDetails.URL})
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.APITypeError || e.Type == runtime.APITypeWarning || e.Type == runtime.APITypeAssert {
			var text []string
			for _, arg := range e.Args {
				text = append(text, string(arg.Value))
			}
			b.messages = append(b.messages, message{"console: " + strings.Join(text, " "), ""})
		}
	case *page.EventJavascriptDialogOpening:
		b.dialogs = append(b.dialogs, string(e.Type)+": "+e.Message)
		go func() { _ = chromedp.Run(b.ctx, page.HandleJavaScriptDialog(false)) }()
	case *fetch.EventAuthRequired:
		go func() {
			_ = chromedp.Run(b.ctx, fetch.ContinueWithAuth(e.RequestID, &fetch.AuthChallengeResponse{Response: fetch.AuthChallengeResponseResponseCancelAuth}))
		}()
	case *fetch.EventRequestPaused:
		delay := b.delay
		go func() {
			time.Sleep(delay)
			// An error means that the page has gone meanwhile.
			_ = chromedp.Run(b.ctx, fetch.ContinueRequest(e.RequestID))
		}()
	}
}

// run runs actions, and ends the test if one fails.
func (b *tab) run(actions ...chromedp.Action) {
	b.t.Helper()
	// Not a context with a deadline: chromedp would close the tab of its first one at the end.
	done := make(chan error, 1)
	go func() { done <- chromedp.Run(b.ctx, actions...) }()
	select {
	case err := <-done:
		if err != nil {
			b.t.Fatalf("%s: %v", b.where(), err)
		}
	case <-time.After(patience):
		b.t.Fatalf("%s: the browser does not answer", b.where())
	}
}

func (b *tab) where() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := len(b.requests) - 1; i >= 0; i-- {
		if b.requested[b.requests[i]] == string(network.ResourceTypeDocument) {
			return b.requests[i]
		}
	}
	return b.base
}

// view sets the size of the window in CSS pixels and the colours that the system prefers.
func (b *tab) view(width int64, scheme string) {
	b.t.Helper()
	height := int64(900)
	if width < 640 {
		height = 780
	}
	b.run(
		emulation.SetDeviceMetricsOverride(width, height, 1, width < 640),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}),
	)
}

// slowScripts makes every script arrive late: what it changes then shows as a layout shift.
func (b *tab) slowScripts(delay time.Duration) {
	b.t.Helper()
	b.mu.Lock()
	b.delay = delay
	b.mu.Unlock()
	b.run(fetch.Enable().WithPatterns([]*fetch.RequestPattern{{URLPattern: "*", ResourceType: network.ResourceTypeScript}}), network.SetCacheDisabled(true))
}

// noPrompt answers for the person whom the browser would ask for a password: no.
func (b *tab) noPrompt() {
	b.t.Helper()
	b.run(fetch.Enable().WithHandleAuthRequests(true))
}

// noScript turns JavaScript off, as people do.
func (b *tab) noScript() {
	b.t.Helper()
	b.run(emulation.SetScriptExecutionDisabled(true))
}

// open loads a path of the server and returns its status.
func (b *tab) open(path string) int {
	b.t.Helper()
	address := path
	if strings.HasPrefix(path, "/") {
		address = b.base + path
	}
	b.during(func() { b.run(navigate(address)) })
	return b.statusHere()
}

// navigate is chromedp's, without waiting: during does.
func navigate(address string) chromedp.Action {
	return chromedp.ActionFunc(func(ctx context.Context) error {
		_, _, text, _, err := page.Navigate(address).Do(ctx)
		if err == nil && text != "" {
			err = fmt.Errorf("navigate to %s: %s", address, text)
		}
		return err
	})
}

// during does what leads to another page, and returns when that has loaded and been painted.
func (b *tab) during(do func()) {
	b.t.Helper()
	b.mu.Lock()
	before := b.loads
	b.mu.Unlock()
	do()
	b.waitFor("the next page", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.loads > before
	})
}

// waitFor waits until something is so.
func (b *tab) waitFor(what string, done func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("%s: waited %v for %s", b.where(), patience, what)
		}
	}
}

// statusHere returns the status of the page that is shown.
func (b *tab) statusHere() int {
	b.t.Helper()
	here, _, _ := strings.Cut(b.url(), "#")
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status[here]
}

// forget drops what was noted so far.
func (b *tab) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.messages, b.requests, b.dialogs = nil, nil, nil
}

// eval returns the value of an expression of the page. Promises are waited for.
func eval[T any](b *tab, expression string) (value T) {
	b.t.Helper()
	b.run(chromedp.Evaluate(expression, &value, func(p *runtime.EvaluateParams) *runtime.EvaluateParams {
		return p.WithAwaitPromise(true)
	}))
	return value
}

func (b *tab) url() string { b.t.Helper(); return eval[string](b, "location.href") }

// path returns the path and query of the page.
func (b *tab) path() string {
	b.t.Helper()
	return eval[string](b, "location.pathname + location.search")
}

// text returns what stands on the page, also in closed parts.
func (b *tab) text() string { b.t.Helper(); return eval[string](b, "document.body.textContent") }

// textSoon is text, or "" while the page is being replaced by another.
func (b *tab) textSoon() (text string) {
	if err := chromedp.Run(b.ctx, chromedp.Evaluate(`document.body ? document.body.textContent : ""`, &text)); err != nil {
		return ""
	}
	return text
}

// has reports whether an element is there.
func (b *tab) has(selector string) bool {
	b.t.Helper()
	return eval[bool](b, "!!document.querySelector("+quote(selector)+")")
}

// want fails the test unless the page says a text.
func (b *tab) want(text string) {
	b.t.Helper()
	if got := squeeze(b.text()); !strings.Contains(got, squeeze(text)) {
		b.t.Fatalf("%s does not say %q:\n%.2000s", b.url(), text, got)
	}
}

// squeeze makes one space of every white space.
func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }

// quote returns a text as JavaScript writes it.
func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings always marshal
	}
	return string(b)
}

// find is a function of the page that returns the visible element of a selector whose text or value begins so.
const find = `((selector, text) => [...document.querySelectorAll(selector)].find((e) => e.checkVisibility() &&
  (e.innerText || e.value || "").trim().startsWith(text)))`

// click clicks, by mouse, the first visible element that matches a selector and begins with a text.
func (b *tab) click(selector, text string) {
	b.t.Helper()
	at := eval[[]float64](b, `(() => { const e = `+find+`(`+quote(selector)+`, `+quote(text)+`); if (!e) return [];
		e.scrollIntoView({block: "center", behavior: "instant"}); const r = e.getClientRects()[0]; return [r.x + r.width / 2, r.y + r.height / 2]; })()`)
	if len(at) != 2 {
		b.t.Fatalf("%s: no %s that says %q:\n%.2000s", b.url(), selector, text, squeeze(b.text()))
	}
	b.run(chromedp.MouseClickXY(at[0], at[1]))
}

// follow clicks what leads to another page.
func (b *tab) follow(selector, text string) {
	b.t.Helper()
	b.during(func() { b.click(selector, text) })
}

// fill types into a field that is empty, or replaces what it has.
func (b *tab) fill(selector, text string) {
	b.t.Helper()
	b.click(selector, "")
	b.run(chromedp.KeyEvent("a", chromedp.KeyModifiers(input.ModifierCtrl)), input.InsertText(text))
	if got := eval[string](b, "document.querySelector("+quote(selector)+").value"); got != text {
		b.t.Fatalf("%s: %s holds %q, want %q", b.url(), selector, got, text)
	}
}

// press presses a key.
func (b *tab) press(key string) { b.t.Helper(); b.run(chromedp.KeyEvent(key)) }

// login logs in by the form.
func (b *tab) login(user, password string) {
	b.t.Helper()
	b.open("/-/login")
	b.fill("input[name=user]", user)
	b.fill("input[name=password]", password)
	b.during(func() { b.press(kb.Enter) })
	if b.has("input[name=password]") {
		b.t.Fatalf("%s cannot log in: %s", user, squeeze(b.text()))
	}
}

// cookies returns the browser's cookies for the server.
func (b *tab) cookies() (all []*network.Cookie) {
	b.t.Helper()
	b.run(chromedp.ActionFunc(func(ctx context.Context) (err error) {
		all, err = network.GetCookies().WithURLs([]string{b.base}).Do(ctx)
		return err
	}))
	return all
}

func (b *tab) clearCookies() {
	b.t.Helper()
	b.run(chromedp.ActionFunc(func(ctx context.Context) error { return network.ClearBrowserCookies().Do(ctx) }))
}

// allow grants a permission to the server's pages.
func (b *tab) allow(permissions ...browser.PermissionType) {
	b.t.Helper()
	b.run(chromedp.ActionFunc(func(ctx context.Context) error {
		ctx = cdp.WithExecutor(ctx, chromedp.FromContext(ctx).Browser)
		return browser.GrantPermissions(permissions).WithOrigin(b.base).WithBrowserContextID(b.id).Do(ctx)
	}))
}

// strays returns the requests that went anywhere but to the server.
func (b *tab) strays() (all []string) {
	home, err := url.Parse(b.base)
	if err != nil {
		b.t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, request := range b.requests {
		if u, err := url.Parse(request); err != nil || u.Host != home.Host && u.Scheme != "data" && request != "about:blank" {
			all = append(all, request)
		}
	}
	return all
}
