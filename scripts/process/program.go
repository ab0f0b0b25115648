package process

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// programs are what the tests of this process had built.
var programs struct {
	sync.Mutex
	dir  string            // "" before the first
	path map[string]string // build tags → program
}

// Main runs the tests of a package, removes what Program built and ends the process. For TestMain.
func Main(m *testing.M) {
	code := m.Run()
	os.RemoveAll(programs.dir)
	os.Exit(code)
}

// Program returns a command that runs the program as it is shipped, with a home directory that holds nothing.
func Program(t *testing.T, args ...string) Command {
	t.Helper()
	return tagged(t, "", args)
}

// Faulty is Program built with the tag faults: CUBBY_FAULT in its environment makes steps on the disk fail.
func Faulty(t *testing.T, args ...string) Command {
	t.Helper()
	return tagged(t, "faults", args)
}

func tagged(t *testing.T, tags string, args []string) Command {
	t.Helper()
	programs.Lock()
	defer programs.Unlock()
	path, err := programs.path[tags], error(nil)
	if path == "" {
		path, err = compile(tags)
	}
	if err != nil {
		t.Fatal(err)
	}
	return Command{Path: path, Args: args, Env: []string{"HOME=/nonexistent"}}
}

// compile builds the program, statically. Other users may run it.
func compile(tags string) (string, error) {
	if programs.dir == "" {
		dir, err := os.MkdirTemp("", "cubby-bin-")
		if err == nil {
			err = os.Chmod(dir, 0o755)
		}
		if err != nil {
			return "", err
		}
		programs.dir, programs.path = dir, make(map[string]string)
	}
	path := filepath.Join(programs.dir, "cubby"+tags)
	cmd := exec.Command("go", "build", "-tags", tags, "-o", path, "cubby")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	programs.path[tags] = path
	return path, nil
}

// Problems returns what `cubby check --deep` finds in a data directory.
func (c Command) Problems(t *testing.T, dir string) (found []string) {
	t.Helper()
	c.Args = []string{"check", "--deep", "--json", "--data", dir}
	r := c.Run(t)
	var report struct {
		Problems []struct{ Invariant, What string }
	}
	if err := json.Unmarshal([]byte(r.Stdout), &report); err != nil {
		t.Fatalf("check of %s: exit %d, %v\n%s%s", dir, r.Code, err, r.Stdout, r.Stderr)
	}
	for _, p := range report.Problems {
		found = append(found, p.Invariant+" "+p.What)
	}
	if (r.Code != 0) != (len(found) > 0) {
		t.Errorf("check of %s: exit %d with %d problems\n%s", dir, r.Code, len(found), r.Stderr)
	}
	return found
}
