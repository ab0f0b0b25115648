package web

import (
	"archive/zip"
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// exampleModule is a module with one of everything: names and contents of its files by turns.
var exampleModule = []string{
	"README.md", "# Network\n\nMakes a *network*. <script>alert(1)</script>\n\n![](https://example.com/track.png)\n",
	"main.tf", "terraform {\n  required_version = \">= 1.6\"\n  required_providers {\n    aws = {\n      source  = \"hashicorp/aws\"\n      version = \"~> 5.0\"\n    }\n  }\n}\n\n" +
		"variable \"name\" {\n  type = string\n  description = \"What it is called\"\n}\n\nvariable \"tags\" {\n  type = map(string)\n  default = {}\n  sensitive = true\n}\n\n" +
		"output \"id\" {\n  value = aws_vpc.this.id\n  description = \"Its number\"\n}\n\nresource \"aws_vpc\" \"this\" {}\ndata \"aws_region\" \"here\" {}\nmodule \"subnet\" {\n  source = \"./modules/subnet\"\n}\n",
	"modules/subnet/main.tf", "variable \"size\" { default = 24 }\n",
	"modules/subnet/README.md", "Only a part.",
	"examples/small one/main.tofu", "output \"none\" {}\n",
	"logo.bin", "\x00\x01", "empty.txt", "",
}

// zipOf returns an archive of some files: names and contents by turns.
func zipOf(t testing.TB, files ...string) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		f := must(w.CreateHeader(&zip.FileHeader{Name: files[i], Method: zip.Store}))(t)
		must(f.Write([]byte(files[i+1])))(t)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// module pushes a module package.
func (s *site) module(repo, archive string, tags ...string) digest.Digest {
	s.t.Helper()
	return s.artifact(repo, moduleType, zipType, "", []string{"module.zip", archive}, tags...)
}

// fillModules pushes a module package and a provider.
func (s *site) fillModules() digest.Digest {
	s.t.Helper()
	s.artifact("team/providers/acme/cloud", "application/vnd.opentofu.provider", zipType, "", []string{"", "none"}, "2.0.0")
	return s.module("team/network", zipOf(s.t, exampleModule...), "1.0")
}

func TestModulePage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fill()
	dgst := s.fillModules()
	at := "/team/network:1.0"
	wants(t, "the overview", s.get(reader, at), 200, "See inputs, outputs and files", "2 inputs, 1 output, 2 resources", "hashicorp/aws", "?tag=1.0", "?digest="+dgst.String())
	a := s.get(reader, at+"/-/module")
	wants(t, "the module", a, 200, "Makes a network.", "name required", "What it is called", "tags sensitive", "Typemap(string)Default{}", "Its number", "hashicorp/aws~> 5.0", "OpenTofu>= 1.6",
		"aws_vpcthisresource", "aws_regionheredata source", "subnet./modules/subnet", "modules/subnet", "examples/small one", "main.tf", "Terraform has no source of this kind", "by HTTPS only", "-There is nothing to see", "-Not everything", "-Only a part")
	for _, not := range []string{"<script>alert", "<img", "/-/module/none"} {
		if strings.Contains(a.body, not) {
			t.Errorf("the page has %s", not)
		}
	}
	by := digestPath(name("team/network"), dgst) + "/-/module"
	wants(t, "a submodule", s.get(reader, by+"/modules/subnet"), 200, "size", "24", "Only a part.", "//modules/subnet?digest=", "The package / modules/subnet", "-What it is called")
	wants(t, "an example", s.get(reader, at+"/-/module/examples/small%20one"), 200, "none", "//examples/small%20one?tag=1.0")
	wants(t, "a file", s.get(reader, by+"/files/main.tf"), 200, "variable \"name\" {", "Download the file")
	if body := s.get(reader, by+"/files/main.tf").body; !strings.Contains(body, `id="L12"`) || strings.Contains(body, "<script>alert") {
		t.Error("the lines of a file cannot be linked to")
	}
	wants(t, "a README as text", s.get(reader, by+"/files/README.md"), 200, "<script>alert(1)</script>")
	wants(t, "a file that is no text", s.get(reader, by+"/files/logo.bin"), 200, "This file is no text.", "Download the file")
	wants(t, "an empty file", s.get(reader, by+"/files/empty.txt"), 200, "It is empty.")
	wants(t, "no file", s.get(reader, by+"/files/none.tf"), 404, `"none.tf": the package has nothing of this name`)
	wants(t, "no directory", s.get(reader, by+"/modules/none"), 404, "the package has nothing of this name")
	wants(t, "no module", s.get(reader, "/team/api:1.0/-/module"), 404, "this manifest is no module package")
	wants(t, "a file of no module", s.get(reader, "/team/api:1.0/-/module/files/main.tf"), 404, "this manifest is no module package")
	wants(t, "a provider", s.get(reader, "/team/providers/acme/cloud:2.0.0"), 200, "repository_template", "/team/providers/${namespace}/${type}", `["registry.opentofu.org/acme/cloud"]`)

	a = s.get(reader, by+"/download/modules/subnet/main.tf")
	if a.StatusCode != 200 || a.body != exampleModule[5] || a.Header.Get("Content-Disposition") != "attachment; filename=main.tf" || a.Header.Get("Content-Security-Policy") != fileCSP || a.Header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("a download: %d %q %v", a.StatusCode, a.body, a.Header)
	}
	first, second := s.get(reader, by+"/download/main.tf"), s.get(reader, by+"/download/README.md", "If-None-Match", s.get(reader, by+"/download/main.tf").Header.Get("ETag"))
	if first.StatusCode != 200 || second.StatusCode != 200 {
		t.Errorf("another file is taken for the same: %d %d", first.StatusCode, second.StatusCode)
	}
	wants(t, "a download of nothing", s.get(reader, by+"/download/none"), 404)
}

