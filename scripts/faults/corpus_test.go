//go:build faults

package main

import (
	"fmt"
	"slices"
	"strings"

	"cubby/scripts/process"
)

// corpus returns requests that other registries or HTTP servers have got wrong.
func corpus() []probe {
	return slices.Concat(lines(), framings(), manifests(), uploads(), ranges(), logins())
}

// lines are malformed request lines and headers.
func lines() (all []probe) {
	add := func(what, raw string, want ...int) {
		all = append(all, probe{what: what, raw: raw, want: want})
	}
	const host = " HTTP/1.1\r\nHost: localhost\r\n\r\n"
	for _, line := range []string{
		"G\x00T /v2/", "GE T /v2/", "GET", "GET /v2/ /v2/", " GET /v2/", "GET /v2/\x00", "GET /v2/\x7f", "GET /v2/%", "GET /v2/%zz", "GET v2/", "GET", "(GET) /v2/", "GET http://[::1/v2/", "GET http://a b/v2/",
	} {
		add("request line", line+host, 400)
	}
	for _, line := range []string{
		"GET *", "OPTIONS *", "CONNECT localhost:443", "CONNECT /v2/", "CONNECT *", "GET http://localhost/v2/", "GET http://elsewhere.example/v2/_catalog", "GET //v2/", "GET //elsewhere.example/v2/",
		"GET /v2/../v2/", "GET /./v2/", "GET /%76%32/", "GET /v2%2f", "GET /v2/%2e%2e/", "GET ?", "GET ?x", "GET /?", "GET /v2/#x", "GET http://localhost", "GET http://localhost?x", "OPTIONS http://localhost", "GET mailto:x", "GET localhost:5000",
		"TRACE /v2/", "PROPFIND /v2/", "get /v2/", "BREW /v2/team/app/manifests/v1", "LINK /v2/team/app/blobs/uploads/", "PRI *", "TRACE /", "BREW /-/login", "BREW /-/token", "DELETE /-/token", "PUT /-/healthz", "POST /", "DELETE /team/app:v1", "OPTIONS /team/app", "OPTIONS /v2/team/app/manifests/v1",
	} {
		add("target or method", line+host)
	}
	for _, version := range []string{"HTTP/1.0", "HTTP/1.2", "HTTP/1.9"} {
		add("version", "GET /v2/ "+version+"\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n", 200, 401, 403)
	}
	// net/http says 505 itself, which is right: RFC 9110, 15.6.6.
	for _, version := range []string{"HTTP/2.0", "HTTP/3", "HTTP/0.9", "HTTP/9.9", "HTTPS/1.1", "http/1.1", "HTTP/1", "HTTP/1.1.1", "HTTP/-1.1", "HTTP/1.1 x"} {
		add("version", "GET /v2/ "+version+"\r\nHost: localhost\r\n\r\n", 400, 505)
	}
	for _, header := range []string{
		"Host: localhost\r\nHost: localhost", "X: y", "Host: a b", "Host: <script>", "Host: localhost\r\nno colon", "Host: localhost\r\n: no name", "Host: localhost\r\nX y: z", "Host: localhost\r\nX\x00: y", "Host: localhost\r\nX: a\x00b",
		"Host: localhost\r\n X: folded first", "Host: localhost\r\nX : y", "Host : localhost", "Host: localhost\r\nContent-Length : 5",
	} {
		// A header that is folded before any header, or after it, is read on by net/http as RFC 9112, 5.2 allows.
		add("header", "GET /v2/ HTTP/1.1\r\n"+header+"\r\n\r\n", 200, 400, 401)
	}
	add("65 KiB of headers", "GET /v2/ HTTP/1.1\r\nHost: localhost\r\nX: "+strings.Repeat("x", 65<<10)+"\r\n\r\n", 431)
	add("5000 headers", "GET /v2/ HTTP/1.1\r\nHost: localhost\r\n"+strings.Repeat("X: y\r\n", 15_000)+"\r\n", 431)
	add("1 MiB of credentials", "GET /v2/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic "+strings.Repeat("QUFB", 256<<10)+"\r\n\r\n", 431)
	add("1 MiB of target", "GET /v2/"+strings.Repeat("a", 1<<20)+" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431)
	for _, raw := range []string{"GET", "GET /v2/ HTTP/1.1\r\n", "GET /v2/ HTTP/1.1\r\nHost: loc", "\r\n\r\n", "\n", "\x16\x03\x01\x02\x00\x01\x00", "\x00", "SSH-2.0-x\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"} {
		all = append(all, probe{what: "no request", raw: raw, cut: true, want: []int{400, 401, 404, 405, 505}})
	}
	return all
}

// framings say in two ways where a request ends. Where both are understood they must be refused, or the connection closed:
// what is hidden in the bytes is never answered.
func framings() (all []probe) {
	const hidden = "GET /v2/smuggled/tags/list HTTP/1.1\r\nHost: localhost\r\nX: "
	add := func(what, headers, body string, cut bool, want ...int) {
		for _, target := range []string{"/v2/team/app/blobs/uploads/", "/v2/team/app/manifests/none", "/-/login", "/-/token"} {
			all = append(all, probe{what: what, raw: "POST " + target + " HTTP/1.1\r\nHost: localhost\r\n" + headers + "\r\n" + body, cut: cut, want: want})
		}
	}
	chunk := func(body string) string { return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body) }
	hide := fmt.Sprintf("0\r\n\r\n%s", hidden)
	for _, te := range []string{
		"Transfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "Transfer-Encoding: identity", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: chunked, identity", "Transfer-Encoding: xchunked",
		"Transfer-Encoding:\tchunked", "Transfer-Encoding: \x0bchunked", "Transfer-Encoding : chunked", " Transfer-Encoding: chunked", "X: y\r\n Transfer-Encoding: chunked", "Transfer-Encoding: \"chunked\"", "Transfer-Encoding: chunked;x=y",
		"transfer-encoding: CHUNKED", "Transfer-Encoding: cow\r\nTransfer-Encoding: chunked", "Transfer-Encoding:\r\n chunked", "X: y\nTransfer-Encoding: chunked", "Transfer_Encoding: chunked",
	} {
		// net/http does not know every coding, and says 501 itself, which is right: RFC 9112, 6.1.
		lengths := []int{len(hide), 4, 0}
		if !strings.HasPrefix(te, "Transfer-Encoding:") {
			lengths = lengths[:1] // not all of them are that header: only where both ways end the request at the same byte
		}
		for _, length := range lengths {
			add("TE and CL", fmt.Sprintf("Content-Length: %d\r\n%s\r\n", length, te), hide, false, 200, 202, 303, 400, 401, 403, 404, 405, 408, 501)
		}
		all = append(all, probe{what: "TE of HTTP/1.0", raw: "POST /v2/team/app/blobs/uploads/ HTTP/1.0\r\nHost: localhost\r\n" + te + "\r\n\r\n" + chunk("x"), want: []int{202, 400, 401, 403, 405, 501}})
	}
	for _, cl := range []string{"-1", "+5", "5, 5", "5,6", "0x5", "5 5", "99999999999999999999", "5e0", "five", "\"5\"", "5\r\nContent-Length: 6", "5;", "٥", "-0", "5\x00", "5\r\n 6"} {
		add("Content-Length", "Content-Length: "+cl+"\r\n", "hello", false, 400)
	}
	add("Content-Length of nothing", "Content-Length:\r\n", "hello", true)
	add("huge Content-Length", "Content-Length: 9223372036854775807\r\n", "hello", true, 200, 202, 303, 400, 401, 403, 404, 405, 408, 413)
	add("short body", "Content-Length: 500000\r\n", "hello", true, 200, 202, 303, 400, 401, 403, 404, 405, 408)
	for _, body := range []string{
		"5;ext=\"\r\n\"\r\nhello\r\n0\r\n\r\n", "5;" + strings.Repeat("x", 20<<10) + "\r\nhello\r\n0\r\n\r\n", "5\nhello\n0\n\n", "0x5\r\nhello\r\n0\r\n\r\n", "-5\r\nhello\r\n0\r\n\r\n", "ffffffffffffffffff\r\nhello\r\n0\r\n\r\n", "5 \r\nhello\r\n0\r\n\r\n",
		"5\r\nhelloXX0\r\n\r\n", "5\r\nhello0\r\n\r\n", "\r\n", "g\r\n", "5\r\nhel", "5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n", "5\r\nhello\r\n0\r\nX y: z\r\n\r\n", "5\rhello\r\n0\r\n\r\n", "5\r\nhello\r\n00\r\n\r\n", "8000000000000000\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\n" + strings.Repeat("X: y\r\n", 20_000) + "\r\n",
	} {
		add("chunks", "Transfer-Encoding: chunked\r\n", body, strings.HasPrefix(body, "80000000"))
	}
	for _, method := range []string{"GET", "HEAD", "DELETE", "OPTIONS"} {
		all = append(all, probe{what: "body where none belongs", message: message{method: method, target: "/v2/absent/app/manifests/v1", body: hidden}})
		all = append(all, probe{what: "unread chunks", raw: method + " /v2/absent/app/manifests/v1 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(hidden)})
	}
	all = append(all, probe{what: "large unread body", message: message{method: "PUT", target: "/v2/UPPER/manifests/v1", body: strings.Repeat(hidden, 20_000)}, want: []int{400, 401}})
	all = append(all, probe{what: "bare line feeds", raw: "GET /v2/absent/app/tags/list HTTP/1.1\nHost: localhost\n\n", want: []int{400, 401, 404}})
	all = append(all, probe{what: "bare carriage returns", raw: "GET /v2/ HTTP/1.1\rHost: localhost\r\r\r\n\r\n", want: []int{400}})
	return all
}

// manifests are refused for what they are (400, MANIFEST_INVALID), and before anything of them is kept.
func manifests() (all []probe) {
	dgst := process.Digest([]byte("absent"))
	d := fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":6}`, dgst)
	image := func(rest string) string { return `{"schemaVersion":2,"config":` + d + rest + `}` }
	add := func(what, mediaType, body string) {
		for _, target := range []string{"/v2/team/app/manifests/none", "/v2/absent/app/manifests/" + process.Digest([]byte(body))} {
			p := probe{what: what, message: message{method: "PUT", target: target, body: body}, want: []int{400}, code: "MANIFEST_INVALID"}
			if mediaType != "" {
				p.headers = []string{"Content-Type: " + mediaType}
			}
			all = append(all, p)
		}
	}
	for what, body := range map[string]string{
		"deep": image(`,"x":` + strings.Repeat("[", 200) + strings.Repeat("]", 200)), "very deep": `{"x":` + strings.Repeat("[", 1_000_000), "duplicate key": image(`,"config":` + d), "case of a key": image(`,"Layers":[]`), "case of both": image(`,"layers":[],"LAYERS":[]`),
		"trailing data": image(`,"layers":[]`) + "{}", "trailing word": image(`,"layers":[]`) + " x", "schemaVersion 1": `{"schemaVersion":1}`, "schemaVersion text": `{"schemaVersion":"2","config":` + d + `,"layers":[]}`, "schemaVersion huge": `{"schemaVersion":99999999999999999999,"config":` + d + `,"layers":[]}`,
		"mediaType of an index": image(`,"layers":[],"mediaType":"application/vnd.oci.image.index.v1+json"`), "image and index": image(`,"layers":[],"manifests":[]`), "invalid UTF-8": image(`,"layers":[],"annotations":{"a":"` + "\xff" + `"}`), "NUL": image(`,"layers":[]`) + "\x00", "BOM": "\xef\xbb\xbf" + image(`,"layers":[]`),
		"negative size": image(`,"layers":[{"mediaType":"a/b","digest":"` + dgst + `","size":-1}]`), "huge size": image(`,"layers":[{"mediaType":"a/b","digest":"` + dgst + `","size":99999999999999999999}]`), "size text": image(`,"layers":[{"mediaType":"a/b","digest":"` + dgst + `","size":"5"}]`), "size of a float": image(`,"layers":[{"mediaType":"a/b","digest":"` + dgst + `","size":1.5}]`),
		"digest of nothing": image(`,"layers":[{"mediaType":"a/b","digest":"","size":5}]`), "digest with a path": image(`,"layers":[{"mediaType":"a/b","digest":"sha256:../../cubby.db","size":5}]`), "digest in capitals": image(`,"layers":[{"mediaType":"a/b","digest":"sha256:` + strings.Repeat("A", 64) + `","size":5}]`), "layers of no list": image(`,"layers":{}`), "annotations of no object": image(`,"layers":[],"annotations":[]`), "annotation of a number": image(`,"layers":[],"annotations":{"a":5}`),
		"subject of nothing": image(`,"layers":[],"subject":{}`), "subject of no object": image(`,"layers":[],"subject":[]`), "a million values": image(`,"layers":[],"x":[` + strings.Repeat("0,", 1_000_000) + "0]"), "a million objects": image(`,"layers":[],"x":[` + strings.Repeat("{},", 1_000_000) + "{}]"), "empty": "", "array": "[]", "null": "null", "text": `"x"`, "half": image("")[:60], "HTML": "<html></html>", "gzip": "\x1f\x8b\x08\x00", "spaces": strings.Repeat(" ", 1<<20), "control character": image(`,"layers":[],"annotations":{"a":"` + "\x01" + `"}`), "lone surrogate key": `{"\ud800":1,"\ud800":2}`, "comment": "// x\n{}", "NaN": `{"schemaVersion":NaN}`, "single quotes": `{'schemaVersion':2}`,
	} {
		add(what, process.MediaTypeImage, body)
	}
	for _, mediaType := range []string{"text/html", "application/octet-stream", "x", ";", "a/b/c", process.MediaTypeIndex, "application/vnd.docker.distribution.manifest.v1+json", "application/vnd.docker.distribution.manifest.v1+prettyjws"} {
		add("Content-Type", mediaType, image(`,"mediaType":"`+process.MediaTypeImage+`","layers":[]`))
	}
	add("no type at all", "", `{"schemaVersion":2}`)
	all = append(all,
		probe{what: "5 MiB", message: message{method: "PUT", target: "/v2/team/app/manifests/none", headers: []string{"Content-Type: " + process.MediaTypeImage}, body: strings.Repeat(" ", 5<<20)}, want: []int{413}, code: "MANIFEST_INVALID"},
		probe{what: "other digest", message: message{method: "PUT", target: "/v2/team/app/manifests/" + dgst, headers: []string{"Content-Type: " + process.MediaTypeImage}, body: image(`,"layers":[]`)}, want: []int{400}, code: "DIGEST_INVALID"},
		probe{what: "blobs missing", message: message{method: "PUT", target: "/v2/team/app/manifests/none", headers: []string{"Content-Type: " + process.MediaTypeImage}, body: image(`,"layers":[]`)}, want: []int{404}, code: "MANIFEST_BLOB_UNKNOWN"},
		probe{what: "101 tags", message: message{method: "PUT", target: "/v2/team/app/manifests/" + dgst + "?" + strings.Repeat("tag=a&", 101), body: "x"}, want: []int{414}, code: "MANIFEST_INVALID"},
	)
	return all
}

// uploads go against what an upload session allows.
func uploads() (all []probe) {
	add := func(what, session, method, query, contentRange, body string, status int, code string) {
		p := probe{what: what, session: session, message: message{method: method, target: "{session}" + query, body: body}, want: []int{status}, code: code}
		if contentRange != "" {
			p.headers = []string{"Content-Range: " + contentRange}
		}
		all = append(all, p)
	}
	digest := "?digest=" + process.Digest([]byte("absent"))
	for _, method := range []string{"PATCH", "PUT", "GET", "DELETE"} {
		for _, session := range []string{"cancelled", "finished", "elsewhere"} {
			add(method+" on a session that is "+session, session, method, digest, "", "x", 404, "BLOB_UPLOAD_UNKNOWN")
		}
	}
	for _, method := range []string{"PATCH", "PUT"} {
		query := ""
		if method == "PUT" {
			query = digest
		}
		for _, wrong := range []string{"0-4", "9-13", "11-15", "1000-1004", "999999999999999990-999999999999999994"} {
			add(method+" out of order", "begun", method, query, wrong, "hello", 416, "BLOB_UPLOAD_INVALID")
		}
		for _, wrong := range []string{"10-15", "10-10", "10-999999999999999999"} {
			add(method+" of another length", "begun", method, query, wrong, "hello", 400, "SIZE_INVALID")
		}
		for _, wrong := range []string{"14-10", "-5", "10-", "10", "a-b", "10-99999999999999999999", "bytes */5", "10-14,20-24", "+10-+14", "0x0a-0x0e", "10 - 14", "items 10-14"} {
			add(method+" Content-Range", "begun", method, query, wrong, "hello", 400, "BLOB_UPLOAD_INVALID")
		}
	}
	add("PUT without a digest", "begun", "PUT", "", "", "x", 400, "DIGEST_INVALID")
	for _, wrong := range []string{"", "x", "sha256:0", "md5:" + strings.Repeat("0", 32), "sha256:../..", "sha256:" + strings.Repeat("0", 64) + "%00"} {
		add("PUT of a digest", "begun", "PUT", "?digest="+wrong, "", "x", 400, "DIGEST_INVALID")
	}
	add("PUT of other bytes", "begun", "PUT", digest, "", "x", 400, "DIGEST_INVALID")
	add("POST on a session", "begun", "POST", "", "", "x", 405, "UNSUPPORTED")
	add("session below a session", "begun", "GET", "/x", "", "", 404, "UNSUPPORTED")
	add("mount without a digest", "", "POST", "/v2/absent/app/blobs/uploads/?mount=x&from=team/app", "", "", 400, "DIGEST_INVALID")
	add("whole blob of other bytes", "", "POST", "/v2/absent/app/blobs/uploads/"+digest, "", "other", 400, "DIGEST_INVALID")
	add("whole blob of an algorithm", "", "POST", "/v2/absent/app/blobs/uploads/?digest=md5:0", "", "other", 400, "DIGEST_INVALID")
	return all
}

// ranges ask for parts of a blob of the sample, which has 1000 bytes.
func ranges() (all []probe) {
	target := "/v2/team/app/blobs/" + process.RandomBlob(1, 1000).Digest
	for value, status := range map[string]int{
		"bytes=0-0": 206, "bytes=-1": 206, "bytes=999-": 206, "bytes=0-9999": 206, "bytes=-9999": 206, "bytes=1000-": 416, "bytes=1001-2000": 416, "bytes=5-1": 416, "bytes=a-b": 416, "bytes=--1": 416, "chunks=0-1": 416, "bytes": 416,
		"bytes=0-1,2000-": 206, "bytes=0-1,5-6": 206, "bytes=99999999999999999999-": 416, "bytes=0-99999999999999999999": 416, "bytes=" + strings.Repeat("0-999,", 500): 200, "bytes=": 200,
	} {
		all = append(all, probe{what: "Range " + value[:min(30, len(value))], message: message{target: target, headers: []string{"Range: " + value}}, want: []int{status}})
	}
	all = append(all, probe{what: "a manifest as a blob", message: message{target: "/v2/team/app/blobs/" + process.Digest([]byte("{}"))}, want: []int{404}, code: "BLOB_UNKNOWN"})
	return all
}

// logins are credentials that prove nothing, which a registry without users does not look at.
func logins() (all []probe) {
	for _, value := range []string{
		"Basic", "Basic ", "Basic =", "Basic !!!!", "Basic bm9jb2xvbg==", "Basic AGE6AGI=", "Basic /////w==", "Basic YWxpY2U6d3Jvbmc=", "Basic YWxpY2U=", "Basic\tYWxpY2U6d3Jvbmc=", "Basic YWxpY2U6Y29ycmVjdCBob3JzZQ", "Basic  YWxpY2U6Y29ycmVjdCBob3JzZQ==", "Basic YWxpY2U6Y29ycmVjdCBob3JzZQ== x",
		"Basic " + strings.Repeat("QUFB", 7000), "Bearer", "Bearer ", "Bearer x", "Bearer a.b.c", "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.", "Bearer \xff", "Digest username=\"alice\"", "AWS4-HMAC-SHA256 x", "cubby", "\"Basic\" x", "Basic YWxpY2U6d3Jvbmc=, Basic YWxpY2U6Y29ycmVjdCBob3JzZQ==",
	} {
		for _, target := range []string{"/v2/", "/v2/team/app/manifests/v1", "/-/token?scope=repository:team/app:pull", "/team/app"} {
			all = append(all, probe{what: "credentials", message: message{target: target, headers: []string{"Authorization: " + value}}})
		}
	}
	return all
}
