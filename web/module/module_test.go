package module

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const example = `
# A network.
terraform {
  required_version = ">= 1.6"
  required_providers {
    aws = {
      source  = "hashicorp/aws" // the usual one
      version = "~> 5.0"
    }
    null = { source = "hashicorp/null", "version" : ">= 3" }
    old  = "~> 1.2"
  }
  backend "s3" {}
}

variable "zones" {
  description = <<-EOT
    The zones,
      one a line.
  EOT
  type        = list(object({
    name = string # of the zone
    size = optional(number, 1)
  }))
  default     = []
}

variable "name" {
  type        = string
  description = "What it is \"called\"."
  validation {
    condition     = length(var.name) > 0 && var.name != "}"
    error_message = "It needs a name: ${var.name}"
  }
}
variable "key" { 
  sensitive = true
}
variable "plain" { default = 1 }
variable "old" {
  type = "string"
  default = "x${1 + 1}"
}

output "id" {
  value       = aws_vpc.this[0].id
  description = "Its id"
}
output "secret" {
  value = var.key
  sensitive = true /* of course */
}

resource "aws_vpc" "this" {
  count = 1
  tags  = { Name = "${var.name}-${join("}", ["a", "b"])}" }
  policy = "arn:aws:s3:::bucket/*"
  dynamic "x" {
    for_each = []
    content {}
  }
}
data "aws_region" "current" {}
ephemeral "random_password" "p" {}

module "subnets" {
  source = "./modules/subnets"
}
module "dns" {
  source  = "example/dns/aws"
  version = "1.2.3"
}
locals {
  a = 1
}
`

func TestLoad(t *testing.T) {
	m := load(t, "main.tf", example, "README.md", "# Network\n", "modules/subnets/main.tf", "")
	want := &Module{
		ReadmeName: "README.md", Readme: "# Network\n", Versions: []string{">= 1.6"},
		Inputs: []Input{
			{Name: "key", Required: true, Sensitive: true},
			{Name: "name", Type: "string", Description: `What it is "called".`, Required: true},
			{Name: "old", Type: "string", Default: `"x${1 + 1}"`},
			{Name: "plain", Default: "1"},
			{Name: "zones", Type: "list(object({\n  name = string # of the zone\n  size = optional(number, 1)\n}))", Default: "[]", Description: "The zones,\n  one a line."},
		},
		Outputs:   []Output{{Name: "id", Description: "Its id"}, {Name: "secret", Sensitive: true}},
		Providers: []Provider{{"aws", "hashicorp/aws", "~> 5.0"}, {"null", "hashicorp/null", ">= 3"}, {"old", "", "~> 1.2"}},
		Resources: []Resource{{"resource", "aws_vpc", "this"}, {"ephemeral", "random_password", "p"}, {"data", "aws_region", "current"}},
		Calls:     []Call{{"dns", "example/dns/aws", "1.2.3"}, {"subnets", "./modules/subnets", ""}},
	}
	if !reflect.DeepEqual(m, want) {
		t.Errorf("got\n%+v\nwant\n%+v", m, want)
	}
	if m.Bytes() < int64(len(m.Readme)) {
		t.Errorf("it has %d bytes", m.Bytes())
	}
}

// TestFiles: which files a module is of.
func TestFiles(t *testing.T) {
	variable := func(name string) string { return fmt.Sprintf("variable %q {}\n", name) }
	p := open(t, archive(t,
		entry{name: "a.tf", content: variable("tf")}, entry{name: "a.tofu", content: variable("tofu")}, entry{name: "b.tf", content: "\uFEFF" + variable("bom")},
		entry{name: "c.tf.json", content: "{}"}, entry{name: "x_override.tf", content: variable("over")}, entry{name: "readme.MD", content: "read"}, entry{name: "notes.txt"},
		entry{name: "modules/"}, entry{name: "modules/deep/er/main.tofu", content: variable("deep")}, entry{name: "modules/docs/README.md"}, entry{name: "examples/one/main.tf"}, entry{name: "test/main.tf"},
	))
	names := func(dir string) (all []string) {
		m, err := p.Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range m.Inputs {
			all = append(all, i.Name)
		}
		return all
	}
	if got := names(""); !slices.Equal(got, []string{"bom", "over", "tofu"}) {
		t.Errorf("the root has %v", got)
	}
	if got := names("modules/deep/er"); !slices.Equal(got, []string{"deep"}) {
		t.Errorf("the submodule has %v", got)
	}
	m, err := p.Load("")
	if err != nil || m.Readme != "read" || m.ReadmeName != "readme.MD" || !m.Partial || len(m.Problems) != 2 || !strings.Contains(m.Problems[0], "c.tf.json is configuration in JSON") || !strings.Contains(m.Problems[1], "x_override.tf overrides") {
		t.Errorf("%+v, %v", m, err)
	}
	all, more := p.Modules()
	if !slices.Equal(all, []string{"examples/one", "modules/deep/er"}) || more != 0 {
		t.Errorf("modules %v and %d", all, more)
	}
	if m, err := p.Load("modules/docs"); err != nil || len(m.Problems) != 1 || !strings.Contains(m.Problems[0], "no file of configuration") {
		t.Errorf("%+v, %v", m, err)
	}
	for _, dir := range []string{"none", "..", "modules", "main.tf", "/"} {
		if _, err := p.Load(dir); err == nil {
			t.Errorf("there is a module in %q", dir)
		}
	}
}

