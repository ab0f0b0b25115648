package oci

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestChainIDs(t *testing.T) {
	a, b, c := digest.FromString("a"), digest.FromString("b"), digest.FromString("c")
	ab := digest.FromString(a.String() + " " + b.String())
	want := []digest.Digest{a, ab, digest.FromString(ab.String() + " " + c.String())}
	if got := ChainIDs([]digest.Digest{a, b, c}); !slices.Equal(got, want) {
		t.Errorf("chain %v, want %v", got, want)
	}
	wide := digest.SHA512.FromString("a")
	if got := ChainIDs([]digest.Digest{wide}); len(got) != 1 || got[0].Algorithm() != digest.SHA256 {
		t.Errorf("chain of %v: %v", wide, got)
	}
}

func TestDiffIDs(t *testing.T) {
	a := digest.FromString("a")
	for config, want := range map[string]int{
		fmt.Sprintf(`{"rootfs":{"diff_ids":[%q,%q]}}`, a, a):          2,
		fmt.Sprintf(`{"rootfs":{"diff_ids":[%q,"sha256:short"]}}`, a): 0,
		fmt.Sprintf(`{"rootfs":{"diff_ids":[%q,7]}}`, a):              0,
		`{"rootfs":{"diff_ids":{}}}`:                                  0,
		`{"rootfs":[]}`:                                               0,
		`{`:                                                           0,
		``:                                                            0,
		`{"rootfs":{"diff_ids":[` + strings.Repeat(`"`+a.String()+`",`, factList) + `"` + a.String() + `"]}}`: 0,
	} {
		if got := DiffIDs([]byte(config)); len(got) != want {
			t.Errorf("%.60s: %d, want %d", config, len(got), want)
		}
	}
}
