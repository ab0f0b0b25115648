package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"cubby/scripts/figures"
)

// TestTable: the README shows the figures that the last full run wrote, and there are some of every row.
func TestTable(t *testing.T) {
	r, err := readReport("figures.json")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, shown, begins := strings.Cut(string(readme), "<!-- table of scripts/faults -->\n")
	shown, _, ends := strings.Cut(shown, "<!-- end of table -->\n")
	if !begins || !ends || shown != r.table() {
		t.Errorf("the table in README.md is not what `go run ./scripts/faults --table scripts/faults/figures.json` prints; it shows\n%s", shown)
	}
	if strings.HasSuffix(r.Commit, "-dirty") {
		t.Errorf("the figures are of no commit: %s", r.Commit)
	}
	for _, row := range rows {
		if !slices.ContainsFunc(r.Rows, func(seen figures.Row) bool { return seen.ID == row.id }) {
			t.Errorf("figures.json has none of %s", row.id)
		}
	}
}
