package oci

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

const (
	typeImageConfig  = "application/vnd.oci.image.config.v1+json"
	typeDockerConfig = "application/vnd.docker.container.image.v1+json"
	typeLayer        = "application/vnd.oci.image.layer.v1.tar+gzip"
	typeInToto       = "application/vnd.in-toto+json"
)

// descriptorOf returns a descriptor of a digest of one character; extra are further fields.
func descriptorOf(c, mediaType string, size int64, extra ...string) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d%s}`, mediaType, hexDigest(c), size, strings.Join(extra, ""))
}

func imageManifest(configType, extra string, layers ...string) string {
	return fmt.Sprintf(`{"schemaVersion":2,"config":%s,"layers":[%s]%s}`, descriptorOf("c", configType, 10), strings.Join(layers, ","), extra)
}

func indexManifest(extra string, entries ...string) string {
	return fmt.Sprintf(`{"schemaVersion":2,"manifests":[%s]%s}`, strings.Join(entries, ","), extra)
}

func parse(t *testing.T, mediaType, raw string) Manifest {
	t.Helper()
	m, err := ParseManifest(mediaType, []byte(raw))
	if err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return m
}

func TestDescribeKind(t *testing.T) {
	predicate := func(p string) string { return `,"annotations":{"in-toto.io/predicate-type":"` + p + `"}` }
	empty := "application/vnd.oci.empty.v1+json"
	const bundle = "application/vnd.dev.sigstore.bundle.v0.3+json"
	bundled := func(p string) string {
		return `,"artifactType":"` + bundle + `","annotations":{"dev.sigstore.bundle.predicateType":"` + p + `"}`
	}
	for _, tt := range []struct {
		name, mediaType, raw string
		kind                 ArtifactKind
		provides             string
		config               bool
	}{
		{"image", typeImage, imageManifest(typeImageConfig, "", descriptorOf("1", typeLayer, 1)), "image", "", true},
		{"image of Docker", MediaTypeDockerManifest, imageManifest(typeDockerConfig, "", descriptorOf("1", typeLayer, 1)), "image", "", true},
		{"image without layers", typeImage, imageManifest(typeImageConfig, ""), "image", "", true},
		{"index", typeIndex, indexManifest("", descriptorOf("1", typeImage, 1)), "image", "", false},
		{"list of Docker", MediaTypeDockerManifestList, indexManifest("", descriptorOf("1", MediaTypeDockerManifest, 1)), "image", "", false},
		{"empty index", typeIndex, indexManifest(""), "artifact", "", false},
		{"list of referrers", typeIndex, indexManifest("", descriptorOf("1", typeImage, 1, `,"artifactType":"x/y"`)), "artifact", "", false},
		{"chart", typeImage, imageManifest("application/vnd.cncf.helm.config.v1+json", "", descriptorOf("1", "application/vnd.cncf.helm.chart.content.v1.tar+gzip", 1)), "chart", "", false},
		{"module", typeImage, imageManifest(empty, `,"artifactType":"application/vnd.opentofu.modulepkg"`, descriptorOf("1", "archive/zip", 1)), "module", "", false},
		{"provider", typeIndex, indexManifest(`,"artifactType":"application/vnd.opentofu.provider"`, descriptorOf("1", typeImage, 1)), "provider", "", false},
		{"provider of a platform", typeImage, imageManifest(empty, `,"artifactType":"application/vnd.opentofu.provider-target"`, descriptorOf("1", "archive/zip", 1)), "provider", "", false},
		{"signature of cosign 2", typeImage, imageManifest(typeImageConfig, "", descriptorOf("1", "application/vnd.dev.cosign.simplesigning.v1+json", 1)), "signature", "signature", false},
		{"signature of notation", typeImage, imageManifest("application/vnd.cncf.notary.signature", "", descriptorOf("1", "application/jose+json", 1)), "signature", "signature", false},
		{"signature of cosign 3", typeImage, imageManifest(empty, bundled("https://sigstore.dev/cosign/sign/v1"), descriptorOf("1", bundle, 1)), "signature", "signature", false},
		{"attestation of cosign 3", typeImage, imageManifest(empty, bundled("https://slsa.dev/provenance/v1"), descriptorOf("1", bundle, 1)), "attestation", "provenance", false},
		{"bundle", typeImage, imageManifest(empty, `,"artifactType":"`+bundle+`"`, descriptorOf("1", bundle, 1)), "signature", "signature", false},
		{"attestation of cosign 2", typeImage, imageManifest(typeImageConfig, "", descriptorOf("1", "application/vnd.dsse.envelope.v1+json", 1, `,"annotations":{"predicateType":"https://cyclonedx.org/bom"}`)), "attestation", "sbom", false},
		{"sbom by type", typeImage, imageManifest(empty, `,"artifactType":"application/spdx+json"`, descriptorOf("1", "application/octet-stream", 1)), "sbom", "sbom", false},
		{"sbom by layer", typeImage, imageManifest(empty, `,"artifactType":"x/y"`, descriptorOf("1", "application/vnd.cyclonedx+json", 1)), "sbom", "sbom", false},
		{"sbom of cosign", typeImage, imageManifest(typeImageConfig, "", descriptorOf("1", "text/spdx+json", 1)), "sbom", "sbom", false},
		{"sbom of syft", typeImage, imageManifest(empty, `,"artifactType":"application/vnd.syft+json"`, descriptorOf("1", "x/x", 1)), "sbom", "sbom", false},
		{"attestations of BuildKit", typeImage, imageManifest(typeImageConfig, "", descriptorOf("1", typeInToto, 1, predicate("https://spdx.dev/Document")), descriptorOf("2", typeInToto, 1, predicate("https://slsa.dev/provenance/v0.2"))), "attestation", "sbom provenance", false},
		{"attestation of something", typeImage, imageManifest(empty, `,"artifactType":"application/vnd.in-toto+json"`, descriptorOf("1", typeInToto, 1, predicate("https://example.org/test"))), "attestation", "attestation", false},
		{"attestation without a word", typeImage, imageManifest(typeImageConfig, "", descriptorOf("1", typeInToto, 1)), "attestation", "attestation", false},
		{"layers of several kinds", typeImage, imageManifest(typeImageConfig, "", descriptorOf("1", typeInToto, 1), descriptorOf("2", typeLayer, 1)), "image", "", true},
		{"cache", typeImage, imageManifest(mediaTypeBuildKitCache, "", descriptorOf("1", typeLayer, 1)), "cache", "", false},
		{"cache as an index", typeIndex, indexManifest("", descriptorOf("1", typeLayer, 1), descriptorOf("2", mediaTypeBuildKitCache, 1)), "cache", "", false},
		{"image with a type of its own", typeImage, imageManifest(typeImageConfig, `,"artifactType":"x/y"`, descriptorOf("1", typeLayer, 1)), "artifact", "", false},
		{"artifact manifest", MediaTypeArtifactManifest, `{"mediaType":"` + MediaTypeArtifactManifest + `","artifactType":"x/y","blobs":[` + descriptorOf("1", "text/spdx", 5) + `]}`, "sbom", "sbom", false},
		{"anything", typeImage, imageManifest("x/y", "", descriptorOf("1", "x/z", 1)), "artifact", "", false},
		{"unknown manifest", "application/vnd.x+json", `{"layers":7,"config":"x"}`, "artifact", "", false},
	} {
		m := parse(t, tt.mediaType, tt.raw)
		facts := Describe(m, nil)
		if facts.Kind != tt.kind || strings.Join(facts.Provides, " ") != tt.provides {
			t.Errorf("%s: kind %s, provides %q; want %s, %q", tt.name, facts.Kind, facts.Provides, tt.kind, tt.provides)
		}
		dgst, ok := m.ConfigToRead()
		if ok != tt.config || ok && dgst.String() != hexDigest("c") {
			t.Errorf("%s: config to read %q, %v", tt.name, dgst, ok)
		}
	}
}

func TestDescribeIndex(t *testing.T) {
	platform := func(os, architecture, variant string) string {
		return fmt.Sprintf(`,"platform":{"os":%q,"architecture":%q,"variant":%q}`, os, architecture, variant)
	}
	m := parse(t, typeIndex, indexManifest(`,"annotations":{"org.opencontainers.image.description":"of it","org.opencontainers.image.created":"2024-05-06T07:08:09Z","x":"y"}`,
		descriptorOf("1", typeImage, 1000, platform("linux", "amd64", "")),
		descriptorOf("2", typeImage, 1000, platform("linux", "arm64", "v8")),
		descriptorOf("3", typeImage, 1000, platform("linux", "amd64", "")),
		descriptorOf("4", typeImage, 1000, platform("unknown", "unknown", "")),
		descriptorOf("5", typeImage, 1000, platform("linux", "s390x", ""), `,"annotations":{"vnd.docker.reference.type":"attestation-manifest"}`),
		descriptorOf("6", typeImage, 1000, platform("a b", "x", "")),
		descriptorOf("7", typeImage, 1000, platform("linux", "", "")),
		descriptorOf("8", typeImage, 1000)))
	got := Describe(m, []byte(`{"os":"x","architecture":"y"}`))
	want := Facts{Kind: "image", Platforms: []string{"linux/amd64", "linux/arm64/v8"}, CreatedAt: time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC),
		Annotations: map[string]string{"org.opencontainers.image.description": "of it", "org.opencontainers.image.created": "2024-05-06T07:08:09Z"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestDescribeImage(t *testing.T) {
	raw := imageManifest(typeImageConfig, `,"annotations":{"org.opencontainers.image.version":"1"}`,
		descriptorOf("1", typeLayer, 100), descriptorOf("1", typeLayer, 100), descriptorOf("2", typeLayer, 1000))
	config := `{"created":"2024-01-02T03:04:05.6Z","author":"me","os":"linux","architecture":"arm","variant":"v7",
		"config":{"User":"1000","Env":["A=b",7,"C=<d>"],"Entrypoint":["/x"],"Cmd":null,"WorkingDir":"/w","StopSignal":"SIGINT",
			"ExposedPorts":{"80/tcp":{},"53/udp":{}},"Volumes":{"/v":{}},
			"Labels":{"org.opencontainers.image.version":"2","org.opencontainers.image.source":"https://x","a":"b"}},
		"rootfs":{"type":"layers","diff_ids":["a","b","c"]},
		"history":[{"created":"1970-01-01T00:00:00Z","created_by":"ADD","comment":"c"},{"created":7,"created_by":"ENV","empty_layer":true}]}`
	m := parse(t, typeImage, raw)
	got := Describe(m, []byte(config))
	want := Facts{
		Kind: "image", Platforms: []string{"linux/arm/v7"}, PullSize: int64(len(raw)) + 10 + 100 + 1000,
		CreatedAt:   time.Date(2024, 1, 2, 3, 4, 5, 600_000_000, time.UTC),
		Annotations: map[string]string{"org.opencontainers.image.version": "1", "org.opencontainers.image.source": "https://x"},
		Config: &ImageConfig{
			User: "1000", WorkingDir: "/w", StopSignal: "SIGINT", Author: "me", Env: []string{"A=b", "C=<d>"}, Entrypoint: []string{"/x"},
			ExposedPorts: []string{"80/tcp", "53/udp"}, Volumes: []string{"/v"},
			Labels:  map[string]string{"org.opencontainers.image.version": "2", "org.opencontainers.image.source": "https://x", "a": "b"},
			History: []History{{CreatedBy: "ADD", Comment: "c"}, {CreatedBy: "ENV", Empty: true}}, DiffIDs: 3,
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v %+v\nwant %+v %+v", got, got.Config, want, want.Config)
	}
	var again Facts
	b, err := json.Marshal(got)
	if err == nil {
		err = json.Unmarshal(b, &again)
	}
	if err != nil || !reflect.DeepEqual(again, got) {
		t.Errorf("as JSON and back: %+v, %v", again, err)
	}
	if got := Describe(m, nil); got.Config != nil || got.Platforms != nil || got.Kind != "image" || got.PullSize != want.PullSize {
		t.Errorf("without its config: %+v", got)
	}
	huge := parse(t, typeImage, imageManifest(typeImageConfig, "", descriptorOf("1", typeLayer, math.MaxInt64), descriptorOf("2", typeLayer, 5)))
	if got := Describe(huge, nil).PullSize; got != math.MaxInt64 {
		t.Errorf("pull size %d overflows", got)
	}
}

// TestDescribeBounds: whatever strangers write, what is kept is small, and it costs no multiple of it that counts.
func TestDescribeBounds(t *testing.T) {
	m := parse(t, typeImage, imageManifest(typeImageConfig, ""))
	repeat := func(n int, f func(i int) string) string {
		parts := make([]string, n)
		for i := range parts {
			parts[i] = f(i)
		}
		return strings.Join(parts, ",")
	}
	long := strings.Repeat("é", 3000)
	control := strings.Repeat(`\u0001`, 4000)
	for name, config := range map[string]string{
		"long texts":     `{"author":"x` + long + `","config":{"Labels":{"a":"` + long + `"}}}`,
		"many entries":   `{"history":[` + repeat(1500, func(int) string { return `{"created_by":"x"}` }) + `]}`,
		"empty entries":  `{"history":[` + repeat(350_000, func(int) string { return `{}` }) + `]}`,
		"many labels":    `{"config":{"Labels":{` + repeat(60_000, func(i int) string { return fmt.Sprintf(`"k%d":"v"`, i) }) + `}}}`,
		"many ports":     `{"config":{"ExposedPorts":{` + repeat(60_000, func(i int) string { return fmt.Sprintf(`"%d":{}`, i) }) + `}}}`,
		"large history":  `{"os":"linux","architecture":"amd64","history":[` + repeat(200, func(int) string { return `{"created_by":"` + strings.Repeat("y", 4000) + `"}` }) + `]}`,
		"control signs":  `{"config":{"Env":["` + control + `"],"Labels":{` + repeat(12, func(i int) string { return fmt.Sprintf(`%q:"%s"`, factAnnotations[i], control) }) + `}}}`,
		"large commands": `{"config":{"Cmd":[` + repeat(300, func(int) string { return `"` + strings.Repeat("y", 4000) + `"` }) + `]}}`,
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		facts := Describe(m, []byte(config))
		runtime.ReadMemStats(&after)
		if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 64<<20 {
			t.Errorf("%s: %d MiB allocated", name, allocated>>20)
		}
		if facts.Config == nil || !facts.Config.Truncated {
			t.Errorf("%s: not truncated", name)
			continue
		}
		if facts.size() > factsMax || len(facts.Config.History) > factList || len(facts.Config.Labels) > factList || len(facts.Config.ExposedPorts) > factList {
			t.Errorf("%s: %d bytes of facts", name, facts.size())
		}
		if len(facts.Config.Author) > factText || !utf8.ValidString(facts.Config.Author) {
			t.Errorf("%s: author of %d bytes", name, len(facts.Config.Author))
		}
	}
	for _, config := range []string{"", "null", "[]", "{", `"x"`, "\x00", strings.Repeat("[", 100_000)} {
		if facts := Describe(m, []byte(config)); facts.Kind != "image" || len(facts.Platforms) > 0 {
			t.Errorf("%.10q: %+v", config, facts)
		}
	}
}

func FuzzDescribe(f *testing.F) {
	f.Add(typeImage, []byte(imageManifest(typeImageConfig, "")), []byte(`{"config":{"Env":["a"]},"history":[{}]}`))
	f.Add(typeIndex, []byte(indexManifest("", descriptorOf("1", typeImage, 1))), []byte(nil))
	f.Add("application/vnd.x+json", []byte(`{"layers":{}}`), []byte(`{`))
	f.Fuzz(func(t *testing.T, mediaType string, raw, config []byte) {
		// Also bytes that ParseManifest would refuse.
		for _, m := range []Manifest{{MediaType: mediaType, Kind: KindOf(mediaType), Raw: raw}} {
			facts := Describe(m, config)
			if facts.Kind == "" || facts.size() > factsMax || facts.PullSize < 0 {
				t.Fatalf("%+v", facts)
			}
			for _, p := range facts.Platforms {
				if strings.Contains(p, " ") {
					t.Fatalf("platform %q", p)
				}
			}
			if slices.Contains(facts.Provides, "") {
				t.Fatal("it provides nothing")
			}
			if dgst, ok := m.ConfigToRead(); ok {
				if _, err := ParseDigest(dgst.String()); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
