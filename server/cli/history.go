package cli

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"cubby/server"
	"cubby/store"

	"github.com/spf13/cobra"
)

func historyCommand() *cobra.Command {
	var a adminCommand
	cmd := &cobra.Command{
		Use:   "history REPO[:TAG]",
		Short: "Show how tags moved, and who moved them",
		Long: `Show every move and removal of a tag (REPO:TAG), or of all tags of a repository (REPO), the newest first. The entries of
each tag are numbered; an entry keeps its number. Give it to "cubby restore" to go back to where the tag was after it.
` + whereHelp + exitHelp,
		Example: "  cubby history team/api:latest\n  cubby history team/api --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			params, err := removeParams(args[0])
			if err == nil && params.Has("digest") {
				err = errors.New("tags have a history, digests have none")
			}
			if err != nil {
				return UsageError(cmd, err)
			}
			all := !params.Has("tag")
			out := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			if !a.json {
				printHistoryLine(out, all, "TAG", "#", "WHEN", "FROM", "TO", "WHO", "ADDRESS", "NOTE")
			}
			err = a.run(cmd, http.MethodGet, "/history", params, func(e server.Event) error {
				if a.json {
					return printJSON(cmd.OutOrStdout(), e.Move)
				}
				m := e.Move
				printHistoryLine(out, all, m.Tag, "#"+strconv.FormatInt(m.Number, 10), date(m.At), tagState(m.From.String()), tagState(m.To.String()),
					m.Who, m.Address, moveNote(m))
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

// printHistoryLine prints columns, the first only if the history is of all tags.
func printHistoryLine(w io.Writer, all bool, columns ...string) {
	if !all {
		columns = columns[1:]
	}
	fmt.Fprintln(w, strings.TrimRight(strings.Join(columns, "\t"), "\t"))
}

// tagState tells where a tag is.
func tagState(dgst string) string {
	if dgst == "" {
		return "none"
	}
	return shortDigest(dgst)
}

func moveNote(m *store.TagMove) string {
	var notes []string
	if m.Undoes > 0 {
		notes = append(notes, fmt.Sprintf("undid #%d", m.Undoes))
	}
	if m.Deleted {
		notes = append(notes, "content deleted")
	}
	return strings.Join(notes, ", ")
}

func undoCommand() *cobra.Command {
	var a adminCommand
	cmd := &cobra.Command{
		Use:   "undo REPO:TAG",
		Short: "Take back the last move of a tag",
		Long: `Take back the last move of a tag: a push over it, its removal, or its first push, which removes it. Each further undo
goes one step further back. To go forward again, name the entry to "cubby restore".

This is possible while the manifest is kept: a week after it lost its last tag, unless "cubby gc --now" ran. What was
deleted by digest is gone for good.
` + whereHelp + exitHelp,
		Example: "  cubby undo team/api:latest",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			params, err := tagParams(args[0])
			if err != nil {
				return UsageError(cmd, err)
			}
			return a.run(cmd, http.MethodPost, "/undo", params, func(e server.Event) error { return a.printMove(cmd.OutOrStdout(), params, e.Move) })
		},
	}
	a.flags(cmd)
	return cmd
}

func restoreCommand() *cobra.Command {
	var a adminCommand
	var to, at string
	cmd := &cobra.Command{
		Use:   "restore REPO:TAG {--to DIGEST|'#N' | --at TIME}",
		Short: "Point a tag to where it was",
		Long: `Point a tag to a digest, to where it was after an entry of its history (see "cubby history"), or to where it was at a time.
The beginning of a digest is enough if the tag had it. TIME is as in 2026-05-12T08:30:00Z or "2026-05-12 08:30" (local),
or how long ago: 90m, 2h, 3d, 1w. A restore is a move like any other, and "cubby undo" takes it back.

This is possible while the manifest is kept: a week after it lost its last tag, unless "cubby gc --now" ran. What was
deleted by digest is gone for good.
` + whereHelp + exitHelp,
		Example: "  cubby restore team/api:latest --to '#3'\n  cubby restore team/api:latest --to sha256:1f0e88dc93a1\n  cubby restore team/api:latest --at 2h",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			params, err := restoreParams(args[0], to, at, time.Now())
			if err != nil {
				return UsageError(cmd, err)
			}
			return a.run(cmd, http.MethodPost, "/restore", params, func(e server.Event) error { return a.printMove(cmd.OutOrStdout(), params, e.Move) })
		},
	}
	a.flags(cmd)
	cmd.Flags().StringVar(&to, "to", "", "the `TARGET`: a digest or its beginning, or the number of an entry, quoted: '#3'")
	cmd.Flags().StringVar(&at, "at", "", "where the tag was at `TIME`, or that long ago")
	return cmd
}

func (a *adminCommand) printMove(w io.Writer, params url.Values, m *store.TagMove) error {
	if a.json {
		return printJSON(w, m)
	}
	what := params.Get("repo") + ":" + m.Tag
	if m.From == m.To {
		fmt.Fprintf(w, "%s is at %s already\n", what, shortDigest(m.To.String()))
		return nil
	}
	fmt.Fprintf(w, "%s: from %s to %s", what, tagState(m.From.String()), tagState(m.To.String()))
	if m.Undoes > 0 {
		fmt.Fprintf(w, ", undid #%d", m.Undoes)
	}
	fmt.Fprintln(w)
	if m.Undoes > 0 && m.From != "" {
		fmt.Fprintf(w, "Forward again: cubby restore %s --to '#%d'\n", what, m.Undoes)
	}
	return nil
}

// tagParams splits REPO:TAG.
func tagParams(s string) (url.Values, error) {
	params, err := removeParams(s)
	if err == nil && !params.Has("tag") {
		return nil, fmt.Errorf("%q is not REPO:TAG", s)
	}
	return params, err
}

func restoreParams(s, to, at string, now time.Time) (url.Values, error) {
	params, err := tagParams(s)
	if err != nil {
		return nil, err
	}
	switch {
	case (to == "") == (at == ""):
		return nil, errors.New("one of --to and --at is needed")
	case to != "":
		params.Set("to", to)
		_, err := store.ParseTarget(to)
		return params, err
	}
	when, err := parseTime(at, now)
	if err == nil && when.After(now) {
		err = fmt.Errorf("%s lies in the future", at)
	}
	params.Set("at", when.Format(time.RFC3339))
	return params, err
}

// parseTime reads a time, or how long ago it was.
func parseTime(s string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	for _, layout := range []string{"2006-01-02 15:04", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02T15:04:05"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	if age, err := store.ParseAge(s); err == nil {
		return now.Add(-age), nil
	}
	return time.Time{}, fmt.Errorf(`%q is no time such as "2006-01-02 15:04" or 2006-01-02T15:04:05Z, nor how long ago such as 2h or 3d`, s)
}
