package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cubby/gc"
	"cubby/gc/policy"
	"cubby/scripts/figures"
	"cubby/scripts/process"
	"cubby/server"
	"cubby/server/auth"
	"cubby/server/cli"
	"cubby/store"
)

// These tests run the program as its users do: real processes, real files, real HTTP on loopback. What they need beyond
// Go (root, strace) must be there in CI, and is otherwise skipped.

func TestMain(m *testing.M) { process.Main(m) }

func cubby(t *testing.T, args ...string) process.Command {
	t.Helper()
	return process.Program(t, args...)
}

// TestKill ends the server with SIGKILL again and again, under load and while it starts, and asks after each restart
// whether every acknowledged write holds (I1) and the store is whole (I2 to I6). CUBBY_SIZE is the number of kills.
func TestKill(t *testing.T) {
	kills := 20
	if testing.Short() {
		kills = 3
	}
	kills = figures.Size(t, kills)
	seed := figures.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 1<<32))
	dir, workload := process.Dir(t), process.NewWorkload(seed)
	var ready []time.Duration
	var allLost, allCorrupt []string
	var s *process.Server
	for kill := range kills {
		if kill%5 > 0 {
			workload.Interrupt(t, s, time.Duration(5+rng.IntN(396))*time.Millisecond, func(end *process.End) { end.Kill(s) })
		} else { // while it starts; the first of all falls into the making of the store
			if s != nil {
				s.Kill()
			}
			s = cubby(t).Launch(t, dir)
			time.Sleep(time.Duration(rng.IntN(40)) * time.Millisecond) // nothing is waited for: this is when the kill comes
			s.Kill()
		}
		s = cubby(t).Start(t, dir)
		ready = append(ready, s.Ready) // one for each kill
		allCorrupt = append(allCorrupt, problems(t, dir)...)
		lost, corrupt, err := workload.Verify(s.URL)
		if err != nil {
			t.Fatalf("kill %d: %v", kill+1, err)
		}
		allLost, allCorrupt = append(allLost, lost...), append(allCorrupt, corrupt...)
		if t.Failed() || len(allLost)+len(allCorrupt) > 0 {
			t.Errorf("after kill %d:\n%s", kill+1, strings.Join(slices.Concat(allLost, allCorrupt), "\n"))
			break
		}
	}
	slices.Sort(ready)
	figures.Row{ID: "T-1", Test: "kill -9 under load and while starting, then every acknowledged write is read back", Seed: seed, Figures: []figures.Figure{
		figures.Count("kills", len(ready)), figures.Count("acknowledged writes", workload.Acked()),
		figures.Count("lost", len(allLost)), figures.Count("corrupt", len(allCorrupt)),
		figures.Time("until ready, median", ready[len(ready)/2]), figures.Time("at most", ready[len(ready)-1]),
	}}.Report(t)
}

func problems(t *testing.T, dir string) []string {
	t.Helper()
	return cubby(t).Problems(t, dir)
}

// A push is one write of TestPushOrder: how it was sent and what must be on disk before its 201.
type push struct {
	how     string
	content process.Content
}

// TestPushOrder reads from the system calls that a push is on disk before it is acknowledged: the bytes, then the name,
// then the directory, then the row, then 201.
func TestPushOrder(t *testing.T) {
	process.NeedTool(t, "strace")
	dir := filepath.Join(process.Dir(t), "made", "by", "serve")
	trace := filepath.Join(process.Dir(t), "trace")
	traced := cubby(t)
	traced.Wrap = process.Strace(trace, "open,openat,mkdir,mkdirat,write,writev,sendto,pwrite64,fsync,fdatasync,rename,renameat,renameat2")
	s := traced.Start(t, dir)
	c := process.NewClient(s.URL)
	var pushes []push
	for i := range byte(5) {
		blobs := []process.Content{process.RandomBlob(4*i, 100), process.RandomBlob(4*i+1, 700<<10), process.RandomBlob(4*i+2, 20_000)}
		c.PushBlob(t, "team/app", blobs[0])
		c.Want(t, http.StatusCreated, "PUT", c.StartUpload(t, "team/app")+"?digest="+blobs[1].Digest, blobs[1].Raw)
		location := c.StartUpload(t, "team/app")
		c.Want(t, http.StatusAccepted, "PATCH", location, blobs[2].Raw[:15_000])
		c.Want(t, http.StatusCreated, "PUT", location+"?digest="+blobs[2].Digest, blobs[2].Raw[15_000:])
		image := process.Image(blobs[0], blobs[1:]...)
		c.PushManifest(t, "team/app", image, "latest", fmt.Sprint("v", i))
		pushes = append(pushes, push{"POST", blobs[0]}, push{"POST+PUT", blobs[1]}, push{"POST+PATCH+PUT", blobs[2]}, push{"manifest", image})
	}
	c.Close()
	s.Stop(t)

	after, syncs := 0, make(map[string][]int)
	calls := process.ReadTrace(t, trace)
	created := slices.DeleteFunc(slices.Clone(calls), func(c process.Call) bool { return !process.IsCreated(c) })
	if len(created) != len(pushes) {
		t.Fatalf("the trace has %d answers with 201, want %d", len(created), len(pushes))
	}
	for _, err := range process.CheckNames(calls, created) {
		t.Error(err)
	}
	for i, p := range pushes {
		during := slices.DeleteFunc(slices.Clone(calls), func(c process.Call) bool { return c.Start <= after || c.End > created[i].End })
		if err := process.CheckPush(p.content, during); err != nil {
			t.Errorf("push %d (%s): %v", i+1, p.how, err)
		}
		during = slices.DeleteFunc(during, func(c process.Call) bool { return !c.Is("fsync", "fdatasync") })
		syncs[p.how] = append(syncs[p.how], len(during))
		after = created[i].End
	}
	for how, n := range syncs { // the first of a kind may hold those of the start
		t.Logf("%s: %d to %d fsyncs a push", how, slices.Min(n[1:]), slices.Max(n[1:]))
	}
}

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

// TestSendfile asserts that the kernel sends blobs: the content passes through no buffer of ours.
func TestSendfile(t *testing.T) {
	process.NeedTool(t, "strace")
	dir, blob := process.Dir(t), process.RandomBlob(1, 8<<20)
	plain := cubby(t).Start(t, dir)
	process.NewClient(plain.URL).PushBlob(t, "team/app", blob)
	plain.Stop(t)

	trace := filepath.Join(process.Dir(t), "trace")
	traced := cubby(t)
	traced.Wrap = process.Strace(trace, "sendfile,read,readv,pread64,write,writev,sendto")
	s := traced.Start(t, dir)
	c := process.NewClient(s.URL)
	c.WantContent(t, "team/app", blob.Digest, blob)
	part := c.Want(t, http.StatusPartialContent, "GET", "/v2/team/app/blobs/"+blob.Digest, nil, "Range", "bytes=1000-5000999")
	if !bytes.Equal(part.Body, blob.Raw[1000:5_001_000]) {
		t.Error("a range has other bytes")
	}
	c.Close()
	s.Stop(t)

	var calls int
	var sent, copied int64
	for _, c := range process.ReadTrace(t, trace) {
		switch {
		case c.Result <= 0:
		case c.Is("sendfile"):
			calls++
			sent += c.Result
		case c.On(strings.TrimPrefix(blob.Digest, "sha256:")), c.Is("write", "writev", "sendto") && strings.Contains(c.Args, "<socket:"):
			copied += c.Result
		}
	}
	t.Logf("%d calls of sendfile for %d bytes, %d bytes read from the file or written to the socket", calls, sent, copied)
	if want := int64(len(blob.Raw) + len(part.Body)); sent < want-8<<10 || copied > 64<<10 {
		t.Errorf("sendfile sent %d of %d bytes, %d were copied", sent, want, copied)
	}
}

