// Cubby is a container and artifact registry in one binary, for one box. This file turns flags and environment into
// configuration, wires the packages together, and holds the subcommands.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"cubby/server"
	"cubby/server/auth"
	"cubby/store"
	"cubby/store/oci"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// version is set by the packaging script.
var version = "dev"

// Exit codes, as every command's help says.
const (
	exitFailed  = 1
	exitUsage   = 2
	exitRefused = 3
)

const exitHelp = `
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused (nothing was changed).`

// An exitError carries the exit code of a failure.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal the default action is back: a second one ends the process at once.
	context.AfterFunc(ctx, stop)
	// What the registry keeps is its owner's alone.
	syscall.Umask(0o077)
	err := rootCommand().ExecuteContext(ctx)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "cubby:", err)
	if e, ok := errors.AsType[*exitError](err); ok {
		os.Exit(e.code)
	}
	os.Exit(exitFailed)
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "cubby",
		Short:         "A container and artifact registry in one binary, for one box",
		Long:          "Cubby is a container and artifact registry in one binary, for one box.\nStart it with `cubby serve`.",
		SilenceErrors: true,
		SilenceUsage:  true,
		// Every flag can be given as a CUBBY_* variable; the flag wins.
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return environment(cmd.Flags()) },
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Args:              cobra.NoArgs,
		Version:           version,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError(cmd, err) })
	root.AddCommand(serveCommand(), listCommand(), removeCommand(), checkCommand(), backupCommand(), healthCommand(), versionCommand())
	root.InitDefaultCompletionCmd()
	wrongArgsAreUsage(root)
	return root
}

// wrongArgsAreUsage gives every command the exit code that its help promises for wrong arguments.
func wrongArgsAreUsage(cmd *cobra.Command) {
	args := cmd.Args
	if args == nil {
		args = cobra.NoArgs
	}
	cmd.Args = func(cmd *cobra.Command, given []string) error {
		if err := args(cmd, given); err != nil {
			return usageError(cmd, err)
		}
		return nil
	}
	for _, child := range cmd.Commands() {
		wrongArgsAreUsage(child)
	}
}

func usageError(cmd *cobra.Command, err error) error {
	return &exitError{exitUsage, fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath())}
}

// environment sets the flags that were not given from their CUBBY_* variables.
func environment(flags *pflag.FlagSet) error {
	var err error
	flags.VisitAll(func(f *pflag.Flag) {
		name := "CUBBY_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := os.LookupEnv(name)
		if !ok || value == "" || f.Changed || err != nil || f.Name == "help" {
			return
		}
		values := []string{value}
		if f.Value.Type() == "stringArray" {
			values = strings.Split(value, ",")
		}
		for _, v := range values {
			if setErr := flags.Set(f.Name, strings.TrimSpace(v)); setErr != nil {
				err = &exitError{exitUsage, fmt.Errorf("variable %s: %w", name, setErr)}
			}
		}
	})
	return err
}

// A settings holds the flags of serve.
type settings struct {
	addrs       []string
	data        string
	anonymous   string
	sparse      string
	maxManifest int64
	noInit      bool
	readOnly    bool
	logLevel    string
	grace       time.Duration
}

