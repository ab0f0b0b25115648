//go:build faults

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cubby/scripts/figures"
	"cubby/scripts/process"
)

const (
	// answerMax is how long anything may take on one connection. The server's own limits are 10 s for headers and 1 s
	// for a body that nobody reads.
	answerMax = 20 * time.Second
	// alice is the user of the server that has one, with the password "correct horse".
	alice = "Authorization: Basic YWxpY2U6Y29ycmVjdCBob3JzZQ=="
	// readAhead is how much net/http reads at once.
	readAhead = 4 << 10
	// senders bounds the connections at a time.
	senders = 8
)

// codes are those of the spec ("Error Codes").
var codes = strings.Fields(`BLOB_UNKNOWN BLOB_UPLOAD_INVALID BLOB_UPLOAD_UNKNOWN DIGEST_INVALID MANIFEST_BLOB_UNKNOWN
	MANIFEST_INVALID MANIFEST_UNKNOWN NAME_INVALID NAME_UNKNOWN SIZE_INVALID UNAUTHORIZED DENIED UNSUPPORTED TOOMANYREQUESTS`)

// A malformed is what TestMalformed has seen so far.
type malformed struct {
	t       *testing.T
	server  *process.Server
	c       *process.Client // with the credentials of headers, if any
	headers []string        // key and value by turns, of a user who may do everything
	users   bool            // requests without credentials are refused

	sent, internal, hangs, differences, smuggled, own atomic.Int64
}

// TestMalformed sends requests that no client sends, as raw bytes, to a registry that everybody may push to and to one
// with users. Whatever they are, the answer is no 5xx and comes in time, is the error of the spec on the API's paths,
// has the headers of a GET for a HEAD, and nothing in the bytes becomes a request that was not meant to be one.
// Afterwards the registry holds what it held before. CUBBY_SIZE is the number of distinct requests.
func TestMalformed(t *testing.T) {
	size, seed := figures.Size(t, 400), figures.Seed(t)
	probes := generate(seed, size)
	seen := malformed{t: t}
	for _, users := range []bool{false, true} {
		seen.serve(users, probes)
	}
	figures.Row{ID: "T-12", Test: "malformed requests as raw bytes to the API and the pages, to a registry open to all and to one with users", Seed: seed,
		Figures: []figures.Figure{
			figures.Count("distinct requests", len(probes)), figures.Count("sent", int(seen.sent.Load())),
			figures.Count("5xx", int(seen.internal.Load())), figures.Count("hangs", int(seen.hangs.Load())),
			figures.Count("header differences of HEAD and GET", int(seen.differences.Load())),
			figures.Count("smuggled", int(seen.smuggled.Load())),
			figures.Count("refused by net/http before the registry saw them", int(seen.own.Load())),
		}}.Report(t)
}

// serve sends the requests to a server of its own.
func (m *malformed) serve(users bool, probes []probe) {
	t, dir := m.t, process.Dir(m.t)
	m.users, m.headers = users, nil
	args := []string{"--anonymous", "push"}
	if users {
		args = []string{"--anonymous", "none"}
	}
	m.server = process.Program(t, args...).Start(t, dir)
	m.c = process.NewClient(m.server.URL)
	sample := m.c.PushSample(t)
	if users {
		add := process.Program(t, "user", "add", "alice", "--password-stdin", "--data", dir)
		add.Stdin = "correct horse\n"
		add.Want(t, 0)
		name, value, _ := strings.Cut(alice, ": ")
		m.headers = []string{name, value}
	}
	before := m.state(dir)
	next := make(chan int)
	var running sync.WaitGroup
	for range senders {
		running.Go(func() {
			for i := range next {
				m.send(i, probes[i])
			}
		})
	}
	for i := range probes {
		next <- i
	}
	close(next)
	running.Wait()
	if after := m.state(dir); after != before {
		t.Errorf("malformed requests changed what is there from\n%s\nto\n%s", before, after)
	}
	m.c.Close()
	m.server.Stop(t)
	if strings.Contains(m.server.Log(), "panic") {
		t.Error("a handler panicked")
	}
	if found := process.Program(t).Problems(t, dir); len(found) > 0 {
		t.Error(found)
	}
	again := process.Program(t, "--anonymous", "pull").Start(t, dir)
	process.NewClient(again.URL).WantSample(t, sample)
	again.Stop(t)
}

