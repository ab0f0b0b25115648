// Package figures is how the tests of faults report what they saw: each writes a row, scripts/faults makes a table of them.
package figures

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A Row is what one test of the programme saw.
type Row struct {
	ID      string   `json:"id"`   // like T-1
	Test    string   `json:"test"` // what was done, in a phrase
	Figures []Figure `json:"figures"`
	Seed    uint64   `json:"seed,omitempty"` // 0: nothing in it is random
	Seconds int      `json:"seconds"`        // set by scripts/faults
}

// A Figure is something counted or measured, like 1000 "kills".
type Figure struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Count returns a figure that was counted.
func Count(name string, n int) Figure { return Figure{Name: name, Value: strconv.Itoa(n)} }

// Time returns a figure that was measured, to three digits.
func Time(name string, d time.Duration) Figure {
	unit := time.Nanosecond
	for d >= 1000*unit {
		unit *= 10
	}
	return Figure{Name: name, Value: d.Round(unit).String()}
}

// Report writes the row of a test to the directory $CUBBY_FIGURES, and to the test's log. Without the variable it only
// logs. Call it also when the test has failed: the figures tell how.
func (r Row) Report(t testing.TB) {
	t.Helper()
	var text strings.Builder
	text.WriteString(r.ID + ": " + r.Test)
	for _, f := range r.Figures {
		text.WriteString(fmt.Sprintf("; %s %s", f.Value, f.Name))
	}
	t.Log(text.String())
	dir := os.Getenv("CUBBY_FIGURES")
	if dir == "" {
		return
	}
	raw, err := json.Marshal(r)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, r.ID+".json"), raw, 0o644)
	}
	if err != nil {
		t.Error(err)
	}
}

// Processor returns how much of a processor's time f takes in the goroutine that calls it. Unlike the time that passes
// it is much the same on a busy machine.
func Processor(t testing.TB, f func()) time.Duration {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	who := syscall.RUSAGE_SELF
	if runtime.GOOS == "linux" {
		who = 1 // RUSAGE_THREAD, which syscall does not name
	}
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	f()
	return used() - before
}

// Size returns how often a test repeats what it does: $CUBBY_SIZE, or what is given without it.
func Size(t testing.TB, otherwise int) int { return int(setting(t, "CUBBY_SIZE", uint64(otherwise))) }

// Seed returns what a test seeds its random numbers with: $CUBBY_SEED repeats a run, without it each is another. It
// logs the seed.
func Seed(t testing.TB) uint64 {
	seed := setting(t, "CUBBY_SEED", uint64(1+rand.IntN(1<<30)))
	t.Logf("CUBBY_SEED=%d", seed)
	return seed
}

func setting(t testing.TB, name string, otherwise uint64) uint64 {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(value, 10, 31)
	if err != nil {
		t.Fatalf("%s=%q is not a number", name, value)
	}
	return n
}
