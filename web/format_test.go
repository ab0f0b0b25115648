package web

import (
	"slices"
	"strings"
	"testing"
	"time"

	"cubby/store"

	"github.com/opencontainers/go-digest"
)

func summariesOf(names ...string) (all []store.RepositorySummary) {
	for _, s := range names {
		all = append(all, store.RepositorySummary{Name: name(s)})
	}
	return all
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{-1: "0 B", 0: "0 B", 1: "1 B", 1023: "1023 B", 1024: "1.0 KiB", 38 << 20: "38 MiB", 1 << 50: "1.0 PiB", 1<<63 - 1: "8.0 EiB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
	for _, tt := range []struct {
		low, high int64
		want      string
	}{
		{0, 0, "0 B"}, {38 << 20, 38 << 20, "38 MiB"}, {38 << 20, 38<<20 + 1, "38 MiB"}, {38 << 20, 42 << 20, "38–42 MiB"},
		{900, 38 << 20, "900 B–38 MiB"}, {1 << 20, 2 << 30, "1.0 MiB–2.0 GiB"}, {1, 900, "1–900 B"},
	} {
		if got := sizes(tt.low, tt.high); got != tt.want {
			t.Errorf("sizes(%d, %d) = %q, want %q", tt.low, tt.high, got, tt.want)
		}
	}
}

func TestTimes(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	for _, tt := range []struct {
		before time.Duration
		want   string
	}{
		{0, "just now"}, {59 * time.Second, "just now"}, {-59 * time.Second, "just now"}, {time.Minute, "1 minute ago"}, {59 * time.Minute, "59 minutes ago"},
		{time.Hour, "1 hour ago"}, {23 * time.Hour, "23 hours ago"}, {day, "1 day ago"}, {29 * day, "29 days ago"}, {30 * day, "1 month ago"},
		{365 * day, "1 year ago"}, {800 * day, "2 years ago"}, {-time.Hour - time.Second, "in 1 hour"}, {-3 * day, "in 3 days"}, {-time.Minute - time.Second, "in 1 minute"},
	} {
		if got := ago(now.Add(-tt.before), now); got != tt.want {
			t.Errorf("%s before: %q, want %q", tt.before, got, tt.want)
		}
	}
	for _, never := range []time.Time{{}, time.Unix(0, 0), time.Unix(-5, 0)} {
		if m := newMoment(never, now); !m.Never {
			t.Errorf("%v: %+v", never, m)
		}
	}
	if m := newMoment(now.Add(-time.Hour), now); m.Never || m.Ago != "1 hour ago" || m.Stamp != "2026-11-25T11:00:00Z" {
		t.Errorf("moment %+v", m)
	}
	for d, want := range map[time.Duration]string{7 * day: "7 days", day: "1 day", 90 * time.Minute: "1 hour", 36 * time.Hour: "1 day", 0: "a moment", 10 * time.Minute: "10 minutes"} {
		if got := days(d); got != want {
			t.Errorf("days(%s) = %q, want %q", d, got, want)
		}
	}
	if got, want := untilText(now.Add(day), now), now.Add(day).Local().Format("2 Jan 2006 15:04"); got != want {
		t.Errorf("tomorrow: %q, want %q", got, want)
	}
	if got, want := untilText(now.Add(7*day), now), now.Add(7*day).Local().Format("2 Jan 2006"); got != want {
		t.Errorf("in a week: %q, want %q", got, want)
	}
}

func TestPlatformNames(t *testing.T) {
	for _, tt := range []struct {
		all  []string
		n    int
		want string
	}{
		{nil, 4, ""},
		{[]string{"linux/amd64"}, 4, "linux/amd64"},
		{[]string{"linux/amd64", "linux/arm64/v8", "windows/amd64", "windows/arm64", "linux/s390x"}, 5, "linux/amd64 arm64/v8 windows/amd64 arm64 linux/s390x"},
		{[]string{"linux/amd64", "linux/arm64"}, 1, "linux/amd64"},
		{[]string{"wasm", "wasm", "linux/amd64"}, 4, "wasm wasm linux/amd64"},
	} {
		var got []string
		for i, p := range shortPlatforms(tt.all, tt.n) {
			got = append(got, p.Text)
			if p.Full != tt.all[i] {
				t.Errorf("%v: %+v", tt.all, p)
			}
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%v: %q, want %q", tt.all, s, tt.want)
		}
	}
}

func TestShortDigest(t *testing.T) {
	for d, want := range map[digest.Digest]string{
		"": "", testDigest: "0123456789ab", digest.Digest("sha512:" + strings.Repeat("ab", 64)): "sha512:abababababab",
	} {
		if got := shortDigest(d); got != want {
			t.Errorf("shortDigest(%q) = %q, want %q", d, got, want)
		}
	}
}

func TestWebURL(t *testing.T) {
	for s, want := range map[string]string{
		"https://example.com/a?b#c": "https://example.com/a?b#c", "http://example.com": "http://example.com", "HTTPS://example.com": "https://example.com",
		"javascript:alert(1)": "", "JavaScript://example.com/%0aalert(1)": "", "data:text/html,x": "", "//example.com": "", "/a": "", "example.com": "", "https:": "",
		"https:///a": "", "https://user:secret@example.com": "", "https://user@example.com": "", "\x00https://example.com": "", " https://example.com": "", "ftp://example.com": "",
		"vbscript:x": "", "https:example.com": "", "file:///etc/passwd": "", "": "", "https://example.com/\nX: y": "",
	} {
		if got := webURL(s); got != want {
			t.Errorf("webURL(%q) = %q, want %q", s, got, want)
		}
	}
}

func TestNameParts(t *testing.T) {
	got := nameParts(name("a/b/c"))
	want := []namePart{{"a", "/a/", false}, {"b", "/a/b/", false}, {"c", "/a/b/c", true}}
	if !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestSpark(t *testing.T) {
	if s := newSpark([]int64{0, 0}); s != nil {
		t.Errorf("no pulls: %+v", s)
	}
	s := newSpark([]int64{0, 1, 1000, 500})
	want := []sparkBar{{2, 15, 1}, {4, 0, 16}, {6, 8, 8}}
	if !slices.Equal(s.Points, want) || s.Label != "pulls of each of the last 4 days, at most 1000 a day" {
		t.Errorf("%+v, want %+v", s, want)
	}
}

func TestGrowth(t *testing.T) {
	if g := newGrowth([]store.DiskDay{{Bytes: 1}}); g != nil {
		t.Errorf("a single day: %+v", g)
	}
	days := make([]store.DiskDay, growthDays)
	for i := range days {
		days[i] = store.DiskDay{Day: time.Unix(int64(i)*86400, 0).UTC(), Bytes: int64(i) << 40}
	}
	g := newGrowth(days)
	if len(g.Bars) != growthDays || g.Bars[0].Height != 1 || g.Bars[59].Height != 120 || g.Bars[59].Y != 0 || g.Bars[59].X+g.Bars[59].Width > 600 {
		t.Errorf("%+v", g)
	}
}

func TestSentence(t *testing.T) {
	for err, want := range map[error]string{errPath: "There is no such page.", ErrRefused: "Refused."} {
		if got := sentence(err); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
