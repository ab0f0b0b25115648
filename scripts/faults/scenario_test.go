//go:build faults

package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cubby/scripts/process"
)

// A base is a store of some age and what is in it. Trials work on copies.
type base struct {
	dir    string
	ledger *process.Ledger
	sample process.Sample

	garbage []string          // paths below /v2/ of what a collection removes
	files   []string          // and the files that go then, in the data directory
	fresh   []process.Content // blobs to push, none of which is in it
}

// newBase makes a base as it was long ago.
func newBase(t *testing.T) *base {
	t.Helper()
	b := &base{dir: filepath.Join(process.Dir(t), "base"), fresh: []process.Content{process.RandomBlob(21, 150<<10), process.RandomBlob(22, 1000)}}
	fillLongAgo(t, b.dir, func(c *process.Client) {
		b.ledger = process.NewLedger(c)
		b.sample = c.PushSample(t)
		b.ledger.HoldSample(b.sample)
		image := c.PushImage(t, "team/layered", []string{"v1"}, process.RandomBlob(5, 100), layer(t))
		b.ledger.Hold("/v2/team/layered/manifests/v1", image.Digest)
		b.pushGarbage(t, c)
	})
	// The reserve is there already: in the background its steps would come between those of a scenario.
	reserve := filepath.Join(b.dir, "reserve")
	if err := errors.Join(os.WriteFile(reserve, nil, 0o600), os.Truncate(reserve, reserveSize)); err != nil {
		t.Fatal(err)
	}
	// What an interrupted push or start leaves.
	stray := filepath.Join("blobs", "sha256", "ab", "ab"+strings.Repeat("0", 62))
	b.files = append(b.files, stray)
	for _, name := range []string{stray, "blobs/.uploads/INTERRUPTED", "tmp/interrupted"} {
		path := filepath.Join(b.dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("garbage"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	then := time.Now().Add(-longAgo)
	for _, name := range b.files {
		if err := os.Chtimes(filepath.Join(b.dir, name), then, then); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// pushGarbage pushes an image whose tag is deleted and a blob that no manifest names.
func (b *base) pushGarbage(t *testing.T, c *process.Client) {
	t.Helper()
	blobs := []process.Content{process.RandomBlob(11, 500), process.RandomBlob(12, 500), process.RandomBlob(13, 500)}
	image := c.PushImage(t, "team/old", []string{"v1"}, blobs[0], blobs[1])
	c.PushBlob(t, "team/old", blobs[2])
	c.Want(t, http.StatusAccepted, http.MethodDelete, "/v2/team/old/manifests/v1", nil)
	b.garbage = []string{"/v2/team/old/manifests/" + image.Digest}
	for _, blob := range blobs {
		b.addGarbage("team/old", blob)
	}
	b.addGarbage("team/other", b.sample.Other) // no manifest names it
}

func (b *base) addGarbage(name string, blob process.Content) {
	encoded := strings.TrimPrefix(blob.Digest, "sha256:")
	b.garbage = append(b.garbage, "/v2/"+name+"/blobs/"+blob.Digest)
	b.files = append(b.files, filepath.Join("blobs", "sha256", encoded[:2], encoded))
}

// layer returns a layer of one file.
func layer(t *testing.T) process.Content {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: "etc/motd", Mode: 0o644, Size: 5, Typeflag: tar.TypeReg})
	if err == nil {
		_, err = w.Write([]byte("hello"))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return process.Blob(b.Bytes())
}

// A scenario is what goes on while something goes wrong.
type scenario struct {
	name  string
	start bool // steps are counted from the start of the server, not from when it serves
	empty bool // on a directory that does not exist yet
	// optional is set when it may succeed though its steps fail: nothing of what they do is promised.
	optional bool
	// run returns an error when an answer is not a success. It must be able to run again, whatever it did before.
	run func(*trial) error
}

// scenarios are every way in which the program changes files or the database in steps.
var scenarios = []scenario{
	{name: "push in one POST", run: func(tr *trial) error {
		return tr.ledger.Post("team/app", tr.fresh[0], tr.fresh[0].Raw, "digest="+tr.fresh[0].Digest)
	}},
	{name: "push by POST and PUT", run: func(tr *trial) error { return tr.chunks(tr.fresh[0], len(tr.fresh[0].Raw)) }},
	{name: "push in chunks", run: func(tr *trial) error { return tr.chunks(tr.fresh[0], 60_000) }},
	{name: "mount", run: func(tr *trial) error {
		blob := tr.sample.Blobs[0]
		return tr.ledger.Post("team/new", blob, []byte{}, url.Values{"mount": {blob.Digest}, "from": {"team/app"}}.Encode())
	}},
	{name: "put a manifest with tags", run: func(tr *trial) error {
		return tr.ledger.Put("team/app", process.Image(tr.sample.Blobs[1], tr.sample.Blobs[0]), "v1", "v3", "v4")
	}},
	{name: "put an index", run: func(tr *trial) error {
		return tr.ledger.Put("team/app", process.Index(tr.sample.Images[1]), "index")
	}},
	{name: "retag", run: func(tr *trial) error { return tr.ledger.Put("team/app", tr.sample.Images[0], "latest") }},
	{name: "delete a tag", run: func(tr *trial) error { return tr.ledger.Delete("/v2/team/app/manifests/v1") }},
	{name: "delete a manifest", run: func(tr *trial) error {
		return tr.ledger.Delete("/v2/team/app/manifests/"+tr.sample.Index.Digest, "/v2/team/app/manifests/all")
	}},
	{name: "delete a blob", run: func(tr *trial) error {
		return tr.ledger.Delete("/v2/team/other/blobs/" + tr.sample.Other.Digest)
	}},
	{name: "collect", run: (*trial).collect},
	{name: "back up by links", run: func(tr *trial) error { return tr.backUp(filepath.Join(tr.home, fmt.Sprint("backup", tr.runs))) }},
	{name: "back up by copies", run: func(tr *trial) error { return tr.backUp(filepath.Join(tr.apart, fmt.Sprint("backup", tr.runs))) }},
	{name: "first start", start: true, empty: true, run: func(tr *trial) error {
		return tr.ledger.Post("team/app", tr.fresh[1], tr.fresh[1].Raw, "digest="+tr.fresh[1].Digest)
	}},
	{name: "start", start: true, run: func(tr *trial) error { return tr.chunks(tr.fresh[1], 600) }},
	{name: "look into a layer", optional: true, run: func(tr *trial) error {
		answer, err := tr.ledger.Do(http.MethodGet, "/team/layered:v1/-/files/etc", nil)
		if err == nil && (answer.Status != http.StatusOK || !bytes.Contains(answer.Body, []byte("motd"))) {
			err = fmt.Errorf("page of files: status %d, no motd: %s", answer.Status, answer.Body)
		}
		return err
	}},
}

// chunks pushes a blob through a session, size bytes at a time and the rest with the PUT.
func (tr *trial) chunks(blob process.Content, size int) error {
	location, err := tr.ledger.Session("team/app")
	if err != nil {
		return err
	}
	rest := blob.Raw
	for ; len(rest) > size; rest = rest[size:] {
		answer, err := tr.ledger.Do(http.MethodPatch, location, rest[:size])
		if err == nil && answer.Status != http.StatusAccepted {
			err = fmt.Errorf("PATCH: status %d: %s", answer.Status, answer.Body)
		}
		if err != nil {
			return err
		}
	}
	return tr.ledger.Finish("team/app", location, blob, rest)
}

// collect removes the garbage. What an earlier collection left must be gone after it.
func (tr *trial) collect() error {
	for _, path := range tr.garbage {
		tr.ledger.Forget(path)
	}
	if err := tr.command("gc", "--now", "--data", tr.data); err != nil {
		return err
	}
	for _, path := range tr.garbage {
		tr.ledger.Hold(path, "")
	}
	for _, file := range tr.files {
		if _, err := os.Lstat(filepath.Join(tr.data, file)); tr.runs > 1 && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%s was not collected: %v", file, err)
		}
	}
	return nil
}

// backUp makes a backup, which must be whole. One that was cut must not pass for one.
func (tr *trial) backUp(dir string) error {
	err := tr.command("backup", "--data", tr.data, dir)
	if _, missing := os.Stat(dir); err != nil && missing != nil {
		return err
	}
	check := process.Program(tr.t, "check", "--deep", "--data", dir).Run(tr.t)
	if err == nil && check.Code != 0 || err != nil && strings.Contains(check.Stdout, "checked") && check.Code != 0 {
		tr.t.Errorf("backup in %s: %v, check exits with %d\n%s%s", dir, err, check.Code, check.Stdout, check.Stderr)
	}
	return err
}

// command runs a command of the program beside the server.
func (tr *trial) command(args ...string) error {
	r := process.Program(tr.t, args...).Run(tr.t)
	if r.Code != 0 {
		return fmt.Errorf("cubby %s: exit %d: %s", args[0], r.Code, r.Stderr)
	}
	return nil
}