// state is what the registry lists, and the files of its blobs.
func (m *malformed) state(dir string) string {
	var b strings.Builder
	for _, path := range []string{"/v2/_catalog", "/v2/team/app/tags/list", "/v2/team/other/tags/list"} {
		b.Write(m.c.Want(m.t, http.StatusOK, "GET", path, nil, m.headers...).Body)
	}
	for _, algorithm := range []string{"sha256", "sha512"} {
		err := filepath.WalkDir(filepath.Join(dir, "blobs", algorithm), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err == nil {
				fmt.Fprintf(&b, "%s %d\n", d.Name(), info.Size())
			}
			return err
		})
		if err != nil {
			m.t.Fatal(err)
		}
	}
	return b.String()
}

// send sends one request and, if it is a GET, its HEAD.
func (m *malformed) send(i int, p probe) {
	known := m.users && i%2 == 0
	location, err := m.session(p.session)
	if err != nil {
		m.t.Errorf("%s: a session for it: %v", p.what, err)
		return
	}
	text := strings.ReplaceAll(p.bytes(known), "{session}", location)
	get := m.exchange(i, p, p.method(), text, known)
	rest, ok := strings.CutPrefix(text, "GET ")
	diff := ""
	// What net/http refuses before it knows the method is answered with a body. A page that tells how far
	// something is may be another by then.
	for try := 0; ok && get != nil && !isOwn(*get) && try < 3; try++ {
		head := m.exchange(i, p, http.MethodHead, "HEAD "+rest, known)
		if head == nil {
			return
		}
		if diff = compareHead(p, *get, *head); diff == "" {
			return
		}
		get = m.exchange(i, p, http.MethodGet, text, known)
	}
	if diff != "" {
		m.differences.Add(1)
		m.t.Errorf("%s: HEAD is not as GET: %s\n%.300q", p.what, diff, text)
	}
}

// exchange sends a request and a plain one behind it on the same connection, and judges what comes back. It returns the
// answer to the first, or nil.
func (m *malformed) exchange(i int, p probe, method, text string, known bool) *process.Answer {
	m.sent.Add(1)
	canary := fmt.Sprintf("canary/n%d", i)
	plain := message{target: "/v2/" + canary + "/tags/list"}
	if m.users {
		plain.headers = []string{alice}
	}
	// Failed logins slow down others from their address.
	from := fmt.Sprintf("127.%d.%d.%d", 1+i>>14, i>>7&127, 1+i&127)
	answers, err := m.server.Exchange(from, []byte(text+plain.String()), p.cut, answerMax, method, http.MethodGet)
	fail := func(format string, args ...any) {
		m.t.Errorf("%s: %s\n%.300q", p.what, fmt.Sprintf(format, args...), text)
	}
	switch {
	case err != nil && strings.Contains(err.Error(), "timeout"):
		m.hangs.Add(1)
		fail("no end after %v and %d answers", answerMax, len(answers))
		return nil
	case err != nil:
		fail("%v", err)
		return nil
	case len(answers) == 0:
		// When net/http refuses headers behind which there is more than it has read, the reset of the connection may
		// overtake its answer.
		if !p.cut && len(text) < readAhead {
			fail("closed without an answer")
		}
		return nil
	}
	if len(answers) > 2 || len(answers) == 2 && !isCanary(answers[1], canary) {
		m.smuggled.Add(1)
		fail("answers to what was not asked: %d in all, the second %d %.300s", len(answers), answers[1].Status, answers[1].Body)
	}
	m.judge(p, method, answers[0], known, fail)
	return &answers[0]
}

func isCanary(a process.Answer, name string) bool {
	return a.Status == http.StatusNotFound && slices.Equal(errorCodes(a.Body), []string{"NAME_UNKNOWN"}) && bytes.Contains(a.Body, []byte(name))
}

