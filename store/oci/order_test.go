package oci

import (
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestTagOrder(t *testing.T) {
	// Each line is in order, and so are its neighbours.
	for _, line := range []string{
		"0 1 2 9 10 11 100",
		"1.9 1.10 1.10.1 2",
		"1.0.0-alpha 1.0.0-alpha.1 1.0.0-beta.2 1.0.0-beta.11 1.0.0-rc.1 1.0.0 1.0.0_build 1.0.1",
		"v1.1 1.2 v1.2 1.3 v1.10",
		"1.25-alpine 1.25 1.25.1-alpine 1.25.1",
		"01 1 001.1",
		"99999999999999999999999999999998 99999999999999999999999999999999 100000000000000000000000000000000",
		"Alpha alpha ALPHA.1 beta Beta-2 beta-10",
		"main main-1 main-1.9 main-1.10 mainline",
		"9 latest v",
		"build-9 build-10 sha-abc",
		"vnext",
	} {
		tags := strings.Fields(line)
		for i := range tags[1:] {
			a, b := tags[i], tags[i+1]
			ka, kb := TagOrder(a), TagOrder(b)
			if strings.EqualFold(a, b) && a != b {
				a, b = min(a, b), max(a, b)
				ka, kb = TagOrder(a), TagOrder(b)
			}
			if ka >= kb {
				t.Errorf("%s (%s) is not before %s (%s)", a, ka, b, kb)
			}
		}
	}
}

// TestTagOrderProperties: the key tells all tags apart, counts numbers of any length, and knows versions however they are
// written.
func TestTagOrderProperties(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	const word = "abAB019v"
	const all = word + "._-0099"
	text := func(n int, from string) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = from[random.IntN(len(from))]
		}
		return string(b)
	}
	keys := make(map[string]string)
	for range 20_000 {
		tag := text(1, word) + text(random.IntN(6), all)
		key := TagOrder(tag)
		if other, ok := keys[key]; ok && other != tag {
			t.Fatalf("%q and %q have the key %q", tag, other, key)
		}
		keys[key] = tag
		if strings.IndexFunc(key, func(r rune) bool { return r < ' ' || r > '~' }) >= 0 || !strings.HasSuffix(key, "#"+tag) {
			t.Fatalf("key %q of %q", key, tag)
		}
	}
	for range 20_000 {
		prefix := []string{"", "1.", "v2-rc.", "x", "a_b."}[random.IntN(5)]
		a, b := text(1+random.IntN(100), "0123456789"), text(1+random.IntN(100), "0123456789")
		if random.IntN(2) == 0 {
			b = strings.Repeat("0", random.IntN(3)) + a[:len(a)-1] + text(1, "0123456789")
		}
		x, _ := new(big.Int).SetString(a, 10)
		y, _ := new(big.Int).SetString(b, 10)
		want := x.Cmp(y)
		if want == 0 {
			want = strings.Compare(prefix+a, prefix+b)
		}
		if got := strings.Compare(TagOrder(prefix+a), TagOrder(prefix+b)); got != want {
			t.Fatalf("%s to %s: %d, want %d", prefix+a, prefix+b, got, want)
		}
	}
	for range 5_000 {
		version := text(1, "0123456789") + "." + text(2, "0123456789")
		pre, after := version+"-"+text(1, word)+text(random.IntN(5), all), version+"."+text(1, word)
		order := []string{pre, version, "v" + version, after}
		if !slices.IsSortedFunc(order, func(a, b string) int { return strings.Compare(TagOrder(a), TagOrder(b)) }) {
			t.Fatalf("%q are not in order", order)
		}
	}
	if n := len(TagOrder(strings.Repeat("1a", TagMax/2))); n > 513 {
		t.Errorf("a key of %d bytes", n)
	}
}
