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
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"cubby/gc"
	"cubby/gc/bridge"
	"cubby/gc/policy"
	"cubby/server"
	"cubby/server/auth"
	"cubby/server/certs"
	"cubby/server/cli"
	"cubby/store"
	"cubby/store/oci"
	"cubby/web"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// version is set by the packaging script.
var version = "dev"

func main() {
	ctx := untilSignal()
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

// untilSignal returns a context that ends with the first signal to stop. The default action is back before it ends, so
// a second signal that comes when the port is closed ends the process at once.
func untilSignal() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-stop
		signal.Stop(stop)
		cancel()
	}()
	return ctx
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "cubby",
		Short:         "A container and artifact registry in one binary, for one box",
		Long:          "Cubby is a container and artifact registry in one binary, for one box.\nStart it with `cubby serve`.",
		SilenceErrors: true,
		SilenceUsage:  true,
		// Every flag of serve can be given as a CUBBY_* variable; the flag wins.
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return cli.Environment(cmd) },
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Args:              cobra.NoArgs,
		Version:           version,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return cli.UsageError(cmd, err) })
	root.AddCommand(serveCommand(), versionCommand())
	root.AddCommand(configCommand())
	root.AddCommand(cli.Commands(func(st *store.Store) http.Handler {
		return adminHandler(st, aloneCollector(st), nil)
	})...)
	root.InitDefaultCompletionCmd()
	cli.WrongArgsAreUsage(root)
	return root
}

// A settings holds the flags of serve.
type settings struct {
	addrs       []string
	data        string
	config      string
	anonymous   string
	htpasswd    string
	adminFile   string
	proxies     []string
	sparse      string
	maxManifest int64
	noInit      bool
	readOnly    bool
	logLevel    string
	grace       time.Duration
	gcEvery     time.Duration
	tls         certs.Options
}

