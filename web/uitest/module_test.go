package uitest

import (
	"archive/zip"
	"bytes"
	"fmt"
	"strings"
	"testing"

	"cubby/scripts/process"
)

const exampleModule = `terraform {
  required_version = ">= 1.6"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.0"
    }
  }
}

variable "name" {
  type        = string
  description = "What the network is called. It stands in the names of all that is made."
}

variable "subnets" {
  description = "The parts of the network"
  type = map(object({
    cidr_block        = string
    availability_zone = optional(string, "a_name_that_is_longer_than_a_phone_is_wide")
  }))
  default = {}
}

variable "key" {
  type      = string
  sensitive = true
}

output "id" {
  value       = aws_vpc.this.id
  description = "Its number"
}

resource "aws_vpc" "this" {}
data "aws_region" "current" {}

module "subnet" {
  source = "./modules/subnet"
}
`

// moduleZip returns the archive of a module package: names and contents by turns.
func moduleZip(t *testing.T, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		f, err := w.Create(files[i])
		if err == nil {
			_, err = f.Write([]byte(files[i+1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// module pushes a module package.
func (p pusher) module(archive []byte, tag string) process.Content {
	p.t.Helper()
	return p.artifact(object{"artifactType": "application/vnd.opentofu.modulepkg", "layers": []object{descriptor("archive/zip", p.blob(archive), nil)}}, tag)
}

// pushModules pushes a module with all that one may have, one with what is wrong, and one that is no archive.
func (s *site) pushModules(t *testing.T) {
	t.Helper()
	readme := "# Network\n\nMakes a network with its *parts*.\n\n## Usage\n\n```hcl\nmodule \"network\" {\n  source = \"oci://registry.example.test/modules/network?tag=1.0.0\"\n}\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n![a picture](https://example.test/picture.png) <b>bold</b>\n"
	s.to(t, "modules/network").module(moduleZip(t, "README.md", readme, "main.tf", exampleModule, "modules/subnet/main.tf", "variable \"size\" {\n  default = 24\n}\n",
		"examples/complete/main.tf", "module \"network\" {\n  source = \"../..\"\n}\n", "logo.bin", "\x00\x01\x02"), "1.0.0")
	s.to(t, "modules/odd").module(moduleZip(t, "main.tf", "variable \"a\" {}\n)\n", "../up.tf", "", strings.Repeat("long", 100)+".tf", "", "more.tf.json", "{}", "README.md", strings.Repeat("> ", 40)+"tangled"), "1")
	s.to(t, "modules/broken").module([]byte("this is no archive"), "1")
	s.to(t, "providers/acme/cloud").artifact(object{"artifactType": "application/vnd.opentofu.provider-target", "layers": []object{descriptor("archive/zip", s.to(t, "providers/acme/cloud").blob([]byte("zip")), nil)}}, "2.0.0")
}

// modulePages are the pages of what pushModules pushed, and the page about the program.
func (w *world) modulePages() []pageCase {
	o := w.stock.site
	return []pageCase{
		{name: "module overview", path: "/modules/network:1.0.0", site: o, shot: true},
		{name: "module", path: "/modules/network:1.0.0/-/module", site: o, shot: true, large: true},
		{name: "module of a directory", path: "/modules/network:1.0.0/-/module/modules/subnet", site: o},
		{name: "module example", path: "/modules/network:1.0.0/-/module/examples/complete", site: o},
		{name: "module with problems", path: "/modules/odd:1/-/module", site: o, shot: true, large: true},
		{name: "module that is no archive", path: "/modules/broken:1/-/module", site: o},
		{name: "module file", path: "/modules/network:1.0.0/-/module/files/main.tf", site: o, shot: true, large: true},
		{name: "module file that is no text", path: "/modules/network:1.0.0/-/module/files/logo.bin", site: o},
		{name: "module file that is not there", path: "/modules/network:1.0.0/-/module/files/none", site: o, status: 404},
		{name: "provider", path: "/providers/acme/cloud:2.0.0", site: o, shot: true},
		{name: "about", path: "/-/about", site: o, shot: true, large: true},
	}
}

// testModules goes from a tag to what a module wants, its README and a file, with JavaScript and without.
func testModules(t *testing.T, w *world) {
	for name, open := range map[string]func(t *testing.T) *tab{
		"script":   func(t *testing.T) *tab { return newTab(t, w.browser, w.stock.url) },
		"noscript": func(t *testing.T) *tab { return w.withoutScript(t, w.stock.site) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := open(t)
			b.open("/modules/network")
			b.follow("a.tag", "1.0.0")
			b.want("3 inputs, 1 output, 2 resources")
			b.follow(".tabs a", "Module")
			for _, text := range []string{"?digest=", "Makes a network with its parts.", "What the network is called.", "availability_zone = optional(string", "hashicorp/aws", "aws_vpc", "by HTTPS only"} {
				b.want(text)
			}
			if eval[int](b, `document.querySelectorAll("main img, main b").length`) > 0 {
				t.Error("the README shows a picture, or is HTML")
			}
			b.follow("main a", "modules/subnet")
			b.want("//modules/subnet?digest=")
			b.follow("main a", "The package")
			b.follow("main a", "main.tf")
			b.want(`variable "subnets" {`)
			if got := eval[string](b, `document.getElementById("L11").textContent.trim()`); got != `variable "name" {` {
				t.Errorf("line 11 is %q", got)
			}
			b.open("/-/about")
			b.want("github.com/hashicorp/hcl/v2")
		})
	}
}

// pushHostileModule pushes a module that says payloads wherever it may, and returns the pages that show them.
func pushHostileModule(t *testing.T, s *site) []hostilePage {
	t.Helper()
	all := payloads(t)
	names, descriptions, outputs, readme := all[:40], all[40:80], all[80:120], strings.Join(all, "\n\n")
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "${", "$${", "%{", "%%{")
	var config strings.Builder
	for i, name := range names {
		fmt.Fprintf(&config, "variable \"%s\" {\n  description = \"%s\"\n  default = \"x\"\n}\noutput \"%s\" {}\n", quote.Replace(name), quote.Replace(descriptions[i]), quote.Replace(outputs[i]))
	}
	files := []string{"README.md", readme, "main.tf", config.String(), "payloads.txt", readme}
	for i, name := range all[120:160] {
		files = append(files, fmt.Sprintf("modules/%d/%s.tf", i, strings.NewReplacer("/", "_", `\`, "_").Replace(name)), "")
	}
	s.to(t, "hostile/module").module(moduleZip(t, files...), "1")
	return []hostilePage{
		{"/hostile/module:1/-/module", concat(names, descriptions, outputs)}, {"/hostile/module:1/-/module/files/payloads.txt", all},
		{"/hostile/module:1/-/module/modules/7", nil}, {"/hostile/module:1", nil},
	}
}
