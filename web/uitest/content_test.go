package uitest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"cubby/scripts/process"
)

// A site is a running Cubby with what was pushed to it.
type site struct {
	url      string // http://localhost:PORT
	port     string
	password string // of admin; "" on an open server
	reader   string // password of reader, who may pull
	dir      string
	client   *process.Client

	// collecting is held while a test collects: a second collection would be refused.
	collecting sync.Mutex
}

// startSite starts Cubby on an empty store.
func startSite(t *testing.T, args ...string) *site {
	t.Helper()
	program := os.Getenv("CUBBY_CMD")
	if program == "" {
		t.Fatal("CUBBY_CMD is not set; run scripts/browser.sh, which builds what is tested")
	}
	s := &site{dir: process.Dir(t)}
	command := process.Command{Path: program, Args: args, Env: []string{"HOME=/nonexistent"}}
	server := command.Start(t, s.dir)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	s.port = u.Port()
	s.url = "http://localhost:" + s.port
	s.client = process.NewClient(server.URL)
	t.Cleanup(s.client.Close)
	return s
}

// startSiteWithUsers starts Cubby with the users admin, and reader who may only pull.
func startSiteWithUsers(t *testing.T) *site {
	t.Helper()
	s := startSite(t)
	s.password, s.reader = "correct horse battery", "only reading here"
	s.addUser(t, "admin", s.password)
	s.addUser(t, "reader", s.reader, "--grant", "**=pull")
	s.client.HTTP.Transport = basicAuth{s.client.HTTP.Transport, "admin", s.password}
	return s
}

func (s *site) addUser(t *testing.T, name, password string, args ...string) {
	t.Helper()
	add := process.Command{
		Path: os.Getenv("CUBBY_CMD"), Args: append([]string{"user", "add", name, "--password-stdin", "--data", s.dir}, args...),
		Env: []string{"HOME=/nonexistent"}, Stdin: password + "\n",
	}
	if r := add.Run(t); r.Code != 0 {
		t.Fatalf("user add: %d %s", r.Code, r.Stderr)
	}
}

type basicAuth struct {
	next           http.RoundTripper
	user, password string
}

func (a basicAuth) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.SetBasicAuth(a.user, a.password)
	return a.next.RoundTrip(r)
}

// object is JSON of any form.
type object map[string]any

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps of strings always marshal
	}
	return b
}

// descriptor describes content that has a media type.
func descriptor(mediaType string, c process.Content, more object) object {
	d := object{"mediaType": mediaType, "digest": c.Digest, "size": len(c.Raw)}
	maps.Copy(d, more)
	return d
}

// manifest returns what is pushed as a manifest.
func manifest(mediaType string, m object) process.Content {
	m["schemaVersion"], m["mediaType"] = 2, mediaType
	raw := encode(m)
	return process.Content{Digest: process.Digest(raw), MediaType: mediaType, Raw: raw}
}

// pusher pushes to one repository.
type pusher struct {
	t    *testing.T
	s    *site
	name string
}

func (s *site) to(t *testing.T, name string) pusher { return pusher{t, s, name} }

func (p pusher) blob(raw []byte) process.Content {
	p.t.Helper()
	b := process.Blob(raw)
	p.s.client.PushBlob(p.t, p.name, b)
	return b
}

func (p pusher) manifest(m process.Content, tags ...string) process.Content {
	p.t.Helper()
	p.s.client.PushManifest(p.t, p.name, m, tags...)
	return m
}

// config is the configuration of an ordinary image.
func config(platform, version string) object {
	os, architecture, _ := strings.Cut(platform, "/")
	return object{
		"created": "2026-10-01T12:00:00Z", "os": os, "architecture": architecture, "author": "Ann <ann@example.test>",
		"config": object{
			"Env":        []string{"PATH=/usr/local/bin:/usr/bin", "VERSION=" + version, "DATABASE_PASSWORD=hunter2"},
			"Entrypoint": []string{"/bin/server", "--listen", ":8080"}, "Cmd": []string{"serve"}, "User": "65532:65532", "WorkingDir": "/srv",
			"ExposedPorts": object{"8080/tcp": object{}}, "Volumes": object{"/data": object{}}, "StopSignal": "SIGTERM",
			"Labels": object{
				"org.opencontainers.image.version": version, "org.opencontainers.image.description": "Answers requests",
				"org.opencontainers.image.source": "https://example.test/team/api", "org.opencontainers.image.licenses": "Apache-2.0",
			},
		},
		"rootfs": object{"type": "layers", "diff_ids": []string{process.Digest([]byte("a")), process.Digest([]byte("b"))}},
		"history": []object{
			{"created": "2026-10-01T12:00:00Z", "created_by": "/bin/sh -c #(nop) ADD file:abc in / "},
			{"created": "2026-10-01T12:00:01Z", "created_by": "ENV VERSION=" + version, "empty_layer": true},
			{"created": "2026-10-01T12:00:02Z", "created_by": "COPY server /bin/server # buildkit"},
		},
	}
}

