package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"

	"cubby/server"
	"cubby/store"
	"cubby/store/oci"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func removeCommand() *cobra.Command {
	var c removal
	cmd := &cobra.Command{
		Use:   "rm REPO[:TAG|@DIGEST]",
		Short: "Remove tags, or a manifest",
		Long: `Remove a tag (REPO:TAG), a manifest with its tags (REPO@DIGEST), or all tags of a repository (REPO).

REPO and TAG may be patterns: * stands for any characters but /, ? for one, [a-z] for one of a class, {a,b} for
alternatives, ** for any number of components of a repository's name. What patterns match, and all tags of a repository, is
shown first, and has to be confirmed on a terminal, or by --yes. What the configuration protects stays then, and so do
signatures and attestations (tags sha256-…), which go with what they belong to. One tag or manifest that is named goes at
once, protected or not. A host and port in front of REPO are left out.

Removing a tag leaves the manifest, which stays until it is collected: "cubby undo REPO:TAG" brings the tag back.
Removing a manifest is final. A manifest that an index in the repository names is refused.
` + whereHelp + exitHelp,
		Example: "  cubby rm team/api:1.0\n  cubby rm 'team/*:pr-*' --older 30d --keep 5 --dry-run\n  cubby rm 'team/**:nightly-*' --keep 7 --yes    # in a crontab",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			what, err := parseRemoval(args[0])
			if err == nil {
				err = c.complete(cmd, what)
			}
			if err != nil {
				return UsageError(cmd, err)
			}
			if what.exact && !c.dryRun && c.older == "" && c.keep == 0 {
				return c.removeExact(cmd, what)
			}
			return c.removeMatching(cmd, what)
		},
	}
	c.flags(cmd)
	cmd.Flags().StringVar(&c.older, "older", "", "only tags that were last pushed longer than `AGE` ago, such as 30d")
	cmd.Flags().Uint32Var(&c.keep, "keep", 0, "keep the newest `N` of the matching tags of each repository")
	cmd.Flags().BoolVar(&c.dryRun, "dry-run", false, "only show what would be removed, and why")
	cmd.Flags().BoolVarP(&c.yes, "yes", "y", false, "do not ask")
	return cmd
}

// A removal is the command rm with its flags.
type removal struct {
	adminCommand
	older       string
	keep        uint32
	dryRun, yes bool
}

// A removalArg is what is to be removed: one tag or manifest, or what patterns match.
type removalArg struct {
	exact      bool
	digest     bool
	params     url.Values // of an exact one
	repo, tags string     // patterns
	all        bool       // of the tags of a repository
}

func parseRemoval(s string) (a removalArg, err error) {
	s = withoutHost(s)
	if oci.IsGlob(s) && strings.Contains(s, "@") {
		return a, fmt.Errorf("%q: a digest goes with the name of one repository, without patterns", s)
	}
	if !oci.IsGlob(s) {
		a.params, err = removeParams(s)
		a.repo, a.tags = a.params.Get("repo"), a.params.Get("tag")
		a.digest = a.params.Has("digest")
		a.exact = a.digest || a.params.Has("tag")
	} else {
		i := strings.LastIndexByte(s, ':')
		if i < 0 {
			return a, fmt.Errorf("%q has no tag; %q are all tags of these repositories", s, s+":*")
		}
		a.repo, a.tags = s[:i], s[i+1:]
	}
	if err != nil || a.digest {
		return a, err
	}
	if !a.exact && a.tags == "" && !oci.IsGlob(s) {
		a.all, a.tags = true, "*"
	}
	if _, err := oci.ParseNameGlob(a.repo); err != nil {
		return a, err
	}
	_, err = oci.ParseTagGlob(a.tags)
	return a, err
}

// complete checks the flags.
func (c *removal) complete(cmd *cobra.Command, what removalArg) error {
	if what.digest && (c.dryRun || c.older != "" || c.keep > 0) {
		return errors.New("--dry-run, --older and --keep are for tags")
	}
	if c.keep > math.MaxInt32 {
		return fmt.Errorf("--keep %d is too large", c.keep)
	}
	if c.json && !c.yes && !c.dryRun && !what.exact {
		return errors.New("--json shows no plan to agree to; say --yes, or --dry-run")
	}
	if f := cmd.Flags().Lookup("older"); f.Changed {
		_, err := store.ParseAge(c.older)
		return err
	}
	return nil
}

