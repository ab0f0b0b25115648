// Bench measures what Cubby costs and prints it.
//
//	go run ./scripts/bench collection [-manifests 100000]
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
	if len(os.Args) < 2 || os.Args[1] != "collection" {
		fmt.Fprintln(os.Stderr, "usage: bench collection [-manifests N] [-dir DIR]")
		os.Exit(2)
	}
	flags := flag.NewFlagSet("collection", flag.ExitOnError)
	manifests := flags.Int("manifests", 100_000, "how many images of three small blobs the store holds, half of them garbage")
	dir := flags.String("dir", "", "where to make the store; it is removed afterwards (default: the system's directory for temporary files)")
	_ = flags.Parse(os.Args[2:]) // it exits on an error
	if err := collection(ctx, os.Stdout, *dir, *manifests); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
