// Cubby is a container and artifact registry in one binary, for one box. This file turns flags and environment into
// configuration, wires the packages together, and holds the subcommands.
package main

import (
	"context"
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
	"sync"
	"syscall"
	"time"

	"cubby/gc"
	"cubby/server"
	"cubby/server/auth"
	"cubby/server/cli"
	"cubby/store"
	"cubby/store/oci"

	"github.com/dustin/go-humanize"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// version is set by the packaging script.
var version = "dev"

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
	if e, ok := errors.AsType[*cli.ExitError](err); ok {
		os.Exit(e.Code)
	}
	os.Exit(cli.ExitFailed)
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "cubby",
		Short:         "A container and artifact registry in one binary, for one box",
		Long:          "Cubby is a container and artifact registry in one binary, for one box.\nStart it with `cubby serve`.",
		SilenceErrors: true,
		SilenceUsage:  true,
		// Every flag can be given as a CUBBY_* variable; the flag wins.
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return cli.Environment(cmd.Flags()) },
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Args:              cobra.NoArgs,
		Version:           version,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return cli.UsageError(cmd, err) })
	root.AddCommand(serveCommand(), versionCommand())
	root.AddCommand(cli.Commands(func(st *store.Store) http.Handler {
		return adminHandler(st, gc.NewCollector(st, slog.New(slog.DiscardHandler)))
	})...)
	root.InitDefaultCompletionCmd()
	cli.WrongArgsAreUsage(root)
	return root
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
	gcEvery     time.Duration
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
				return cli.UsageError(cmd, errors.New("--data is empty"))
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
	f.DurationVar(&c.gcEvery, "gc-every", 24*time.Hour, "collect what nobody refers to every `DURATION`; 0 is never")
	f.DurationVar(&c.grace, "grace", 5*time.Second, "let running requests finish for this `DURATION` when stopping")
	return cmd
}

func serve(ctx context.Context, c settings) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.logLevel)); err != nil {
		return &cli.ExitError{Code: cli.ExitUsage, Err: fmt.Errorf("log level %q is not debug, info, warn or error", c.logLevel)}
	}
	anonymous, err := auth.ParseAnonymous(c.anonymous)
	if err != nil {
		return &cli.ExitError{Code: cli.ExitUsage, Err: err}
	}
	sparse, err := store.ParseSparse(c.sparse)
	if err != nil {
		return &cli.ExitError{Code: cli.ExitUsage, Err: err}
	}
	if c.maxManifest < server.DefaultMaxManifest {
		return &cli.ExitError{Code: cli.ExitUsage, Err: fmt.Errorf("max-manifest %d is less than the %d bytes that clients may expect", c.maxManifest, server.DefaultMaxManifest)}
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
		return cli.AddressError(err)
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
	collector := gc.NewCollector(st, log)
	scheduled, stopCollecting := context.WithCancel(ctx)
	defer stopCollecting()
	var collecting sync.WaitGroup
	if c.gcEvery > 0 && !c.readOnly {
		collecting.Go(func() { collector.Schedule(scheduled, c.gcEvery) })
	}
	err = run(ctx, log, &server.Tracker{Handler: srv}, listeners, admin, &server.Tracker{Handler: adminHandler(st, collector)}, c.grace)
	stopCollecting()
	collecting.Wait()
	return errors.Join(err, st.Close())
}

// adminHandler adds to the server's commands those that package gc carries out: the two do not know each other.
func adminHandler(st *store.Store, collector *gc.Collector) http.Handler {
	return server.Admin(st, map[string]server.AdminFunc{
		"POST /gc": func(ctx context.Context, _ *store.Store, r *http.Request, send func(server.Event)) error {
			return collect(ctx, collector, r.URL.Query(), send)
		},
		"GET /gc/log": func(ctx context.Context, st *store.Store, _ *http.Request, send func(server.Event)) error {
			runs, err := st.Collections(ctx, 100)
			for _, run := range runs {
				send(server.Event{Run: &run})
			}
			return err
		},
	})
}

// collect runs a collection that the command asks for, and tells the plan before it is carried out.
func collect(ctx context.Context, collector *gc.Collector, query url.Values, send func(server.Event)) error {
	dryRun, force := query.Get("dry-run") == "true", query.Get("force") == "true"
	q := gc.Request{
		Cause: "command", DryRun: dryRun, Force: force,
		Waiting: func() { send(server.Event{Note: "another collection runs; waiting for it"}) },
		Planned: func(p *gc.Plan) { sendPlan(p, send) },
		Progress: func(done, total int) {
			send(server.Event{Progress: &server.Progress{Done: int64(done), Total: int64(total)}})
		},
	}
	if query.Get("now") == "true" {
		repo := query.Get("repo")
		q.End = func(name oci.Name) bool { return repo == "" || name.String() == repo }
	}
	began := time.Now()
	plan, result, err := collector.Run(ctx, q)
	if errors.Is(err, gc.ErrRefused) {
		return fmt.Errorf("%w: %w", server.ErrRefused, err)
	}
	if err != nil {
		return err
	}
	c := server.CollectedItem{
		DryRun: dryRun, Now: q.End != nil, Manifests: result.Manifests, Blobs: result.Blobs, Orphans: result.Orphans, Spared: result.Spared,
		Freed: result.Bytes, Kept: plan.KeptBytes, KeptUntil: plan.KeptUntil, Seconds: time.Since(began).Seconds(),
	}
	if dryRun {
		c.Manifests, c.Blobs, c.Freed = int64(len(plan.Manifests)), int64(len(plan.Blobs)), plan.Frees
	}
	send(server.Event{Collected: &c})
	return nil
}

func sendPlan(p *gc.Plan, send func(server.Event)) {
	item := func(action, kind string, name oci.Name, dgst digest.Digest, size int64, why string, until time.Time) {
		send(server.Event{Plan: &server.PlanItem{
			Action: action, Kind: kind, Repository: name.String(), Digest: dgst.String(), Size: size, Why: why, Until: until,
		}})
	}
	for _, m := range p.Manifests {
		item("remove", "manifest", m.Repository, m.Digest, m.Size, m.Why, time.Time{})
	}
	for _, b := range p.Blobs {
		item("remove", "blob", b.Repository, b.Digest, b.Size, b.Why, time.Time{})
	}
	for _, k := range p.Kept {
		item("keep", "manifest", k.Repository, k.Digest, k.Size, k.Why, k.Until)
	}
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

// startText tells a person at a terminal what runs, who may use it, and how to begin.
func startText(ctx context.Context, w io.Writer, listeners []net.Listener, st *store.Store, anonymous auth.Anonymous, readOnly bool) {
	host := listeners[0].Addr().String()
	if h, port, err := net.SplitHostPort(host); err == nil && (h == "127.0.0.1" || h == "::1" || h == "::" || h == "0.0.0.0") {
		host = "localhost:" + port
	}
	free, _ := st.Space()
	fmt.Fprintf(w, "\nCubby %s at http://%s\nData in %s, %s free\n%s.\n", version, host, st.Dir(), humanize.IBytes(uint64(free)), anonymous.Describe(readOnly))
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