func (c *removal) removeExact(cmd *cobra.Command, what removalArg) error {
	return c.run(cmd, http.MethodPost, "/rm", what.params, func(e server.Event) error { return c.printRemoved(cmd.OutOrStdout(), e.Removed) })
}

func (c *removal) printRemoved(w io.Writer, r *server.RemovedItem) error {
	if c.json {
		return printJSON(w, r)
	}
	what := ":" + r.Tag
	if r.Digest != "" {
		what = "@" + r.Digest
	}
	if r.Digest == "" {
		what += "; cubby undo " + r.Repository + what + " brings it back"
	}
	_, err := fmt.Fprintf(w, "removed %s%s\n", r.Repository, what)
	return err
}

// removeMatching shows what goes, asks, and has exactly that removed.
func (c *removal) removeMatching(cmd *cobra.Command, what removalArg) error {
	params := url.Values{"repositories": {what.repo}, "tags": {what.tags}, "older": {c.older}, "dry-run": {"true"}}
	if c.keep > 0 {
		params.Set("keep", strconv.FormatUint(uint64(c.keep), 10))
	}
	if what.exact {
		params.Set("protected", "true")
	}
	if what.exact || what.all && c.older == "" && c.keep == 0 {
		params.Set("subjects", "true")
	}
	plan, err := c.show(cmd, params)
	if err != nil {
		return err
	}
	if plan.Tags == 0 {
		if what.exact {
			return &ExitError{ExitRefused, fmt.Errorf("there is no tag %s in %s, or it stays", what.tags, what.repo)}
		}
		if !c.json {
			fmt.Fprintln(cmd.ErrOrStderr(), "Nothing to remove. (Signatures and attestations, tags sha256-…, go with what they belong to.)")
		}
		return nil
	}
	if c.dryRun {
		return nil
	}
	if yes, err := c.confirm(cmd, plan.Tags); err != nil || !yes {
		return err
	}
	params.Set("dry-run", "false")
	params.Set("plan", plan.Plan)
	return c.run(cmd, http.MethodPost, "/rm/matching", params, func(e server.Event) error {
		switch {
		case e.Note != "":
			fmt.Fprintln(cmd.ErrOrStderr(), e.Note)
		case e.Removed != nil && c.json:
			return printJSON(cmd.OutOrStdout(), e.Removed)
		case e.Removal != nil:
			if !c.json {
				fmt.Fprintf(cmd.OutOrStdout(), "Removed %d tags. Each can be brought back for a while: cubby undo REPO:TAG\n", e.Removal.Tags)
			}
			if e.Removal.Spared > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "%d tags moved meanwhile and stay.\n", e.Removal.Spared)
			}
		}
		return nil
	})
}

// show prints the plan: with --json only what a dry run is asked for.
func (c *removal) show(cmd *cobra.Command, params url.Values) (plan server.RemovalItem, err error) {
	out := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	err = c.run(cmd, http.MethodPost, "/rm/matching", params, func(e server.Event) error {
		switch {
		case e.Removal != nil:
			plan = *e.Removal
		case e.Note != "":
			fmt.Fprintln(cmd.ErrOrStderr(), e.Note)
		case e.Plan != nil && !c.json:
			printPlanItem(out, e.Plan)
		case e.Plan != nil && c.dryRun:
			return printJSON(cmd.OutOrStdout(), e.Plan)
		}
		return nil
	})
	return plan, errors.Join(err, out.Flush())
}

// confirm asks on a terminal; elsewhere --yes must have been given.
func (c *removal) confirm(cmd *cobra.Command, tags int64) (bool, error) {
	if c.yes {
		return true, nil
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return false, UsageError(cmd, fmt.Errorf("%d tags would be removed, and nobody can be asked: --yes removes them, --dry-run only shows them", tags))
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "Remove these %d tags? [y/N] ", tags)
	answer, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return true, nil
	}
	fmt.Fprintln(cmd.ErrOrStderr(), "Nothing was removed.")
	return false, nil
}

// withoutHost leaves out a host and port in front, as in the name that docker knows.
func withoutHost(s string) string {
	host, rest, _ := strings.Cut(s, "/")
	if _, port, ok := strings.Cut(host, ":"); ok && port != "" && strings.Trim(port, "0123456789") == "" && rest != "" {
		return rest
	}
	return s
}

// removeParams splits REPO[:TAG|@DIGEST].
func removeParams(s string) (url.Values, error) {
	repo, dgst, hasDigest := strings.Cut(withoutHost(s), "@")
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
