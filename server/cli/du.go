package cli

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"text/tabwriter"

	"cubby/server"
	"cubby/store"
	"cubby/store/oci"

	"github.com/spf13/cobra"
)

func diskUseCommand() *cobra.Command {
	var a adminCommand
	cmd := &cobra.Command{
		Use:   "du [REPO]",
		Short: "Show what takes space on the disk",
		Long: `Show what the store takes on the disk, what it would take if repositories shared nothing, and what a collection would free
now; then for each repository, or for REPO alone, what is stored in it and which part of that no other repository has:
so much would become free if it were gone. The largest come first. What open pushes have sent so far is not counted.
` + whereHelp + exitHelp,
		Example: "  cubby du\n  cubby du team/api --json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			params := url.Values{}
			if len(args) == 1 {
				if _, err := oci.ParseName(args[0]); err != nil {
					return UsageError(cmd, err)
				}
				params.Set("repo", args[0])
			}
			var total *store.DiskUse
			var repositories []*server.RepositoryUseItem
			err := a.run(cmd, http.MethodGet, "/du", params, func(e server.Event) error {
				switch {
				case a.json && e.DiskUse != nil:
					return printJSON(cmd.OutOrStdout(), e.DiskUse)
				case a.json:
					return printJSON(cmd.OutOrStdout(), e.RepositoryUse)
				case e.DiskUse != nil:
					total = e.DiskUse
				default:
					repositories = append(repositories, e.RepositoryUse)
				}
				return nil
			})
			if err != nil || a.json {
				return err
			}
			return printDiskUse(cmd.OutOrStdout(), total, repositories)
		},
	}
	a.flags(cmd)
	return cmd
}

// printDiskUse prints the totals, unless they are nil, and the repositories.
func printDiskUse(w io.Writer, total *store.DiskUse, repositories []*server.RepositoryUseItem) error {
	if total != nil {
		out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintf(out, "On disk\t%s\tblobs %s, database %s (of it manifests %s), indexes of layers %s\n",
			size(total.Disk), size(total.Blobs), size(total.Database), size(total.Manifests), size(total.Indexes))
		fmt.Fprintf(out, "If nothing were shared\t%s\n", size(total.Unshared))
		fmt.Fprintf(out, "Saved by sharing\t%s\n", size(total.Saved))
		fmt.Fprintf(out, "Would be freed now\t%s\tcubby gc\n", size(total.Freeable))
		if err := out.Flush(); err != nil || len(repositories) == 0 {
			return err
		}
		fmt.Fprintln(w)
	}
	slices.SortStableFunc(repositories, func(a, b *server.RepositoryUseItem) int { return cmp.Compare(b.Stored, a.Stored) })
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "REPOSITORY\tSTORED\tONLY HERE")
	for _, r := range repositories {
		fmt.Fprintf(out, "%s\t%s\t%s\n", r.Name, size(r.Stored), size(r.OnlyHere))
	}
	return out.Flush()
}
