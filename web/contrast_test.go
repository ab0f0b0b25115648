package web

import (
	"math"
	"regexp"
	"strconv"
	"testing"
)

// A colour is red, green and blue.
type colour [3]float64

// luminance is that of WCAG 2.
func (c colour) luminance() float64 {
	var l float64
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		v := c[i] / 255
		if v <= 0.04045 {
			v /= 12.92
		} else {
			v = math.Pow((v+0.055)/1.055, 2.4)
		}
		l += weight * v
	}
	return l
}

func contrast(a, b colour) float64 {
	x, y := a.luminance(), b.luminance()
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

var tokenForm = regexp.MustCompile(`(?m)^\s*--([a-z-]+): light-dark\(#([0-9a-f]{6}), #([0-9a-f]{6})\);`)

// tokens returns the colours of the style sheet by name, in the light and in the dark theme.
func tokens(t *testing.T) (themes [2]map[string]colour) {
	t.Helper()
	css := must(staticFiles.ReadFile("static/cubby.css"))(t)
	for i := range themes {
		themes[i] = make(map[string]colour)
	}
	for _, m := range tokenForm.FindAllStringSubmatch(string(css), -1) {
		for i := range themes {
			n := must(strconv.ParseUint(m[2+i], 16, 32))(t)
			themes[i][m[1]] = colour{float64(n >> 16), float64(n >> 8 & 0xff), float64(n & 0xff)}
		}
	}
	return themes
}

// TestContrast: text can be read, and controls can be seen, in both themes (WCAG 2.2, 1.4.3 and 1.4.11).
func TestContrast(t *testing.T) {
	if got := contrast(colour{}, colour{255, 255, 255}); math.Abs(got-21) > 0.01 {
		t.Fatalf("black on white is %.2f, want 21", got)
	}
	type pair struct {
		front, back string
		least       float64
	}
	var pairs []pair
	for _, back := range []string{"bg", "surface", "inset"} {
		for _, front := range []string{"text", "muted", "link", "accent", "ok", "warn", "danger"} {
			pairs = append(pairs, pair{front, back, 4.5})
		}
		pairs = append(pairs, pair{"control", back, 3}, pair{"link", back, 3}) // the ring of the focus is as a link
	}
	pairs = append(pairs, pair{"on-accent", "accent", 4.5}, pair{"ok", "ok-bg", 4.5}, pair{"warn", "warn-bg", 4.5}, pair{"danger", "bad-bg", 4.5}, pair{"link", "info-bg", 4.5},
		pair{"text", "warn-bg", 4.5}, pair{"text", "ok-bg", 4.5}, pair{"text", "bad-bg", 4.5}, pair{"link", "warn-bg", 4.5}, pair{"link", "bad-bg", 4.5}, pair{"control", "ok-bg", 3})
	for i, theme := range tokens(t) {
		lowest := pair{least: 21}
		for _, p := range pairs {
			front, ok := theme[p.front]
			back, ok2 := theme[p.back]
			if !ok || !ok2 {
				t.Errorf("the style sheet has no %s or %s", p.front, p.back)
				continue
			}
			c := contrast(front, back)
			if c < p.least {
				t.Errorf("%s theme: %s on %s is %.2f, want %.1f", []string{"light", "dark"}[i], p.front, p.back, c, p.least)
			}
			if p.least == 4.5 && c < lowest.least {
				lowest = pair{p.front, p.back, c}
			}
		}
		t.Logf("%s theme: the lowest for text is %.2f, %s on %s", []string{"light", "dark"}[i], lowest.least, lowest.front, lowest.back)
	}
}
