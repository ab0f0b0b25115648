package bridge

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"

	"cubby/gc"
	"cubby/gc/policy"
	"cubby/store"
	"cubby/store/oci"
	"cubby/web"

	"github.com/opencontainers/go-digest"
)

var by = store.Actor{Name: "admin", Address: "127.0.0.1"}

// TestPages: what a plan shows is what is done, or nothing is.
func TestPages(t *testing.T) {
	st, err := store.Open(t.Context(), store.Options{Dir: t.TempDir(), Role: store.RoleServe, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	name, err := oci.ParseName("team/app")
	if err != nil {
		t.Fatal(err)
	}
	put := func(tag string) {
		t.Helper()
		v, err := oci.ParseTag(tag)
		if err != nil {
			t.Fatal(err)
		}
		raw := []byte(`{"schemaVersion":2,"manifests":[],"annotations":{"tag":"` + tag + `"}}`)
		m, err := oci.ParseManifest("application/vnd.oci.image.index.v1+json", raw)
		if err == nil {
			_, err = st.PutManifest(t.Context(), store.ManifestPut{Name: name, Digest: oci.SumDigest(digest.SHA256, raw), Manifest: m, Tags: []oci.Tag{v}, By: by})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	pages := Pages{gc.NewCollector(st, slog.New(slog.NewTextHandler(io.Discard, nil)))}
	put("1")
	shown, err := pages.PlanRemoval(t.Context(), name)
	if err != nil || shown.Tags != 1 || len(shown.Lines) != 1 || !shown.Lines[0].Remove || shown.Lines[0].Tag != "1" {
		t.Fatalf("plan %+v, %v", shown, err)
	}
	put("2")
	if n, err := pages.Remove(t.Context(), name, shown.Fingerprint, by); n != 0 || !errors.Is(err, web.ErrPlanChanged) {
		t.Errorf("an old plan removed %d tags, %v", n, err)
	}
	if shown, err = pages.PlanRemoval(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if n, err := pages.Remove(t.Context(), name, shown.Fingerprint, by); n != 2 || err != nil {
		t.Errorf("the plan removed %d tags, %v", n, err)
	}

	plan, err := pages.Plan(t.Context(), true)
	if err != nil || plan.Manifests != 0 || len(plan.Lines) != 2 || plan.Lines[0].Remove {
		t.Errorf("plan %+v, %v", plan, err)
	}
	if _, err := pages.Collect(t.Context(), true, "another", by, nil); !errors.Is(err, web.ErrPlanChanged) {
		t.Errorf("another plan: %v", err)
	}
	if _, err := pages.Collect(t.Context(), true, plan.Fingerprint, by, nil); err != nil {
		t.Error(err)
	}
	runs, err := st.Collections(t.Context(), 10)
	if err != nil || len(runs) != 1 || !strings.HasPrefix(runs[0].Cause, "page, admin") {
		t.Errorf("runs %+v, %v", runs, err)
	}

	pages.Policy = func(context.Context) (*policy.Policy, error) { return nil, errors.New("the rules cannot be read") }
	if _, err := pages.Plan(t.Context(), false); !errors.Is(err, web.ErrRefused) {
		t.Errorf("a refusal is %v", err)
	}
}