func serveCommand() *cobra.Command {
	var c settings
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the registry",
		Long: `Run the registry until it is interrupted.

The data directory is --data, else $CUBBY_DATA, else $STATE_DIRECTORY (systemd), else cubby in the user's data home.
It is made if it does not exist.

Without --anonymous the registry is open to this machine only: requests from a loopback address, to the host
localhost, that no proxy has touched. Every flag can be given as a variable, --log-level as CUBBY_LOG_LEVEL.

Exit codes: 0 stopped, 1 failed or refused to start, 2 wrong usage.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// An unset variable in a script must not end up in the default directory.
			if f := cmd.Flags().Lookup("data"); f.Changed && c.data == "" {
				return usageError(cmd, errors.New("--data is empty"))
			}
			return serve(cmd.Context(), c)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&c.addrs, "addr", []string{"localhost:5000"}, "listen on `HOST:PORT`; repeat for more, localhost is 127.0.0.1 and ::1, port 0 is any free one")
	f.StringVar(&c.data, "data", "", "keep everything in `DIR`")
	f.StringVar(&c.anonymous, "anonymous", "none", "what others than this machine may do without logging in: none, pull or push (`WHAT`)")
	f.StringVar(&c.sparse, "sparse", "index", "accept manifests whose content is missing: none, index or all (`KIND`)")
	f.Int64Var(&c.maxManifest, "max-manifest", server.DefaultMaxManifest, "largest manifest in `BYTES`, at least the default")
	f.BoolVar(&c.noInit, "no-init", false, "refuse to make a new store")
	f.BoolVar(&c.readOnly, "read-only", false, "serve pulls only (the data directory must be writable all the same)")
	f.StringVar(&c.logLevel, "log-level", "info", "log from this `LEVEL` on: debug, info, warn or error")
	f.DurationVar(&c.grace, "grace", 5*time.Second, "let running requests finish for this `DURATION` when stopping")
	return cmd
}

func serve(ctx context.Context, c settings) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.logLevel)); err != nil {
		return &exitError{exitUsage, fmt.Errorf("log level %q is not debug, info, warn or error", c.logLevel)}
	}
	anonymous, err := auth.ParseAnonymous(c.anonymous)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	sparse, err := store.ParseSparse(c.sparse)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	if c.maxManifest < server.DefaultMaxManifest {
		return &exitError{exitUsage, fmt.Errorf("max-manifest %d is less than the %d bytes that clients may expect", c.maxManifest, server.DefaultMaxManifest)}
	}
	dir, err := serveDir(c.data)
	if err != nil {
		return err
	}
	onTerminal := term.IsTerminal(int(os.Stderr.Fd()))
	buffer := server.NewLogBuffer(os.Stderr)
	defer buffer.Close()
	options := &slog.HandlerOptions{Level: level}
	log := slog.New(slog.NewJSONHandler(buffer, options))
	if onTerminal {
		log = slog.New(slog.NewTextHandler(buffer, options))
	}

	// Listen first: a taken port must not touch the data directory.
	listeners, err := server.Listen(ctx, c.addrs)
	if err != nil {
		return addressError(err)
	}
	defer func() {
		for _, l := range listeners {
			l.Close()
		}
	}()
	// After listening, which may need root, and before anything is touched.
	if err := store.BecomeOwnerOfExisting(dir); err != nil {
		return err
	}
	st, err := store.Open(ctx, store.Options{
		Dir: dir, Role: store.RoleServe, Create: !c.noInit && !c.readOnly, ReadOnly: c.readOnly, Log: log,
	})
	if err != nil {
		return err
	}
	srv := server.New(server.Config{
		Store: st, Policy: auth.Policy{Anonymous: anonymous}, Log: log, MaxManifest: c.maxManifest, Sparse: sparse, Version: version,
	})
	admin, err := server.ListenAdmin(dir)
	if err != nil {
		return errors.Join(fmt.Errorf("admin socket: %w", err), st.Close())
	}
	for _, l := range listeners {
		log.Info("serving", "addr", l.Addr().String(), "data", dir, "version", version)
	}
	_ = buffer.Flush() // scripts wait for the address
	if onTerminal {
		startText(ctx, os.Stderr, listeners, st, anonymous, c.readOnly)
	}
	err = run(ctx, log, &server.Tracker{Handler: srv}, listeners, admin, &server.Tracker{Handler: server.Admin(st)}, c.grace)
	return errors.Join(err, st.Close())
}

// run serves until ctx is done or a listener fails, and then lets running requests finish within grace.
func run(ctx context.Context, log *slog.Logger, srv *server.Tracker, listeners []net.Listener, admin net.Listener, commands *server.Tracker, grace time.Duration) error {
	public, socket := server.HTTP(srv, log), server.HTTP(commands, log)
	failed := make(chan error, len(listeners)+1)
	for _, l := range listeners {
		go func() { failed <- public.Serve(l) }()
	}
	go func() { failed <- socket.Serve(admin) }()
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	log.Info("stopping", "grace", grace.String())
	stopping, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	// A running backup or check is not waited for: its client gets told by the broken connection.
	socket.Close()
	if shutdownErr := public.Shutdown(stopping); shutdownErr != nil {
		log.Warn("requests cut off", "err", shutdownErr)
		public.Close()
	}
	// Handlers of cut connections end at once, because their connection fails; the store is closed after them.
	waiting, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	srv.Wait(waiting)
	commands.Wait(waiting)
	return err
}

// addressError gives a malformed address the exit code of wrong usage.
func addressError(err error) error {
	if errors.Is(err, server.ErrAddress) {
		return &exitError{exitUsage, err}
	}
	return err
}

// startText tells a person at a terminal what runs, who may use it, and how to begin.
func startText(ctx context.Context, w io.Writer, listeners []net.Listener, st *store.Store, anonymous auth.Anonymous, readOnly bool) {
	host := listeners[0].Addr().String()
	if h, port, err := net.SplitHostPort(host); err == nil && (h == "127.0.0.1" || h == "::1" || h == "::" || h == "0.0.0.0") {
		host = "localhost:" + port
	}
	free, _ := st.Space()
	fmt.Fprintf(w, "\nCubby %s at http://%s\nData in %s, %s free\n%s.\n", version, host, st.Dir(), size(free), anonymous.Describe(readOnly))
	names, err := st.Names(ctx, "", 1)
	switch {
	case readOnly:
	case err == nil && len(names) > 0:
		fmt.Fprintln(w, "\nSee what it holds with `cubby ls`.")
	default:
		fmt.Fprintf(w, "\nA first push:\n  docker pull alpine\n  docker tag alpine %[1]s/alpine\n  docker push %[1]s/alpine\n", host)
	}
	fmt.Fprint(w, "\nStop it with Ctrl-C.\n\n")
}

// serveDir returns where serve keeps its data.
func serveDir(flag string) (string, error) {
	if flag == "" {
		flag = os.Getenv("STATE_DIRECTORY")
	}
	if flag == "" {
		var err error
		if flag, err = store.DataHome(); err != nil {
			return "", fmt.Errorf("no data directory: %w; give one with --data", err)
		}
	}
	return filepath.Abs(flag)
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
			return &exitError{exitRefused, err}
		}
		return err
	}
	bar := progressBar{w: os.Stderr, on: !a.json && term.IsTerminal(int(os.Stderr.Fd()))}
	err = server.Command(cmd.Context(), dir, method, path, params, func(e server.Event) error {
		if e.Progress != nil {
			bar.show(*e.Progress)
			return nil
		}
		bar.clear()
		return each(e)
	})
	bar.clear()
	if failed, ok := errors.AsType[*server.CommandError](err); ok && failed.Refused {
		return &exitError{exitRefused, err}
	}
	return err
}

// print writes an event as JSON.
func printJSON(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }

const whereHelp = `
The store is the one in --data or $CUBBY_DATA; else exactly one of $STATE_DIRECTORY, the user's data home,
/var/lib/cubby and /data must hold one. A server that runs on it is asked to do the work.
`

func listCommand() *cobra.Command {
	var a adminCommand
	cmd := &cobra.Command{
		Use:   "ls [REPO]",
		Short: "List repositories, or the tags of one",
		Long:  "List repositories with their tags, size and last push, or the tags of one repository.\n" + whereHelp + exitHelp,
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			params, header := url.Values{}, "REPOSITORY\tTAGS\tSIZE\tPUSHED"
			if len(args) == 1 {
				if _, err := oci.ParseName(args[0]); err != nil {
					return usageError(cmd, err)
				}
				params.Set("repo", args[0])
				header = "TAG\tDIGEST\tSIZE\tPUSHED"
			}
			out := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			if !a.json {
				fmt.Fprintln(out, header)
			}
			err := a.run(cmd, http.MethodGet, "/ls", params, func(e server.Event) error {
				switch {
				case a.json && e.Repository != nil:
					return printJSON(cmd.OutOrStdout(), e.Repository)
				case a.json:
					return printJSON(cmd.OutOrStdout(), e.Tag)
				case e.Repository != nil:
					r := e.Repository
					fmt.Fprintf(out, "%s\t%d\t%s\t%s\n", r.Name, r.Tags, size(r.Size), date(r.PushedAt))
				case e.Tag != nil:
					t := e.Tag
					fmt.Fprintf(out, "%s\t%s\t%s\t%s\n", t.Name, shortDigest(t.Digest), size(t.Size), date(t.UpdatedAt))
				}
				return nil
			})
			if err != nil {
				return err
			}
			return out.Flush()
		},
	}
	a.flags(cmd)
	return cmd
}

func removeCommand() *cobra.Command {
	var a adminCommand
	cmd := &cobra.Command{
		Use:   "rm REPO[:TAG|@DIGEST]",
		Short: "Remove a tag, a manifest, or all tags of a repository",
		Long: `Remove a tag (REPO:TAG), a manifest with its tags (REPO@DIGEST), or all tags of a repository (REPO).

Removing a tag leaves the manifest, which stays until it is collected. Removing a manifest is final. A manifest that
an index in the repository names is refused.
` + whereHelp + exitHelp,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			params, err := removeParams(args[0])
			if err != nil {
				return usageError(cmd, err)
			}
			removed := 0
			err = a.run(cmd, http.MethodPost, "/rm", params, func(e server.Event) error {
				removed++
				if a.json {
					return printJSON(cmd.OutOrStdout(), e.Removed)
				}
				what := ":" + e.Removed.Tag
				if e.Removed.Digest != "" {
					what = "@" + e.Removed.Digest
				}
				fmt.Fprintf(cmd.OutOrStdout(), "removed %s%s\n", e.Removed.Repository, what)
				return nil
			})
			if err == nil && removed == 0 && !a.json {
				fmt.Fprintf(cmd.OutOrStdout(), "%s has no tags\n", args[0])
			}
			return err
		},
	}
	a.flags(cmd)
	return cmd
}

// removeParams splits REPO[:TAG|@DIGEST]. A host and port in front, as in the name that docker knows, is left out.
func removeParams(s string) (url.Values, error) {
	if host, rest, ok := strings.Cut(s, "/"); ok && strings.Contains(host, ":") {
		s = rest
	}
	repo, dgst, hasDigest := strings.Cut(s, "@")
	repo, tag, hasTag := strings.Cut(repo, ":")
	params := url.Values{"repo": {repo}}
	if _, err := oci.ParseName(repo); err != nil {
		return nil, err
	}
	if hasTag && !hasDigest {
		params.Set("tag", tag)
		_, err := oci.ParseTag(tag)
		return params, err
	}
	if hasDigest {
		params.Set("digest", dgst)
		_, err := oci.ParseDigest(dgst)
		return params, err
	}
	return params, nil
}

func checkCommand() *cobra.Command {
	var a adminCommand
	var deep bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Verify that everything stored is whole",
		Long: `Verify that every blob has its file, every tag is complete, counts are right, and the database is sound.
With --deep also read every blob and compare its digest. Nothing is changed.
` + whereHelp + `
Exit codes: 0 all is well, 1 problems were found or the check failed, 2 wrong usage, 3 refused.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			problems := 0
			params := url.Values{"deep": {strconv.FormatBool(deep)}}
			err := a.run(cmd, http.MethodPost, "/check", params, func(e server.Event) error {
				problems = len(e.Check.Problems)
				if a.json {
					return printJSON(cmd.OutOrStdout(), e.Check)
				}
				printCheck(cmd.OutOrStdout(), e.Check)
				return nil
			})
			if err == nil && problems > 0 {
				return fmt.Errorf("%d problems found", problems)
			}
			return err
		},
	}
	a.flags(cmd)
	cmd.Flags().BoolVar(&deep, "deep", false, "read every blob and compare its digest")
	return cmd
}