// TestModuleReadme: what the page of a repository shows.
func TestModuleReadme(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fillModules()
	s.module("team/tangled", zipOf(t, "README.md", strings.Repeat("> ", 40)+"a <b>"), "1")
	s.module("team/none", zipOf(t, "main.tf", ""), "1")
	s.module("team/broken", "no archive", "1")
	wants(t, "a README", s.get(reader, "/team/network/-/readme"), 200, "Makes a network.", "1.0")
	wants(t, "a README that is not laid out", s.get(reader, "/team/tangled/-/readme"), 200, "too tangled", "a <b>")
	wants(t, "the same on the page of the module", s.get(reader, "/team/tangled:1/-/module"), 200, "too tangled", "a <b>")
	wants(t, "no README", s.get(reader, "/team/none/-/readme"), 200, "no README")
	wants(t, "a broken package", s.get(reader, "/team/broken/-/readme"), 200, "This is not a zip archive.")
}

// TestHostileModules: each has a page that says what is wrong.
func TestHostileModules(t *testing.T) {
	t.Parallel()
	s := newSite(t, withoutUsers)
	good := zipOf(t, exampleModule...)
	manifest := func(layers ...string) string {
		return fmt.Sprintf(`{"schemaVersion":2,"artifactType":%q,"config":%s,"layers":[%s]}`, moduleType, descriptor(emptyConfig, s.blob("hostile", "{}"), 2, ""), strings.Join(layers, ","))
	}
	layer := func(mediaType, content string) string {
		return descriptor(mediaType, s.blob("hostile", content), len(content), "")
	}
	for _, tt := range []struct {
		what, raw, reason string
	}{
		{"no layer", manifest(), "this one has 0"},
		{"two layers", manifest(layer(zipType, good), layer(zipType, good+"x")), "this one has 2"},
		{"another layer", manifest(layer("application/zip", good)), `this one has one of "application/zip"`},
		{"no archive", manifest(layer(zipType, "<script>")), "This is not a zip archive."},
		{"an empty layer", manifest(layer(zipType, "")), "This is not a zip archive."},
		{"half an archive", manifest(layer(zipType, good[:len(good)/2])), "its end is missing"},
		{"something behind", manifest(layer(zipType, good+"more")), "4 bytes follow after its end"},
		{"a name twice", manifest(layer(zipType, zipOf(t, "a.tf", "", "a.tf", ""))), `"a.tf" is there twice`},
		{"nothing", manifest(layer(zipType, zipOf(t))), "The package is empty."},
		{"names", manifest(layer(zipType, zipOf(t, "../main.tf", "", `a\b.tf`, "", "a//b.tf", "", "a\n.tf", ""))), "Its name leads out of the package"},
		{"brackets", manifest(layer(zipType, zipOf(t, "main.tf", "a = "+strings.Repeat("[", 400_000)))), "main.tf is not read: it has more than 100000 words and signs."},
		{"comments", manifest(layer(zipType, zipOf(t, "main.tf", strings.Repeat("/* ", 40_000)))), "main.tf is not read: it opens too many comments that never end."},
		{"nesting", manifest(layer(zipType, zipOf(t, "main.tf", "a = "+strings.Repeat("[", 90_000)+"\n"))), "The module has no inputs."},
		{"templates", manifest(layer(zipType, zipOf(t, "main.tf", `variable "a" { default = "`+strings.Repeat("${", 30_000)+`" }`))), "this brace is never closed"},
		{"numbers", manifest(layer(zipType, zipOf(t, "main.tf", `variable "a" { default = 1e999999999 }`))), "1e999999999"},
		{"not UTF-8", manifest(layer(zipType, zipOf(t, "main.tf", "\xff", "README.md", "\xff\xfe"))), "main.tf is not read: it is not UTF-8."},
		{"an absent archive", manifest(descriptor(zipType, sum("nobody pushed this"), 10, "")), "its archive is not stored here"},
	} {
		dgst := s.put("hostile", imageType, tt.raw)
		path := digestPath(name("hostile"), dgst)
		for range 2 { // looked into, and remembered
			wants(t, tt.what, s.get(viewerLocal, path+"/-/module"), 200, tt.reason)
		}
		wants(t, tt.what+", the overview", s.get(viewerLocal, path), 200)
		for _, page := range []string{"/-/module/files/main.tf", "/-/module/download/main.tf", "/-/module/modules/x", "/-/module/files/%2e%2e/main.tf"} {
			if a := s.get(viewerLocal, path+page); a.StatusCode != 200 && a.StatusCode != 404 {
				t.Errorf("%s, %s: %d", tt.what, page, a.StatusCode)
			}
		}
	}
	index := s.put("hostile", indexType, fmt.Sprintf(`{"schemaVersion":2,"artifactType":%q,"manifests":[]}`, moduleType))
	wants(t, "an index", s.get(viewerLocal, digestPath(name("hostile"), index)+"/-/module"), 200, "this one has 0")
}

