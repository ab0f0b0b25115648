package uitest

import (
	"testing"
)

// Budgets of a first view in bytes that cross the network, compressed (UI.md). They change with a reason only.
const (
	htmlBudget     = 20 << 10
	cssBudget      = 12 << 10
	jsBudget       = 6 << 10
	requestsBudget = 4
)

// testBudget measures what a browser with an empty cache fetches for pages of 50 rows.
func testBudget(t *testing.T, w *world) {
	for _, path := range []string{"/team/api", "/many/tags", "/", "/team/web:2.0"} {
		b := newTab(t, w.browser, w.stock.url)
		b.forget()
		b.open(path)
		sizes := eval[map[string]int](b, `(() => { const all = {html: performance.getEntriesByType("navigation")[0].transferSize, css: 0, js: 0, icon: 0, other: 0, requests: 1};
			for (const e of performance.getEntriesByType("resource")) { all.requests++;
				all[/\.css$/.test(e.name) ? "css" : /\.js$/.test(e.name) ? "js" : e.name === document.querySelector("link[rel=icon]").href ? "icon" : "other"] += e.transferSize; }
			return all; })()`)
		if sizes["icon"] == 0 {
			sizes["requests"]++ // that of the icon, which this browser has not made yet
		}
		rows := eval[int](b, `document.querySelectorAll("tbody tr").length`)
		t.Logf("%s, %d rows: HTML %d of %d bytes, CSS %d of %d, JS %d of %d, %d requests of %d with the icon", path, rows, sizes["html"], htmlBudget, sizes["css"], cssBudget, sizes["js"], jsBudget, sizes["requests"], requestsBudget)
		if path == "/team/api" && rows != 50 {
			t.Errorf("%s has %d rows, want 50", path, rows)
		}
		if sizes["html"] == 0 || sizes["css"] == 0 || sizes["js"] == 0 {
			t.Errorf("%s: not measured", path)
		}
		if sizes["html"] > htmlBudget || sizes["css"] > cssBudget || sizes["js"] > jsBudget || sizes["requests"] > requestsBudget || sizes["other"] > 0 {
			t.Errorf("%s is over a budget: %v", path, sizes)
		}
		// Once more, with a cache: files are not even asked for.
		b.open("/-/help")
		if got := eval[int](b, `performance.getEntriesByType("resource").reduce((n, e) => n + e.transferSize, 0)`); got != 0 {
			t.Errorf("a second page fetches %d bytes of files that it has", got)
		}
	}
}
