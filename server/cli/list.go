package cli

import (
	"fmt"
	"net/http"
	"net/url"
	"text/tabwriter"

	"cubby/server"
	"cubby/store/oci"

	"github.com/spf13/cobra"
)

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
					return UsageError(cmd, err)
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
