package uitest

import "testing"

// TestBrowser looks at the pages. One Chromium and one server of each kind serve all of it.
func TestBrowser(t *testing.T) {
	browser := startBrowser(t)
	t.Run("checks", func(t *testing.T) { t.Parallel(); testChecks(t, browser) })
}
