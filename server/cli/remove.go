package cli

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"cubby/server"
	"cubby/store/oci"

	"github.com/spf13/cobra"
)

func removeCommand() *cobra.Command {
	var a adminCommand
	cmd := &cobra.Command{
		Use:   "rm REPO[:TAG|@DIGEST]",
		Short: "Remove a tag, a manifest, or all tags of a repository",
		Long: `Remove a tag (REPO:TAG), a manifest with its tags (REPO@DIGEST), or all tags of a repository (REPO).

Removing a tag leaves the manifest, which stays until it is collected. Removing a manifest is final. A manifest that
an index in the repository names is refused.
` + whereHelp + exitHelp,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			params, err := removeParams(args[0])
			if err != nil {
				return UsageError(cmd, err)
			}
			removed := 0
			err = a.run(cmd, http.MethodPost, "/rm", params, func(e server.Event) error {
				removed++
				if a.json {
					return printJSON(cmd.OutOrStdout(), e.Removed)
				}
				what := ":" + e.Removed.Tag
				if e.Removed.Digest != "" {
					what = "@" + e.Removed.Digest
				}
				fmt.Fprintf(cmd.OutOrStdout(), "removed %s%s\n", e.Removed.Repository, what)
				return nil
			})
			if err == nil && removed == 0 && !a.json {
				fmt.Fprintf(cmd.OutOrStdout(), "%s has no tags\n", args[0])
			}
			return err
		},
	}
	a.flags(cmd)
	return cmd
}

// removeParams splits REPO[:TAG|@DIGEST]. A host and port in front, as in the name that docker knows, is left out.
func removeParams(s string) (url.Values, error) {
	if host, rest, ok := strings.Cut(s, "/"); ok && strings.Contains(host, ":") {
		s = rest
	}
	repo, dgst, hasDigest := strings.Cut(s, "@")
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
