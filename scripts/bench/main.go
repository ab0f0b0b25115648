// Bench measures what Cubby costs and prints it.
//
//	go run ./scripts/bench registry [-vs docker-registry,nginx] [-only WORDS]
//	go run ./scripts/bench growth [-plot FILE]
//	go run ./scripts/bench collection [-manifests 100000]
//	go run ./scripts/bench pages [-repositories 1000] [-tags 50000]
//	go run ./scripts/bench layers [-tar FILE]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := map[string]func(context.Context, []string) error{"registry": registryCommand, "growth": growthCommand, "collection": collectionCommand, "pages": pagesCommand, "layers": layersCommand, "plain": plainCommand}
	if len(os.Args) < 2 || run[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: bench registry [-vs SERVERS] [-only WORDS] [-time DURATION] [-rounds N] [-dir DIR]\n       bench growth [-sizes NUMBERS] [-plot FILE] [-time DURATION] [-dir DIR]\n       bench collection [-manifests N] [-dir DIR]\n       bench pages [-repositories N] [-tags N] [-dir DIR]\n       bench layers [-tar FILE] [-dir DIR]")
		os.Exit(2)
	}
	if err := run[os.Args[1]](ctx, os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

const dirUsage = "where to make the store; it is removed afterwards (default: the system's directory for temporary files)"

func collectionCommand(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("collection", flag.ExitOnError)
	manifests := flags.Int("manifests", 100_000, "how many images of three small blobs the store holds, half of them garbage")
	dir := flags.String("dir", "", dirUsage)
	_ = flags.Parse(args) // it exits on an error
	return collection(ctx, os.Stdout, *dir, *manifests)
}

func pagesCommand(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("pages", flag.ExitOnError)
	repositories := flags.Int("repositories", 1000, "how many repositories the store holds")
	tags := flags.Int("tags", 50_000, "how many tags they have, a fifth of them in one")
	dir := flags.String("dir", "", dirUsage)
	_ = flags.Parse(args) // it exits on an error
	return pages(ctx, os.Stdout, *dir, *repositories, *tags)
}

func layersCommand(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("layers", flag.ExitOnError)
	tarFile := flags.String("tar", "", "the archive to look into, not compressed (default: one that is made up)")
	dir := flags.String("dir", "", dirUsage)
	_ = flags.Parse(args) // it exits on an error
	return layers(ctx, os.Stdout, *dir, *tarFile)
}

func registryCommand(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("registry", flag.ExitOnError)
	vs := flags.String("vs", "", "servers to compare with, separated by commas: docker-registry, nginx, net/http (answers from memory and nothing else), or a command with {addr} and {dir} in it")
	only := flags.String("only", "", "only the workloads whose names contain this")
	each := flags.Duration("time", 3*time.Second, "how long each workload runs in each round")
	rounds := flags.Int("rounds", 3, "how often each workload runs; the best round counts")
	dir := flags.String("dir", "", dirUsage)
	profile := flags.String("profile", "", "a directory to write a profile of each workload into, for go tool pprof")
	_ = flags.Parse(args) // it exits on an error
	servers := []string{"cubby"}
	if *vs != "" {
		servers = append(servers, strings.Split(*vs, ",")...)
	}
	return withProgram(ctx, func(program string) error {
		return compare(ctx, os.Stdout, comparison{program: program, dir: *dir, servers: servers, only: *only, time: *each, rounds: *rounds, profile: *profile})
	})
}

func growthCommand(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("growth", flag.ExitOnError)
	text := flags.String("sizes", "1000,10000,100000", "how many tags and manifests one repository has, and how many others there are, separated by commas")
	plot := flags.String("plot", "", "write a plot to this file (SVG)")
	each := flags.Duration("time", 3*time.Second, "how long each request is repeated")
	dir := flags.String("dir", "", dirUsage)
	_ = flags.Parse(args) // it exits on an error
	var sizes []int
	for field := range strings.SplitSeq(*text, ",") {
		n, err := strconv.Atoi(field)
		if err != nil || n < 1 {
			return fmt.Errorf("-sizes: %q is no number", field)
		}
		sizes = append(sizes, n)
	}
	return withProgram(ctx, func(program string) error {
		return growth(ctx, os.Stdout, program, *dir, *plot, sizes, *each)
	})
}

// withProgram builds the program for f.
func withProgram(ctx context.Context, f func(program string) error) error {
	dir, err := os.MkdirTemp("", "cubby-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program, err := buildProgram(ctx, dir)
	if err != nil {
		return err
	}
	return f(program)
}