// TestReadOnlyRoot runs the program as a container does: nothing but the binary and /data, a root that cannot be
// written, and a user that nobody knows. Statements that SQLite spills to a file must work there.
func TestReadOnlyRoot(t *testing.T) {
	process.NeedRoot(t)
	process.NeedTool(t, "unshare", "mount", "chroot")
	if out, err := exec.Command("unshare", "--mount", "true").CombinedOutput(); err != nil {
		process.Missing(t, "no mount namespaces here: %s", out)
	}
	const uid = 12345
	root, data := process.Dir(t), process.Dir(t)
	inside := cubby(t)
	for _, err := range []error{
		os.Link(inside.Path, filepath.Join(root, "cubby")), os.Mkdir(filepath.Join(root, "data"), 0o755), os.Chown(data, uid, uid),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	inside.Path, inside.Env = "/cubby", nil
	inside.Wrap = []string{"unshare", "--mount", "--propagation", "private", "sh", "-ec",
		`mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; mount --bind "$2" "$1/data"; root=$1; shift 2
		exec chroot --userspec=12345:12345 --groups=12345 "$root" "$@"`, "sh", root, data}
	// run runs a command in there and wants it to succeed.
	run := func(args ...string) process.Result {
		t.Helper()
		c := inside
		c.Args = args
		return c.Want(t, 0)
	}

	s := inside.Start(t, "/data/store")
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", s.PID(t)))
	if err != nil || !regexp.MustCompile(` / ro[, ]`).Match(mounts) {
		t.Fatalf("the root can be written: %v\n%s", err, mounts)
	}
	c := process.NewClient(s.URL)
	image := c.PushImage(t, "team/app", []string{"latest"}, process.RandomBlob(1, 1000), process.RandomBlob(2, 1<<20))
	// Each of these is one transaction with more changed pages than SQLite keeps in memory for a savepoint.
	children := make([]process.Content, 5000)
	for i := range children {
		children[i] = process.Content{Digest: process.Digest([]byte{byte(i), byte(i >> 8)}), MediaType: process.MediaTypeImage, Raw: []byte{0}}
	}
	large := process.Index(children...)
	c.PushManifest(t, "team/large", large, "large")
	for i := range 200 {
		names := make([]string, 100)
		for j := range names {
			names[j] = fmt.Sprintf("v%d.%d", j, i)
		}
		c.PushManifest(t, "team/app", image, names...)
	}
	c.Want(t, http.StatusAccepted, "DELETE", "/v2/team/large/manifests/"+large.Digest, nil)
	port := s.URL[strings.LastIndex(s.URL, ":"):]
	run("health", "--addr", "127.0.0.1"+port)
	run("health", "--addr", "localhost"+port)
	run("health", "--addr", port)
	if n := strings.Count(run("ls", "--json", "--data", "/data/store", "team/app").Stdout, "\n"); n != 20_001 {
		t.Errorf("ls lists %d tags, want 20001", n)
	}
	run("check", "--deep", "--data", "/data/store")
	run("backup", "--data", "/data/store", "/data/backup")
	s.Stop(t)

	run("check", "--deep", "--data", "/data/store")
	for _, dir := range []string{"/data/store", "/data/backup"} {
		s := inside.Start(t, dir)
		c := process.NewClient(s.URL)
		c.WantContent(t, "team/app", "latest", image)
		c.WantContent(t, "team/app", "v99.199", image)
		for i, size := range []int{1000, 1 << 20} {
			blob := process.RandomBlob(byte(i)+1, size)
			c.WantContent(t, "team/app", blob.Digest, blob)
		}
		s.Stop(t)
	}
}

// arrows are the imports that DESIGN.md allows between packages of the module. Of those of scripts/ few have any.
var arrows = map[string][]string{
	"":               {"server", "server/auth", "server/certs", "server/cli", "web", "gc", "gc/bridge", "gc/policy", "store", "store/oci"}, // it wires, so it names their types
	"server":         {"server/auth", "server/certs", "store", "store/oci"},
	"server/auth":    {"store", "store/oci"},
	"server/certs":   {"store/durable"},
	"server/cli":     {"server", "server/auth", "store", "store/oci"},
	"web":            {"web/chart", "web/layer", "web/markdown", "web/module", "server/auth", "store", "store/oci"}, // the UI asks the same authorize as the API
	"web/chart":      {},
	"web/layer":      {},
	"web/markdown":   {},
	"web/module":     {},
	"gc":             {"gc/policy", "store", "store/oci"},
	"gc/policy":      {"store", "store/oci"},
	"gc/bridge":      {"gc", "gc/policy", "server", "web", "store", "store/oci"}, // so that these need not know each other
	"store":          {"store/oci", "store/durable"},
	"store/oci":      {},
	"store/durable":  {},
	"scripts/bench":  {"gc", "server/auth", "store", "store/oci", "web"},
	"scripts/acme":   {"scripts/process"},
	"scripts/faults": {"scripts/figures", "scripts/process", "server", "server/auth", "store"},
}

// TestImports asserts that imports point down, and that only store speaks SQL. Tests of a package may import what the
// package may, and this one its helper. What is a module of its own is left out: no import of ours can reach it.
func TestImports(t *testing.T) {
	files := 0
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && file != "." || d.Name() == "testdata") {
			return fs.SkipDir
		}
		if _, err := os.Stat(filepath.Join(file, "go.mod")); d.IsDir() && file != "." && err == nil {
			return fs.SkipDir
		}
		if d.IsDir() || path.Ext(file) != ".go" {
			return nil
		}
		files++
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		from := strings.TrimPrefix(filepath.ToSlash(filepath.Dir(file)), ".")
		allowed, ok := arrows[from]
		if !ok && !strings.HasPrefix(from, "scripts/") {
			t.Errorf("%s: package %s has no room in the house", file, from)
		}
		for _, spec := range parsed.Imports {
			to, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if inside, ok := strings.CutPrefix(to, "cubby/"); ok && !slices.Contains(allowed, inside) &&
				!(strings.HasSuffix(file, "_test.go") && (inside == from || inside == "scripts/figures" || file == "main_test.go" && inside == "scripts/process")) {
				t.Errorf("%s imports %s", file, to)
			}
			if from != "store" && (to == "database/sql" || strings.HasPrefix(to, "database/sql/") || strings.HasPrefix(to, "modernc.org/")) {
				t.Errorf("%s imports %s: only store speaks SQL", file, to)
			}
		}
		return nil
	})
	if err != nil || files == 0 {
		t.Fatalf("%d files, %v", files, err)
	}
}

