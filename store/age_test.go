package store

import (
	"testing"
	"time"
)

func TestParseAge(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"30d": 30 * day, "2w": 14 * day, "12h": 12 * time.Hour, "5m": 5 * time.Minute, "0d": 0,
		"1d12h": 36 * time.Hour, "1w2d3h4m5s": 9*day + 3*time.Hour + 4*time.Minute + 5*time.Second,
	} {
		got, err := ParseAge(s)
		if err != nil || got != want {
			t.Errorf("ParseAge(%q) = %v, %v; want %v", s, got, err, want)
		}
		if again, err := ParseAge(FormatAge(got)); err != nil || again != got {
			t.Errorf("FormatAge(%v) = %q, which reads as %v, %v", got, FormatAge(got), again, err)
		}
	}
	for _, s := range []string{"", "d", "3", "-3d", "3x", "1h1d", "1d1d", "1.5d", " 1d", "99999999999d", "40000d", "36525d1h", "1d\x00"} {
		if got, err := ParseAge(s); err == nil {
			t.Errorf("ParseAge(%q) = %v, want an error", s, got)
		}
	}
}