func serveCommand() *cobra.Command {
	var c settings
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the registry",
		Long: `Run the registry until it is interrupted.

The data directory is --data, else $CUBBY_DATA, else $STATE_DIRECTORY (systemd), else cubby in the user's data home.
It is made if it does not exist.

On a loopback address and without users the registry is open to this machine only: requests from a loopback address, to
the host localhost, that no proxy has touched. With users everyone must log in, but for what --anonymous allows. On any
other address without users, a user admin is made; its password is in admin-password in the data directory. Every flag can be given as a variable, --log-level as CUBBY_LOG_LEVEL.

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
	f.StringVar(&c.config, "config", "", "read retention rules, keep times and immutable tags from `FILE`, and again when it changes or on SIGHUP")
	f.StringVar(&c.anonymous, "anonymous", "", "what everybody may do without logging in: none, pull or push (`WHAT`); not given, as \"cubby anonymous\" says")
	f.StringVar(&c.htpasswd, "htpasswd", "", "let the users of `FILE` log in too, which may do everything but administer; read again when it changes")
	f.StringVar(&c.adminFile, "admin-password-file", "", "take the password of the first user, admin, from `FILE`")
	f.StringArrayVar(&c.proxies, "trusted-proxy", nil, "believe proxies in this `NETWORK` when they say for whom they ask; repeat for more")
	f.StringVar(&c.sparse, "sparse", "index", "accept manifests whose content is missing: none, index or all (`KIND`)")
	f.Int64Var(&c.maxManifest, "max-manifest", server.DefaultMaxManifest, "largest manifest in `BYTES`, at least the default")
	f.BoolVar(&c.noInit, "no-init", false, "refuse to make a new store")
	f.BoolVar(&c.readOnly, "read-only", false, "serve pulls only (the data directory must be writable all the same)")
	f.StringVar(&c.logLevel, "log-level", "info", "log from this `LEVEL` on: debug, info, warn or error")
	f.DurationVar(&c.gcEvery, "gc-every", 24*time.Hour, "collect what nobody refers to every `DURATION`; 0 is never")
	f.DurationVar(&c.grace, "grace", 5*time.Second, "let running requests finish for this `DURATION` when stopping")
	f.StringVar(&c.tls.Cert, "tls-cert", "", "speak https with the certificate in `FILE` (PEM, with its chain), read again when it changes")
	f.StringVar(&c.tls.Key, "tls-key", "", "the key of --tls-cert in `FILE`")
	f.BoolVar(&c.tls.SelfSigned, "tls-self-signed", false, "speak https with certificates of a CA of its own, which it serves at /-/ca.crt")
	f.StringArrayVar(&c.tls.Names, "tls-name", nil, "a `NAME` or address to put into self-signed certificates beside those of this machine; repeat for more")
	f.StringArrayVar(&c.tls.ACME, "tls-acme", nil, "speak https with a certificate for `HOST` from an ACME server, which must reach it on port 443 or 80; repeat for more")
	f.StringVar(&c.tls.Directory, "tls-acme-directory", "", "`URL` of the ACME server's directory (default Let's Encrypt)")
	f.StringVar(&c.tls.Email, "tls-acme-email", "", "`ADDRESS` for the ACME server to write to")
	return cmd
}

// parsed are the settings that have a type of their own.
type parsed struct {
	level   slog.Level
	sparse  store.Sparse
	proxies []netip.Prefix
}

// parse checks what can be checked before anything is opened.
func (c settings) parse() (p parsed, err error) {
	if err := p.level.UnmarshalText([]byte(c.logLevel)); err != nil {
		return p, fmt.Errorf("log level %q is not debug, info, warn or error", c.logLevel)
	}
	if c.anonymous != "" {
		if _, err := auth.ParseAnonymous(c.anonymous); err != nil {
			return p, err
		}
	}
	if p.proxies, err = auth.ParseNetworks(c.proxies); err != nil {
		return p, err
	}
	if p.sparse, err = store.ParseSparse(c.sparse); err != nil {
		return p, err
	}
	if c.maxManifest < server.DefaultMaxManifest {
		return p, fmt.Errorf("max-manifest %d is less than the %d bytes that clients may expect", c.maxManifest, server.DefaultMaxManifest)
	}
	return p, c.tls.Check()
}

// newLog returns a log that writes to standard error: lines for people on a terminal, JSON otherwise. The caller closes
// the buffer.
func newLog(level slog.Level, onTerminal bool) (*slog.Logger, *server.LogBuffer) {
	buffer := server.NewLogBuffer(os.Stderr)
	options := &slog.HandlerOptions{Level: level}
	if onTerminal {
		return slog.New(slog.NewTextHandler(buffer, options)), buffer
	}
	return slog.New(slog.NewJSONHandler(buffer, options)), buffer
}

func openHtpasswd(path string, log *slog.Logger) (users func() map[string]string, err error) {
	if path == "" {
		return nil, nil
	}
	file, err := auth.OpenHtpasswd(path, log)
	if err != nil {
		return nil, err
	}
	return file.Users, nil
}

// memoryLimit is from how many bytes on the collector works harder rather than let the heap grow.
const memoryLimit = 224 << 20

// boundRuntime sets what the runtime takes of the machine, where its own variables do not say.
func boundRuntime() {
	if os.Getenv("GOMEMLIMIT") == "" {
		// Only what a layer holds takes more than some megabytes, and twice that until the collector comes round.
		debug.SetMemoryLimit(memoryLimit)
	}
	if os.Getenv("GOMAXPROCS") == "" {
		// Who waits for the disk keeps a processor's place until the runtime notices, which takes some 100 µs. With one place
		// more than processors, two of them push images up to 30 % faster. Pulls are as fast, at more of the processor's time.
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
}

func serve(ctx context.Context, c settings) error {
	p, err := c.parse()
	if err != nil {
		return &cli.ExitError{Code: cli.ExitUsage, Err: err}
	}
	dir, err := serveDir(c.data)
	if err != nil {
		return err
	}
	boundRuntime()
	onTerminal := term.IsTerminal(int(os.Stderr.Fd()))
	log, buffer := newLog(p.level, onTerminal)
	defer buffer.Close()
	rules, err := openRules(c.config, log)
	if err != nil {
		return err
	}
	htpasswd, err := openHtpasswd(c.htpasswd, log)
	if err != nil {
		return err
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
		Dir: dir, Role: store.RoleServe, Create: !c.noInit && !c.readOnly, ReadOnly: c.readOnly, Reserve: true, Log: log,
	})
	if err != nil {
		return err
	}
	if err := rules.inForce(st, c.readOnly); err != nil {
		return errors.Join(err, st.Close())
	}
	// Only now: the CA is kept in the data directory, and files that its owner cannot read could not be read again.
	source, err := certs.Open(dir, c.tls, log)
	if err != nil {
		return errors.Join(err, st.Close())
	}
	first, err := server.SettleAccess(ctx, st, server.FirstAccess{
		Listeners: listeners, Anonymous: c.anonymous, PasswordFile: c.adminFile, Htpasswd: htpasswd != nil, ReadOnly: c.readOnly,
	})
	if err != nil {
		return errors.Join(err, st.Close())
	}
	if err := server.SettleTLS(st, listeners, source, c.readOnly); err != nil {
		return errors.Join(err, st.Close())
	}
	listeners = server.AnswerBoth(listeners, source.Config(), log)
	guard := auth.New(auth.Options{Store: st, Htpasswd: htpasswd, Proxies: p.proxies, Log: log})
	collector := gc.NewCollector(st, log)
	collector.Policy = rules.read
	st.SetReclaimable(collector.Reclaimable)
	pages := newPages(c, st, guard, log, collector, rules)
	srv := server.New(server.Config{
		Store: st, Guard: guard, Pages: pages, Log: log, MaxManifest: c.maxManifest, Sparse: p.sparse, Version: version,
		Certs: source,
	})
	admin, err := server.ListenAdmin(dir)
	if err != nil {
		return errors.Join(fmt.Errorf("admin socket: %w", err), st.Close())
	}
	announce(log, listeners, source, dir, first)
	_ = buffer.Flush() // scripts wait for the address
	if onTerminal {
		startText(ctx, os.Stderr, listeners, st, source, guard, first, c.readOnly)
	}
	background, stopBackground := context.WithCancel(ctx)
	defer stopBackground()
	var working sync.WaitGroup
	if c.gcEvery > 0 && !c.readOnly {
		working.Go(func() { collector.Schedule(background, c.gcEvery) })
	}
	if source != nil {
		working.Go(func() { source.Watch(background) })
	}
	if rules.file != nil {
		working.Go(func() { rules.watch(background, onTerminal) })
	}
	err = run(ctx, log, &server.Tracker{Handler: srv}, listeners, admin, &server.Tracker{Handler: adminHandler(st, collector, rules.problem)}, c.grace)
	stopBackground()
	pages.Close()
	working.Wait()
	return errors.Join(err, st.Close())
}

// announce logs where the server listens, and what its operator should know.
func announce(log *slog.Logger, listeners []net.Listener, source *certs.Source, dir, password string) {
	if password != "" {
		log.Warn("first start on a network, user admin made; see its password in the file until you change it", "file", filepath.Join(dir, store.FileAdminPassword))
	}
	if source.Config() == nil && !server.AllLoopback(listeners) {
		log.Warn("passwords and content cross the network in clear: start with TLS, see serve --help, or listen on localhost behind a proxy that speaks it")
	}
	for _, l := range listeners {
		log.Info("serving", "addr", l.Addr().String(), "data", dir, "version", version)
	}
}

// rules are what --config names; without it there are none.
type rules struct{ file *policy.File }

// settingConfig is where the store remembers which file a server goes by, so that commands which run alone do the same.
const settingConfig = "config"

func openRules(path string, log *slog.Logger) (rules, error) {
	if path == "" {
		return rules{}, nil
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return rules{}, err
	}
	file, err := policy.Open(path, log)
	return rules{file}, err
}

// inForce makes the store go by the rules, and remember them.
func (r rules) inForce(st *store.Store, readOnly bool) error {
	path := ""
	if r.file != nil {
		path = r.file.Path()
		st.SetImmutable(func(name oci.Name, tag oci.Tag) string { return r.file.Policy().Immutable(name, tag) })
	}
	if readOnly {
		return nil
	}
	return st.SetSetting(settingConfig, path)
}

// read returns the policy as the file says it now, or if that is not valid as it said before.
func (r rules) read(ctx context.Context) (*policy.Policy, error) {
	if r.file == nil {
		return nil, nil
	}
	r.file.Settled(ctx)
	return r.file.Policy(), nil
}

// problem tells why what the file says is not in force, or "".
func (r rules) problem() string {
	if r.file == nil || r.file.Problem() == nil {
		return ""
	}
	return fmt.Sprintf("the rules of before stay in force: %v", r.file.Problem())
}

func (r rules) watch(ctx context.Context, onTerminal bool) {
	again := make(chan os.Signal, 1)
	if !onTerminal { // there it says that the terminal was closed
		signal.Notify(again, syscall.SIGHUP)
		defer signal.Stop(again)
	}
	r.file.Watch(ctx, again)
}

// aloneCollector returns a collector for a command that runs without a server, with the rules that the last server
// went by. When they cannot be read it refuses: it would remove what they keep.
func aloneCollector(st *store.Store) *gc.Collector {
	collector := gc.NewCollector(st, slog.New(slog.DiscardHandler))
	read := sync.OnceValues(func() (*policy.Policy, error) {
		path, err := st.Setting(context.Background(), settingConfig)
		if err != nil || path == "" {
			return nil, err
		}
		p, _, err := policy.Load(path)
		if err != nil {
			return nil, fmt.Errorf("%w (the server was started with it; mend it, or start the server without --config)", err)
		}
		return p, nil
	})
	collector.Policy = func(context.Context) (*policy.Policy, error) { return read() }
	st.SetImmutable(func(name oci.Name, tag oci.Tag) string {
		p, err := read()
		if err != nil {
			return fmt.Sprintf("any, because nobody knows: %v", err)
		}
		return p.Immutable(name, tag)
	})
	return collector
}

// adminHandler adds to the server's commands those that package gc carries out. problem tells what a person should know
// about the rules, and may be nil.
func adminHandler(st *store.Store, collector *gc.Collector, problem func() string) http.Handler {
	return server.Admin(st, bridge.Commands(collector, problem))
}

// newPages returns the browse UI, with what it needs of packages that it does not know.
func newPages(c settings, st *store.Store, guard *auth.Guard, log *slog.Logger, collector *gc.Collector, r rules) *web.Handler {
	keep := func(name oci.Name) (untagged, used time.Duration) {
		k := policy.DefaultKeep
		if r.file != nil {
			k = r.file.Policy().Keep(name)
		}
		return k.Untagged, k.Used
	}
	every := c.gcEvery
	if c.readOnly {
		every = 0
	}
	return web.New(web.Config{
		Store: st, Guard: guard, Log: log, Version: version, ReadOnly: c.readOnly, Collector: bridge.Pages{Collector: collector}, Every: every,
		Clients: server.ConnectClients(), Keep: keep, Problem: r.problem, FreshPassword: st.HasAdminPassword,
		Connect: func(ctx context.Context, client, host string, https bool, user string) (string, error) {
			item := server.ConnectItem{Host: host, HTTPS: https, Users: !guard.Open()}
			if https {
				var err error
				if item.CA, err = st.Setting(ctx, server.SettingCA); err != nil {
					return "", err
				}
			}
			return server.Connect(client, item, user)
		},
	})
}

// run serves until ctx is done or a listener fails, then lets running requests finish for grace. The store may be closed
// afterwards.
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
func startText(ctx context.Context, w io.Writer, listeners []net.Listener, st *store.Store, source *certs.Source, guard *auth.Guard, password string, readOnly bool) {
	host := listeners[0].Addr().String()
	if h, port, err := net.SplitHostPort(host); err == nil && (h == "127.0.0.1" || h == "::1" || h == "::" || h == "0.0.0.0") {
		host = "localhost:" + port
	}
	if source != nil && source.Host != "" {
		host = source.HostPort(listeners[0].Addr())
	}
	free, _ := st.Space()
	fmt.Fprintf(w, "\nCubby %s at %s://%s\nData in %s, %s free\n%s.\n", version, source.Scheme(), host, st.Dir(), humanize.IBytes(uint64(free)), guard.Describe(readOnly))
	if password != "" {
		fmt.Fprintf(w, "\nLog in as admin with the password %s\n(kept in %s until you change it: cubby user passwd admin)\n", password, filepath.Join(st.Dir(), store.FileAdminPassword))
	}
	if source != nil && source.CA != nil {
		fmt.Fprintf(w, "\nClients have to trust its CA, %[1]s://%[2]s/-/ca.crt\nSHA-256 fingerprint %[3]s\n", source.Scheme(), host, source.CA.Fingerprint())
	}
	names, err := st.Names(ctx, "", 1)
	switch {
	case readOnly:
	case err == nil && len(names) > 0:
		fmt.Fprintln(w, "\nOpen it in a browser to see what it holds, or run `cubby ls`.")
	default:
		fmt.Fprintf(w, "\nA first push:\n  docker pull alpine\n  docker tag alpine %[1]s/alpine\n  docker push %[1]s/alpine\n", host)
	}
	fmt.Fprint(w, "\nStop it with Ctrl-C.\n\n")
}

func configCommand() *cobra.Command {
	config := &cobra.Command{
		Use:   "config",
		Short: "Look at configuration files",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	config.AddCommand(&cobra.Command{
		Use:   "check [FILE]",
		Short: "Verify a file of retention rules, keep times and immutable tags",
		Long: `Verify FILE, or the one that $CUBBY_CONFIG names, as "cubby serve --config FILE" reads it. Nothing is changed. What the
rules in force would remove is shown by "cubby gc --dry-run".

Exit codes: 0 it is valid, 1 it is not, 2 wrong usage.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := os.Getenv("CUBBY_CONFIG")
			if len(args) == 1 {
				path = args[0]
			}
			if path == "" {
				return cli.UsageError(cmd, errors.New("no FILE is given"))
			}
			p, warnings, err := policy.Load(path)
			if err != nil {
				return err
			}
			for _, w := range warnings {
				fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s: %s\n", path, w)
			}
			keep, protected, immutable, retention := p.Counts()
			fmt.Fprintf(cmd.OutOrStdout(), "%s is valid: retention rules %d, protected %d, immutable %d, keep times %d\n", path, retention, protected, immutable, keep)
			return nil
		},
	})
	return config
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
