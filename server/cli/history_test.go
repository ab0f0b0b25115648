package cli

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cubby/store"
	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 5, 12, 8, 30, 0, 0, time.UTC)
	for s, want := range map[string]time.Time{
		"2026-05-11T10:00:00Z":      time.Date(2026, 5, 11, 10, 0, 0, 0, time.UTC),
		"2026-05-11T10:00:00+02:00": time.Date(2026, 5, 11, 8, 0, 0, 0, time.UTC),
		"2026-05-11 10:00":          time.Date(2026, 5, 11, 10, 0, 0, 0, time.Local),
		"2026-05-11T10:00":          time.Date(2026, 5, 11, 10, 0, 0, 0, time.Local),
		"2026-05-11 10:00:07":       time.Date(2026, 5, 11, 10, 0, 7, 0, time.Local),
		"90m":                       time.Date(2026, 5, 12, 7, 0, 0, 0, time.UTC),
		"1h30m":                     time.Date(2026, 5, 12, 7, 0, 0, 0, time.UTC),
		"3d":                        time.Date(2026, 5, 9, 8, 30, 0, 0, time.UTC),
		"2w":                        time.Date(2026, 4, 28, 8, 30, 0, 0, time.UTC),
	} {
		if got, err := parseTime(s, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %s, %v; want %s", s, got, err, want)
		}
	}
	for _, s := range []string{"", "d", "3", "-3d", "1.5d", "yesterday", "2026-13-01 10:00", "10:00"} {
		if got, err := parseTime(s, now); err == nil {
			t.Errorf("%q: %s", s, got)
		}
	}
}

func TestRestoreParams(t *testing.T) {
	now := time.Date(2026, 5, 12, 8, 30, 0, 0, time.UTC)
	for _, tt := range []struct{ arg, to, at, want string }{
		{"a/b:x", "#3", "", "repo=a%2Fb&tag=x&to=%233"},
		{"localhost:5000/a/b:x", "3", "", "repo=a%2Fb&tag=x&to=3"},
		{"a:x", "", "2h", "at=2026-05-12T06%3A30%3A00Z&repo=a&tag=x"},
		{"a:x", "", "", ""},
		{"a:x", "#3", "2h", ""},
		{"a:x", "three", "", ""},
		{"a:x", "", "2099-01-01T00:00:00Z", ""},
		{"a:x", "", "-2h", ""},
		{"a", "#3", "", ""},
		{"a@sha256:" + strings.Repeat("0", 64), "#3", "", ""},
	} {
		got, err := restoreParams(tt.arg, tt.to, tt.at, now)
		if (err == nil) != (tt.want != "") || err == nil && got.Encode() != tt.want {
			t.Errorf("%s --to %q --at %q: %s, %v; want %q", tt.arg, tt.to, tt.at, got.Encode(), err, tt.want)
		}
	}
}

// newStore makes a store with a tag that moved from one manifest to another.
func newStore(t *testing.T) (dir string, one, two digest.Digest) {
	t.Helper()
	dir = t.TempDir()
	st, err := store.Open(t.Context(), store.Options{Dir: dir, Role: store.RoleServe, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	name, err := oci.ParseName("a")
	if err != nil {
		t.Fatal(err)
	}
	tag, err := oci.ParseTag("x")
	if err != nil {
		t.Fatal(err)
	}
	put := func(n int) digest.Digest {
		raw := fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[],"annotations":{"n":"%d"}}`, n)
		m, err := oci.ParseManifest("application/vnd.oci.image.index.v1+json", raw)
		if err != nil {
			t.Fatal(err)
		}
		dgst := oci.SumDigest(digest.SHA256, raw)
		if _, err := st.PutManifest(t.Context(), store.ManifestPut{
			Name: name, Digest: dgst, Manifest: m, Tags: []oci.Tag{tag}, Sparse: store.SparseIndex, By: store.Actor{Name: "alice", Address: "192.0.2.1"},
		}); err != nil {
			t.Fatal(err)
		}
		return dgst
	}
	return dir, put(1), put(2)
}

// TestHistoryCommands runs the commands without a server, one after the other.
func TestHistoryCommands(t *testing.T) {
	dir, one, two := newStore(t)
	short1, short2 := shortDigest(one.String()), shortDigest(two.String())
	for _, tt := range []struct {
		args string
		code int
		want []string // in the output, or in the error
	}{
		{"history a:x", 0, []string{"#2  ", short1 + "  " + short2 + "  alice  192.0.2.1\n", "\n#1  ", "none"}},
		{"history a", 0, []string{"TAG  #", "x    #2"}},
		{"history a --json", 0, []string{`"number":2`, `"from":"` + one.String() + `"`}},
		{"history a@" + one.String(), ExitUsage, []string{"digests have none"}},
		{"history a:never", ExitRefused, []string{"never had a tag never"}},
		{"undo a:x", 0, []string{"a:x: from " + short2 + " to " + short1 + ", undid #2\n", "cubby restore a:x --to '#2'"}},
		{"undo a:x", 0, []string{"a:x: from " + short1 + " to none, undid #1\n"}},
		{"undo a:x", ExitRefused, []string{"nothing is left to undo"}},
		{"undo a", ExitUsage, []string{"is not REPO:TAG"}},
		{"restore a:x --to #2", 0, []string{"a:x: from none to " + short2 + "\n"}},
		{"restore a:x --to " + short2, 0, []string{"a:x is at " + short2 + " already\n"}},
		{"restore a:x --at 0s --json", 0, []string{`"to":"` + two.String()}},
		{"restore a:x", ExitUsage, []string{"one of --to and --at is needed"}},
		{"restore a:x --at 1w", ExitRefused, []string{"there was no such tag at"}},
		{"history a:x", 0, []string{"undid #1\n", "undid #2\n"}},
		{"du", 0, []string{"On disk", "If nothing were shared", "REPOSITORY  STORED  ONLY HERE\na "}},
		{"du a", 0, []string{"REPOSITORY  STORED  ONLY HERE\na "}},
		{"du --json", 0, []string{`"freeable":0`, `"only_here":`}},
		{"du never", ExitRefused, []string{"no repository never here"}},
		{"du A", ExitUsage, []string{"repository name"}},
	} {
		out, code := runCommand(t, dir, "", tt.args)
		if code != tt.code {
			t.Errorf("%s: exit code %d, want %d: %s", tt.args, code, tt.code, out)
		}
		for _, want := range tt.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in:\n%s", tt.args, want, out)
			}
		}
	}
}
