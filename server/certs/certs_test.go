package certs

import (
	"strings"
	"testing"
)

// TestOptions: what contradicts itself is told, by the flag to change.
func TestOptions(t *testing.T) {
	for _, test := range []struct {
		o    Options
		want string // in the error; "" for none
	}{
		{Options{}, ""},
		{Options{Cert: "c", Key: "k"}, ""},
		{Options{Cert: "c"}, "--tls-key"},
		{Options{Key: "k"}, "--tls-cert"},
		{Options{Cert: "c", Key: "k", SelfSigned: true}, "exclude"},
		{Options{Cert: "c", Key: "k", ACME: []string{"a.example"}}, "exclude"},
		{Options{SelfSigned: true, ACME: []string{"a.example"}}, "exclude"},
		{Options{SelfSigned: true, Names: []string{"box.lan", "*.box.lan", "10.0.0.1", "fd00::1", "my_box"}}, ""},
		{Options{Names: []string{"box.lan"}}, "--tls-self-signed"},
		{Options{SelfSigned: true, Names: []string{""}}, "--tls-name"},
		{Options{SelfSigned: true, Names: []string{"box.lan:5000"}}, "box.lan:5000"},
		{Options{SelfSigned: true, Names: []string{"https://box"}}, "https://box"},
		{Options{SelfSigned: true, Names: []string{"fe80::1%eth0"}}, "fe80::1%eth0"},
		{Options{SelfSigned: true, Names: []string{strings.Repeat("a.", 127) + "a"}}, "--tls-name"},
		{Options{ACME: []string{"a.example", "b.example"}, Directory: "https://127.0.0.1:14000/dir", Email: "me@a.example"}, ""},
		{Options{ACME: []string{"localhost"}}, "localhost"},
		{Options{ACME: []string{"10.0.0.1"}}, "10.0.0.1"},
		{Options{ACME: []string{"*.a.example"}}, "*.a.example"},
		{Options{ACME: []string{"a.example"}, Directory: "http://127.0.0.1/dir"}, "--tls-acme-directory"},
		{Options{Directory: "https://127.0.0.1/dir"}, "--tls-acme"},
		{Options{SelfSigned: true, Email: "me@a.example"}, "--tls-acme"},
	} {
		err := test.o.Check()
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v, want %q", test.o, err, test.want)
		}
	}
}
