// Package uitest looks at Cubby's pages with a real Chromium: every page for what axe-core finds, for sideways scrolling,
// layout shifts, reports of the content security policy and dead links; journeys without JavaScript and by keyboard; and
// content that attacks. It is a module of its own, so that the product does not depend on what drives the browser.
// scripts/browser.sh runs it.
package uitest
