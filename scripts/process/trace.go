package process

import (
	"bufio"
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A Call is a system call in a trace. Start and End are the lines on which it was entered and left: strace writes them
// in the order in which they happened, over all threads.
type Call struct {
	Start, End int
	Name       string
	Args       string // as strace prints them, descriptors with their paths
	Result     int64  // -1 on an error
}

func (c Call) String() string {
	return fmt.Sprintf("line %d-%d %s(%.200s) = %d", c.Start, c.End, c.Name, c.Args, c.Result)
}

// On returns whether the call's first argument is a descriptor of a file whose path ends in suffix.
func (c Call) On(suffix string) bool {
	first, _, _ := strings.Cut(c.Args, ", ")
	return strings.HasSuffix(first, suffix+">")
}

// Is returns whether the call has one of the names.
func (c Call) Is(names ...string) bool {
	return slices.Contains(names, c.Name)
}

// Path returns the path that a call like openat names, with the directory of its descriptor in front.
func (c Call) Path() string {
	m := tracePath.FindStringSubmatch(c.Args)
	if m == nil {
		return ""
	}
	if path.IsAbs(m[2]) {
		return m[2]
	}
	return path.Join(m[1], m[2])
}

// Strace returns a wrapper that traces system calls of all threads to a file.
func Strace(file, calls string) []string {
	return []string{"strace", "-f", "-y", "-ttt", "--seccomp-bpf", "-e", "trace=" + calls, "-e", "signal=none", "-o", file}
}

// A line of strace -f -ttt: thread, time, and a call that is whole, begun or resumed.
var (
	traceLine    = regexp.MustCompile(`^(\d+)\s+[\d.]+ (.*)$`)
	traceWhole   = regexp.MustCompile(`^(\w+)\((.*)\)\s+= (-?\d+)`)
	traceBegun   = regexp.MustCompile(`^(\w+)\((.*?),? ?<unfinished \.\.\.>$`)
	traceOther   = regexp.MustCompile(`^\+\+\+ |^--- |^\?\?\?\(|\) += \?`) // ends, signals, calls that a killed thread never left
	tracePath    = regexp.MustCompile(`^(?:\w+<(.*?)>, )?"(.*?)"`)
	traceResumed = regexp.MustCompile(`^<\.\.\. (\w+) resumed>(.*)\)\s+= (-?\d+)`)
)

// ReadTrace returns the calls of a trace in the order in which they ended. Calls that never ended are left out.
func ReadTrace(t *testing.T, file string) []Call {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var calls []Call
	begun := make(map[string]Call) // by thread, which can be in one call only
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		line := traceLine.FindStringSubmatch(lines.Text())
		if line == nil {
			t.Fatalf("line %d of %s is not of strace -f -ttt: %s", n, file, lines.Text())
		}
		thread, rest := line[1], line[2]
		if m := traceWhole.FindStringSubmatch(rest); m != nil {
			calls = append(calls, Call{n, n, m[1], m[2], number(m[3])})
		} else if m := traceBegun.FindStringSubmatch(rest); m != nil {
			begun[thread] = Call{Start: n, Name: m[1], Args: m[2]}
		} else if m := traceResumed.FindStringSubmatch(rest); m != nil {
			c, ok := begun[thread]
			if !ok || c.Name != m[1] {
				t.Fatalf("line %d of %s resumes a call that was not begun: %s", n, file, rest)
			}
			delete(begun, thread)
			c.End, c.Args, c.Result = n, c.Args+m[2], number(m[3])
			calls = append(calls, c)
		} else if !traceOther.MatchString(rest) {
			t.Fatalf("line %d of %s is not understood: %s", n, file, rest)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return calls
}

// number parses what traceWhole matched.
func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return -1
	}
	return n
}
