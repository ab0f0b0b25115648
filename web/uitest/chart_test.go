package uitest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"strings"
	"testing"

	"cubby/scripts/process"
)

// packChart makes the archive of a chart; files are names and texts by turns.
func packChart(t *testing.T, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for i := 0; i < len(files); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: "shop/" + files[i], Size: int64(len(files[i+1])), Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(files[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// shop is the archive of a chart that has one of everything, and long words.
func (s *stock) shop(t *testing.T) []byte {
	long := strings.Repeat("long", 60)
	var values, schema strings.Builder
	fmt.Fprintf(&values, "# What can be set.\nimage:\n  registry: localhost:%s\n  repository: team/api\n  tag: \"1.0.0\"\nsidecar:\n  image: ghcr.io/example/%s:1\n", s.port, long)
	for i := range 40 {
		fmt.Fprintf(&values, "key%d:\n  enabled: true # %s\n", i, strings.Repeat("a comment ", 20))
		fmt.Fprintf(&schema, `"key%d": {"type": "object", "description": "what %d is for", "required": ["enabled"], "properties": {"enabled": {"type": "boolean", "default": true}, %q: {"enum": ["a", 1]}}}, `, i, i, long)
	}
	readme := "# Shop\n\nSells *things*, see [the site](https://example.com/shop) and [below](#install).\n\n![badge](https://example.com/badge.svg) <img src=\"https://example.com/track.gif\">\n\n" +
		"## Install\n\n1. Get it\n   - first\n   - then\n2. Use it\n\n```sh\nhelm install shop " + long + "\n```\n\n### Values\n\n| Key | Default | What it is |\n|---|---|---|\n| `image.tag` | `1.0.0` | the tag |\n| " + long + " | | |\n\n> A note.\n\n---\n\n##### End\n\n" + long + "\n"
	return packChart(t,
		"Chart.yaml", fmt.Sprintf("apiVersion: v2\nname: shop\nversion: 1.2.3+build.4\nappVersion: '7'\nkubeVersion: '>= 1.28'\ndescription: Sells things\ntype: application\ndeprecated: true\nhome: https://example.com/shop\nicon: https://example.com/icon.png\nsources: [https://example.com/%s]\nkeywords: [shop, %s]\nmaintainers: [{name: Ada, email: ada@example.com, url: 'https://example.com/ada'}]\ndependencies:\n- {name: shop, version: 1.x, repository: 'oci://localhost:%s/charts', condition: shop.enabled}\n- {name: redis, version: 18.x, repository: 'https://charts.example.com', alias: cache}\n- {name: local, version: 0.1.0}\n", long, long, s.port),
		"values.yaml", values.String(), "values.schema.json", `{"title": "Shop", "properties": {`+schema.String()+`"last": {}}}`, "README.md", readme,
		"templates/deployment.yaml", "kind: Deployment\nmetadata:\n  name: {{ .Release.Name }}\n# "+strings.Repeat("wide ", 60)+"\n", "templates/NOTES.txt", "Thank you.\n", "templates/"+long+".yaml", "a: b\n",
		"crds/order.yaml", "kind: CustomResourceDefinition\n", "charts/local/Chart.yaml", "name: local\nversion: 0.1.0\n", "logo.png", "\x89PNG\x00")
}

// pushDocs pushes a chart that cannot be read, one that says little, and READMEs of other artifacts.
func (s *stock) pushDocs(t *testing.T) {
	t.Helper()
	p := s.to(t, "charts/broken")
	broken := p.blob(encode(object{"name": "broken", "version": "1.0.0"}))
	p.artifact(object{"config": descriptor("application/vnd.cncf.helm.config.v1+json", broken, nil), "layers": []object{
		descriptor("application/vnd.cncf.helm.chart.content.v1.tar+gzip", p.blob(process.RandomBlob(3, 4000).Raw), nil)}}, "1.0.0")
	small := s.to(t, "charts/small")
	config := small.blob(encode(object{"name": "small", "version": "1.0.0"}))
	small.artifact(object{"config": descriptor("application/vnd.cncf.helm.config.v1+json", config, nil), "layers": []object{
		descriptor("application/vnd.cncf.helm.chart.content.v1.tar+gzip", small.blob(packChart(t, "Chart.yaml", "name: small\nversion: 1.0.0\n")), nil)}}, "1.0.0")
	docs := s.to(t, "files/docs")
	for tag, text := range map[string]string{"1": "# Docs\n\nHow it works.\n", "tangled": strings.Repeat("> ", 100) + "deep\n"} {
		docs.artifact(object{"artifactType": "application/vnd.example.docs", "layers": []object{
			descriptor("text/markdown", docs.blob([]byte(text)), object{"annotations": object{"org.opencontainers.image.title": "README.md"}})}}, tag)
	}
}

// chartPages are the pages of charts and READMEs to look at.
func (w *world) chartPages() (all []pageCase) {
	o, at := w.stock.site, "/charts/shop:1.2.3_build.4/-/chart/"
	for _, p := range []pageCase{
		{name: "chart values", path: at + "values", shot: true, large: true},
		{name: "chart schema", path: at + "schema", shot: true, large: true},
		{name: "chart templates", path: at + "templates", shot: true},
		{name: "chart template", path: at + "templates/deployment.yaml", shot: true},
		{name: "chart readme", path: at + "readme", shot: true, large: true},
		{name: "chart files", path: at + "files"},
		{name: "chart file that is no text", path: at + "files/logo.png"},
		{name: "chart file that is not there", path: at + "files/none", status: 404},
		{name: "chart that cannot be read", path: "/charts/broken:1.0.0", shot: true},
		{name: "files of a chart that cannot be read", path: "/charts/broken:1.0.0/-/chart/files"},
		{name: "chart without values", path: "/charts/small:1.0.0/-/chart/values"},
		{name: "chart without schema", path: "/charts/small:1.0.0/-/chart/schema"},
		{name: "readme of a chart's repository", path: "/charts/shop/-/readme", shot: true},
		{name: "readme of an artifact", path: "/files/docs:1/-/readme"},
		{name: "readme that is not laid out", path: "/files/docs:tangled/-/readme"},
		{name: "description as a readme", path: "/charts/small/-/readme"},
	} {
		p.site = o
		all = append(all, p)
	}
	return all
}

// testCharts reads a chart as somebody does who wants to install it, with JavaScript and without.
func testCharts(t *testing.T, w *world) {
	for _, script := range []bool{true, false} {
		t.Run(fmt.Sprintf("script %v", script), func(t *testing.T) {
			t.Parallel()
			b := newTab(t, w.browser, w.stock.url)
			if !script {
				b = w.withoutScript(t, w.stock.site)
			}
			b.open("/charts/shop")
			b.follow("a.tag", "1.2.3_build.4")
			b.want("helm install shop oci://localhost:" + w.stock.port + "/charts/shop --version 1.2.3+build.4")
			b.want("deprecated")
			b.want("which is not loaded here")
			b.click(".commands summary", "Other clients")
			b.want("kind: HelmRelease")

			b.follow(".tabs a", "Values")
			b.click(".keys a", "sidecar")
			b.waitFor("the line of the key", func() bool {
				return eval[bool](b, `document.querySelector(":target")?.textContent.startsWith("sidecar:") ?? false`)
			})
			b.follow(".tabs a", "Schema")
			b.want("what 7 is for")
			b.follow(".tabs a", "Templates")
			b.follow("tbody a", "templates/deployment.yaml")
			b.want("kind: Deployment")
			if !eval[bool](b, `document.querySelector(".tabs a[aria-current]").textContent === "Templates"`) {
				t.Error("no tab says where the template is")
			}
			b.follow(".tabs a", "README")
			b.want("Sells things, see the site and below.")
			if got := eval[int](b, `document.querySelectorAll("main img, main script, main style").length`); got != 0 {
				t.Errorf("the README has %d images, scripts or styles", got)
			}
			b.click(".readme a", "below")
			b.waitFor("the heading", func() bool {
				return eval[bool](b, `document.querySelector(":target")?.textContent === "Install"`)
			})

			b.follow(".tabs a", "Overview")
			b.follow("table a", "localhost:"+w.stock.port+"/team/api:1.0.0")
			if b.path() != "/team/api" {
				t.Errorf("the image leads to %s", b.path())
			}
			b.open("/charts/shop")
			b.follow(".tabs a", "README")
			b.want("README.md of 1.2.3_build.4")
			report(t, "strays", b.strays())
		})
	}
}
