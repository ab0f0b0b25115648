//go:build faults

package main

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"cubby/scripts/process"
)

// A message is a request in its parts. The zero values of most parts are what a client would send.
type message struct {
	method  string // "": GET
	target  string
	version string   // "": HTTP/1.1
	headers []string // whole lines
	body    string   // its length is told, unless a header says something of it

	noHost bool
}

func (m message) String() string {
	var b strings.Builder
	if m.method == "" {
		m.method = "GET"
	}
	if m.version == "" {
		m.version = "HTTP/1.1"
	}
	fmt.Fprintf(&b, "%s %s %s\r\n", m.method, m.target, m.version)
	if !m.noHost {
		b.WriteString("Host: localhost\r\n")
	}
	framed := m.method == "GET" && m.body == ""
	for _, line := range m.headers {
		b.WriteString(line + "\r\n")
		name, _, _ := strings.Cut(strings.ToLower(line), ":")
		framed = framed || name == "content-length" || name == "transfer-encoding"
	}
	if !framed {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(m.body))
	}
	return b.String() + "\r\n" + m.body
}

// A probe is a malformed request and what is known of its answer.
type probe struct {
	what string
	message
	raw     string // in place of the message
	cut     bool   // the bytes promise more than they hold, or swallow the request behind them
	session string // state of an upload session, whose location takes the place of {session}
	want    []int  // statuses; none: any below 500
	code    string // first code of an API error; "": any of the spec
}

func (p probe) method() string {
	method, _, _ := strings.Cut(p.bytes(false), " ")
	return method
}

// bytes returns the request, as alice if it is known who asks and nothing else is said of that.
func (p probe) bytes(known bool) string {
	if p.raw != "" {
		return p.raw
	}
	m := p.message
	if known && !strings.Contains(strings.ToLower(strings.Join(m.headers, "\n")), "authorization") {
		m.headers = append([]string{alice}, m.headers...)
	}
	return m.String()
}

// generate returns distinct requests: the corpus, and as many as are wanted of random parts that are each right, odd or
// wrong. None of them can change what the registry holds: they write only what it must refuse, and delete only what it
// does not hold.
func generate(seed uint64, size int) []probe {
	all := corpus()
	seen := make(map[string]bool)
	for _, p := range all {
		seen[p.bytes(false)] = true
	}
	g := &generator{rand.New(rand.NewPCG(seed, 12))}
	for len(all) < size {
		if p := g.probe(); !seen[p.bytes(false)] {
			seen[p.bytes(false)] = true
			all = append(all, p)
		}
	}
	return all
}

type generator struct{ *rand.Rand }

func (g *generator) pick(of []string) string { return of[g.IntN(len(of))] }

// odd returns one of all, and mostly the first.
func (g *generator) odd(of []string) string {
	if g.IntN(3) > 0 {
		return of[0]
	}
	return g.pick(of)
}

