package cli

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"

	"cubby/server"
	"cubby/store"

	"github.com/spf13/cobra"
)

func checkCommand() *cobra.Command {
	var a adminCommand
	var deep bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Verify that everything stored is whole",
		Long: `Verify that every blob has its file, every tag is complete, counts are right, and the database is sound.
With --deep also read every blob and compare its digest. Nothing is changed; but a running server answers a blob that has
other bytes as absent from then on, until it is pushed again or the server restarts.
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
				return fmt.Errorf("%d problems found; a blob is mended by pushing it again, a database from a backup", problems)
			}
			return err
		},
	}
	a.flags(cmd)
	cmd.Flags().BoolVar(&deep, "deep", false, "read every blob and compare its digest")
	return cmd
}

// kinds tell in a word what the invariants of store are about.
var kinds = map[string]string{"I2": "file", "I3": "incomplete", "I5": "content", "I6": "count", "database": "database"}

func printCheck(w io.Writer, r *store.CheckReport) {
	for _, p := range r.Problems {
		fmt.Fprintf(w, "%s: %s\n", kinds[p.Invariant], p.What)
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
