package web

import (
	"cmp"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
)

// licences are those of all modules that may be compiled in, as SPDX writes them. A test compares the list with what is
// compiled in, and with the texts that come with the modules.
var licences = map[string]string{
	"github.com/agext/levenshtein":             "Apache-2.0",
	"github.com/apparentlymart/go-textseg/v15": "MIT AND Unicode-DFS-2016",
	"github.com/bmatcuk/doublestar/v4":         "MIT",
	"github.com/dustin/go-humanize":            "MIT",
	"github.com/google/uuid":                   "BSD-3-Clause",
	"github.com/hashicorp/hcl/v2":              "MPL-2.0",
	"github.com/inconshreveable/mousetrap":     "Apache-2.0",
	"github.com/julienschmidt/httprouter":      "BSD-3-Clause",
	"github.com/klauspost/compress":            "BSD-3-Clause AND Apache-2.0 AND MIT",
	"github.com/mattn/go-isatty":               "MIT",
	"github.com/mitchellh/go-wordwrap":         "MIT",
	"github.com/ncruces/go-strftime":           "MIT",
	"github.com/opencontainers/go-digest":      "Apache-2.0",
	"github.com/opencontainers/image-spec":     "Apache-2.0",
	"github.com/remyoudompheng/bigfft":         "BSD-3-Clause",
	"github.com/spf13/cobra":                   "Apache-2.0",
	"github.com/spf13/pflag":                   "BSD-3-Clause",
	"github.com/yuin/goldmark":                 "MIT",
	"github.com/zclconf/go-cty":                "MIT",
	"go.yaml.in/yaml/v3":                       "MIT AND Apache-2.0",
	"golang.org/x/crypto":                      "BSD-3-Clause",
	"golang.org/x/net":                         "BSD-3-Clause",
	"golang.org/x/sync":                        "BSD-3-Clause",
	"golang.org/x/sys":                         "BSD-3-Clause",
	"golang.org/x/term":                        "BSD-3-Clause",
	"golang.org/x/text":                        "BSD-3-Clause",
	"modernc.org/libc":                         "BSD-3-Clause AND MIT",
	"modernc.org/mathutil":                     "BSD-3-Clause",
	"modernc.org/memory":                       "BSD-3-Clause",
	"modernc.org/sqlite":                       "BSD-3-Clause",
}

// aboutData is what the page about the program shows.
type aboutData struct {
	Go      string // version of the language that the program was built with
	Modules []compiledModule
}

// A compiledModule is a module that the program was built from.
type compiledModule struct{ Path, Version, Licence string }

func (h *Handler) aboutPage(w http.ResponseWriter, r *request) error {
	d := aboutData{Go: runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		d.Modules = compiledModules(info)
	}
	v := h.view(w, r, "About", d)
	v.Section = "help"
	return h.render(w, r, http.StatusOK, "about", v)
}

// compiledModules returns the modules that a program was built from, but for its own.
func compiledModules(info *debug.BuildInfo) (all []compiledModule) {
	for _, m := range info.Deps {
		version := m.Version
		if m.Replace != nil {
			version = m.Replace.Version
		}
		all = append(all, compiledModule{m.Path, version, licences[m.Path]})
	}
	slices.SortFunc(all, func(a, b compiledModule) int { return cmp.Compare(a.Path, b.Path) })
	return all
}
