//go:build faults

package durable

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// With the tag faults, a program goes wrong at one of its steps, as $CUBBY_FAULT says. It holds pairs KEY=VALUE, with a
// space between:
//
//	arm=FILE  steps are counted while FILE is there; without it, from the start
//	log=FILE  a line "N STEP PATH" is appended for each step that is counted, before it is taken
//	at=N      what goes wrong does so at step N, counted from 1; without it, nothing does
//	how=HOW   before, after: the process is killed before or after the step
//	          EIO, ENOSPC, EROFS, EMFILE: the step fails with that error and does nothing
//	          short: a write writes half and fails
//
// Steps are counted over the whole process, one at a time. What goes wrong does so once.
type faults struct {
	arm, log, how string
	at            int

	mu   sync.Mutex
	n    int    // guarded by mu; steps counted so far
	step Step   // guarded by mu; what the process is killed after
	path string // guarded by mu
}

// failures are what how may say beside before and after.
var failures = map[string]error{
	"EIO": syscall.EIO, "ENOSPC": syscall.ENOSPC, "EROFS": syscall.EROFS, "EMFILE": syscall.EMFILE, "short": io.ErrShortWrite,
}

// processHooks returns the hooks of the directory at path, which is opened without one. It panics when the variable is
// not understood: nobody must believe that something went wrong when nothing did.
func processHooks(path string) (before Hook, after func(Step, string)) {
	f := processFaults()
	if f == nil {
		return nil, nil
	}
	return func(step Step, name string) error { return f.before(step, filepath.Join(path, name)) },
		func(step Step, name string) { f.after(step, filepath.Join(path, name)) }
}

var processFaults = sync.OnceValue(func() *faults {
	text := os.Getenv("CUBBY_FAULT")
	if text == "" {
		return nil
	}
	f := &faults{}
	for field := range strings.FieldsSeq(text) {
		key, value, _ := strings.Cut(field, "=")
		var err error
		switch key {
		case "arm":
			f.arm = value
		case "log":
			f.log = value
		case "at":
			f.at, err = strconv.Atoi(value)
		case "how":
			if f.how = value; value != "before" && value != "after" && failures[value] == nil {
				err = errors.New("no such fault")
			}
		default:
			err = errors.New("no such key")
		}
		if err != nil {
			panic(fmt.Sprintf("CUBBY_FAULT: %s: %v", field, err))
		}
	}
	return f
})

func (f *faults) before(step Step, path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.arm != "" {
		if _, err := os.Stat(f.arm); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	f.n++
	f.note(step, path)
	if f.n != f.at {
		return nil
	}
	switch f.how {
	case "before":
		kill()
	case "after":
		f.step, f.path = step, path
	}
	return failures[f.how]
}

// after runs on the goroutine that took the step; another one that takes the same step at the same time is as good.
func (f *faults) after(step Step, path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.step != "" && step == f.step && path == f.path {
		kill()
	}
}

// note appends a step to the log, in one write.
func (f *faults) note(step Step, path string) {
	if f.log == "" {
		return
	}
	file, err := os.OpenFile(f.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err == nil {
		defer file.Close()
		var line bytes.Buffer
		fmt.Fprintf(&line, "%d %s %s\n", f.n, step, path)
		_, err = file.Write(line.Bytes())
	}
	if err != nil {
		panic(err) // what is not in the log would be taken for not done
	}
}

// kill ends the process as a crash does. The caller holds mu, so that nothing goes on meanwhile.
func kill() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}
