package process

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
)

// A Ledger is a client that knows what must be served: all of an acknowledged write, and of one that was refused or never
// answered all or nothing.
type Ledger struct {
	*Client
	held map[string]string   // path → digest of what GET returns, "" for 404
	open []map[string]string // what writes that were not acknowledged would have made of held
}

// NewLedger returns a ledger of nothing.
func NewLedger(c *Client) *Ledger { return &Ledger{Client: c, held: make(map[string]string)} }

// Of returns a copy that goes on with another server.
func (l *Ledger) Of(c *Client) *Ledger {
	return &Ledger{Client: c, held: maps.Clone(l.held), open: slices.Clone(l.open)}
}

// Hold notes what is known to be served at a path; "" is nothing.
func (l *Ledger) Hold(path, dgst string) { l.held[path] = dgst }

// Forget notes that what is served at a path is not known.
func (l *Ledger) Forget(path string) { delete(l.held, path) }

// HoldSample notes a sample.
func (l *Ledger) HoldSample(s Sample) {
	for tag, m := range s.tags() {
		l.Hold("/v2/team/app/manifests/"+tag, m.Digest)
		l.Hold("/v2/team/app/manifests/"+m.Digest, m.Digest)
	}
	for _, blob := range s.Blobs {
		l.Hold("/v2/team/app/blobs/"+blob.Digest, blob.Digest)
	}
	l.Hold("/v2/team/other/blobs/"+s.Other.Digest, s.Other.Digest)
}

// Write sends a write whose whole effect is known. Another status than want is an error.
func (l *Ledger) Write(effect map[string]string, want int, method, path string, body []byte, headers ...string) error {
	l.open = append(l.open, effect)
	answer, err := l.Do(method, path, body, headers...)
	if err == nil && answer.Status != want {
		err = &answerError{method + " " + path, answer, want}
	}
	if err != nil {
		return err
	}
	l.open = slices.DeleteFunc(l.open, func(e map[string]string) bool { return maps.Equal(e, effect) })
	maps.Copy(l.held, effect)
	return nil
}

// Session opens an upload session and returns its location.
func (l *Ledger) Session(name string) (location string, err error) {
	answer, err := l.must(http.StatusAccepted, http.MethodPost, "/v2/"+name+"/blobs/uploads/", nil)
	return answer.Header.Get("Location"), err
}

// Finish ends an upload session with the last bytes of a blob.
func (l *Ledger) Finish(name, location string, blob Content, last []byte) error {
	effect := map[string]string{"/v2/" + name + "/blobs/" + blob.Digest: blob.Digest}
	return l.Write(effect, http.StatusCreated, http.MethodPut, location+"?digest="+blob.Digest, last)
}

// Post pushes a blob in one request, which has further parameters.
func (l *Ledger) Post(name string, blob Content, body []byte, params string) error {
	effect := map[string]string{"/v2/" + name + "/blobs/" + blob.Digest: blob.Digest}
	return l.Write(effect, http.StatusCreated, http.MethodPost, "/v2/"+name+"/blobs/uploads/?"+params, body)
}

// Put puts a manifest by digest, and under tags.
func (l *Ledger) Put(name string, m Content, tags ...string) error {
	path := "/v2/" + name + "/manifests/"
	effect := map[string]string{path + m.Digest: m.Digest}
	for _, tag := range tags {
		effect[path+tag] = m.Digest
	}
	return l.Write(effect, http.StatusCreated, http.MethodPut, path+m.Digest+"?"+url.Values{"tag": tags}.Encode(), m.Raw, "Content-Type", m.MediaType)
}

// Delete deletes what is at a path, and with it what is at others. What is gone already is no error when it may have
// been deleted before.
func (l *Ledger) Delete(path string, others ...string) error {
	want := http.StatusAccepted
	effect := map[string]string{path: ""}
	for _, other := range others {
		effect[other] = ""
	}
	if slices.ContainsFunc(l.open, func(e map[string]string) bool { _, ok := e[path]; return ok }) || l.held[path] == "" {
		answer, err := l.Do(http.MethodGet, path, nil)
		if err != nil {
			return err
		}
		if answer.Status == http.StatusNotFound {
			want = http.StatusNotFound
		}
	}
	return l.Write(effect, want, http.MethodDelete, path, nil)
}

// Settle is Verify after a restart: what a refused write has come to, once there was no process any more that could tell,
// is what must stay.
func (l *Ledger) Settle() (lost, corrupt []string, err error) {
	lost, corrupt, found, err := l.compare()
	if err == nil {
		l.held, l.open = found, nil
	}
	return lost, corrupt, err
}

// Verify reads everything back. lost are acknowledged writes that do not hold, corrupt is content that is not what its
// digest says, or a write of which only a part is there.
func (l *Ledger) Verify() (lost, corrupt []string, err error) {
	lost, corrupt, _, err = l.compare()
	return lost, corrupt, err
}

func (l *Ledger) compare() (lost, corrupt []string, found map[string]string, err error) {
	found = make(map[string]string)
	for _, effects := range append([]map[string]string{l.held}, l.open...) {
		for path := range effects {
			answer, err := l.Do(http.MethodGet, path, nil)
			switch {
			case err != nil:
				return nil, nil, nil, err
			case answer.Status == http.StatusOK:
				found[path] = Digest(answer.Body)
			case answer.Status == http.StatusNotFound:
				found[path] = ""
			default:
				corrupt = append(corrupt, fmt.Sprintf("%s: status %d: %s", path, answer.Status, answer.Body))
			}
		}
	}
	settled := make(map[string]bool)
	for _, effect := range l.open {
		whole, absent := true, true
		for path, dgst := range effect {
			whole = whole && found[path] == dgst
			absent = absent && found[path] == l.held[path]
			settled[path] = true
		}
		if !whole && !absent {
			corrupt = append(corrupt, fmt.Sprintf("a part of %v: found %v", effect, found))
		}
	}
	for path, dgst := range l.held {
		switch got := found[path]; {
		case got == dgst || settled[path]:
		case got == "" || dgst == "":
			lost = append(lost, fmt.Sprintf("%s: found %q, want %q", path, got, dgst))
		default:
			corrupt = append(corrupt, fmt.Sprintf("%s: found %q, want %q", path, got, dgst))
		}
	}
	return lost, corrupt, found, nil
}
