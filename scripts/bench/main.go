// Bench measures what Cubby costs and prints it.
//
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
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	run := map[string]func(context.Context, []string) error{"collection": collectionCommand, "pages": pagesCommand, "layers": layersCommand}
	if len(os.Args) < 2 || run[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: bench collection [-manifests N] [-dir DIR]\n       bench pages [-repositories N] [-tags N] [-dir DIR]\n       bench layers [-tar FILE] [-dir DIR]")
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
