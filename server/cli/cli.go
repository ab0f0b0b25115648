// Package cli holds the administrative commands. They are clients of the admin socket: what they do is done by the
// server's handlers, in the server or in this process. They know how to ask, and how to show the answer.
package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"cubby/server"
	"cubby/store"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// Exit codes, as every command's help says.
const (
	ExitFailed  = 1
	ExitUsage   = 2
	ExitRefused = 3
)

const exitHelp = `
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused (nothing was changed).`

// An ExitError carries the exit code of a failure.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string { return e.Err.Error() }
func (e *ExitError) Unwrap() error { return e.Err }

// handler makes the admin handler of a store, for commands that run without a server.
var handler func(*store.Store) http.Handler

// Commands returns all of them. admin makes the handler of a store that no server owns: the server's own, so that a
// command does the same with and without one.
func Commands(admin func(*store.Store) http.Handler) []*cobra.Command {
	handler = admin
	return []*cobra.Command{listCommand(), removeCommand(), historyCommand(), undoCommand(), restoreCommand(), diskUseCommand(),
		checkCommand(), backupCommand(), healthCommand(), collectCommand(), userCommand(),
		grantCommand("grant", "Allow a user more", "Allow a user actions to the repositories that PATTERN matches, besides what it may do already.\n",
			"  cubby grant alice 'team/**' pull,push,delete\n  cubby grant bob '**' admin"),
		grantCommand("revoke", "Take rights from a user", "Take actions from what a user may do by exactly this PATTERN, see \"cubby user ls\". It ends with the next request.\n",
			"  cubby revoke alice 'team/**' delete"),
		anonymousCommand(), tokenCommand(), auditCommand(), connectCommand()}
}

// WrongArgsAreUsage gives every command the exit code that its help promises for wrong arguments.
func WrongArgsAreUsage(cmd *cobra.Command) {
	args := cmd.Args
	if args == nil {
		args = cobra.NoArgs
	}
	cmd.Args = func(cmd *cobra.Command, given []string) error {
		if err := args(cmd, given); err != nil {
			return UsageError(cmd, err)
		}
		return nil
	}
	for _, child := range cmd.Commands() {
		WrongArgsAreUsage(child)
	}
}

// UsageError says that a command was called wrongly, and where to read how to.
func UsageError(cmd *cobra.Command, err error) error {
	return &ExitError{ExitUsage, fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath())}
}

// Environment sets the flags that were not given from their CUBBY_* variables: those of serve, and of other commands
// only where the store and the server are. What else they do is said on the command line alone.
func Environment(cmd *cobra.Command) error {
	flags := cmd.Flags()
	var err error
	flags.VisitAll(func(f *pflag.Flag) {
		name := "CUBBY_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := os.LookupEnv(name)
		if !ok || value == "" || f.Changed || err != nil || cmd.Name() != "serve" && f.Name != "data" && f.Name != "addr" || f.Name == "help" || f.Name == "version" {
			return
		}
		values := []string{value}
		if f.Value.Type() == "stringArray" {
			values = strings.Split(value, ",")
		}
		for _, v := range values {
			if setErr := flags.Set(f.Name, strings.TrimSpace(v)); setErr != nil {
				err = &ExitError{ExitUsage, fmt.Errorf("variable %s: %w", name, setErr)}
			}
		}
	})
	return err
}

// AddressError gives a malformed address the exit code of wrong usage.
func AddressError(err error) error {
	if errors.Is(err, server.ErrAddress) {
		return &ExitError{ExitUsage, err}
	}
	return err
}

// An adminCommand has the flags of every administrative command.
type adminCommand struct {
	data string
	json bool
}

func (a *adminCommand) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.data, "data", "", "the store's data directory `DIR`")
	cmd.Flags().BoolVar(&a.json, "json", false, "print JSON, one object a line")
}

// run finds the store and runs a command on it, beside a server or alone. each gets the events that are results.
func (a *adminCommand) run(cmd *cobra.Command, method, path string, params url.Values, each func(server.Event) error) error {
	dir, err := store.Find(a.data)
	if err != nil {
		return err
	}
	if err := store.BecomeOwner(dir); err != nil {
		if errors.Is(err, store.ErrNotOwner) {
			return &ExitError{ExitRefused, err}
		}
		return err
	}
	bar := progressBar{w: os.Stderr, on: !a.json && term.IsTerminal(int(os.Stderr.Fd()))}
	err = server.Command(cmd.Context(), dir, handler, method, path, params, func(e server.Event) error {
		if e.Progress != nil {
			bar.show(*e.Progress)
			return nil
		}
		bar.clear()
		return each(e)
	})
	bar.clear()
	if failed, ok := errors.AsType[*server.CommandError](err); ok && failed.Refused {
		return &ExitError{ExitRefused, err}
	}
	return err
}

// table runs a command that only looks, and prints each event as a line of a table, or with --json the value that it
// holds. header is a line of columns with tabs between, like those that row returns.
func (a *adminCommand) table(cmd *cobra.Command, path string, params url.Values, header string, value func(server.Event) any, row func(server.Event) string) error {
	out := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	if !a.json {
		fmt.Fprintln(out, header)
	}
	err := a.run(cmd, http.MethodGet, path, params, func(e server.Event) error {
		if a.json {
			return printJSON(cmd.OutOrStdout(), value(e))
		}
		_, err := fmt.Fprintln(out, row(e))
		return err
	})
	return errors.Join(err, out.Flush())
}

// print writes an event as JSON.
func printJSON(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }

const whereHelp = `
The store is the one in --data or $CUBBY_DATA; else exactly one of $STATE_DIRECTORY, the user's data home,
/var/lib/cubby and /data must hold one. A server that runs on it is asked to do the work.
`

// A progressBar shows how far a command is, on a terminal.
type progressBar struct {
	w     io.Writer
	on    bool
	shown bool
}

func (b *progressBar) show(p server.Progress) {
	if !b.on || p.Total == 0 {
		return
	}
	const width = 30
	full := int(p.Done * width / p.Total)
	fmt.Fprintf(b.w, "\r[%s%s] %s of %s ", strings.Repeat("#", full), strings.Repeat(".", width-full), size(p.Done), size(p.Total))
	b.shown = true
}

func (b *progressBar) clear() {
	if b.shown {
		fmt.Fprintf(b.w, "\r\033[K")
		b.shown = false
	}
}

// size formats bytes for people.
func size(n int64) string { return humanize.IBytes(uint64(n)) }

func date(t time.Time) string { return t.Local().Format("2006-01-02 15:04") }

// shortDigest cuts a digest to what people compare.
func shortDigest(dgst string) string {
	algorithm, encoded, _ := strings.Cut(dgst, ":")
	return algorithm + ":" + encoded[:min(len(encoded), 12)]
}
