package web

import (
	"strings"
	"testing"

	"cubby/store/oci"

	"go.yaml.in/yaml/v3"
)

// TestImageCommands: each client, by tag and by digest, over https, plain HTTP and to this machine.
func TestImageCommands(t *testing.T) {
	hosts := []target{{Host: "reg.example", HTTPS: true}, {Host: "nas:5000"}, {Host: "localhost:5000"}}
	for _, tt := range []struct {
		client string
		want   [3]string // with REF for the reference
	}{
		{"docker", [3]string{"docker pull REF", "docker pull REF", "docker pull REF"}},
		{"podman", [3]string{"podman pull REF", "podman pull --tls-verify=false REF", "podman pull --tls-verify=false REF"}},
		{"nerdctl", [3]string{"nerdctl pull REF", "nerdctl --insecure-registry pull REF", "nerdctl pull REF"}},
		{"skopeo", [3]string{"skopeo copy docker://REF docker-archive:image.tar", "skopeo copy --src-tls-verify=false docker://REF docker-archive:image.tar", "skopeo copy --src-tls-verify=false docker://REF docker-archive:image.tar"}},
		{"crane", [3]string{"crane pull REF image.tar", "crane pull --insecure REF image.tar", "crane pull REF image.tar"}},
	} {
		for i, target := range hosts {
			target.Name, target.Dgst = name("team/api"), testDigest
			byDigest := target.Host + "/team/api@" + testDigest
			if got, want := target.commands(oci.KindContainer, tt.client)[0], strings.ReplaceAll(tt.want[i], "REF", byDigest); got.Text != want || got.Client != tt.client {
				t.Errorf("%s by digest at %s: %+v, want %s", tt.client, target.Host, got, want)
			}
			target.Tag = "1.9"
			all := target.commands(oci.KindContainer, tt.client)
			if want := strings.ReplaceAll(tt.want[i], "REF", target.Host+"/team/api:1.9"); all[0].Text != want || all[0].Client != tt.client {
				t.Errorf("%s at %s: %+v, want %s", tt.client, target.Host, all[0], want)
			}
			if want := strings.ReplaceAll(tt.want[i], "REF", byDigest); all[1].Text != want || all[1].Client != tt.client+", by digest" {
				t.Errorf("%s at %s: %+v, want %s", tt.client, target.Host, all[1], want)
			}
			if n := len(all); n != 1+1+4+2 || all[n-2] != (command{"Dockerfile", "FROM " + target.Host + "/team/api:1.9"}) || all[n-1] != (command{"compose.yaml", "image: " + target.Host + "/team/api:1.9"}) {
				t.Errorf("%s at %s: %+v", tt.client, target.Host, all)
			}
		}
	}
	if got := (target{Host: "a", Name: name("b"), Tag: "1"}).commands("", "rm -rf")[0]; got != (command{"docker", "docker pull a/b:1"}) {
		t.Errorf("for a client that there is not: %+v", got)
	}
}

func TestArtifactCommands(t *testing.T) {
	plain := target{Host: "nas:5000", Name: name("team/web"), Tag: "1.2.3_build.5", Dgst: testDigest}
	secure := plain
	secure.Host, secure.HTTPS = "reg.example", true
	byDigest := secure
	byDigest.Tag = ""
	for _, tt := range []struct {
		kind   oci.ArtifactKind
		target target
		want   []string
	}{
		{oci.KindChart, secure, []string{
			"helm install web oci://reg.example/team/web --version 1.2.3+build.5", "helm pull oci://reg.example/team/web --version 1.2.3+build.5",
			"helm template web oci://reg.example/team/web --version 1.2.3+build.5",
			secure.flux("web"), secure.argo("web"), "oras pull reg.example/team/web:1.2.3_build.5",
		}},
		{oci.KindChart, plain, []string{
			"helm install web oci://nas:5000/team/web --version 1.2.3+build.5 --plain-http", "helm pull oci://nas:5000/team/web --version 1.2.3+build.5 --plain-http",
			"helm template web oci://nas:5000/team/web --version 1.2.3+build.5 --plain-http",
			plain.flux("web"), plain.argo("web"), "oras pull --plain-http nas:5000/team/web:1.2.3_build.5",
		}},
		{oci.KindModule, secure, []string{
			"module \"web\" {\n  source = \"oci://reg.example/team/web?tag=1.2.3_build.5\"\n}",
			"module \"web\" {\n  source = \"oci://reg.example/team/web?digest=" + testDigest + "\"\n}", "oras pull reg.example/team/web:1.2.3_build.5",
		}},
		{oci.KindModule, byDigest, []string{"module \"web\" {\n  source = \"oci://reg.example/team/web?digest=" + testDigest + "\"\n}", "oras pull reg.example/team/web@" + testDigest}},
		{oci.KindSignature, byDigest, []string{"oras pull reg.example/team/web@" + testDigest, "oras manifest fetch reg.example/team/web@" + testDigest}},
		{oci.KindSBOM, plain, []string{"oras pull --plain-http nas:5000/team/web:1.2.3_build.5", "oras manifest fetch --plain-http nas:5000/team/web@" + testDigest}},
		{oci.KindAttestation, secure, []string{"oras pull reg.example/team/web:1.2.3_build.5", "oras manifest fetch reg.example/team/web@" + testDigest}},
		{oci.KindAny, secure, []string{"oras pull reg.example/team/web:1.2.3_build.5", "crane manifest reg.example/team/web:1.2.3_build.5", "curl -fsS -H 'Accept: */*' https://reg.example/v2/team/web/manifests/1.2.3_build.5"}},
		{oci.KindProvider, plain, []string{
			"provider_installation {\n  oci_mirror {\n    repository_template = \"nas:5000/${namespace}/${type}\"\n    include             = [\"registry.opentofu.org/team/web\"]\n  }\n" +
				"  direct {\n    exclude = [\"registry.opentofu.org/team/web\"]\n  }\n}",
			"oras pull --plain-http nas:5000/team/web:1.2.3_build.5",
		}},
		{oci.KindProvider, byDigest, []string{"oras pull reg.example/team/web@" + testDigest}},
		{oci.KindAny, byDigest, []string{"oras pull reg.example/team/web@" + testDigest, "crane manifest reg.example/team/web@" + testDigest, "curl -fsS -H 'Accept: */*' https://reg.example/v2/team/web/manifests/" + testDigest}},
	} {
		got := tt.target.commands(tt.kind, "podman")
		if len(got) != len(tt.want) {
			t.Errorf("%s: %d commands, want %d", tt.kind, len(got), len(tt.want))
			continue
		}
		for i, c := range got {
			if c.Text != tt.want[i] || c.Client == "" {
				t.Errorf("%s at %s: %+v, want %s", tt.kind, tt.target.Host, c, tt.want[i])
			}
		}
	}
}

