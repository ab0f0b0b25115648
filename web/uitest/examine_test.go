package uitest

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

// axeSource returns axe-core, which browser.sh has fetched.
var axeSource = sync.OnceValues(func() (string, error) {
	path := os.Getenv("CUBBY_AXE")
	if path == "" {
		return "", fmt.Errorf("CUBBY_AXE is not set; run scripts/browser.sh, which fetches axe-core")
	}
	b, err := os.ReadFile(path)
	return string(b), err
})

// What axe looks for. The colours of a page are all that differs between light and dark.
const (
	axeAll     = `{type: "tag", values: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}`
	axeColours = `{type: "rule", values: ["color-contrast", "link-in-text-block"]}`
)

// axe returns what axe-core finds.
func (b *tab) axe(only string) (findings []string) {
	b.t.Helper()
	source, err := axeSource()
	if err != nil {
		b.t.Fatal(err)
	}
	if !eval[bool](b, "typeof axe === 'object'") {
		eval[bool](b, source+";true")
	}
	text := eval[string](b, `axe.run(document, {runOnly: `+only+`, resultTypes: ["violations"]}).then((r) => JSON.stringify({checked: r.passes.length + r.violations.length + r.incomplete.length,
		violations: r.violations.map((v) => ({id: v.id, nodes: v.nodes.map((n) => n.html.slice(0, 200) + " — " + n.failureSummary.replace(/\s+/g, " ").slice(0, 200))}))}))`)
	var result struct {
		Checked    int
		Violations []struct {
			ID    string
			Nodes []string
		}
	}
	if err := json.Unmarshal([]byte(text), &result); err != nil {
		b.t.Fatal(err)
	}
	if result.Checked == 0 {
		findings = append(findings, "axe has checked nothing")
	}
	for _, v := range result.Violations {
		findings = append(findings, fmt.Sprintf("axe %s, %d times, first: %s", v.ID, len(v.Nodes), v.Nodes[0]))
	}
	return findings
}

// scroll returns by how much the page is wider than the window, and what makes it so.
func (b *tab) scroll() []string {
	b.t.Helper()
	return eval[[]string](b, `(() => { const e = document.documentElement, over = e.scrollWidth - e.clientWidth; if (over <= 0) return [];
		const widest = [...document.body.querySelectorAll("*")].filter((n) => getComputedStyle(n).overflowX === "visible" &&
			(n.scrollWidth > n.clientWidth && n.clientWidth > 0 || n.getBoundingClientRect().right > e.clientWidth + 1) && !n.closest("pre, .scroll, .hide, .skip")).pop();
		return ["it scrolls sideways by " + over + " px: " + (widest ? widest.outerHTML.slice(0, 200) : "?")]; })()`)
}

// structure returns what is wrong with the document whatever its looks.
func (b *tab) structure() []string {
	b.t.Helper()
	return eval[[]string](b, `(() => { const found = [], seen = new Set();
		for (const e of document.querySelectorAll("[id]")) { if (seen.has(e.id)) found.push("id " + e.id + " is there twice"); seen.add(e.id); }
		for (const e of document.querySelectorAll("[style], [onclick], [onload], [onerror], style, script:not([src])")) found.push("inline: " + e.outerHTML.slice(0, 200));
		for (const a of document.querySelectorAll("a[href]")) {
			const href = a.getAttribute("href");
			if (href.includes("ZgotmplZ")) found.push("a link that the template refused: " + a.outerHTML.slice(0, 200));
			if (a.origin !== location.origin && !/^https?:$/.test(a.protocol)) found.push("a link of a strange scheme: " + a.outerHTML.slice(0, 200));
			if (href.startsWith("#") && href.length > 1 && !document.getElementById(href.slice(1))) found.push("a link to nowhere on the page: " + href); }
		if (document.querySelectorAll("h1").length !== 1) found.push(document.querySelectorAll("h1").length + " h1");
		if (!document.title.endsWith(" · " + location.host) || document.title.length <= location.host.length + 3) found.push("title " + document.title);
		if (document.documentElement.lang !== "en") found.push("lang " + document.documentElement.lang);
		return found; })()`)
}

// noted returns what the browser complained about while the page loaded, and what the page did.
func (b *tab) noted(status int) (findings []string) {
	b.t.Helper()
	// Two frames, so that a shift after the last change has been reported.
	eval[bool](b, "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => done(true), 30))))")
	for what, of := range map[string]string{"layout shift": "__shifts", "policy": "__policy", "script ran": "__hits"} {
		for _, text := range eval[[]string](b, "window."+of+" || ['not observed']") {
			findings = append(findings, what+": "+text)
		}
	}
	here := b.url()
	b.mu.Lock()
	for _, m := range b.messages {
		// That a page has the status of an error is no complaint about it.
		if status < 400 || m.url != here || !strings.Contains(m.text, "Failed to load resource") {
			findings = append(findings, "browser: "+m.String())
		}
	}
	for _, d := range b.dialogs {
		findings = append(findings, "dialog: "+d)
	}
	b.mu.Unlock()
	for _, request := range b.strays() {
		findings = append(findings, "request elsewhere: "+request)
	}
	return findings
}

// look returns everything that is wrong with the page that is shown.
func (b *tab) look(status int) (findings []string) {
	b.t.Helper()
	findings = b.noted(status)
	if got := b.statusHere(); got != status {
		findings = append(findings, fmt.Sprintf("status %d, want %d", got, status))
	}
	findings = append(findings, b.structure()...)
	findings = append(findings, b.scroll()...)
	return append(findings, b.axe(axeAll)...)
}

// links returns the pages of the server that the page links to.
func (b *tab) links() []string {
	b.t.Helper()
	return eval[[]string](b, `[...new Set([...document.querySelectorAll("a[href]")].filter((a) => a.origin === location.origin).map((a) => a.pathname + a.search))]`)
}

// report fails the test with each finding.
func report(t *testing.T, where string, findings []string) {
	t.Helper()
	for _, finding := range findings {
		t.Errorf("%s: %s", where, finding)
	}
}
