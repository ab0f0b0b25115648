package web

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

func TestAboutPage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, viewer := range []string{anonymous, admin} {
		wants(t, "about", s.get(viewer, "/-/about"), 200, "This is Cubby 1.2.3", "OCI Distribution Specification 1.1", "Esc", "Apache-2.0", "MPL-2.0")
	}
}

func TestCompiledModules(t *testing.T) {
	got := compiledModules(&debug.BuildInfo{Main: debug.Module{Path: "cubby"}, Deps: []*debug.Module{
		{Path: "modernc.org/sqlite", Version: "v1.2.3"}, {Path: "github.com/hashicorp/hcl/v2", Version: "v1.0.0", Replace: &debug.Module{Path: "../hcl", Version: "v2.0.0"}},
	}})
	want := []compiledModule{{"github.com/hashicorp/hcl/v2", "v2.0.0", "MPL-2.0"}, {"modernc.org/sqlite", "v1.2.3", "BSD-3-Clause"}}
	if !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestLicences: each module that is compiled in has a licence here, and it is the one that comes with it.
func TestLicences(t *testing.T) {
	t.Parallel()
	command := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}\t{{.Dir}}{{end}}{{end}}", "cubby", "cubby/web/...")
	command.Dir = ".."
	out, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	dirs := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		if path, dir, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
			dirs[path] = dir
		}
	}
	if len(dirs) < 15 {
		t.Errorf("only %d modules are compiled in", len(dirs))
	}
	marks := map[string]string{
		"MIT": "Permission is hereby granted, free of charge", "BSD-3-Clause": "Redistribution and use in source and binary forms", "Apache-2.0": "Apache License",
		"MPL-2.0": "Mozilla Public License, version 2.0", "Unicode-DFS-2016": "Unicode Data Files include all data files",
	}
	for path, dir := range dirs {
		if licences[path] == "" {
			t.Errorf("%s has no licence in the list", path)
			continue
		}
		text := licenceText(t, dir)
		for id := range strings.SplitSeq(licences[path], " AND ") {
			if marks[id] == "" || !strings.Contains(text, marks[id]) {
				t.Errorf("%s: its text is not that of %s", path, id)
			}
		}
		for id, mark := range marks {
			if strings.Contains(text[:min(len(text), 400)], mark) && !strings.Contains(licences[path], id) {
				t.Errorf("%s is under %s", path, id)
			}
		}
	}
}

// licenceText returns the texts of all licences in a directory, with single spaces.
func licenceText(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "LICENSE*"))
	if err != nil || len(files) == 0 {
		t.Fatal(fmt.Errorf("%s has no licence: %w", dir, err))
	}
	var all []string
	for _, file := range files {
		all = append(all, strings.Fields(string(must(os.ReadFile(file))(t)))...)
	}
	return strings.Join(all, " ")
}
