package oci

import (
	"strings"
	"testing"

	"github.com/distribution/reference"
)

// FuzzReference: names and references are taken here exactly when the clients' own parser takes them, behind a host.
func FuzzReference(f *testing.F) {
	for _, s := range names {
		f.Add(s, "latest")
	}
	for _, s := range tags {
		f.Add("a/b", s)
	}
	f.Add("a/b", "sha256:"+strings.Repeat("0a", 32))
	f.Add("a/b", "sha512:"+strings.Repeat("0a", 64))
	f.Fuzz(func(t *testing.T, name, ref string) {
		ours, err := ParseName(name)
		theirs, theirErr := reference.WithName("registry.example:5000/" + name)
		if (err == nil) != (theirErr == nil) {
			t.Fatalf("name %q: %v here, %v there", name, err, theirErr)
		}
		if err != nil {
			return
		}
		if got := reference.Path(theirs); got != ours.String() {
			t.Fatalf("name %q is %q here and %q there", name, ours, got)
		}
		_, err = ParseTag(ref)
		_, theirErr = reference.WithTag(theirs, ref)
		if (err == nil) != (theirErr == nil) {
			t.Fatalf("tag %q: %v here, %v there", ref, err, theirErr)
		}
		dgst, err := ParseDigest(ref)
		if err != nil {
			return // fewer algorithms are taken here
		}
		parsed, err := reference.Parse("registry.example:5000/" + name + "@" + ref)
		if digested, ok := parsed.(reference.Digested); err != nil || !ok || digested.Digest() != dgst {
			t.Fatalf("digest %q is %v there, %v", ref, parsed, err)
		}
	})
}

// FuzzGlob: a pattern without wildcards matches itself and nothing else, and one with ** what is at it and below it.
func FuzzGlob(f *testing.F) {
	f.Add("team/app", "team/app")
	f.Add("team/**", "team/app/x")
	f.Add("*eam*", "eam")
	f.Add("a{b*,c}", "ab")
	f.Add("{a,b}/[a-c]?", "a/bx")
	f.Add("*-*-*-*-*-*", "a-b-c-d-e-f-g")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		g, err := ParseNameGlob(pattern)
		if err != nil {
			return
		}
		matched := g.Match(name)
		if !IsGlob(pattern) && !strings.ContainsAny(pattern, "]}") && matched != (name == pattern) {
			t.Fatalf("%q matches %q: %t", pattern, name, matched)
		}
		if _, err := ParseName(name); err != nil || !matched {
			return
		}
		below, err := ParseNameGlob(pattern + "/**")
		if err == nil && (!below.Match(name) || !below.Match(name+"/x")) {
			t.Fatalf("%q matches %q, and %q not it or what is below it", g, name, below)
		}
	})
}

// FuzzContentType: a media type is stored as it can be sent again, and read again it is the same.
func FuzzContentType(f *testing.F) {
	for _, s := range []string{"", typeImage, typeImage + "; charset=utf-8", " A/B ; x=\"y\"", "a", "a/b/c", ";", "a/b; x=1; x=2", "text/html\r\nX: y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, contentType string) {
		got := trimParameters(contentType)
		if got == "" {
			return
		}
		if trimParameters(got) != got || strings.Count(got, "/") != 1 || len(got) > 255 || strings.ContainsAny(got, " \t\r\n;,\"") || !strings.Contains(strings.ToLower(contentType), got) {
			t.Fatalf("%q is %q, and that %q", contentType, got, trimParameters(got))
		}
	})
}