func (g *generator) probe() probe {
	method := g.odd([]string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PUT", "POST", "PROPFIND", "TRACE", "get", "M-SEARCH", strings.Repeat("X", 300)})
	names := hostileNames
	if method != "GET" {
		names = hostileNames[1:] // what is there stays
	}
	fill := strings.NewReplacer("%N", g.odd(names), "%R", g.odd(hostileReferences), "%D", g.odd(hostileDigests), "%S", g.pick(hostileSegments))
	target := fill.Replace(g.pick(routes))
	if g.IntN(2) == 0 {
		target += "?" + g.pick(hostileQueries)
	}
	if g.IntN(40) == 0 {
		target = g.pick([]string{"http://localhost", "http://elsewhere.example", "http://u:p@localhost:1", "https://localhost", "/", "/.", "/v2/.."}) + target
	}
	m := message{method: method, target: target}
	for range g.IntN(4) {
		m.headers = append(m.headers, g.pick(hostileHeaders))
	}
	if g.IntN(25) == 0 {
		m.headers = append(m.headers, g.pick([]string{"X-Long: ", "Cookie: a=", "Authorization: Basic ", "Range: bytes="})+strings.Repeat("0", 64<<10))
	}
	if method != "GET" || g.IntN(10) == 0 {
		m.body = g.pick(hostileBodies)
		if g.IntN(3) == 0 {
			m.body += fmt.Sprint(g.Uint64())
		}
	}
	return probe{what: "generated", message: m}
}

// Parts of requests. Of each list the first is right, but that names and references of writes are not there.
var (
	routes = []string{
		"/v2/", "/v2", "/v2/_catalog", "/v2/%N/tags/list", "/v2/%N/manifests/%R", "/v2/%N/manifests/%D", "/v2/%N/blobs/%D",
		"/v2/%N/referrers/%D", "/v2/%N/blobs/uploads/", "/v2/%N/blobs/uploads", "/v2/%N/blobs/uploads/%S", "/v2/%N", "/v2/%S", "/v2/%N/%S/%R",
		"/", "/%N", "/%N/", "/%N:%R", "/%N@%D", "/%N:%R@%D", "/-/r/%N", "/-/r/%N:%R", "/%N/-/manifests", "/%N/-/history", "/%N/-/history/%R",
		"/%N/-/readme", "/%N/-/%S", "/%N/-/tags/delete", "/%N/-/delete", "/%N/-/restore", "/%N/-/blob/%D", "/%N/-/blob/%D/files",
		"/%N/-/blob/%D/files/%S", "/%N/-/blob/%D/download", "/%N:%R/-/layers", "/%N:%R/-/files", "/%N:%R/-/files/%S", "/%N:%R/-/file/%D",
		"/%N:%R/-/referrers", "/%N:%R/-/raw", "/%N:%R/-/raw/download", "/%N:%R/-/delete", "/%N:%R/-/readme", "/%N:%R/-/chart/%S",
		"/%N:%R/-/chart/templates/%S", "/%N:%R/-/chart/download/%S", "/%N:%R/-/module", "/%N:%R/-/module/%S", "/%N:%R/-/%S",
		"/-/search", "/-/storage", "/-/storage/gc", "/-/storage/gc/%S", "/-/login", "/-/settings", "/-/help", "/-/help/%S", "/-/assets/%S",
		"/-/admin/users", "/-/admin/users/%S", "/-/admin/users/%S/remove", "/-/admin/audit", "/-/admin/audit.csv", "/-/tokens", "/-/about",
		"/-/token", "/-/healthz", "/-/readyz", "/-/ca.crt", "/-/%S", "/robots.txt", "/favicon.ico", "/.well-known/%S", "/index.php", "/%S",
	}
	hostileNames = []string{
		"team/app", "absent/app", "", ".", "..", "a/../b", "a//b", "/", "UPPER", "a%2fb", "a%2Fb%2Fmanifests", "team%2fnone", "a%00b", "a%0d%0ab", "a%20b",
		"a%252fb", "..%2f..%2fetc%2fpasswd", "..%5c..%5cx", "-", "_", "a..b", "a___b", "a-", ".a", "%ff%fe", "%c0%ae%c0%ae", "\xff\xfe", "é", "a;b", "a=b",
		"a,b", "a\\b", "%2e%2e", "[::1]", "a|b", "<script>", "v2", "v2/v2", "blobs/uploads", "a/manifests/b", "x/tags/list", "a@b", "a:b:c", "%25", "a%u0041",
		strings.Repeat("a", 256), strings.Repeat("a/", 127) + "ab", strings.Repeat("a/", 2000) + "a", strings.Repeat("%61", 300),
	}
	hostileReferences = []string{
		"v1", "none", "", ".", "..", ".v", "-v", "v%00", "v%20", "v%2f1", "v;1", "v:1", "v@1", "%ff", "\xff", "é", "v+1", "*", strings.Repeat("v", 129),
		"sha256:", "sha256", ":", "@", "sha256:0", "%73ha256:0", "latest%0d%0aX: y", strings.Repeat("v", 9000),
	}
	hostileDigests = []string{
		process.Digest([]byte("absent")), "sha256:", "sha256:0", "sha256:" + strings.Repeat("A", 64), "sha256:" + strings.Repeat("0", 63),
		"sha256:" + strings.Repeat("0", 65), "sha256:" + strings.Repeat("g", 64), "SHA256:" + strings.Repeat("0", 64), "sha512:" + strings.Repeat("0", 64),
		"sha512:" + strings.Repeat("0", 128), "sha384:" + strings.Repeat("0", 96), "md5:" + strings.Repeat("0", 32), "sha256:..%2f..%2fcubby.db",
		"sha256:../../cubby.db", "sha256:" + strings.Repeat("0", 62) + "%00", "sha256%3a" + strings.Repeat("0", 64), "sha256:" + strings.Repeat("0", 64) + "%0a",
		"sha256:" + strings.Repeat("0", 64) + "/", "sha256+b64:" + strings.Repeat("0", 64), "tarsum+sha256:0", strings.Repeat("0", 64), "uploads%00", "..",
	}
	hostileSegments = []string{
		"x", "", ".", "..", "../..", "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e%2f", "%00", "x%00.png", "%0d%0aSet-Cookie:%20a=b", "-1", "0", "1", "99999999999999999999",
		"NaN", "\xff", "%ff", "é", "a\\b", "%5c..%5c", ";", "?", "*", "<b>", "%3Cscript%3E", "'--", "{}", "$(id)", strings.Repeat("x/", 1000), strings.Repeat("%2e/", 500), strings.Repeat("x", 9000),
	}
	hostileQueries = []string{
		"n=", "n=-1", "n=0", "n=1", "n=2147483648", "n=9223372036854775807", "n=99999999999999999999999", "n=1e3", "n=0x10", "n=%31", "n=+1", "n= 1", "n=1&n=2",
		"n=1;last=a", "n=1&last=", "last=%00", "last=%ff", "last=v1&n=1", "last=" + strings.Repeat("z", 4000), "after=-1", "after=1", "after=x", "after=9223372036854775808",
		"artifactType=", "artifactType=%00", "artifactType=a/b&artifactType=c/d", "digest=", "digest=x", "digest=sha256:0", "digest=sha256:" + strings.Repeat("0", 64),
		"digest=sha256:" + strings.Repeat("0", 64) + "&digest=x", "digest=../../x", "digest-algorithm=md5", "digest-algorithm=", "mount=", "mount=x", "mount=x&from=",
		"mount=sha256:" + strings.Repeat("0", 64), "mount=sha256:" + strings.Repeat("0", 64) + "&from=team/app", "mount=sha256:" + strings.Repeat("0", 64) + "&from=..%2f",
		"mount=sha256:" + strings.Repeat("0", 64) + "&from=absent/app&from=team/app", "from=team/app", "tag=", "tag=..", "tag=a&tag=a", strings.Repeat("tag=a&", 101),
		"ns=docker.io", "ns=", "&&&", "=", "%", "%zz", ";", "a;b=c", "?", "??x=y", "=&=", "%00=%00", "\xff=\xff", "q=%00", "q=%ff", "q=" + strings.Repeat("a", 8000), "q='--", "q=%25_",
		"sort=x", "sort=size;drop", "page=-1", "before=x", "cursor=%00", "scope=repository:a:pull", "scope=", "scope=repository:team/app:*&scope=x", "service=" + strings.Repeat("s", 3000),
		"user=%00", "action=x", "to=http://elsewhere.example", "next=//elsewhere.example", "return=%0d%0aX:y", strings.Repeat("x=y&", 3000),
	}
	hostileHeaders = []string{
		"Range: bytes=0-0", "Range: bytes=-1", "Range: bytes=-0", "Range: bytes=5-1", "Range: bytes=0-", "Range: bytes=9999999-", "Range: bytes=0-1,1-2,0-3", "Range: bytes=",
		"Range: bytes=a-b", "Range: bytes=0-99999999999999999999", "Range: bytes=-99999999999999999999", "Range: chunks=0-1", "Range: bytes=" + strings.Repeat("0-1,", 2000) + "0-1",
		"Range: 0-1", "Range: bytes=--1", "Range: bytes= 0 - 1 ", "If-Range: \"x\"", "If-Range: W/\"x\"", "If-Range: Wed, 21 Oct 2015 07:28:00 GMT",
		"Content-Range: 0-0", "Content-Range: bytes 0-0/1", "Content-Range: 5-1", "Content-Range: -1", "Content-Range: 0-", "Content-Range: 0-99999999999999999999", "Content-Range: bytes */*",
		"Content-Range: 999999999999999999-999999999999999999", "Content-Range: a-b", "Content-Range:", "Content-Range: 0-0,1-1",
		"Content-Type: application/vnd.oci.image.manifest.v1+json", "Content-Type: application/vnd.oci.image.index.v1+json; charset=utf-8", "Content-Type:", "Content-Type: ;", "Content-Type: a", "Content-Type: a/b/c",
		"Content-Type: text/html", "Content-Type: application/json;;;", "Content-Type: application/vnd.docker.distribution.manifest.v1+prettyjws", "Content-Type: multipart/form-data; boundary=x",
		"Content-Type: application/x-www-form-urlencoded", "Content-Type: multipart/form-data", "Content-Type: \xff\xfe", "Content-Type: " + strings.Repeat("a", 5000) + "/b",
		"Content-Encoding: gzip", "Accept: */*", "Accept: text/html", "Accept: nonsense", "Accept:", "Accept: " + strings.Repeat("a/b,", 2000), "Accept-Encoding: gzip;q=nan",
		"Authorization:", "Authorization: Basic", "Authorization: Basic !!!", "Authorization: Basic bm9jb2xvbg==", "Authorization: Basic Og==", "Authorization: Basic AGE6AGI=", "Authorization: Basic /////w==",
		"Authorization: Basic cm9vdDpyb290", "Authorization: Bearer", "Authorization: Bearer x", "Authorization: Bearer a.b.c", "Authorization: Bearer eyJhbGciOiJub25lIn0.e30.", "Authorization: Digest username=x",
		"Authorization: bAsIc cm9vdDo=", "Authorization: Negotiate", "Authorization: \x01", "Authorization: Basic " + strings.Repeat("QUFB", 5000), "Proxy-Authorization: Basic cm9vdDo=",
		"If-Match: *", "If-Match: \"x\"", "If-Match:", "If-Match: W/\"x\"", "If-None-Match: *", "If-None-Match: \"x", "If-None-Match: ,,,", "If-None-Match: " + strings.Repeat("\"x\",", 1000), "If-Modified-Since: never",
		"Expect: 100-continue", "Expect: nothing", "Connection: close", "Connection: keep-alive, Upgrade", "Upgrade: h2c", "Upgrade: websocket", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA", "Keep-Alive: timeout=99999",
		"Host: elsewhere.example", "X-Forwarded-For: 203.0.113.9", "X-Forwarded-For: ,,,", "X-Forwarded-Proto: javascript", "X-Forwarded-Host: elsewhere.example", "Forwarded: for=_x", "Via: 1.0 x",
		"Origin: null", "Origin: http://elsewhere.example", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-origin", "Cookie: cubby_session=x", "Cookie: __Host-cubby=x; cubby=y", "Cookie: ;;;=", "Cookie: theme=\x7f",
		"Trailer: Content-Length", "TE: trailers", "User-Agent: \x1b[31m", "User-Agent: " + strings.Repeat("u", 9000), "Referer: javascript:x", "Docker-Upload-UUID: x", "Max-Forwards: 0", "X-HTTP-Method-Override: DELETE",
	}
	hostileBodies = []string{
		"x", "", "[]", "null", "{", "{]", "\x00", "\xff\xfe", "0", "\"\"", "a=b&c=d", "a=%zz", ";", "%", "tag=v1;tag=v2", "--x\r\n\r\n--x--", "GET /v2/smuggled/tags/list HTTP/1.1\r\nHost: localhost\r\n\r\n",
		strings.Repeat("[", 5000), strings.Repeat(`{"a":`, 5000), `{"schemaVersion":2,"schemaVersion":2}`, strings.Repeat("x", 300<<10),
	}
)
