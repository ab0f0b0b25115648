package chart

import "go.yaml.in/yaml/v3"

// Meta is what Chart.yaml says.
type Meta struct {
	APIVersion, Name, Version, AppVersion, KubeVersion string
	Description, Type, Home, Icon                      string
	Deprecated                                         bool
	Sources, Keywords                                  []string
	Maintainers                                        []Maintainer
	Dependencies                                       []Dependency
}

// A Maintainer is who answers for a chart.
type Maintainer struct{ Name, Email, URL string }

// A Dependency is a chart that another one needs.
type Dependency struct{ Name, Version, Repository, Condition, Alias string }

// ReadMeta reads Chart.yaml, or the same as JSON. The problem is a sentence.
func ReadMeta(b []byte) (m Meta, problem string) {
	doc, problem := parseYAML(b)
	if problem != "" {
		return m, problem
	}
	w := walk{nodesMax}
	if doc = w.resolve(doc); doc == nil || doc.Kind != yaml.MappingNode {
		return m, "it has no keys."
	}
	texts := map[string]*string{
		"apiVersion": &m.APIVersion, "name": &m.Name, "version": &m.Version, "appVersion": &m.AppVersion, "kubeVersion": &m.KubeVersion,
		"description": &m.Description, "type": &m.Type, "home": &m.Home, "icon": &m.Icon,
	}
	w.pairs(doc, func(key string, value *yaml.Node) {
		switch key {
		case "deprecated":
			m.Deprecated = scalar(value) == "true"
		case "sources":
			m.Sources = w.texts(value)
		case "keywords":
			m.Keywords = w.texts(value)
		case "maintainers":
			w.list(value, func(n *yaml.Node) {
				f := w.fields(n)
				m.Maintainers = append(m.Maintainers, Maintainer{f["name"], f["email"], f["url"]})
			})
		case "dependencies":
			w.list(value, func(n *yaml.Node) {
				f := w.fields(n)
				m.Dependencies = append(m.Dependencies, Dependency{f["name"], f["version"], f["repository"], f["condition"], f["alias"]})
			})
		default:
			if to := texts[key]; to != nil {
				*to = scalar(value)
			}
		}
	})
	if m.Name == "" || m.Version == "" {
		return m, "it does not say both a name and a version."
	}
	return m, ""
}

// list calls f for the entries of a list.
func (w *walk) list(n *yaml.Node, f func(*yaml.Node)) {
	if n.Kind != yaml.SequenceNode {
		return
	}
	for i, item := range n.Content {
		if item = w.resolve(item); item == nil || i == listMax {
			return
		}
		f(item)
	}
}

func (w *walk) texts(n *yaml.Node) (all []string) {
	w.list(n, func(item *yaml.Node) {
		if s := scalar(item); s != "" {
			all = append(all, s)
		}
	})
	return all
}

// fields returns the texts of a map.
func (w *walk) fields(n *yaml.Node) map[string]string {
	all := make(map[string]string)
	w.pairs(n, func(key string, value *yaml.Node) {
		if len(all) < listMax {
			all[key] = scalar(value)
		}
	})
	return all
}