// image pushes an image of a configuration.
func (p pusher) image(c object, annotations object, layers []process.Content, tags ...string) process.Content {
	p.t.Helper()
	var all []object
	for _, layer := range layers {
		p.blob(layer.Raw)
		all = append(all, descriptor("application/vnd.oci.image.layer.v1.tar+gzip", layer, nil))
	}
	b := p.blob(encode(c))
	m := object{"config": descriptor(process.MediaTypeConfig, b, nil), "layers": all}
	if annotations != nil {
		m["annotations"] = annotations
	}
	return p.manifest(manifest(process.MediaTypeImage, m), tags...)
}

// artifact pushes what is no image.
func (p pusher) artifact(m object, tags ...string) process.Content {
	p.t.Helper()
	if _, ok := m["config"]; !ok {
		m["config"] = descriptor("application/vnd.oci.empty.v1+json", p.blob([]byte("{}")), nil)
	}
	return p.manifest(manifest(process.MediaTypeImage, m), tags...)
}

// A stock is what the ordinary data set holds, as far as tests name it.
type stock struct {
	*site
	image, index, chart, report, bare, sparse process.Content
	text, hex, html                           process.Content // blobs
	long, longTag                             string
	inside                                    inside
}

func stockSite(t *testing.T) *stock {
	t.Helper()
	s := &stock{site: startSite(t)}
	base, app := process.RandomBlob(1, 200<<10), process.RandomBlob(2, 90<<10)

	api := s.to(t, "team/api")
	for i := range 60 {
		version := fmt.Sprintf("1.%d.%d", i/10, i%10)
		layer := process.RandomBlob(byte(10+i), 2000+100*i)
		s.image = api.image(config("linux/amd64", version), nil, []process.Content{base, layer}, version)
	}
	api.manifest(s.image, "latest", "stable")

	s.pushIndex(t, base, app)
	s.pushArtifacts(t)
	s.inside = s.pushInside(t)
	s.pushModules(t)

	huge := config("linux/amd64", "1")
	labels := object{}
	var history []object
	for i := range 2000 {
		labels[fmt.Sprintf("org.example.label.%04d", i)] = strings.Repeat("value ", 20)
		history = append(history, object{"created_by": "RUN " + strings.Repeat("step ", 30), "empty_layer": true})
	}
	huge["config"].(object)["Labels"], huge["history"] = labels, history
	s.to(t, "big/config").image(huge, nil, []process.Content{base}, "1")

	many := s.to(t, "many/tags")
	one := many.image(config("linux/amd64", "1"), nil, []process.Content{base})
	for i := 0; i < 10_000; i += 100 {
		var tags []string
		for j := range 100 {
			tags = append(tags, fmt.Sprintf("v%d", i+j))
		}
		many.manifest(one, tags...)
	}

	// 255 characters: a component may have as many as it likes.
	s.long = strings.Repeat("component/", 20) + strings.Repeat("x", 55)
	s.longTag = "v" + strings.Repeat("0123456789", 12) + "_.-abcd"
	if len(s.long) != 255 || len(s.longTag) != 128 {
		t.Fatalf("name of %d, tag of %d characters", len(s.long), len(s.longTag))
	}
	s.to(t, s.long).image(config("linux/amd64", "1"), nil, []process.Content{base}, s.longTag, "short")
	for _, name := range []string{"a/tags/b", "metrics", "v2", "v2/foo"} {
		s.to(t, name).image(config("linux/arm64", "1"), nil, []process.Content{base}, "1")
	}

	odd := config("linux/amd64", "1")
	odd["config"].(object)["Labels"] = object{
		"org.opencontainers.image.title": "שלום עולם", "org.opencontainers.image.description": "مرحبا بالعالم, left again",
		"bidi.override": "user\u202etxt.exe", "combining": "Z" + strings.Repeat("\u0301\u0320\u0489", 60), "isolate": "\u2067abc", "zero.width": "a\u200bb\ufeffc",
		"long": strings.Repeat("unbroken", 400), "名前": "コンテナ", "emoji": "👩‍👩‍👧‍👦 🇩🇪",
	}
	s.to(t, "odd/labels").image(odd, object{"org.opencontainers.image.description": "\u202eevil\u202c שלום"}, []process.Content{base}, "1")
	return s
}