// TestModulePayloads: what a module says looks on its pages like what is harmless.
func TestModulePayloads(t *testing.T) {
	t.Parallel()
	s := newSite(t, withoutUsers)
	files := func(p string) []string {
		q := strings.NewReplacer("\\", "\\\\", `"`, `\"`, "\n", `\n`, "\r", `\r`, "${", "$${", "%{", "%%{").Replace(p)
		return []string{
			"a.tf", fmt.Sprintf("terraform {\n required_version = \"%[1]s\"\n required_providers {\n a = { source = \"%[1]s\", version = \"%[1]s\" }\n }\n}\n", q) +
				fmt.Sprintf("variable \"%[1]s\" {\n description = \"%[1]s\"\n type = x(\"%[1]s\")\n default = [\"%[1]s\"]\n}\nvariable \"r\" {}\noutput \"%[1]s\" {\n description = \"%[1]s\"\n}\n", q) +
				fmt.Sprintf("resource \"%[1]s\" \"%[1]s\" {}\nmodule \"%[1]s\" {\n source = \"%[1]s\"\n version = \"%[1]s\"\n}\n", q),
			"README.md", p, p + ".txt", "text", "d/" + p + ".txt", p, "modules/" + p + "/main.tf", "", "examples/x/main.tf", "a = 1\n)", "z\\z", "",
		}
	}
	pages := func(p string) []string {
		return []string{"", "/files/a.tf", "/files/d/" + escapePath(p) + ".txt", "/files/" + escapePath(p) + ".txt", "/modules/" + escapePath(p), "/examples/x"}
	}
	harmless := make(map[string]bool)
	look := func(p string, check func(what string, w *httptest.ResponseRecorder)) {
		repo := "m" + sum(p).Encoded()[:16]
		s.module(repo, zipOf(t, files(p)...), "1")
		for _, page := range pages(p) {
			path := "/" + repo + ":1/-/module" + page
			check(fmt.Sprintf("%q: %.100q", p, path), s.record(viewerLocal, http.MethodGet, path, ""))
		}
		w := s.record(viewerLocal, http.MethodGet, "/"+repo+":1", "")
		check(fmt.Sprintf("%q: the overview", p), w)
	}
	for _, p := range []string{"harmless", "two\nlines\n", "# heading\n\n[link](https://example.com) `code` **bold** *em* ~~no~~\n\n- a\n- b\n\n1. c\n\n> quote\n\n```\ncode\n```\n\n    code\n\n|a|b|\n|-|-|\n|c|d|\n\n---\n", "../x", "a\\b", strings.Repeat("> ", 40) + "a"} {
		look(p, func(_ string, w *httptest.ResponseRecorder) { maps.Copy(harmless, shape(t, w.Body.String())) })
	}
	all := payloads(t)
	for i, p := range all {
		if i%4 != 0 {
			continue
		}
		look(p, func(what string, w *httptest.ResponseRecorder) {
			checkHostile(t, what, harmless, w.Code, w.Header(), w.Body.String())
		})
	}
}