// TestBrokenConfig: what can be read is told of, and what cannot is said.
func TestBrokenConfig(t *testing.T) {
	for _, tt := range []struct {
		src     string
		inputs  string
		problem string
	}{
		{"variable \"a\" {}\n)\nvariable \"b\" {}\n", "a b", "main.tf, line 2: this is neither an argument nor a block."},
		{"variable \"a\" {\n", "a", "main.tf, line 1: this brace is never closed."},
		{"variable \"a\" {}}}}\nvariable b {}\n", "a b", "main.tf, line 1: this is"},
		{"variable \"${x}\" {}\nvariable \"b\" {}", "b", "main.tf, line 1: this is"},
		{"variable\n\"a\" {}", "", "main.tf, line 1"},
		{"variable \"a\" {\n description = \"never\n}\n", "a", "main.tf, line 1"},
		{"variable \"a\" {}\n\xff", "", "main.tf is not read: it is not UTF-8."},
		{"variable \"a\" {}\n“", "a", "main.tf, line 2"},
		{"a = <<X\n", "", ""},
		{"variable \"a\" \"b\" {}\nvariable {}\nvariable = 1\n", "", ""},
	} {
		m := load(t, "main.tf", tt.src)
		var names []string
		for _, i := range m.Inputs {
			names = append(names, i.Name)
		}
		if got := strings.Join(names, " "); got != tt.inputs {
			t.Errorf("%q: inputs %q, want %q", tt.src, got, tt.inputs)
		}
		if got := strings.Join(m.Problems, " "); !strings.HasPrefix(got, tt.problem) || (tt.problem == "") != (got == "") {
			t.Errorf("%q: problems %q, want %q", tt.src, got, tt.problem)
		}
	}
}

// TestLimits: a module that is too long is cut, and says so.
func TestLimits(t *testing.T) {
	long := strings.Repeat("x", 2*textMax)
	many := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format+"\n", i)
		}
		return b.String()
	}
	big := many(50, `variable "v%d" { description = "`+long[:textMax]+`" }`)
	files := []string{"notes.txt", ""}
	for i := range filesMax + 1 {
		files = append(files, fmt.Sprintf("%04d.tf", i), "")
	}
	for _, tt := range []struct {
		what    string
		files   []string
		problem string
	}{
		{"a description", []string{"main.tf", `variable "a" { description = "` + long + `" }`}, ""},
		{"variables", []string{"main.tf", many(itemsMax+5, `variable "v%d" {}`)}, "more than 1000 variables"},
		{"resources", []string{"main.tf", many(itemsMax+5, `data "v%d" "x" {}`)}, "more than 1000 resources"},
		{"texts", []string{"a.tf", big, "b.tf", big, "c.tf", big}, "All texts together"},
		{"a file", []string{"main.tf", many(configMax/50+1, "# %049d")}, "main.tf is not read: it has"},
		{"files", files, "more than 500 files"},
		{"a README", []string{"main.tf", "", "README.md", strings.Repeat("words\n", readmeMax/5)}, "README.md is cut"},
	} {
		m := load(t, tt.files...)
		if got := strings.Join(m.Problems, " "); !strings.Contains(got, tt.problem) || (tt.problem == "") != (got == "") {
			t.Errorf("%s: problems %q, want %q", tt.what, got, tt.problem)
		}
		if len(m.Inputs) > itemsMax || m.Bytes() > 4<<20 || len(m.Readme) > readmeMax {
			t.Errorf("%s: %d inputs, %d bytes", tt.what, len(m.Inputs), m.Bytes())
		}
		for _, i := range m.Inputs {
			if len(i.Description) > textMax+3 {
				t.Errorf("%s: a description of %d bytes", tt.what, len(i.Description))
			}
		}
	}
}