// pushIndex pushes an index as BuildKit makes it, with what is attached to it, and one whose parts are not all here.
func (s *stock) pushIndex(t *testing.T, base, app process.Content) {
	t.Helper()
	web := s.to(t, "team/web")
	var entries []object
	for _, platform := range []string{"linux/amd64", "linux/arm64"} {
		os, architecture, _ := strings.Cut(platform, "/")
		child := web.image(config(platform, "2.0"), nil, []process.Content{base, app})
		entries = append(entries, descriptor(process.MediaTypeImage, child, object{"platform": object{"os": os, "architecture": architecture}}))
		var layers []object
		for _, predicate := range []string{"https://spdx.dev/Document", "https://slsa.dev/provenance/v0.2"} {
			statement := web.blob(encode(object{"_type": "https://in-toto.io/Statement/v0.1", "predicateType": predicate, "platform": platform}))
			layers = append(layers, descriptor("application/vnd.in-toto+json", statement, object{"annotations": object{"in-toto.io/predicate-type": predicate}}))
		}
		c := web.blob(encode(object{"architecture": "unknown", "os": "unknown", "config": object{}, "rootfs": object{"type": "layers", "diff_ids": []string{}}, "n": platform}))
		attestation := web.manifest(manifest(process.MediaTypeImage, object{"config": descriptor(process.MediaTypeConfig, c, nil), "layers": layers}))
		entries = append(entries, descriptor(process.MediaTypeImage, attestation, object{
			"annotations": object{"vnd.docker.reference.digest": child.Digest, "vnd.docker.reference.type": "attestation-manifest"},
			"platform":    object{"os": "unknown", "architecture": "unknown"},
		}))
	}
	s.index = web.manifest(manifest(process.MediaTypeIndex, object{"manifests": entries}), "2.0", "latest")
	absent := process.Blob([]byte("never pushed"))
	s.sparse = web.manifest(manifest(process.MediaTypeIndex, object{"manifests": []object{
		entries[0], descriptor(process.MediaTypeImage, absent, object{"platform": object{"os": "linux", "architecture": "s390x"}}),
	}}), "sparse")

	web.artifact(object{"layers": []object{descriptor("application/vnd.dev.cosign.simplesigning.v1+json", web.blob([]byte(`{"critical":{}}`)),
		object{"annotations": object{"dev.cosignproject.cosign/signature": "MEUCIQ=="}})}}, strings.Replace(s.index.Digest, ":", "-", 1)+".sig")
	subject := descriptor(process.MediaTypeIndex, s.index, nil)
	web.artifact(object{"artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json", "subject": subject, "annotations": object{"dev.sigstore.bundle.content": "dsse-envelope"},
		"layers": []object{descriptor("application/vnd.dev.sigstore.bundle.v0.3+json", web.blob([]byte(`{"bundle":1}`)), nil)}})
	sbom := web.artifact(object{"artifactType": "application/spdx+json", "subject": subject,
		"layers": []object{descriptor("application/spdx+json", web.blob([]byte(`{"spdxVersion":"SPDX-2.3"}`)), nil)}})
	web.artifact(object{"artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json", "subject": descriptor(process.MediaTypeImage, sbom, nil),
		"layers": []object{descriptor("application/vnd.dev.sigstore.bundle.v0.3+json", web.blob([]byte(`{"bundle":2}`)), nil)}})
}

func (s *stock) pushArtifacts(t *testing.T) {
	t.Helper()
	charts := s.to(t, "charts/shop")
	chart := charts.blob(encode(object{"name": "shop", "version": "1.2.3+build.4", "apiVersion": "v2", "description": "Sells things", "appVersion": "7"}))
	s.chart = charts.artifact(object{"config": descriptor("application/vnd.cncf.helm.config.v1+json", chart, nil), "layers": []object{
		descriptor("application/vnd.cncf.helm.chart.content.v1.tar+gzip", charts.blob(s.shop(t)), nil),
	}}, "1.2.3_build.4")
	s.pushDocs(t)

	files := s.to(t, "files/report")
	s.text = files.blob([]byte("first line\nsecond line with " + s.index.Digest + "\n" + strings.Repeat("a line that is longer than a screen is wide ", 20) + "\n"))
	s.html = files.blob([]byte(`<!doctype html><script>window.__hit = "html"</script><h1>hello</h1>`))
	s.hex = process.RandomBlob(4, 9000)
	files.blob(s.hex.Raw)
	s.report = files.artifact(object{"artifactType": "application/vnd.example.report", "layers": []object{
		descriptor("text/plain", s.text, object{"annotations": object{"org.opencontainers.image.title": "report 2026.txt"}}),
		descriptor("text/html", s.html, object{"annotations": object{"org.opencontainers.image.title": "report.html"}}),
	}}, "1")
	s.bare = s.to(t, "files/bare").artifact(object{"artifactType": "application/vnd.example.bare", "layers": []object{
		descriptor("application/octet-stream", s.to(t, "files/bare").blob(s.hex.Raw), nil),
	}}, "1")
}

// journeySite fills a repository that one journey may change.
func (s *site) journey(t *testing.T, name string) {
	t.Helper()
	p := s.to(t, name)
	for i, tag := range []string{"alpha", "beta", "gamma", "delta", "old-1", "old-2"} {
		p.image(config("linux/amd64", tag+name), nil, []process.Content{process.RandomBlob(byte(100+i), 500)}, tag)
	}
	// A move, to be restored.
	p.image(config("linux/amd64", "moved"+name), nil, []process.Content{process.RandomBlob(110, 500)}, "beta")
}