func printCheck(w io.Writer, r *store.CheckReport) {
	for _, p := range r.Problems {
		fmt.Fprintf(w, "%s: %s\n", p.Invariant, p.What)
	}
	read := ""
	if r.Deep {
		read = ", every byte read"
	}
	fmt.Fprintf(w, "checked %d tags, %d manifests, %d blobs (%s)%s\n", r.Tags, r.Manifests, r.Blobs, size(r.Bytes), read)
	if r.Orphans > 0 {
		fmt.Fprintf(w, "%d files (%s) belong to nothing: garbage of interrupted work, no damage\n", r.Orphans, size(r.OrphanBytes))
	}
	if len(r.Problems) == 0 {
		fmt.Fprintln(w, "all is well")
	}
}

func backupCommand() *cobra.Command {
	var a adminCommand
	cmd := &cobra.Command{
		Use:   "backup DIR",
		Short: "Copy the store to a new directory, while it is in use",
		Long: `Write a consistent copy of the store to DIR, which must be empty or not exist. Start from it with
"cubby serve --data DIR". Blobs are hard-linked where DIR is on the same file system, and copied otherwise; every one
is compared with its digest.
` + whereHelp + exitHelp,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			return a.run(cmd, http.MethodPost, "/backup", url.Values{"dir": {dir}}, func(e server.Event) error {
				if a.json {
					return printJSON(cmd.OutOrStdout(), e.Backup)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "backed up %d blobs (%s, %d of them linked) to %s\n", e.Backup.Blobs, size(e.Backup.Bytes), e.Backup.Linked, dir)
				return nil
			})
		},
	}
	a.flags(cmd)
	return cmd
}

func healthCommand() *cobra.Command {
	var addrs []string
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask a running server whether it is alive",
		Long:  "Ask the server at --addr whether it is alive. For containers.\n\nExit codes: 0 alive, 1 not, 2 wrong usage.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return addressError(server.AskHealth(cmd.Context(), addrs[0]))
		},
	}
	cmd.Flags().StringArrayVar(&addrs, "addr", []string{"localhost:5000"}, "where the server listens, `HOST:PORT`; the first counts")
	return cmd
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			goVersion := "unknown Go"
			if info, ok := debug.ReadBuildInfo(); ok {
				goVersion = info.GoVersion
			}
			fmt.Fprintf(cmd.OutOrStdout(), "cubby %s (%s)\n", version, goVersion)
		},
	}
}

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