// judge says what is wrong with the first answer.
func (m *malformed) judge(p probe, method string, a process.Answer, known bool, fail func(string, ...any)) {
	expected := slices.Contains(p.want, a.Status)
	if a.Status >= 500 && !expected {
		m.internal.Add(1)
		fail("status %d: %.300s", a.Status, a.Body)
	}
	refused := m.users && !known && a.Status == http.StatusUnauthorized
	if len(p.want) > 0 && !expected && !refused {
		fail("status %d, want one of %v: %.300s", a.Status, p.want, a.Body)
	}
	if isOwn(a) {
		m.own.Add(1)
		return
	}
	if a.Status < 400 || !isAPI(p, a) {
		return
	}
	if got := a.Header.Get("Content-Type"); got != "application/json" {
		fail("status %d with Content-Type %q", a.Status, got)
	}
	if method == http.MethodHead {
		return
	}
	got := errorCodes(a.Body)
	if len(got) == 0 || slices.ContainsFunc(got, func(code string) bool { return !slices.Contains(codes, code) }) {
		fail("status %d, no error of the spec: %.300s", a.Status, a.Body)
	} else if p.code != "" && got[0] != p.code && !refused {
		fail("status %d, code %s, want %s: %.300s", a.Status, got[0], p.code, a.Body)
	}
}

func isAPI(p probe, a process.Answer) bool {
	return a.Header.Get("Docker-Distribution-Api-Version") != "" || strings.HasPrefix(p.target, "/v2/")
}

// isOwn reports whether net/http refused a request itself: text, and the end of the connection.
func isOwn(a process.Answer) bool {
	return a.Header.Get("Connection") == "close" && a.Header.Get("X-Content-Type-Options") == "" &&
		slices.Contains([]int{400, 417, 431, 501, 505}, a.Status) && !bytes.HasPrefix(a.Body, []byte("{"))
}

// boundary is between the parts of an answer to several ranges.
var boundary = regexp.MustCompile(`; boundary=\w+$`)

func errorCodes(body []byte) (all []string) {
	var answer struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil
	}
	for _, e := range answer.Errors {
		all = append(all, e.Code)
	}
	return all
}

// compareHead tells where the answer to HEAD differs from the one to GET, but for what is new each time. Pages may leave
// out the length of what is made while it is sent (RFC 9110, 9.3.2).
func compareHead(p probe, get, head process.Answer) string {
	if get.Status != head.Status {
		return fmt.Sprintf("status %d, and %d to GET", head.Status, get.Status)
	}
	if len(head.Body) > 0 {
		return "it has a body"
	}
	for _, h := range []http.Header{get.Header, head.Header} {
		h.Del("Date")
		h.Set("Content-Type", boundary.ReplaceAllString(h.Get("Content-Type"), ""))
	}
	if !isAPI(p, get) && head.Header.Get("Content-Length") == "" {
		get.Header.Del("Content-Length")
	}
	for name := range get.Header {
		if !slices.Equal(get.Header[name], head.Header[name]) {
			return fmt.Sprintf("%s is %q, and %q to GET", name, head.Header[name], get.Header[name])
		}
	}
	for name := range head.Header {
		if _, ok := get.Header[name]; !ok {
			return fmt.Sprintf("%s is %q, and not there for GET", name, head.Header[name])
		}
	}
	return ""
}

// session opens the upload session that a request needs, and brings it into its state.
func (m *malformed) session(state string) (location string, err error) {
	if state == "" {
		return "", nil
	}
	ask := func(want int, method, path string, body string, headers ...string) {
		if err != nil {
			return
		}
		var a process.Answer
		if a, err = m.c.Do(method, path, []byte(body), append(headers, m.headers...)...); err == nil && a.Status != want {
			err = fmt.Errorf("%s %s: %d %s", method, path, a.Status, a.Body)
		}
		if location == "" {
			location = a.Header.Get("Location")
		}
	}
	ask(http.StatusAccepted, "POST", "/v2/team/app/blobs/uploads/", "")
	switch state {
	case "begun":
		ask(http.StatusAccepted, "PATCH", location, "0123456789", "Content-Range", "0-9")
	case "cancelled":
		ask(http.StatusNoContent, "DELETE", location, "")
	case "finished":
		blob := process.RandomBlob(1, 1000) // of the sample
		ask(http.StatusCreated, "PUT", location+"?digest="+blob.Digest, string(blob.Raw))
	case "elsewhere":
		location = strings.Replace(location, "team/app", "team/other", 1)
	}
	return location, err
}