// TestMemory sends and fetches large blobs in parallel and prints what the server needs for it. With CUBBY_GATE=1 it
// takes 16 streams of 256 MiB and fails when that is more than a small machine has.
func TestMemory(t *testing.T) {
	const limit, failing = 64 << 20, 96 << 20 // what is promised, and with slack for a busy machine
	streams, size := 4, int64(16<<20)
	gate := os.Getenv("CUBBY_GATE") == "1"
	if gate {
		streams, size = 16, 256<<20
	}
	dir := process.Dir(t)
	var free syscall.Statfs_t
	if err := syscall.Statfs(dir, &free); err != nil {
		t.Fatal(err)
	}
	if need := int64(streams)*size + 1<<30; int64(free.Bavail)*int64(free.Bsize) < need {
		process.Missing(t, "%s needs %d MiB free", dir, need>>20)
	}
	s := cubby(t).Start(t, dir)
	t.Logf("idle: %d MiB", s.Memory(t, "VmRSS")>>20)
	digests := make([]string, streams)
	for _, phase := range []struct {
		name string
		run  func(c *process.Client, i int) error
	}{
		{"uploads", func(c *process.Client, i int) (err error) {
			digests[i], err = c.PushStream("team/app", byte(i), size)
			return err
		}},
		{"downloads", func(c *process.Client, i int) error { return c.PullStream("team/app", digests[i], size) }},
	} {
		s.ResetPeak(t)
		start := time.Now()
		errs := make([]error, streams)
		var running sync.WaitGroup
		for i := range streams {
			running.Go(func() {
				c := process.NewClient(s.URL)
				defer c.Close()
				c.HTTP.Timeout = 0
				errs[i] = phase.run(c, i)
			})
		}
		running.Wait()
		for i, err := range errs {
			if err != nil {
				t.Fatalf("%s: stream %d: %v", phase.name, i, err)
			}
		}
		peak := s.Memory(t, "VmHWM")
		t.Logf("%d %s of %d MiB: %d MiB at most, %.0f MiB/s", streams, phase.name, size>>20, peak>>20,
			float64(int64(streams)*size>>20)/time.Since(start).Seconds())
		if gate && peak > failing {
			t.Errorf("%s: %d MiB of memory, %d are promised", phase.name, peak>>20, limit>>20)
		}
	}
	s.Stop(t)
}

