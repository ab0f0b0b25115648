package store

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	day  = 24 * time.Hour
	week = 7 * day
	// ageMax is a hundred years: sums with it do not overflow.
	ageMax = 36525 * day
)

// ParseAge reads how long ago something was, or how long it is kept: a number of weeks, days, hours, minutes or seconds
// as 2w, 30d, 12h, 5m or 1s, or several of them from the largest unit on, as 1d12h. A day is 24 hours.
func ParseAge(s string) (time.Duration, error) {
	var sum time.Duration
	last := week + 1
	for rest := s; rest != "" || s == ""; {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		n, err := strconv.ParseInt(rest[:digits], 10, 32)
		if err != nil || digits == len(rest) {
			return 0, ageError(s)
		}
		unit, ok := map[byte]time.Duration{'w': week, 'd': day, 'h': time.Hour, 'm': time.Minute, 's': time.Second}[rest[digits]]
		if !ok || unit >= last || n > int64(ageMax/unit) {
			return 0, ageError(s)
		}
		sum += time.Duration(n) * unit
		last, rest = unit, rest[digits+1:]
	}
	if sum > ageMax {
		return 0, ageError(s)
	}
	return sum, nil
}

func ageError(s string) error {
	return fmt.Errorf("%q is no time such as 30d, 2w, 12h or 1d12h", s)
}

// FormatAge writes an age as ParseAge reads it.
func FormatAge(d time.Duration) string {
	var b strings.Builder
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{day, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}} {
		if n := d / u.unit; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, u.name)
			d -= n * u.unit
		}
	}
	if b.Len() == 0 {
		return "0s"
	}
	return b.String()
}
