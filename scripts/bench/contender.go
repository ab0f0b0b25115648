package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A contender is a server to measure.
type contender struct {
	name   string
	static bool // serves files below its directory as they are, takes no pushes
	// command returns how to start it on an address with its data in dir. It may put files into the directory beside it.
	command func(addr, dir string) ([]string, error)
}

// contenderOf returns the server that a word of the command line names: cubby, docker-registry, nginx, net/http (the plain
// server), or a command with {addr} and {dir} in it.
func contenderOf(word, program string) (contender, error) {
	switch {
	case word == "cubby":
		return contender{name: word, command: func(addr, dir string) ([]string, error) {
			return []string{program, "serve", "--addr", addr, "--data", dir, "--log-level", "warn"}, nil
		}}, nil
	case word == "docker-registry":
		return contender{name: word, command: distributionCommand}, nil
	case word == "nginx":
		return contender{name: word, static: true, command: nginxCommand}, nil
	case word == "net/http":
		return contender{name: word, static: true, command: plainContenderCommand}, nil
	case strings.Contains(word, "{addr}"):
		return contender{name: filepath.Base(strings.Fields(word)[0]), command: func(addr, dir string) ([]string, error) {
			return strings.Fields(strings.NewReplacer("{addr}", addr, "{dir}", dir).Replace(word)), nil
		}}, nil
	}
	return contender{}, fmt.Errorf("%q is not cubby, docker-registry, nginx, net/http, or a command with {addr} and {dir}", word)
}

// Debian's configuration, but for the address, the directory and the log; it asks nobody to log in.
const distributionConfig = `version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage:
  cache: {blobdescriptor: inmemory}
  filesystem: {rootdirectory: %q}
  delete: {enabled: true}
http: {addr: %q, relativeurls: true}
`

func distributionCommand(addr, dir string) ([]string, error) {
	config := dir + ".yml"
	return []string{"docker-registry", "serve", config}, os.WriteFile(config, fmt.Appendf(nil, distributionConfig, dir, addr), 0o600)
}

// One worker for each processor, files sent by the kernel, nothing logged: as fast as it gets.
const nginxConfig = `daemon off;
pid %[1]s.pid;
error_log stderr error;
worker_processes auto;
events { worker_connections 1024; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000000;
  open_file_cache max=10000;
  client_body_temp_path %[1]s.tmp;
  proxy_temp_path %[1]s.tmp;
  fastcgi_temp_path %[1]s.tmp;
  uwsgi_temp_path %[1]s.tmp;
  scgi_temp_path %[1]s.tmp;
  server { listen %[2]s; root %[1]s; default_type application/octet-stream; }
}
`

func nginxCommand(addr, dir string) ([]string, error) {
	config := dir + ".conf"
	if os.Geteuid() == 0 {
		// Its workers run as nobody.
		if err := os.Chmod(dir, 0o755); err != nil {
			return nil, err
		}
	}
	return []string{"nginx", "-c", config, "-e", "stderr"}, os.WriteFile(config, fmt.Appendf(nil, nginxConfig, dir, addr), 0o600)
}

// A running is a contender that runs.
type running struct {
	contender
	addr, dir string
	cmd       *exec.Cmd
	log       *strings.Builder
	took      time.Duration // from its start until it answered
}

// start starts a contender with its data in dir and returns when it answers. stop ends it.
func (c contender) start(ctx context.Context, dir string) (*running, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	args, err := c.command(addr, dir)
	if err != nil {
		return nil, err
	}
	r := &running{contender: c, addr: addr, dir: dir, cmd: exec.CommandContext(ctx, args[0], args[1:]...), log: &strings.Builder{}}
	r.cmd.Stdout, r.cmd.Stderr = r.log, r.log
	r.cmd.Cancel = func() error { return r.cmd.Process.Signal(syscall.SIGTERM) }
	r.cmd.WaitDelay = 10 * time.Second
	began := time.Now()
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	if err := r.answers(began.Add(30 * time.Second)); err != nil {
		return nil, errors.Join(err, r.stop(), fmt.Errorf("%s: %s", c.name, r.log))
	}
	r.took = time.Since(began)
	return r, nil
}

// freeAddress returns a loopback address that nobody listens on at the moment.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// answers waits for the first answer. Whatever a static server says to /v2/ will do.
func (r *running) answers(deadline time.Time) error {
	for {
		c, err := dial(r.addr)
		if err == nil {
			a, err := c.do("GET", "/v2/", "", nil)
			c.close()
			if err == nil && (a.status == 200 || r.static) {
				return nil
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not answer on %s: %w", r.name, r.addr, err)
		}
		time.Sleep(time.Millisecond)
	}
}

// stop ends the server and waits for it. A server that was told to end is not asked how.
func (r *running) stop() error {
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := r.cmd.Wait(); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			return err
		}
	}
	return nil
}

// processes returns the server's process and its children's.
func (r *running) processes() ([]int, error) {
	pid := r.cmd.Process.Pid
	all := []int{pid}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil, err
	}
	for _, task := range tasks {
		raw, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		for field := range strings.FieldsSeq(string(raw)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				return nil, err
			}
			all = append(all, child)
		}
	}
	return all, nil
}

// processor returns the processor time that the server has used.
func (r *running) processor() (used time.Duration, err error) {
	all, err := r.processes()
	if err != nil {
		return 0, err
	}
	for _, pid := range all {
		// Nanoseconds on a processor, thread by thread: /proc/PID/stat counts in hundredths of a second.
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		if err != nil {
			return 0, err
		}
		for _, task := range tasks {
			raw, err := os.ReadFile(task)
			if err != nil {
				continue // the thread has ended
			}
			ran, _, _ := strings.Cut(string(raw), " ")
			n, err := strconv.ParseInt(ran, 10, 64)
			if err != nil {
				return 0, err
			}
			used += time.Duration(n)
		}
	}
	return used, nil
}

// memory returns the resident bytes of the server: those that it shares with its children count once for each.
func (r *running) memory() (total int64, err error) {
	all, err := r.processes()
	if err != nil {
		return 0, err
	}
	for _, pid := range all {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		if err != nil {
			return 0, err
		}
		fields := strings.Fields(string(raw))
		if len(fields) < 2 {
			return 0, fmt.Errorf("/proc/%d/statm is %q", pid, raw)
		}
		pages, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return 0, err
		}
		total += pages * int64(os.Getpagesize())
	}
	return total, nil
}

// diskUsed returns the bytes that the files of a directory take on disk.
func diskUsed(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			total += stat.Blocks * 512
		}
		return nil
	})
	return total, err
}
