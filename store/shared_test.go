package store

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// layered pushes an image of layers, which are named by their content, and returns its digest.
func layered(t *testing.T, s *Store, repo string, layers ...string) digest.Digest {
	t.Helper()
	var ids, ds []string
	for _, l := range layers {
		ids = append(ids, fmt.Sprintf("%q", sum([]byte(l))))
		ds = append(ds, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, layerType, pushed(t, s, repo, l), len(l)))
	}
	config := fmt.Sprintf(`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[%s]}}`, strings.Join(ids, ","))
	raw := fmt.Appendf(nil, `{"schemaVersion":2,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[%s]}`, configType, pushed(t, s, repo, config), len(config), strings.Join(ds, ","))
	return putAs(t, s, repo, imageType, raw, strings.Join(layers, "-"))
}

func chainOf(layers ...string) []digest.Digest {
	var ids []digest.Digest
	for _, l := range layers {
		ids = append(ids, sum([]byte(l)))
	}
	return oci.ChainIDs(ids)
}

func TestBaseImages(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	base := layered(t, s, "debian", "a")
	middle := layered(t, s, "python", "a", "b")
	layered(t, s, "other", "b")
	layered(t, s, "app", "a", "b", "c")
	for _, tt := range []struct {
		of   []digest.Digest
		want []BaseImage
	}{
		{chainOf("a", "b", "c"), []BaseImage{{2, name("python"), middle, "a-b"}, {1, name("debian"), base, "a"}}},
		{chainOf("a", "x"), []BaseImage{{1, name("debian"), base, "a"}}},
		{chainOf("x", "a"), nil},
		{chainOf("a"), nil}, // an image is not its own base
		{nil, nil},
	} {
		if got, err := s.BaseImages(t.Context(), tt.of); err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("base images %v, %v; want %v", got, err, tt.want)
		}
	}
}

func TestSharedBlobs(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	layered(t, s, "debian", "a")
	layered(t, s, "app", "a", "b")
	layered(t, s, "app", "a", "c")
	got, err := s.SharedBlobs(t.Context(), []digest.Digest{sum([]byte("a")), sum([]byte("b")), sum([]byte("none"))})
	if err != nil || len(got) != 2 {
		t.Fatalf("%v, %v", got, err)
	}
	of := func(l string) (all []string) {
		for _, u := range got[sum([]byte(l))] {
			all = append(all, fmt.Sprint(u.Name, " ", u.Manifests))
		}
		slices.Sort(all)
		return all
	}
	if a := of("a"); !slices.Equal(a, []string{"app 2", "debian 1"}) {
		t.Errorf("a is shared by %v", a)
	}
	if b := of("b"); !slices.Equal(b, []string{"app 1"}) {
		t.Errorf("b is shared by %v", b)
	}
}

// TestChainLater: images that an older version described get their chain in the background.
func TestChainLater(t *testing.T) {
	dir := t.TempDir()
	s := open(t, testingOptions(dir))
	base := layered(t, s, "debian", "a")
	err := s.w.do(anything, func(t *tx) error {
		if _, err := t.exec(`UPDATE manifest_facts SET chain = NULL`); err != nil {
			return err
		}
		return t.setSetting(settingDescribed, "1")
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.BaseImages(t.Context(), chainOf("a", "b")); err != nil || len(got) > 0 {
		t.Fatalf("base images %v, %v; want none yet", got, err)
	}
	shut(t, s)
	s = open(t, testingOptions(dir))
	<-s.describes.done
	if got, err := s.BaseImages(t.Context(), chainOf("a", "b")); err != nil || len(got) != 1 || got[0].Digest != base {
		t.Errorf("base images %v, %v", got, err)
	}
}
