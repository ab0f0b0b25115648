// Package process runs cubby in processes of its own, for the tests of the whole program in main_test.go. It shares no
// code with what it tests: digests, paths and expected answers are worked out here once more.
package process

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Bounds on what a healthy process does in milliseconds, so that a hang fails its test and not the whole run.
const (
	startMax   = 15 * time.Second
	stopMax    = 15 * time.Second
	commandMax = time.Minute
)

// Missing ends a test whose tool or right is not here: it skips, except in CI, where everything must be.
func Missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("in CI this must run: "+format, args...)
	}
	t.Skipf(format, args...)
}

// NeedTool calls Missing unless every one of the programs is on the PATH.
func NeedTool(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			Missing(t, "%s is not installed", name)
		}
	}
}

// NeedRoot calls Missing unless the test runs as root.
func NeedRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "it needs root")
	}
}

// Dir makes a directory that goes with the test. Unlike t.TempDir it lies where every user may look.
func Dir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cubby-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Poll calls done until it returns true. It fails the test when that takes longer than limit.
func Poll(t *testing.T, limit time.Duration, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", limit, what)
		}
	}
}

// A Command says how to run the program. The caller's environment is not passed on.
type Command struct {
	Path string   // the program
	Wrap []string // what runs it, like strace with its flags
	Args []string
	Env  []string
	UID  uint32 // run as this user and group; 0: as the test's own

	Stdin string // what it reads
}

func (c Command) exec(ctx context.Context) *exec.Cmd {
	argv := slices.Concat(c.Wrap, []string{c.Path}, c.Args)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, c.Env...)
	cmd.Dir = "/"
	// A group of its own, so that ending it ends the wrapped program too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if c.UID != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: c.UID, Gid: c.UID}
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	return cmd
}

// A Result is how a command ended.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// Run runs the program to its end.
func (c Command) Run(t *testing.T) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandMax)
	defer cancel()
	cmd := c.exec(ctx)
	var stdout, stderr bytes.Buffer
	cmd.Stdin = strings.NewReader(c.Stdin)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok || ctx.Err() != nil {
		t.Fatalf("%s: %v after %v\n%s", strings.Join(cmd.Args, " "), err, commandMax, stderr.String())
	}
	return Result{Code: cmd.ProcessState.ExitCode(), Stdout: stdout.String(), Stderr: stderr.String()}
}

// Want runs the program and fails the test unless it exits with code and says every word.
func (c Command) Want(t *testing.T, code int, words ...string) Result {
	t.Helper()
	r := c.Run(t)
	what := "cubby " + strings.Join(c.Args, " ")
	if r.Code != code {
		t.Errorf("%s: exit %d, want %d\n%s%s", what, r.Code, code, r.Stdout, r.Stderr)
	}
	for _, word := range words {
		if !strings.Contains(r.Stdout+r.Stderr, word) {
			t.Errorf("%s does not say %q:\n%s%s", what, word, r.Stdout, r.Stderr)
		}
	}
	return r
}

// Objects parses output of one JSON object a line.
func (r Result) Objects(t *testing.T) (all []map[string]any) {
	t.Helper()
	for line := range strings.Lines(r.Stdout) {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("not JSON: %v\n%s", err, line)
		}
		all = append(all, v)
	}
	return all
}

// WantRefused fails the test unless `cubby serve` on a directory ends by itself with 1, and says every word.
func (c Command) WantRefused(t *testing.T, dir string, words ...string) {
	t.Helper()
	s := c.Launch(t, dir)
	if state := s.Wait(t, stopMax); state.ExitCode() != 1 {
		t.Errorf("serve on %s: %v, want it refused", dir, state)
	}
	for _, word := range words {
		if !strings.Contains(s.Log(), word) {
			t.Errorf("serve on %s does not say %q:\n%s", dir, word, s.Log())
		}
	}
}

// A Server is a running `cubby serve`.
type Server struct {
	URL   string        // http://HOST:PORT
	Ready time.Duration // from the start of the process to its log line "serving"

	cmd     *exec.Cmd
	dir     string
	started time.Time
	serving chan record   // gets the first line "serving"
	exited  chan struct{} // closed when the process has gone

	mu  sync.Mutex
	log strings.Builder // guarded by mu
}

// A record is a line of the log, as far as it is used here.
type record struct {
	Time    time.Time `json:"time"`
	Message string    `json:"msg"`
	Addr    string    `json:"addr"`
}

// Launch starts `cubby serve` on a data directory and a free port, and does not wait for it. It is killed, if need be,
// when the test ends.
func (c Command) Launch(t *testing.T, dir string) *Server {
	t.Helper()
	c.Args = append([]string{"serve", "--addr", "127.0.0.1:0", "--data", dir}, c.Args...)
	return c.launch(t, dir)
}

// launch starts a registry whose log is JSON on stderr.
func (c Command) launch(t *testing.T, dir string) *Server {
	t.Helper()
	s := &Server{cmd: c.exec(context.Background()), dir: dir, serving: make(chan record, 1), exited: make(chan struct{})}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.started = time.Now()
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.exited)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			s.take(lines.Bytes())
		}
		// Its error says how the process ended, which Wait takes from the process's state.
		_ = s.cmd.Wait()
	}()
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("log of the server on %s, without requests:\n%s", dir, withoutRequests(s.Log()))
		}
	})
	return s
}