// TestModuleCommands: a module of a directory, and names that OpenTofu takes for a module and a provider.
func TestModuleCommands(t *testing.T) {
	for _, tt := range []struct{ name, dir, want string }{
		{"modules/aws.vpc", "", "module \"aws_vpc\" {\n  source = \"oci://reg.example/modules/aws.vpc?tag=1\"\n}"},
		{"3d", "modules/x y", "module \"_3d\" {\n  source = \"oci://reg.example/3d//modules/x%20y?tag=1\"\n}"},
	} {
		got := target{Host: "reg.example", HTTPS: true, Name: name(tt.name), Tag: "1", Dgst: testDigest}.moduleCommands(tt.dir)
		if got[0].Text != tt.want || !strings.Contains(got[1].Text, "?digest="+testDigest) {
			t.Errorf("%s: %+v, want %s", tt.name, got, tt.want)
		}
	}
	for repo, want := range map[string][2]string{
		"tls": {"reg.example/tls", "NAMESPACE/tls"}, "hashicorp/tls": {"reg.example/${namespace}/${type}", "hashicorp/tls"}, "a/b/hashicorp/tls": {"reg.example/a/b/${namespace}/${type}", "hashicorp/tls"},
	} {
		got := target{Host: "reg.example", Name: name(repo)}.providerMirror()
		if !strings.Contains(got, `repository_template = "`+want[0]+`"`) || strings.Count(got, `["registry.opentofu.org/`+want[1]+`"]`) != 2 {
			t.Errorf("%s: %s", repo, got)
		}
	}
}

// TestHelmByDigest: helm takes a digest behind the reference, but never none of both.
func TestHelmByDigest(t *testing.T) {
	got := target{Host: "reg.example", HTTPS: true, Name: name("web"), Dgst: testDigest}.commands(oci.KindChart, "")
	if want := "helm install web oci://reg.example/web@" + testDigest; got[0].Text != want {
		t.Errorf("%s, want %s", got[0].Text, want)
	}
}

func TestIsLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "127.0.0.1": true, "127.8.9.1:80": true, "[::1]": true, "[::1]:5000": true,
		"nas": false, "localhost.example": false, "10.0.0.1:5000": false, "[2001:db8::1]:5000": false, "127.0.0.1.example": false, "": false,
	} {
		if got := isLoopback(host); got != want {
			t.Errorf("isLoopback(%q) = %v", host, got)
		}
	}
}

// TestChartManifests: what Flux and Argo CD are given is YAML that says what it should.
func TestChartManifests(t *testing.T) {
	plain := target{Host: "nas:5000", Name: name("team/a__web"), Tag: "1.10", Dgst: testDigest}
	byDigest := target{Host: "reg.example", HTTPS: true, Name: name("web"), Dgst: testDigest}
	for _, tt := range []struct {
		target          target
		url, ref, named string
		insecure        bool
	}{{plain, "oci://nas:5000/team/a__web", "1.10", "a--web", true}, {byDigest, "oci://reg.example/web", testDigest, "web", false}} {
		all := tt.target.commands(oci.KindChart, "")
		if !strings.HasPrefix(all[0].Text, "helm install "+tt.named+" ") {
			t.Errorf("%s", all[0].Text)
		}
		source, release, _ := strings.Cut(all[3].Text, "---\n")
		for _, text := range []string{source, release, all[4].Text} {
			var doc struct {
				Metadata struct{ Name string }
				Spec     struct {
					URL, Interval string
					Insecure      bool
					Ref           struct{ Tag, Digest string }
					LayerSelector struct {
						MediaType string `yaml:"mediaType"`
					} `yaml:"layerSelector"`
					ChartRef struct{ Kind, Name string } `yaml:"chartRef"`
					Source   struct {
						RepoURL, TargetRevision string
					} `yaml:"source"`
				}
			}
			if err := yaml.Unmarshal([]byte(strings.NewReplacer("repoURL", "repourl", "targetRevision", "targetrevision").Replace(text)), &doc); err != nil || doc.Metadata.Name != tt.named {
				t.Errorf("%v: the name is %q in\n%s", err, doc.Metadata.Name, text)
			}
			spec := doc.Spec
			if text == source && (spec.URL != tt.url || spec.Ref.Tag+spec.Ref.Digest != tt.ref || spec.Insecure != tt.insecure || spec.LayerSelector.MediaType != chartArchiveType) {
				t.Errorf("%+v in\n%s", spec, text)
			}
			if text == release && spec.ChartRef.Name != tt.named || text == all[4].Text && (spec.Source.RepoURL != tt.url || spec.Source.TargetRevision != tt.ref) {
				t.Errorf("%+v in\n%s", spec, text)
			}
		}
	}
}
