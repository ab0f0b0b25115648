package uitest

import "testing"

// TestBrowser looks at the pages. One Chromium and one server of each kind serve all of it.
func TestBrowser(t *testing.T) {
	w := &world{browser: startBrowser(t), stock: stockSite(t), users: startSiteWithUsers(t), empty: startSite(t), hostile: startSite(t)}
	w.users.to(t, "team/front").image(config("linux/amd64", "1"), nil, nil, "1", "latest")
	t.Run("all", func(t *testing.T) {
		t.Run("checks", func(t *testing.T) { t.Parallel(); testChecks(t, w.browser) })
		t.Run("pages", func(t *testing.T) { testPages(t, w) })
		t.Run("noscript", func(t *testing.T) { testNoScript(t, w) })
		t.Run("keyboard", func(t *testing.T) { testKeyboard(t, w) })
		t.Run("modules", func(t *testing.T) { testModules(t, w) })
		t.Run("hostile", func(t *testing.T) { testHostile(t, w) })
		t.Run("inside", func(t *testing.T) { testInside(t, w) })
		t.Run("people", func(t *testing.T) { testPeople(t, w) })
		t.Run("charts", func(t *testing.T) { testCharts(t, w) })
		t.Run("session", func(t *testing.T) { t.Parallel(); testSession(t, w) })
		t.Run("budget", func(t *testing.T) { t.Parallel(); testBudget(t, w) })
		t.Run("slowly", func(t *testing.T) { t.Parallel(); testSlowly(t, w) })
	})
	t.Run("links", func(t *testing.T) { w.links.test(t) })
}
