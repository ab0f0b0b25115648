package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cubby/scripts/process"
)

// TestBackupOrder reads from the system calls that a backup is on disk when its command ends with success: every file
// that it wrote after its last byte, and every name.
func TestBackupOrder(t *testing.T) {
	process.NeedTool(t, "strace")
	dir, target, trace := process.Dir(t), filepath.Join(process.Dir(t), "copy"), filepath.Join(process.Dir(t), "trace")
	s := cubby(t).Start(t, dir)
	c := process.NewClient(s.URL)
	config, layer := process.RandomBlob(1, 100), process.RandomBlob(2, 100_000)
	c.PushBlob(t, "team/app", config)
	c.PushBlob(t, "team/app", layer)
	c.PushManifest(t, "team/app", process.Image(config, layer), "latest")
	c.Close()
	s.Stop(t)

	traced := cubby(t, "backup", "--data", dir, target)
	traced.Wrap = append(process.Strace(trace, "open,openat,mkdir,mkdirat,write,pwrite64,fsync,fdatasync,linkat,renameat,renameat2"),
		"-e", "inject=linkat:error=EXDEV") // as on another file system: blobs are copied
	traced.Want(t, 0)

	calls := process.ReadTrace(t, trace)
	end := process.Call{Start: calls[len(calls)-1].End + 1}
	for _, err := range process.CheckNames(calls, []process.Call{end}) {
		t.Error(err)
	}
	kept := []string{"/cubby.db", "/blobs/store.json.new"} // SQLite syncs what it writes; its copy is written by VACUUM INTO
	for _, blob := range []process.Content{config, layer} {
		encoded := strings.TrimPrefix(blob.Digest, "sha256:")
		kept = append(kept, "/blobs/sha256/"+encoded[:2]+"/"+encoded)
	}
	for _, name := range kept {
		written, synced := 0, 0
		for _, c := range calls {
			switch {
			case c.Is("write", "pwrite64") && c.On(target+name):
				written = max(written, c.End)
			case c.Is("fsync", "fdatasync") && c.Result == 0 && c.On(target+name):
				synced = max(synced, c.Start)
			}
		}
		if written == 0 || synced < written {
			t.Errorf("%s was last written on line %d of the trace and synced on line %d", name, written, synced)
		}
	}
	if !slices.ContainsFunc(calls, func(c process.Call) bool { return c.Is("linkat") }) {
		t.Error("no blob was linked, or tried to be")
	}
}
