package cli

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"text/tabwriter"
	"time"

	"cubby/server"
	"cubby/store/oci"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
)

func collectCommand() *cobra.Command {
	var a adminCommand
	var dryRun, now, force bool
	var config string
	cmd := &cobra.Command{
		Use:   "gc [REPO]",
		Short: "Remove what nobody refers to",
		Long: `Remove the tags that the rules of "cubby serve --config FILE" do not keep, if there are any. Then remove manifests that
lost their last tag more than a week ago and were not used for a month, and blobs that no manifest names. Pushes and
pulls go on meanwhile. Whatever a tag leads to is never touched.

With --dry-run nothing is removed; the plan is the same, and tags that a rule keeps are listed too. With --now keep times
end at once, but for what was pushed or used within the hour, and so do leases of clients that are older than an hour.
With REPO all this concerns that repository alone. A server collects by itself every day (serve --gc-every).
` + whereHelp + `
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused: something is not as it should be, and nothing was removed.`,
		Example: "  cubby gc --dry-run\n  cubby gc --now team/api\n  0 4 * * * cubby gc        # in a crontab",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			params := url.Values{"dry-run": {strconv.FormatBool(dryRun)}, "now": {strconv.FormatBool(now)}, "force": {strconv.FormatBool(force)}}
			if len(args) == 1 {
				if _, err := oci.ParseName(args[0]); err != nil {
					return UsageError(cmd, err)
				}
				params.Set("repo", args[0])
			}
			if config != "" {
				if !dryRun {
					return UsageError(cmd, errors.New("--config goes with --dry-run: to put rules in force, start the server with them"))
				}
				text, err := os.ReadFile(config)
				if err != nil {
					return err
				}
				params.Set("config", string(text))
			}
			out := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			return a.run(cmd, http.MethodPost, "/gc", params, func(e server.Event) error {
				switch {
				case e.Note != "":
					fmt.Fprintln(cmd.ErrOrStderr(), e.Note)
				case e.Plan != nil && a.json:
					return printJSON(cmd.OutOrStdout(), e.Plan)
				case e.Plan != nil:
					printPlanItem(out, e.Plan)
				case e.Collected != nil && a.json:
					return printJSON(cmd.OutOrStdout(), e.Collected)
				case e.Collected != nil:
					if err := out.Flush(); err != nil {
						return err
					}
					printCollected(cmd.OutOrStdout(), e.Collected)
				}
				return nil
			})
		},
	}
	a.flags(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would be removed, and why")
	cmd.Flags().BoolVar(&now, "now", false, "end keep times, and leases older than an hour, at once")
	cmd.Flags().StringVar(&config, "config", "", "with --dry-run: what the rules in `FILE` would do, instead of those in force")
	cmd.Flags().BoolVar(&force, "force", false, "also with a clock that is not believed")
	cmd.AddCommand(collectLogCommand())
	return cmd
}

func printPlanItem(w io.Writer, p *server.PlanItem) {
	what, bytes, why := p.Repository+"@"+shortDigest(p.Digest), humanize.IBytes(uint64(p.Size)), p.Why
	if p.Kind == "tag" {
		what, bytes = p.Repository+":"+p.Tag, "-"
	}
	if p.Rule != "" {
		why = fmt.Sprintf("rule %q: %s", p.Rule, why)
	}
	if !p.Until.IsZero() {
		why += ", kept until " + date(p.Until)
	}
	fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", p.Action, p.Kind, what, bytes, why)
}

func printCollected(w io.Writer, c *server.CollectedItem) {
	verb := "Freed"
	if c.DryRun {
		verb = "Would free"
	}
	fmt.Fprintf(w, "%s %s: ", verb, size(c.Freed))
	if c.Tags > 0 {
		fmt.Fprintf(w, "%d tags, ", c.Tags)
	}
	fmt.Fprintf(w, "%d manifests, %d blobs", c.Manifests, c.Blobs)
	if c.Orphans > 0 {
		fmt.Fprintf(w, ", %d files of interrupted pushes", c.Orphans)
	}
	fmt.Fprintf(w, ", in %s.\n", time.Duration(c.Seconds*float64(time.Second)).Round(time.Millisecond))
	if c.Spared > 0 {
		fmt.Fprintf(w, "%d items came back into use meanwhile and stay.\n", c.Spared)
	}
	switch {
	case c.Kept > 0 && c.Now:
		fmt.Fprintf(w, "%s stays until %s at the latest: it was pushed or used within the hour, or a client may be about to use it.\n", size(c.Kept), c.KeptUntil.Local().Format("Mon 2 Jan 15:04"))
	case c.Kept > 0:
		fmt.Fprintf(w, "%s is kept for undo until %s; free it now: cubby gc --now\n", size(c.Kept), c.KeptUntil.Local().Format("Mon 2 Jan 15:04"))
	}
}

func collectLogCommand() *cobra.Command {
	var a adminCommand
	cmd := &cobra.Command{
		Use:   "log",
		Short: "List past collections",
		Long:  "List past collections, the newest first, also those that were refused or failed.\n" + whereHelp + exitHelp,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.table(cmd, "/gc/log", nil, "STARTED\tTOOK\tBY\tOUTCOME\tFREED\tTAGS\tMANIFESTS\tBLOBS\tREASON", func(e server.Event) any { return e.Run }, func(e server.Event) string {
				r := e.Run
				return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s", date(r.StartedAt), r.Duration.Round(time.Millisecond), r.Cause, r.Outcome, size(r.Bytes), r.Tags, r.Manifests, r.Blobs, r.Reason)
			})
		},
	}
	a.flags(cmd)
	return cmd
}
