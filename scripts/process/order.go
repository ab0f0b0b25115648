package process

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// isSync returns whether a call made something durable.
func isSync(c Call) bool { return c.Is("fsync", "fdatasync") && c.Result == 0 }

// IsCreated returns whether a call answers a request with 201.
func IsCreated(c Call) bool {
	return c.Is("write", "writev", "sendto") && strings.Contains(c.Args, `"HTTP/1.1 201 `)
}

// CheckPush returns an error unless the steps of a push follow each other, each begun after the one before had ended.
func CheckPush(content Content, calls []Call) error {
	encoded := strings.TrimPrefix(content.Digest, "sha256:")
	isLog := func(c Call) bool { return c.Is("write", "pwrite64", "writev") && c.On("/cubby.db-wal") }
	isUpload := func(c Call) bool {
		return strings.Contains(c.Args, "/blobs/.uploads/") && c.Is("write", "pwrite64", "writev")
	}
	last := func(is func(Call) bool) func(Call) bool {
		start := -1
		for _, c := range calls {
			if is(c) {
				start = max(start, c.Start)
			}
		}
		return func(c Call) bool { return c.Start == start }
	}
	steps := []struct {
		what string
		is   func(Call) bool
	}{
		{"last write to the upload", last(isUpload)},
		{"fsync of the upload", func(c Call) bool { return isSync(c) && strings.Contains(c.Args, "/blobs/.uploads/") }},
		{"rename", func(c Call) bool {
			return c.Is("rename", "renameat", "renameat2") && c.Result == 0 && strings.Contains(c.Args, encoded)
		}},
		{"fsync of the directory", func(c Call) bool { return isSync(c) && c.On("/blobs/sha256/"+encoded[:2]) }},
		{"last write to the database's log", last(isLog)},
		{"fsync of the database's log", func(c Call) bool { return isSync(c) && c.On("/cubby.db-wal") }},
		{"answer", IsCreated},
	}
	if content.MediaType != "" {
		steps = steps[4:]
	}
	line := 0
	for _, step := range steps {
		i := slices.IndexFunc(calls, func(c Call) bool { return c.Start > line && step.is(c) })
		if i < 0 {
			calls = slices.DeleteFunc(calls, func(c Call) bool { return c.Is("open", "openat", "pwrite64") })
			return fmt.Errorf("no %s after line %d of %v", step.what, line, calls)
		}
		line = calls[i].End
	}
	return nil
}

// CheckNames returns an error for each name that was made and whose directory was not synced before the next 201.
func CheckNames(calls, created []Call) (errs []error) {
	for _, c := range calls {
		makes := c.Is("mkdir", "mkdirat") || c.Is("open", "openat") && strings.Contains(c.Args, "O_CREAT")
		name := c.Path()
		// Not kept: what a restart makes anew or removes.
		// Nor what is there already: a second connection to a database opens its log as if to make it.
		again := slices.ContainsFunc(calls, func(before Call) bool {
			return c.Is("open", "openat") && before.Is("open", "openat") && before.Result >= 0 && before.End < c.Start && before.Path() == name
		})
		if !makes || again || c.Result < 0 || regexp.MustCompile(`/lock$|-shm$|-journal$|/\.uploads/|/tmp/etilqs|/reserve$|/store\.json\.new$`).MatchString(name) {
			continue
		}
		next := slices.IndexFunc(created, func(answer Call) bool { return answer.Start > c.End })
		if next >= 0 && !slices.ContainsFunc(calls, func(sync Call) bool {
			return isSync(sync) && sync.On("<"+path.Dir(name)) && sync.Start > c.End && sync.End < created[next].Start
		}) {
			errs = append(errs, fmt.Errorf("%v is not followed by an fsync of %s", c, path.Dir(name)))
		}
	}
	return errs
}
