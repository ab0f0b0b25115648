package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test's program be the plain server too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "plain" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestRegistry drives two servers, one of them given as a command, and one that grows.
func TestRegistry(t *testing.T) {
	program, err := buildProgram(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Run("compare", func(t *testing.T) { testCompare(t, program) })
	t.Run("growth", func(t *testing.T) { testGrowth(t, program) })
}

func testCompare(t *testing.T, program string) {
	dir := t.TempDir()
	var out bytes.Buffer
	c := comparison{program: program, dir: dir, servers: []string{"cubby", program + " serve --addr {addr} --data {dir} --log-level warn", "net/http"}, time: 10 * time.Millisecond, rounds: 1, profile: dir}
	for _, c.only = range []string{"manifest by tag", "push of images"} {
		if err := compare(t.Context(), &out, c); err != nil {
			t.Fatalf("%v\n%s", err, out.String())
		}
		if _, err := os.Stat(filepath.Join(dir, strings.ReplaceAll(c.only, " ", "-")+".pprof")); c.only == "manifest by tag" && err != nil {
			t.Error(err)
		}
	}
	for _, want := range []string{"manifest by tag, 8", "push of images of 5 × 16 KiB, 8", "; ratio ", " requests/s, CPU ", " images/s, CPU ", "resident memory", "SHA-256 of one processor"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

// testGrowth fills small stores and draws.
func testGrowth(t *testing.T, program string) {
	plot := filepath.Join(t.TempDir(), "plot.svg")
	var out bytes.Buffer
	if err := growth(t.Context(), &out, program, t.TempDir(), plot, []int{20, 40}, 10*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	drawn, err := os.ReadFile(plot)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{startName, "a manifest by tag", "100 tags", "100 repositories", "HEAD of a blob", "push of a manifest"} {
		if !strings.Contains(out.String(), name) || !strings.Contains(string(drawn), ">"+name+"<") {
			t.Errorf("no %q in the table or the plot\n%s", name, out.String())
		}
	}
}
