package web

import (
	"fmt"
	"strings"
)

// moduleCommands returns how to use the module in a directory of a package, "" for its root. All of it is for OpenTofu:
// Terraform has no source of this kind.
func (t target) moduleCommands(dir string) (all []command) {
	source := func(query string) string {
		address := "oci://" + t.Host + "/" + t.Name.String()
		if dir != "" {
			address += "//" + escapePath(dir)
		}
		return fmt.Sprintf("module %q {\n  source = %q\n}", t.identifier(), address+"?"+query)
	}
	byDigest := source("digest=" + t.Dgst.String())
	if t.Tag != "" {
		all = append(all, command{"OpenTofu", source("tag=" + t.Tag)}, command{"OpenTofu, by digest", byDigest})
	} else {
		all = append(all, command{"OpenTofu", byDigest})
	}
	return append(all, command{"oras", "oras pull" + t.plain("--plain-http", false) + " " + t.ref()})
}

// identifier returns the last part of the repository's name as OpenTofu takes names: without dots, and with a letter
// first.
func (t target) identifier() string {
	name := t.Name.String()
	name = strings.ReplaceAll(name[strings.LastIndexByte(name, '/')+1:], ".", "_")
	if name[0] >= '0' && name[0] <= '9' {
		return "_" + name
	}
	return name
}

// providerMirror returns what makes OpenTofu take a provider from here. The last two parts of a repository's name are
// the namespace and the type of the provider, as in the template of OpenTofu's manual.
func (t target) providerMirror() string {
	parts := strings.Split(t.Name.String(), "/")
	repository, provider := t.Host+"/"+t.Name.String(), "NAMESPACE/"+parts[len(parts)-1]
	if n := len(parts); n >= 2 {
		provider = strings.Join(parts[n-2:], "/")
		repository = strings.Join(append(append([]string{t.Host}, parts[:n-2]...), "${namespace}", "${type}"), "/")
	}
	return fmt.Sprintf(`provider_installation {
  oci_mirror {
    repository_template = "%s"
    include             = ["registry.opentofu.org/%s"]
  }
  direct {
    exclude = ["registry.opentofu.org/%[2]s"]
  }
}`, repository, provider)
}