// TestModuleOfAnother: a manifest that names an archive of another repository shows nothing of it, also when it is kept.
func TestModuleOfAnother(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fill()
	archive := zipOf(t, "main.tf", "variable \"classified\" {}\n")
	s.module("secret/network", archive, "1")
	wants(t, "the module, for who may see it", s.get(admin, "/secret/network:1/-/module"), 200, "classified")
	// Sparse, as a client pushes what it does not have.
	s.put("team/thief", imageType, fmt.Sprintf(`{"schemaVersion":2,"artifactType":%q,"config":%s,"layers":[%s]}`, moduleType,
		descriptor(emptyConfig, s.blob("team/thief", "{}"), 2, ""), descriptor(zipType, sum(archive), len(archive), "")), "1")
	for _, page := range []string{"", "/-/module", "/-/module/files/main.tf"} {
		a := s.get(writer, "/team/thief:1"+page)
		wants(t, "another's module"+page, a, 200, "-classified")
		if page != "" {
			wants(t, "another's module"+page, a, 200, "its archive is not stored here")
		}
	}
	wants(t, "another's file", s.get(writer, "/team/thief:1/-/module/download/main.tf"), 404, "-classified")
	a, b := s.get(reader, "/secret/network:1/-/module"), s.get(reader, "/secret/notwork:1/-/module")
	if a.StatusCode != 403 || a.StatusCode != b.StatusCode || clean(a.body, "secret/network") != clean(b.body, "secret/notwork") {
		t.Errorf("what is hidden: %d, what is not there: %d", a.StatusCode, b.StatusCode)
	}
}

// TestModulesKept: a module is looked into once, and the room for what is kept is bounded.
func TestModulesKept(t *testing.T) {
	t.Parallel()
	s := newSite(t, withoutUsers)
	const room = 4 << 20
	s.pages.cache.max = room
	large := strings.Repeat("some words of a text ", 20<<10) // 420 KiB
	for i := range 2 * room / len(large) {
		repo := fmt.Sprint("m", i)
		s.module(repo, zipOf(t, "README.md", fmt.Sprint(i, large)), "1")
		w := s.record(viewerLocal, http.MethodGet, "/"+repo+":1", "")
		if w.Code != 200 || s.pages.cache.used > room {
			t.Fatalf("%s: status %d, %d bytes are kept", repo, w.Code, s.pages.cache.used)
		}
	}
	if n := len(s.pages.cache.at); n < 5 || s.pages.cache.used < room/2 {
		t.Errorf("%d modules are kept in %d bytes", n, s.pages.cache.used)
	}
	if s.pages.busy.taken || s.pages.makes.taken {
		t.Error("the archive of a module is still open")
	}
}
