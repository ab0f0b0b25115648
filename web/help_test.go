package web

import (
	"slices"
	"testing"
)

func TestHelpBlocks(t *testing.T) {
	for _, tt := range []struct {
		text string
		want []helpBlock
	}{
		{"", nil},
		{"docker login reg", []helpBlock{{Text: "docker login reg"}}},
		{"# Log in\ndocker login\n", []helpBlock{{Comment: "Log in", Text: "docker login"}}},
		{"# /etc/docker/daemon.json, then restart\n{\n}\n\n# Log in\ndocker login\n", []helpBlock{
			{File: "/etc/docker/daemon.json,", Comment: "then restart", Text: "{\n}"}, {Comment: "Log in", Text: "docker login"},
		}},
		{"# one\n# two\nx\n", []helpBlock{{Comment: "one\ntwo", Text: "x"}}},
		{"first\n# then\n\nsecond\n", []helpBlock{{Text: "first"}, {Comment: "then", Text: "second"}}},
		{"# registries.yaml\na: b\n", []helpBlock{{File: "registries.yaml", Text: "a: b"}}},
		{"# only a comment\n", []helpBlock{{Comment: "only a comment"}}},
	} {
		if got := helpBlocks(tt.text); !slices.Equal(got, tt.want) {
			t.Errorf("helpBlocks(%q) = %+v, want %+v", tt.text, got, tt.want)
		}
	}
}

func TestHelpPages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	wants(t, "help", s.get(anonymous, "/-/help"), 200, "This is Cubby 1.2.3", "docker", "podman")
	wants(t, "a client", s.get(anonymous, "/-/help/docker", "Host", "reg.example"), 200, "Set up docker", "Put your name for USER", `{"host": "reg.example", "https": false}`, "docker login reg.example", "/etc/docker.json")
	wants(t, "a client for who is logged in", s.get(reader, "/-/help/podman"), 200, "for reader", "-USER")
	wants(t, "an unknown client", s.get(reader, "/-/help/rm"), 404)
	wants(t, "no client", s.get(reader, "/-/help/"), 404)
}