// take keeps a line of the log.
func (s *Server) take(line []byte) {
	s.mu.Lock()
	s.log.Write(line)
	s.log.WriteByte('\n')
	s.mu.Unlock()
	var r record
	if err := json.Unmarshal(line, &r); err != nil {
		return
	}
	if addr, ok := strings.CutPrefix(r.Message, "listening on "); ok { // what docker-registry says
		r.Message, r.Addr = "serving", addr
	}
	if r.Message != "serving" {
		return
	}
	select {
	case s.serving <- r:
	default: // a second address
	}
}

// Start launches `cubby serve` and returns when it serves.
func (c Command) Start(t *testing.T, dir string) *Server {
	t.Helper()
	s := c.Launch(t, dir)
	if !s.Serves(t) {
		t.Fatalf("serve on %s ended: %v\n%s", dir, s.cmd.ProcessState, s.Log())
	}
	return s
}

// Serves returns true when the server that was launched serves, and false when it has ended instead.
func (s *Server) Serves(t *testing.T) bool {
	t.Helper()
	select {
	case r := <-s.serving:
		s.URL, s.Ready = "http://"+r.Addr, r.Time.Sub(s.started)
		return true
	case <-s.exited:
		return false
	case <-time.After(startMax):
		t.Fatalf("serve on %s is not ready after %v\n%s", s.dir, startMax, s.Log())
		return false
	}
}

// Running returns whether the process has not ended yet.
func (s *Server) Running() bool {
	select {
	case <-s.exited:
		return false
	default:
		return true
	}
}

// Log returns what the server has written so far.
func (s *Server) Log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// PID returns the id of the cubby process itself: a tracer has it as its child, other wrappers become it.
func (s *Server) PID(t *testing.T) int {
	t.Helper()
	pid := s.cmd.Process.Pid
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatal(err)
	}
	if fields := strings.Fields(string(children)); len(fields) > 0 {
		if pid, err = strconv.Atoi(fields[0]); err != nil {
			t.Fatal(err)
		}
	}
	return pid
}

// Signal sends a signal to the cubby process.
func (s *Server) Signal(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(s.PID(t), signal); err != nil {
		t.Fatalf("signal %v: %v", signal, err)
	}
}

// Wait waits for the process to end by itself and returns how it did.
func (s *Server) Wait(t *testing.T, limit time.Duration) *os.ProcessState {
	t.Helper()
	select {
	case <-s.exited:
	case <-time.After(limit):
		t.Fatalf("serve on %s still runs after %v\n%s", s.dir, limit, s.Log())
	}
	return s.cmd.ProcessState
}

// Stop ends the server as a supervisor does and fails the test unless it exits with 0.
func (s *Server) Stop(t *testing.T) {
	t.Helper()
	s.Signal(t, syscall.SIGTERM)
	if state := s.Wait(t, stopMax); state.ExitCode() != 0 {
		t.Errorf("serve on %s ended with %v, want exit status 0\n%s", s.dir, state, s.Log())
	}
}

// StopListening asks the server to stop and returns when it takes no connections any more.
func (s *Server) StopListening(t *testing.T) {
	t.Helper()
	s.Signal(t, syscall.SIGTERM)
	Poll(t, stopMax, "the listener to close", func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
}

// Memory returns a field of /proc/PID/status in bytes: VmRSS, what the process uses now, or VmHWM, the peak of that.
func (s *Server) Memory(t *testing.T, field string) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID(t)))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kib int64
		if n, err := fmt.Sscanf(line, field+": %d kB", &kib); n == 1 && err == nil {
			return kib << 10
		}
	}
	t.Fatalf("no %s in\n%s", field, status)
	return 0
}

// ResetPeak begins VmHWM anew.
func (s *Server) ResetPeak(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.PID(t)), []byte("5"), 0); err != nil {
		t.Logf("the peak holds what came before: %v", err)
	}
}

// Files returns how many descriptors the process has, and how many of them are sockets.
func (s *Server) Files(t *testing.T) (all, sockets int) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", s.PID(t))
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		// One that was closed since is none.
		if target, err := os.Readlink(dir + "/" + e.Name()); err == nil {
			all++
			if strings.HasPrefix(target, "socket:") {
				sockets++
			}
		}
	}
	return all, sockets
}

// Goroutines ends the process as SIGQUIT does, and returns how many goroutines it had.
func (s *Server) Goroutines(t *testing.T) (n int) {
	t.Helper()
	s.Signal(t, syscall.SIGQUIT)
	s.Wait(t, stopMax)
	for line := range strings.Lines(s.Log()) {
		if strings.HasPrefix(line, "goroutine ") {
			n++
		}
	}
	return n
}

// Kill ends the process with SIGKILL and returns when it has gone. It may have gone before.
func (s *Server) Kill() {
	if !s.Running() {
		return
	}
	// The group is there until the goroutine of Launch has waited for its leader.
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
	<-s.exited
}

func withoutRequests(log string) string {
	var b strings.Builder
	for line := range strings.Lines(log) {
		if !strings.Contains(line, `"msg":"request"`) {
			b.WriteString(line)
		}
	}
	return b.String()
}
