package store

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
)

// TestVerifyPragmas: a database whose settings are not what durability rests on is not run with.
func TestVerifyPragmas(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	for _, tt := range []struct{ from, to, want string }{
		{"", "", ""},
		{"_synchronous=FULL", "_synchronous=NORMAL", "synchronous is 1"},
		{"_foreign_keys=1", "_foreign_keys=0", "foreign_keys is 0"},
		{"_busy_timeout=5000", "_busy_timeout=1", "busy_timeout is 1"},
	} {
		t.Run(tt.to, func(t *testing.T) {
			name := dsn(filepath.Join(s.dir, fileDB), "_synchronous=FULL")
			pool, err := sql.Open("sqlite", strings.Replace(name, tt.from, tt.to, 1))
			if err != nil {
				t.Fatal(err)
			}
			defer pool.Close()
			err = verifyPragmas(t.Context(), pool)
			if (err != nil) != (tt.want != "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}