// TestCommands runs every command as people and scripts do.
func TestCommands(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"usage": testUsage, "beside and without a server": testBeside, "backup": testBackup, "damage": testDamage,
		"find store": testFindStore, "owner": testOwner, "refuse": testRefuse, "unwritable": testUnwritable,
		"volume": testVolume, "long path": testLongPath, "stop": testStop, "second signal": testSecondSignal, "configuration": testConfiguration, "removal": testRemoval,
		"access": testAccess, "first user": testFirstUser,
		"self-signed": testSelfSigned, "certificate files": testCertificateFiles,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

func testUsage(t *testing.T) {
	for _, line := range []string{
		"nosuch", "--nosuch", "serve extra", "serve --nosuch", "serve --grace soon", "serve --anonymous maybe", "serve --sparse maybe",
		"serve --addr here", "serve --log-level loud", "serve --max-manifest 5", "ls a b", "rm", "rm UPPER:tag", "rm a:-", "rm a@sha256:0",
		"check extra", "backup", "rm team/*", "rm a:x --older 3x", "rm a:[", "gc --now A", "gc --config x", "rm team/*@sha256:0", "rm x:[/team/a", "rm a --json", "rm Team/*:x", "serve --trusted-proxy x", "grant a b", "token create", "user add", "config check", "config check a b", "health extra", "health --addr here",
		"serve --tls-cert x", "serve --tls-key x", "serve --tls-self-signed --tls-cert x --tls-key x", "serve --tls-self-signed --tls-acme a.example",
		"serve --tls-name x", "serve --tls-self-signed --tls-name x:1", "serve --tls-acme localhost", "serve --tls-acme-email a@b.example",
		"version extra", "completion bash extra",
	} {
		cubby(t, strings.Fields(line)...).Want(t, cli.ExitUsage, "cubby: ")
	}
	bad := cubby(t, "serve")
	bad.Env = append(bad.Env, "CUBBY_GRACE=soon")
	bad.Want(t, cli.ExitUsage, "CUBBY_GRACE")
	cubby(t, "health", "--addr", "127.0.0.1:1").Want(t, cli.ExitFailed)
	if r := cubby(t, "version").Want(t, 0); !regexp.MustCompile(`^cubby \S+ \(go1\.\S+\)\n$`).MatchString(r.Stdout) {
		t.Errorf("version prints %q", r.Stdout)
	}
	script := cubby(t, "completion", "bash").Want(t, 0, "__start_cubby")
	process.NeedTool(t, "bash")
	parse := exec.Command("bash", "-n")
	parse.Stdin = strings.NewReader(script.Stdout)
	if out, err := parse.CombinedOutput(); err != nil {
		t.Errorf("the completion is no bash: %v\n%s", err, out)
	}
}

func testBeside(t *testing.T) {
	dir := process.Dir(t)
	s := cubby(t).Start(t, dir)
	sample := process.NewClient(s.URL).PushSample(t)
	on := func(args ...string) process.Command { return cubby(t, append(args, "--data", dir)...) }
	// look runs everything that changes nothing, and what is refused.
	look := func() (out []string) {
		out = append(out, on("ls").Want(t, 0, "team/app", "team/other", "REPOSITORY").Stdout)
		out = append(out, on("ls", "team/app").Want(t, 0, "v1", "v2", "latest", "all", "TAG").Stdout)
		for _, args := range [][]string{{"ls", "--json"}, {"ls", "--json", "team/app"}, {"check", "--json"}, {"check", "--json", "--deep"}} {
			r := on(args...).Want(t, 0)
			if n, want := len(r.Objects(t)), map[int]int{2: 2, 3: 4}[len(args)]; args[0] == "ls" && n != want {
				t.Errorf("%v prints %d objects, want %d\n%s", args, n, want, r.Stdout)
			}
			out = append(out, r.Stdout)
		}
		on("rm", "team/app@"+sample.Images[0].Digest).Want(t, cli.ExitRefused, sample.Index.Digest)
		out = append(out, on("ls", "team/ap").Want(t, cli.ExitRefused, "team/ap").Stderr)
		return append(out, on("rm", "team/app:nosuch").Want(t, cli.ExitRefused, "nosuch").Stderr)
	}
	beside := look()
	health := cubby(t, "health", "--addr", strings.TrimPrefix(s.URL, "http://"))
	health.Want(t, 0)
	s.Stop(t)
	health.Want(t, cli.ExitFailed)
	for i, alone := range look() {
		if beside[i] != alone {
			t.Errorf("beside a server it says\n%s\nand without one\n%s", beside[i], alone)
		}
	}

	s = cubby(t).Start(t, dir)
	on("rm", "team/app:v1").Want(t, 0, "team/app:v1")
	on("rm", "team/app:v1").Want(t, cli.ExitRefused)
	process.NewClient(s.URL).Want(t, http.StatusNotFound, "GET", "/v2/team/app/manifests/v1", nil)
	s.Stop(t)
	on("rm", "team/app").Want(t, cli.ExitUsage, "--yes")
	if n := len(on("rm", "--json", "--yes", "team/app").Want(t, 0).Objects(t)); n != 3 {
		t.Errorf("rm of a repository removed %d tags, want 3", n)
	}
	on("rm", "team/app").Want(t, 0, "Nothing to remove")
	on("rm", "team/none").Want(t, cli.ExitRefused, "no repository team/none")
	on("rm", "team/app@"+sample.Index.Digest).Want(t, 0, sample.Index.Digest)
	on("rm", "team/app@"+sample.Images[0].Digest).Want(t, 0, sample.Images[0].Digest)
	on("check").Want(t, 0, "all is well")
}

func testBackup(t *testing.T) {
	dir, to := process.Dir(t), process.Dir(t)
	s := cubby(t).Start(t, dir)
	c := process.NewClient(s.URL)
	sample := c.PushSample(t)
	backup := func(name string) string {
		target := filepath.Join(to, name)
		report := cubby(t, "backup", "--json", "--data", dir, target).Want(t, 0).Objects(t)
		if len(report) != 1 || report[0]["blobs"] != 4.0 {
			t.Errorf("backup reports %v, want 4 blobs", report)
		}
		return target
	}
	beside := backup("beside")
	cubby(t, "backup", "--data", dir, beside).Want(t, cli.ExitRefused, "not empty")
	s.Stop(t)
	alone := backup("alone")
	for _, copied := range []string{beside, alone} {
		s := cubby(t).Start(t, copied)
		c := process.NewClient(s.URL)
		c.WantSample(t, sample)
		// What is deleted in the copy must stay in the store, although they may share the file.
		blob := process.RandomBlob(4, 5000)
		c.Want(t, http.StatusAccepted, "DELETE", "/v2/team/other/blobs/"+blob.Digest, nil)
		if found := problems(t, copied); len(found) > 0 {
			t.Errorf("backup %s: %v", copied, found)
		}
		s.Stop(t)
	}
	s = cubby(t).Start(t, dir)
	process.NewClient(s.URL).WantSample(t, sample)
}

// testDamage truncates a blob's file and changes another's: check finds them, and pushing again heals them.
func testDamage(t *testing.T) {
	dir := process.Dir(t)
	s := cubby(t).Start(t, dir)
	process.NewClient(s.URL).PushSample(t)
	s.Stop(t)
	short, other := process.RandomBlob(1, 1000), process.RandomBlob(4, 5000)
	if err := os.WriteFile(other.File(dir), make([]byte, 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	cubby(t, "check", "--data", dir).Want(t, 0)
	cubby(t, "check", "--deep", "--data", dir).Want(t, cli.ExitFailed, "content: blob ", other.Digest)
	if err := os.Truncate(short.File(dir), 999); err != nil {
		t.Fatal(err)
	}
	cubby(t, "check", "--data", dir).Want(t, cli.ExitFailed, "file: blob "+short.Digest)
	cubby(t, "backup", "--data", dir, filepath.Join(process.Dir(t), "copy")).Want(t, cli.ExitFailed)
	s = cubby(t).Start(t, dir)
	c := process.NewClient(s.URL)
	c.Want(t, http.StatusNotFound, "GET", "/v2/team/app/blobs/"+short.Digest, nil)
	cubby(t, "check", "--data", dir).Want(t, cli.ExitFailed, "file: blob "+short.Digest)
	c.PushBlob(t, "team/app", short)
	c.PushBlob(t, "team/other", other)
	cubby(t, "check", "--deep", "--data", dir).Want(t, 0, "all is well")
}

func testFindStore(t *testing.T) {
	for _, dir := range []string{"/var/lib/cubby", "/data"} {
		if _, err := os.Stat(filepath.Join(dir, "cubby.db")); err == nil {
			process.Missing(t, "%s holds a store, so that none can be missing", dir)
		}
	}
	home, state := process.Dir(t), process.Dir(t)
	ls := cubby(t, "ls")
	ls.Env = []string{"HOME=" + home}
	ls.Want(t, cli.ExitFailed, filepath.Join(home, ".local", "share", "cubby"), "/var/lib/cubby", "/data", "--data")
	ls.Env = []string{"HOME=/nonexistent", "XDG_DATA_HOME=" + home}
	ls.Want(t, cli.ExitFailed, filepath.Join(home, "cubby"), "/var/lib/cubby", "/data", "--data")

	s := cubby(t).Start(t, filepath.Join(home, "cubby"))
	process.NewClient(s.URL).PushBlob(t, "found/it", process.RandomBlob(1, 10))
	s.Stop(t)
	ls.Want(t, 0, "found/it")
	cubby(t, "ls", "--data", home).Want(t, cli.ExitFailed, home)
	cubby(t).Start(t, state).Stop(t)
	ls.Env = append(ls.Env, "STATE_DIRECTORY="+state)
	ls.Want(t, cli.ExitFailed, filepath.Join(home, "cubby"), state, "--data")
	ls.Env = append(ls.Env, "CUBBY_DATA="+filepath.Join(home, "cubby"))
	ls.Want(t, 0, "found/it")
}

// testOwner runs commands as root on a store of another user: they must leave nothing behind that is root's.
func testOwner(t *testing.T) {
	process.NeedRoot(t)
	const uid = 12345
	dir := filepath.Join(process.Dir(t), strings.Repeat("long/", 25)) // the socket's path too needs the rights of the user
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, uid, uid); err != nil {
		t.Fatal(err)
	}
	server := cubby(t)
	server.UID = uid
	s := server.Start(t, dir)
	process.NewClient(s.URL).PushSample(t)
	for range 2 { // beside the server and without it
		if s == nil {
			// What the command finds missing it makes.
			if err := os.Remove(filepath.Join(dir, "tmp")); err != nil {
				t.Fatal(err)
			}
		}
		cubby(t, "ls", "--data", dir).Want(t, 0, "team/app")
		cubby(t, "check", "--deep", "--data", dir).Want(t, 0)
		stranger := cubby(t, "ls", "--data", dir)
		stranger.UID = uid + 1
		stranger.Want(t, cli.ExitRefused, strconv.Itoa(uid))
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err == nil && info.Sys().(*syscall.Stat_t).Uid != uid {
				t.Errorf("%s belongs to user %d", path, info.Sys().(*syscall.Stat_t).Uid)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if s != nil {
			s.Stop(t)
			s = nil
		}
	}
	server.Start(t, dir).Stop(t)
}

func testRefuse(t *testing.T) {
	dir := process.Dir(t)
	s := cubby(t).Start(t, dir)
	cubby(t).WantRefused(t, dir, strconv.Itoa(s.PID(t)), dir)

	addr := strings.TrimPrefix(s.URL, "http://")
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	unused := filepath.Join(process.Dir(t), "unused")
	cubby(t, "--addr", addr).WantRefused(t, unused, addr, "--addr "+net.JoinHostPort(host, strconv.Itoa(n+1)))
	if _, err := os.Stat(unused); err == nil {
		t.Error("a taken port touched the data directory")
	}

	foreign := process.Dir(t)
	if err := os.WriteFile(filepath.Join(foreign, "thesis.txt"), []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	cubby(t).WantRefused(t, foreign, foreign, "thesis.txt", "--data")
	if names, err := filepath.Glob(filepath.Join(foreign, "*")); err != nil || len(names) != 1 {
		t.Errorf("a refused directory has %v, want thesis.txt alone", names)
	}
	empty := process.Dir(t)
	cubby(t, "--no-init").WantRefused(t, empty, "no store", empty)
	cubby(t, "--no-init").WantRefused(t, filepath.Join(empty, "none"), "no store")
	if _, err := os.Stat(filepath.Join(empty, "cubby.db")); err == nil {
		t.Error("--no-init made a store")
	}
	cubby(t, "ls", "--data", empty).Want(t, cli.ExitFailed, "no store")
}

func testUnwritable(t *testing.T) {
	process.NeedRoot(t)
	dir := process.Dir(t)
	user := cubby(t)
	user.UID = 12345
	user.WantRefused(t, dir, dir, "0:0", "0755", "12345:12345")
	user.WantRefused(t, filepath.Join(dir, "new"), dir, "0:0", "0755", "12345:12345")
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	user.WantRefused(t, dir, dir, "0:0", "0700", "12345:12345")
}

// testVolume takes away one half of a store, as a volume that is not mounted does.
func testVolume(t *testing.T) {
	dir, other, away := process.Dir(t), process.Dir(t), filepath.Join(process.Dir(t), "away")
	cubby(t).Start(t, other).Stop(t)
	s := cubby(t).Start(t, dir)
	sample := process.NewClient(s.URL).PushSample(t)
	s.Stop(t)
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"blobs/store.json", "blobs", "cubby.db"} {
		file := filepath.Join(dir, name)
		move(file, away)
		cubby(t).WantRefused(t, dir, "volume")
		cubby(t).WantRefused(t, dir, "volume") // the first refusal must not have made what was missing
		cubby(t, "check", "--data", dir).Want(t, cli.ExitFailed, "volume")
		// An empty mount point is like none.
		if err := os.RemoveAll(file); err != nil {
			t.Fatal(err)
		}
		move(away, file)
	}
	move(filepath.Join(dir, "blobs"), away)
	move(filepath.Join(other, "blobs"), filepath.Join(dir, "blobs"))
	cubby(t).WantRefused(t, dir, "different stores")
	move(filepath.Join(dir, "blobs"), filepath.Join(other, "blobs"))
	move(away, filepath.Join(dir, "blobs"))
	s = cubby(t).Start(t, dir)
	process.NewClient(s.URL).WantSample(t, sample)
}

func testLongPath(t *testing.T) {
	dir := filepath.Join(process.Dir(t), strings.Repeat("long/", 25))
	s := cubby(t).Start(t, dir)
	sample := process.NewClient(s.URL).PushSample(t)
	cubby(t, "ls", "--data", dir).Want(t, 0, "team/app")
	s.Kill() // leaves a stale socket
	cubby(t, "check", "--data", dir).Want(t, 0, "all is well")
	s = cubby(t).Start(t, dir)
	cubby(t, "ls", "--data", dir).Want(t, 0, "team/app")
	process.NewClient(s.URL).WantSample(t, sample)
}

// testStop asks a server to stop while uploads run: within the grace they finish, after it they are cut, and either way
// what was received is there after a restart.
func testStop(t *testing.T) {
	dir, finished, cut := process.Dir(t), process.RandomBlob(1, 3<<20), process.RandomBlob(2, 3<<20)
	s := cubby(t, "--grace", "30s").Start(t, dir)
	u := process.NewClient(s.URL).StartSlowUpload(t, "team/app", finished.Raw[:1<<20])
	s.StopListening(t)
	if err := u.Finish(t, finished.Raw[1<<20:]); err != nil {
		t.Errorf("upload in flight while stopping: %v", err)
	}
	if state := s.Wait(t, 10*time.Second); state.ExitCode() != 0 {
		t.Errorf("serve ended with %v", state)
	}

	s = cubby(t, "--grace", "100ms").Start(t, dir)
	c := process.NewClient(s.URL)
	c.Want(t, http.StatusCreated, "PUT", u.Location+"?digest="+finished.Digest, []byte{})
	c.WantContent(t, "team/app", finished.Digest, finished)
	u = c.StartSlowUpload(t, "team/app", cut.Raw[:1<<20])
	s.Signal(t, syscall.SIGTERM)
	if state := s.Wait(t, 10*time.Second); state.ExitCode() != 0 {
		t.Errorf("serve ended with %v after its grace", state)
	}
	if err := u.Cut(t); err == nil {
		t.Error("an upload that was cut off was answered with 202")
	}

	s = cubby(t).Start(t, dir)
	c = process.NewClient(s.URL)
	n := c.Received(t, u.Location)
	if n <= 1<<19 || n > 1<<20 {
		t.Fatalf("after the restart the session has %d bytes, want most of %d", n, 1<<20)
	}
	middle := int(n) + 1<<20
	c.Want(t, http.StatusAccepted, "PATCH", u.Location, cut.Raw[n:middle], "Content-Range", fmt.Sprintf("%d-%d", n, middle-1))
	c.Want(t, http.StatusCreated, "PUT", u.Location+"?digest="+cut.Digest, cut.Raw[middle:])
	c.WantContent(t, "team/app", cut.Digest, cut)
}

func testSecondSignal(t *testing.T) {
	dir := process.Dir(t)
	s := cubby(t, "--grace", "1h").Start(t, dir)
	process.NewClient(s.URL).StartSlowUpload(t, "team/app", make([]byte, 1<<20))
	s.StopListening(t)
	s.Signal(t, syscall.SIGTERM)
	state := s.Wait(t, 5*time.Second)
	if status, ok := state.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != syscall.SIGTERM {
		t.Errorf("after a second signal serve ended with %v, want it by the signal", state)
	}
	cubby(t).Start(t, dir)
	if found := problems(t, dir); len(found) > 0 {
		t.Error(found)
	}
}

// testConfiguration: rules from a file decide what a server and a command without one do, also after the file changed.
func testConfiguration(t *testing.T) {
	dir, file := process.Dir(t), filepath.Join(process.Dir(t), "cubby.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const retention = `retention: [{name: builds, repositories: "**", tags: "b*", keep: {newest: 1}}]`
	example, err := filepath.Abs("scripts/cubby.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cubby(t, "config", "check", example).Want(t, 0, "is valid")
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(readme), "```yaml\n")
	text, _, _ = strings.Cut(text, "```")
	write(text)
	cubby(t, "config", "check", file).Want(t, 0, "retention rules 1, protected 1, immutable 1, keep times 1")
	write("retention: 5\n")
	cubby(t, "config", "check", file).Want(t, cli.ExitFailed, file, "line 1")
	cubby(t, "--config", file).WantRefused(t, dir, file, "line 1")
	write(`immutable: [{name: releases, repositories: "team/*", tags: "v*"}]`)
	s := cubby(t, "--config", file).Start(t, dir)
	c := process.NewClient(s.URL)
	first := c.PushImage(t, "team/app", []string{"v1", "b1", "b2"}, process.RandomBlob(1, 100))
	c.PushManifest(t, "team/app", first, "v1")
	second := c.PushImage(t, "team/app", []string{"b3"}, process.RandomBlob(2, 100))
	refused := c.Want(t, http.StatusConflict, "PUT", "/v2/team/app/manifests/v1", second.Raw, "Content-Type", second.MediaType)
	if !strings.Contains(string(refused.Body), "DENIED") || !strings.Contains(string(refused.Body), "releases") {
		t.Errorf("a push over an immutable tag is refused with %s", refused.Body)
	}
	c.WantContent(t, "team/app", "v1", first)

	on := func(args ...string) process.Command { return cubby(t, append(args, "--data", dir)...) }
	// A command looks at the file as it is; in a server it falls back to the rules in force.
	write(retention)
	on("gc", "--dry-run").Want(t, 0, `rule "builds"`, "2 tags")
	write("retention: 5\n")
	on("gc", "--dry-run").Want(t, 0, `rule "builds"`, "2 tags", "rules of before stay", "line 1")
	s.Signal(t, syscall.SIGHUP)
	process.Poll(t, startMax, "the answer to SIGHUP", func() bool { return strings.Contains(s.Log(), "read again") })
	// Without being asked it notices a change too.
	write(retention + "\n")
	process.Poll(t, startMax, "the new rules", func() bool { return strings.Count(s.Log(), "configuration taken over") == 2 })
	write("retention: 5\n")
	s.Stop(t)
	on("gc").Want(t, cli.ExitRefused, "line 1", file)
	on("restore", "team/app:v1", "--to", second.Digest).Want(t, cli.ExitRefused, "line 1")
	write(retention)
	on("gc").Want(t, 0, `rule "builds"`, "2 tags")
	on("gc", "log").Want(t, 0, "TAGS", "refused", "line 1")
	on("history", "team/app:b1").Want(t, 0, `rule "builds"`)
	on("undo", "team/app:b1").Want(t, 0)
	cubby(t).Start(t, dir).Stop(t) // without --config there are no rules
	on("gc", "--dry-run").Want(t, 0, "Would free")
	if r := on("gc", "--dry-run").Run(t); strings.Contains(r.Stdout, "builds") {
		t.Errorf("rules of a server of before:\n%s", r.Stdout)
	}
}

// testRemoval removes tags by pattern, which shows what goes and wants to be told yes.
func testRemoval(t *testing.T) {
	dir := process.Dir(t)
	s := cubby(t).Start(t, dir)
	c := process.NewClient(s.URL)
	for i, name := range []string{"team/a", "team/b", "ops/c"} {
		c.PushImage(t, name, []string{"pr-1", "pr-2", "pr-10", "main"}, process.RandomBlob(byte(i), 100))
	}
	on := func(args ...string) process.Command { return cubby(t, append(args, "--data", dir)...) }
	tags := func(name string) string {
		var all []string
		for _, o := range on("ls", "--json", name).Want(t, 0).Objects(t) {
			all = append(all, o["name"].(string))
		}
		return strings.Join(all, " ")
	}
	on("rm", "team/*:pr-*", "--keep", "1").Want(t, cli.ExitUsage, "remove  tag  team/a:pr-1", "keep    tag  team/a:pr-10", "--yes")
	on("rm", "team/*:pr-*", "--keep", "1", "--dry-run").Want(t, 0, "remove  tag  team/b:pr-2", "not among the 1 newest")
	on("rm", "team/a:main", "--dry-run").Want(t, 0, "remove  tag  team/a:main")
	on("rm", "team/*:pr-*", "--older", "1d", "--yes").Want(t, 0, "Nothing to remove")
	if got := tags("team/a"); got != "main pr-1 pr-10 pr-2" {
		t.Errorf("after previews: %s", got)
	}
	if n := len(on("rm", "team/*:pr-*", "--keep", "1", "--json", "--yes").Want(t, 0).Objects(t)); n != 4 {
		t.Errorf("removed %d tags, want 4", n)
	}
	on("rm", "localhost:5000/{team,dev}/b:{pr,x}-*", "--yes").Want(t, 0, "Removed 1 tags")
	s.Stop(t)
	on("rm", "ops/c", "--yes").Want(t, 0, "Removed 4 tags")
	for name, want := range map[string]string{"team/a": "main pr-10", "team/b": "main", "ops/c": ""} {
		if got := tags(name); got != want {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
	}
	on("undo", "team/a:pr-1").Want(t, 0)
	on("check").Want(t, 0, "all is well")
}

// testSelfSigned: one port speaks https with a CA that it hands out itself, and http to this machine. The CA outlives
// the process, and moves house with its directory.
func testSelfSigned(t *testing.T) {
	dir := process.Dir(t)
	secure := cubby(t, "--tls-self-signed", "--tls-name", "registry.test")
	s := secure.Start(t, dir)
	plain := process.NewClient(s.URL)
	authority := plain.Want(t, http.StatusOK, "GET", "/-/ca.crt", nil).Body
	block, _ := pem.Decode(authority)
	if block == nil {
		t.Fatalf("the CA is not PEM: %s", authority)
	}
	fingerprint := strings.ReplaceAll(fmt.Sprintf("% X", sha256.Sum256(block.Bytes)), " ", ":")
	if !strings.Contains(s.Log(), fingerprint) {
		t.Errorf("the log does not have the CA's fingerprint %s", fingerprint)
	}
	c := process.NewTLSClient(t, s.URL, authority, "registry.test")
	sample := c.PushSample(t)
	c.WantSample(t, sample)
	plain.WantSample(t, sample)
	cubby(t, "health", "--addr", strings.TrimPrefix(s.URL, "http://")).Want(t, 0)
	cubby(t, "connect", "docker", "--data", dir).Want(t, 0, "/etc/docker/certs.d/registry.test:", string(authority))
	silent, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	s.Stop(t)

	elsewhere := process.Dir(t)
	if err := os.CopyFS(filepath.Join(elsewhere, "tls"), os.DirFS(filepath.Join(dir, "tls"))); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{dir, elsewhere} {
		s := secure.Start(t, dir)
		process.NewTLSClient(t, s.URL, authority, "localhost").Want(t, http.StatusNotFound, "GET", "/v2/team/none/tags/list", nil)
		s.Stop(t)
	}
	if err := os.Remove(filepath.Join(dir, "tls", "ca.key")); err != nil {
		t.Fatal(err)
	}
	secure.WantRefused(t, dir, "tls/ca.key")
	cubby(t, "check", "--data", dir).Want(t, 0)

	s = cubby(t).Start(t, dir)
	if _, err := process.NewTLSClient(t, s.URL, authority, "localhost").Do("GET", "/v2/", nil); err == nil {
		t.Error("a server without TLS speaks it")
	}
	if r := cubby(t, "connect", "docker", "--data", dir).Want(t, 0); strings.Contains(r.Stdout, "CERTIFICATE") {
		t.Errorf("without TLS clients are told of a CA:\n%s", r.Stdout)
	}
	process.Poll(t, startMax, "the hint about https", func() bool { return strings.Contains(s.Log(), "--tls-self-signed") })
}

// testCertificateFiles: a certificate that is replaced while the server runs is taken over, and a bad one is not.
func testCertificateFiles(t *testing.T) {
	dir := process.Dir(t)
	one, two := process.NewCertificate(t, "one.test"), process.NewCertificate(t, "two.test")
	cert, key := filepath.Join(process.Dir(t), "tls.crt"), filepath.Join(process.Dir(t), "tls.key")
	write := func(path string, content []byte) {
		t.Helper()
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	secure := cubby(t, "--tls-cert", cert, "--tls-key", key)
	secure.WantRefused(t, dir, cert)
	write(cert, one.Cert)
	write(key, two.Key)
	secure.WantRefused(t, dir, cert, key, "does not match")
	write(key, one.Key)
	s := secure.Start(t, dir)
	// trusted asks by a new connection.
	trusted := func(p process.Certificate) error {
		_, err := process.NewTLSClient(t, s.URL, p.Cert, p.Name).Do("GET", "/-/healthz", nil)
		return err
	}
	if err := trusted(one); err != nil {
		t.Error(err)
	}
	if trusted(two) == nil {
		t.Error("the server has a certificate that it was not given")
	}
	process.NewClient(s.URL).Want(t, http.StatusNotFound, "GET", "/-/ca.crt", nil)
	write(cert, two.Cert)
	process.Poll(t, startMax, "the refusal of a certificate without its key", func() bool { return strings.Contains(s.Log(), "not taken over") })
	if err := trusted(one); err != nil {
		t.Errorf("after a bad replacement: %v", err)
	}
	write(key, two.Key)
	process.Poll(t, startMax, "the new certificate", func() bool { return trusted(two) == nil })
	s.Stop(t)
}

// startMax is how long a server may take to notice something.
const startMax = 20 * time.Second

// testAccess: who may do what changes while the server runs, and stays.
func testAccess(t *testing.T) {
	dir := process.Dir(t)
	htpasswd := filepath.Join(process.Dir(t), "htpasswd")
	s := cubby(t, "--anonymous", "pull").Start(t, dir)
	c := process.NewClient(s.URL)
	c.PushImage(t, "team/app", []string{"v1"}, process.RandomBlob(1, 100))
	on := func(args ...string) process.Command { return cubby(t, append(args, "--data", dir)...) }
	add := on("user", "add", "alice", "--password-stdin")
	add.Stdin = "correct horse\n"
	add.Want(t, 0, "from now on everyone must log in")
	basic := []string{"Authorization", "Basic YWxpY2U6Y29ycmVjdCBob3JzZQ=="} // alice:correct horse
	c.Want(t, http.StatusUnauthorized, "POST", "/v2/team/app/blobs/uploads/", nil)
	c.Want(t, http.StatusUnauthorized, "GET", "/v2/", nil)
	c.Want(t, http.StatusOK, "GET", "/v2/team/app/manifests/v1", nil)
	c.Want(t, http.StatusAccepted, "POST", "/v2/team/app/blobs/uploads/", nil, basic...)
	on("anonymous", "none").Want(t, 0)
	c.Want(t, http.StatusUnauthorized, "GET", "/v2/team/app/manifests/v1", nil)
	c.Want(t, http.StatusOK, "GET", "/v2/team/app/manifests/v1", nil, basic...)
	on("revoke", "alice", "**", "admin").Want(t, 0)
	c.Want(t, http.StatusForbidden, "GET", "/v2/team/app/manifests/v1", nil, basic...)
	on("grant", "alice", "team/*", "pull").Want(t, 0)
	on("anonymous", "pull", "pub/**").Want(t, 0)
	on("audit").Want(t, 0, "alice", "login", "denied", "revoke", "team/app")
	s.Stop(t)

	// What was said lives on; what --anonymous said does not.
	if err := os.WriteFile(htpasswd, []byte("bob:$2y$05$cGZDjJXYyBSVULY5q6tWUOtSTAS.8ZKYnjqjGY4tE4T2ZtzlPUsbq\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = cubby(t, "--htpasswd", htpasswd).Start(t, dir)
	c = process.NewClient(s.URL)
	c.Want(t, http.StatusOK, "GET", "/v2/team/app/manifests/v1", nil, basic...)
	c.Want(t, http.StatusUnauthorized, "GET", "/v2/team/app/manifests/v1", nil)
	c.Want(t, http.StatusUnauthorized, "GET", "/v2/", nil, "Authorization", "Basic Ym9iOndyb25nIG9uZQ==") // bob:wrong one
	on("anonymous").Want(t, 0, "pub/**: pull")
	s.Stop(t)
	cubby(t, "--anonymous", "pull").Start(t, dir).Stop(t)
	on("anonymous").Want(t, 0, "**: pull")
	cubby(t).Start(t, dir).Stop(t)
	if r := on("anonymous").Run(t); strings.Contains(r.Stdout, " **: pull") {
		t.Errorf("what --anonymous said is still so without it:\n%s", r.Stdout)
	}
	if err := os.WriteFile(htpasswd, []byte("bob:{SHA}x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cubby(t, "--htpasswd", htpasswd).WantRefused(t, dir, htpasswd, "line 1", "bob")
}

// testFirstUser: on a network somebody must be able to log in. The network here is one of the test's own, without a way
// out.
func testFirstUser(t *testing.T) {
	process.NeedRoot(t)
	process.NeedTool(t, "unshare")
	for _, preset := range []bool{false, true} {
		dir, secret := process.Dir(t), filepath.Join(process.Dir(t), "secret")
		args := []string{"--addr", "0.0.0.0:0"}
		if preset {
			if err := os.WriteFile(secret, []byte("chosen by the operator\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			args = append(args, "--admin-password-file", secret)
		}
		server := cubby(t, args...)
		server.Wrap = []string{"unshare", "--net"}
		s := server.Start(t, dir)
		on := func(args ...string) process.Command { return cubby(t, append(args, "--data", dir)...) }
		on("user", "ls").Want(t, 0, "admin  0", "** admin")
		file := filepath.Join(dir, "admin-password")
		password, err := os.ReadFile(file)
		if (err == nil) == preset {
			t.Fatalf("preset %v: %q, %v", preset, password, err)
		}
		if !preset {
			info, err := os.Stat(file)
			if err != nil || info.Mode().Perm() != 0o600 || len(password) != 21 {
				t.Errorf("%v, %q, %v", info, password, err)
			}
			if log := s.Log(); !strings.Contains(log, file) || strings.Contains(log, strings.TrimSpace(string(password))) {
				t.Errorf("the log must name the file and not the password:\n%s", log)
			}
		}
		s.Stop(t)
		s = server.Start(t, dir) // once
		on("user", "ls").Want(t, 0, "admin  0")
		again, _ := os.ReadFile(file)
		if string(again) != string(password) {
			t.Errorf("another password after a restart: %q and %q", password, again)
		}
		change := on("user", "passwd", "admin", "--password-stdin")
		change.Stdin = "another one"
		change.Want(t, 0)
		if _, err := os.Stat(file); err == nil {
			t.Error("the file with the old password is still there")
		}
		s.Stop(t)
	}
}

// A leapingClock makes a day of every collection, for all goroutines alike.
type leapingClock struct{ seconds atomic.Int64 }

func (c *leapingClock) Now() time.Time { return time.Unix(c.seconds.Load(), 0) }
func (c *leapingClock) Uptime() (string, time.Duration, error) {
	return "boot", time.Duration(c.seconds.Load()) * time.Second, nil
}

// TestCollectWhileServing: clients push, retag, mount and delete the same few digests by HTTP while collection, which
// keeps nothing, runs without a pause. Nothing is a 5xx, what was acknowledged under a tag can be pulled, and in the end
// everything is whole (T-4).
func TestCollectWhileServing(t *testing.T) {
	clock := &leapingClock{}
	clock.seconds.Store(1_700_000_000)
	st, err := store.Open(t.Context(), store.Options{Dir: process.Dir(t), Role: store.RoleServe, Create: true, Now: clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	served := httptest.NewServer(server.New(server.Config{Store: st, Guard: auth.New(auth.Options{Store: st})}))
	defer served.Close()
	collector := gc.NewCollector(st, slog.New(slog.DiscardHandler))
	collector.Timer = clock
	nothing, _, err := policy.Parse([]byte(`keep: [{repositories: "**", untagged: 0s, used: 0s, cache: 0s}]`))
	if err != nil {
		t.Fatal(err)
	}
	collector.Policy = func(context.Context) (*policy.Policy, error) { return nothing, nil }

	const clients, rounds = 8, 120
	var pushing sync.WaitGroup
	var pulled atomic.Int64
	failed := make(chan error, clients)
	for id := range clients {
		pushing.Go(func() {
			c := &racingClient{Client: process.NewClient(served.URL), id: id, random: rand.New(rand.NewPCG(uint64(id), 1))}
			for range rounds {
				if err := c.round(&pulled); err != nil {
					failed <- fmt.Errorf("client %d: %w", id, err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		pushing.Wait()
		close(done)
	}()
	runs := 0
	for running := true; running; runs++ {
		select {
		case err := <-failed:
			t.Error(err)
		case <-done:
			running = false
		default:
		}
		clock.seconds.Add(int64(25 * time.Hour / time.Second))
		if _, _, err := collector.Run(t.Context(), gc.Request{Cause: "command", Force: true}); err != nil {
			t.Fatal(err)
		}
	}
	report, err := st.Check(t.Context(), true, nil)
	if err != nil || len(report.Problems) > 0 || report.Orphans > 0 {
		t.Errorf("check: %+v, %v", report, err)
	}
	t.Logf("%d collections beside %d pushes, %d pulled whole", runs, clients*rounds, pulled.Load())
	if pulled.Load() == 0 {
		t.Error("nothing was pulled")
	}
}

// A racingClient owns its tags; the content it shares with the others.
type racingClient struct {
	*process.Client
	id     int
	random *rand.Rand
}

// round pushes an image like a real client, tags it, and pulls it. To be told to push again is part of the protocol.
func (c *racingClient) round(pulled *atomic.Int64) error {
	repo := fmt.Sprint("r", c.random.IntN(2))
	blobs := []process.Content{process.RandomBlob(byte(c.random.IntN(8)), 500), process.RandomBlob(byte(8+c.random.IntN(8)), 500)}
	for _, b := range blobs {
		if err := c.pushBlob(repo, b); err != nil {
			return err
		}
	}
	image := process.Image(blobs[0], blobs[1])
	tag := fmt.Sprintf("/v2/%s/manifests/c%d-%d", repo, c.id, c.random.IntN(2))
	a, err := c.Ask("PUT", tag, image.Raw, []string{"Content-Type", image.MediaType}, http.StatusCreated, http.StatusNotFound)
	if err != nil || a.Status == http.StatusNotFound {
		return err // a day or more went by since the push
	}
	if c.random.IntN(2) == 0 { // so that much falls out of use and comes back
		_, err := c.Ask("DELETE", tag, nil, nil, http.StatusAccepted)
		return err
	}
	if c.random.IntN(8) == 0 { // somebody else's tags may hang on it
		_, err := c.Ask("DELETE", "/v2/"+repo+"/blobs/"+blobs[0].Digest, nil, nil, http.StatusMethodNotAllowed)
		return err
	}
	got, err := c.Ask("GET", tag, nil, nil, http.StatusOK)
	if err != nil {
		return err
	}
	if !bytes.Equal(got.Body, image.Raw) {
		return fmt.Errorf("%s has other bytes", tag)
	}
	for _, b := range blobs {
		got, err := c.Ask("GET", "/v2/"+repo+"/blobs/"+b.Digest, nil, nil, http.StatusOK)
		if err != nil {
			return err
		}
		if !bytes.Equal(got.Body, b.Raw) {
			return fmt.Errorf("%s has other bytes", b.Digest)
		}
	}
	pulled.Add(1)
	return nil
}

func (c *racingClient) pushBlob(repo string, b process.Content) error {
	a, err := c.Ask("HEAD", "/v2/"+repo+"/blobs/"+b.Digest, nil, nil, http.StatusOK, http.StatusNotFound)
	if err != nil || a.Status == http.StatusOK {
		return err
	}
	a, err = c.Ask("POST", fmt.Sprintf("/v2/%s/blobs/uploads/?mount=%s&from=r%d", repo, b.Digest, c.random.IntN(2)), nil, nil, http.StatusCreated, http.StatusAccepted)
	if err != nil || a.Status == http.StatusCreated {
		return err
	}
	// The session may have expired: days go by.
	_, err = c.Ask("PUT", a.Header.Get("Location")+"?digest="+b.Digest, b.Raw, nil, http.StatusCreated, http.StatusNotFound)
	return err
}
