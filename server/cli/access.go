package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"cubby/server"
	"cubby/server/auth"
	"cubby/store"
	"cubby/store/oci"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

const actionsHelp = `
Actions are pull, push (new content and new tags), overwrite (move a tag that is there), delete, and admin (everything),
with commas between. Patterns match repositories: 'team/*' those in team, 'team/**' also those further below, '**' all.
`

func userCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "user", Short: "Say who may log in", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(userAddCommand(), userPasswordCommand(), userRemoveCommand(), userListCommand())
	return cmd
}

// A passwordFlag reads a new password: from a terminal, or from standard input when that was asked for.
type passwordFlag struct{ stdin bool }

func (f *passwordFlag) flag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.stdin, "password-stdin", false, "read the password from standard input, one line")
}

// hash returns the bcrypt hash of the password. The password itself goes nowhere.
func (f *passwordFlag) hash(cmd *cobra.Command) (string, error) {
	password, err := f.read(cmd)
	if err != nil {
		return "", err
	}
	hash, err := auth.HashPassword(password)
	if err != nil {
		return "", UsageError(cmd, err)
	}
	return hash, nil
}

func (f *passwordFlag) read(cmd *cobra.Command) (string, error) {
	stdin := int(os.Stdin.Fd())
	if f.stdin {
		line, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		return strings.TrimRight(line, "\r\n"), nil
	}
	if !term.IsTerminal(stdin) {
		return "", UsageError(cmd, errors.New("there is no terminal to ask for the password; give it with --password-stdin"))
	}
	one, err := askPassword(cmd, stdin, "Password: ")
	if err != nil {
		return "", err
	}
	two, err := askPassword(cmd, stdin, "The same again: ")
	if err == nil && one != two {
		err = errors.New("the two are not the same")
	}
	return one, err
}

// askPassword reads a line without echo. An interrupt ends it, and leaves the terminal as it was.
func askPassword(cmd *cobra.Command, terminal int, prompt string) (string, error) {
	before, err := term.GetState(terminal)
	if err != nil {
		return "", err
	}
	fmt.Fprint(cmd.ErrOrStderr(), prompt)
	defer fmt.Fprintln(cmd.ErrOrStderr())
	type answer struct {
		text []byte
		err  error
	}
	answered := make(chan answer, 1)
	go func() { // it ends with the process: nothing can end the read
		text, err := term.ReadPassword(terminal)
		answered <- answer{text, err}
	}()
	select {
	case a := <-answered:
		return string(a.text), a.err
	case <-cmd.Context().Done():
		return "", errors.Join(errors.New("interrupted"), term.Restore(terminal, before))
	}
}

func userAddCommand() *cobra.Command {
	var a adminCommand
	var password passwordFlag
	var grants []string
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Add a user",
		Long: `Add a user. What it may do is said by --grant, or later by "cubby grant". The first user gets everything unless --grant
says otherwise, and from then on everyone must log in, also on this machine.
` + actionsHelp + whereHelp + exitHelp,
		Example: "  cubby user add alice\n  cubby user add bob --grant 'team/**=pull,push' --grant '**=pull'\n  cubby user add ci --password-stdin < secret",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			params := url.Values{"name": args}
			err := store.CheckUserName(args[0])
			for _, g := range grants {
				pattern, actions, ok := strings.Cut(g, "=")
				if !ok {
					err = errors.Join(err, fmt.Errorf("--grant %q is not PATTERN=ACTIONS", g))
				}
				err = errors.Join(err, checkGrant(pattern, actions))
				params.Add("repositories", pattern)
				params.Add("actions", actions)
			}
			if err != nil {
				return UsageError(cmd, err)
			}
			hash, err := password.hash(cmd)
			if err != nil {
				return err
			}
			params.Set("password", hash)
			return a.runNoting(cmd, http.MethodPost, "/user/add", params, func(e server.Event) error {
				if a.json {
					return printJSON(cmd.OutOrStdout(), e.User)
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "added %s: %s\n", e.User.Name, describeGrants(e.User.Grants))
				return err
			})
		},
	}
	a.flags(cmd)
	password.flag(cmd)
	cmd.Flags().StringArrayVar(&grants, "grant", nil, "allow `PATTERN=ACTIONS`; repeat for more")
	return cmd
}

// runNoting runs a command and prints notes for people to standard error.
func (a *adminCommand) runNoting(cmd *cobra.Command, method, path string, params url.Values, each func(server.Event) error) error {
	return a.run(cmd, method, path, params, func(e server.Event) error {
		if e.Note != "" {
			fmt.Fprintln(cmd.ErrOrStderr(), e.Note)
			return nil
		}
		return each(e)
	})
}

func checkGrant(pattern, actions string) error {
	_, err := oci.ParseNameGlob(pattern)
	if actions != "" || err == nil {
		_, actionsErr := store.ParseActions(actions)
		err = errors.Join(err, actionsErr)
	}
	return err
}

func describeGrants(grants []server.GrantItem) string {
	var list []string
	for _, g := range grants {
		list = append(list, g.Repositories+" "+g.Actions)
	}
	if len(list) == 0 {
		return "may do nothing"
	}
	return strings.Join(list, "; ")
}

func userPasswordCommand() *cobra.Command {
	var a adminCommand
	var password passwordFlag
	cmd := &cobra.Command{
		Use:   "passwd NAME",
		Short: "Change the password of a user",
		Long:  "Change the password of a user. What was derived from the old one ends with the next request; access tokens stay.\n" + whereHelp + exitHelp,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			hash, err := password.hash(cmd)
			if err != nil {
				return err
			}
			return a.userEvent(cmd, "/user/passwd", url.Values{"name": args, "password": {hash}}, "changed the password of")
		},
	}
	a.flags(cmd)
	password.flag(cmd)
	return cmd
}

func (a *adminCommand) userEvent(cmd *cobra.Command, path string, params url.Values, done string) error {
	return a.runNoting(cmd, http.MethodPost, path, params, func(e server.Event) error {
		if a.json {
			return printJSON(cmd.OutOrStdout(), map[string]string{"name": e.User.Name})
		}
		_, err := fmt.Fprintln(cmd.OutOrStdout(), done, e.User.Name)
		return err
	})
}

func userRemoveCommand() *cobra.Command {
	var a adminCommand
	cmd := &cobra.Command{
		Use:   "rm NAME",
		Short: "Remove a user with its grants and tokens",
		Long:  "Remove a user with its grants and tokens. It ends with the next request. What it pushed stays.\n" + whereHelp + exitHelp,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.userEvent(cmd, "/user/rm", url.Values{"name": args}, "removed")
		},
	}
	a.flags(cmd)
	return cmd
}

func userListCommand() *cobra.Command {
	var a adminCommand
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List users, and what they may do",
		Long:  "List users, and what they may do. Users of an htpasswd file are not among them.\n" + whereHelp + exitHelp,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.table(cmd, "/user/ls", nil, "USER\tTOKENS\tSINCE\tMAY", func(e server.Event) any { return e.User }, func(e server.Event) string {
				return fmt.Sprintf("%s\t%d\t%s\t%s", e.User.Name, e.User.Tokens, date(e.User.CreatedAt), describeGrants(e.User.Grants))
			})
		},
	}
	a.flags(cmd)
	return cmd
}

// grantCommand returns grant, or revoke.
func grantCommand(verb, short, long, example string) *cobra.Command {
	var a adminCommand
	cmd := &cobra.Command{
		Use:     verb + " NAME PATTERN ACTIONS",
		Short:   short,
		Long:    long + actionsHelp + whereHelp + exitHelp,
		Example: example,
		Args:    cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkGrant(args[1], args[2]); err != nil {
				return UsageError(cmd, err)
			}
			params := url.Values{"name": args[:1], "repositories": args[1:2], "actions": args[2:]}
			return a.runNoting(cmd, http.MethodPost, "/"+verb, params, func(e server.Event) error { return a.printGrant(cmd.OutOrStdout(), e.Grant) })
		},
	}
	a.flags(cmd)
	return cmd
}

func (a *adminCommand) printGrant(w io.Writer, g *server.GrantItem) error {
	if a.json {
		return printJSON(w, g)
	}
	actions := g.Actions
	if actions == "" {
		actions = "nothing"
	}
	who := g.User + " may"
	if g.User == "" {
		who = "anyone may"
	}
	_, err := fmt.Fprintf(w, "%s now by the pattern %s: %s\n", who, g.Repositories, actions)
	return err
}

func anonymousCommand() *cobra.Command {
	var a adminCommand
	cmd := &cobra.Command{
		Use:   "anonymous [none|pull|push [PATTERN]]",
		Short: "Say what everybody may do without logging in",
		Long: `Say what everybody may do without logging in, to all repositories or those that PATTERN matches: none, pull, or push (and
pull). "none" without PATTERN closes all of it. Without arguments, show it. It is in force at once, and stays when the server is started anew without --anonymous.
` + whereHelp + exitHelp,
		Example: "  cubby anonymous pull\n  cubby anonymous pull 'public/**'\n  cubby anonymous none",
		Args:    cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				none := true
				err := a.run(cmd, http.MethodGet, "/anonymous", nil, func(e server.Event) error {
					none = false
					return a.printGrant(cmd.OutOrStdout(), e.Grant)
				})
				if err == nil && none && !a.json {
					fmt.Fprintln(cmd.OutOrStdout(), "nothing is open without logging in")
				}
				return err
			}
			pattern := "**"
			if len(args) == 2 {
				pattern = args[1]
			} else if args[0] == "none" {
				pattern = "" // whatever was open
			}
			_, err := auth.ParseAnonymous(args[0])
			if err == nil && pattern != "" {
				_, err = oci.ParseNameGlob(pattern)
			}
			if err != nil {
				return UsageError(cmd, err)
			}
			params := url.Values{"what": args[:1], "repositories": {pattern}}
			return a.runNoting(cmd, http.MethodPost, "/anonymous", params, func(e server.Event) error { return a.printGrant(cmd.OutOrStdout(), e.Grant) })
		},
	}
	a.flags(cmd)
	return cmd
}

func tokenCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "Make and revoke access tokens for machines", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(tokenCreateCommand(), tokenListCommand(), tokenRevokeCommand())
	return cmd
}

func tokenCreateCommand() *cobra.Command {
	var a adminCommand
	var user, repo, actions, expires, description string
	var networks []string
	cmd := &cobra.Command{
		Use:   "create --user NAME",
		Short: "Make an access token",
		Long: `Make an access token of a user: it is used as a password, with any user name, and allows what both the user and the token
may do. It is shown once, and kept as a hash.
` + actionsHelp + whereHelp + exitHelp,
		Example: "  cubby token create --user ci --repo 'team/**' --actions pull,push --expires 90d\n  cubby token create --user ci --actions pull --cidr 192.0.2.0/24",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := checkGrant(repo, actions)
			if user == "" {
				err = errors.Join(err, errors.New("--user is missing"))
			}
			params := url.Values{"user": {user}, "repositories": {repo}, "actions": {actions}, "description": {description}, "network": networks}
			if expires != "never" {
				age, ageErr := store.ParseAge(expires)
				if ageErr == nil && age == 0 {
					ageErr = errors.New("--expires 0 would be over at once; say never for a token that does not expire")
				}
				err = errors.Join(err, ageErr)
				params.Set("expires", expires)
			}
			_, networksErr := auth.ParseNetworks(networks)
			err = errors.Join(err, networksErr)
			if err != nil {
				return UsageError(cmd, err)
			}
			return a.runNoting(cmd, http.MethodPost, "/token/create", params, func(e server.Event) error {
				if a.json {
					return printJSON(cmd.OutOrStdout(), e.Token)
				}
				t := e.Token
				fmt.Fprintf(cmd.ErrOrStderr(), "Token %s of %s for %s of %s, %s. It is shown this once:\n\n", t.ID, t.User, t.Actions, t.Repositories, expiry(t.ExpiresAt))
				fmt.Fprintln(cmd.OutOrStdout(), t.Text)
				fmt.Fprintf(cmd.ErrOrStderr(), "\nUse it:  echo TOKEN | docker login --username %s --password-stdin %s\n", t.User, t.Host)
				return nil
			})
		},
	}
	a.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&user, "user", "", "of the user `NAME`")
	f.StringVar(&repo, "repo", "**", "for repositories that `PATTERN` matches; {a,b}/** for several")
	f.StringVar(&actions, "actions", "pull", "for these `ACTIONS`")
	f.StringVar(&expires, "expires", "90d", "valid for this `AGE`, such as 30d, or never")
	f.StringArrayVar(&networks, "cidr", nil, "only from this `NETWORK`, such as 192.0.2.0/24; repeat for more")
	f.StringVar(&description, "description", "", "a `TEXT` that says what it is for")
	return cmd
}

func expiry(t time.Time) string {
	if t.IsZero() {
		return "never expires"
	}
	return "expires " + date(t)
}

func tokenListCommand() *cobra.Command {
	var a adminCommand
	var user string
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List access tokens, and when and from where they were last used",
		Long:  "List access tokens, and when and from where they were last used.\n" + whereHelp + exitHelp,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			const header = "ID\tUSER\tREPOSITORIES\tACTIONS\tFROM\tEXPIRES\tLAST USED\tUSED FROM\tDESCRIPTION"
			return a.table(cmd, "/token/ls", url.Values{"user": {user}}, header, func(e server.Event) any { return e.Token }, func(e server.Event) string { return tokenRow(e.Token) })
		},
	}
	a.flags(cmd)
	cmd.Flags().StringVar(&user, "user", "", "only those of the user `NAME`")
	return cmd
}

func tokenRow(t *server.TokenItem) string {
	when := func(at time.Time) string {
		if at.IsZero() {
			return "never"
		}
		return date(at)
	}
	from := "anywhere"
	if len(t.Networks) > 0 {
		from = strings.Join(t.Networks, " ")
	}
	expires := when(t.ExpiresAt)
	if !t.ExpiresAt.IsZero() && !t.ExpiresAt.After(time.Now()) {
		expires = "expired"
	}
	return strings.Join([]string{t.ID, t.User, t.Repositories, t.Actions, from, expires, when(t.UsedAt), t.UsedFrom, printable(t.Description)}, "\t")
}

func tokenRevokeCommand() *cobra.Command {
	var a adminCommand
	cmd := &cobra.Command{
		Use:   "revoke ID",
		Short: "Revoke an access token",
		Long:  "Revoke an access token, and what was derived from it, with the next request. Its ID is in \"cubby token ls\"; the whole token will do too.\n" + whereHelp + exitHelp,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			params := url.Values{"id": {auth.TokenID(args[0])}}
			return a.runNoting(cmd, http.MethodPost, "/token/revoke", params, func(e server.Event) error {
				if a.json {
					return printJSON(cmd.OutOrStdout(), map[string]string{"id": e.Token.ID})
				}
				_, err := fmt.Fprintln(cmd.OutOrStdout(), "revoked", e.Token.ID)
				return err
			})
		},
	}
	a.flags(cmd)
	return cmd
}

func auditCommand() *cobra.Command {
	var a adminCommand
	var user, token, repo, since string
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show who did what: logins, denials, pushes, deletes, grants and tokens",
		Long: `Show who did what, the newest first: logins, denials, pushes, deletes, and changes of users, grants and tokens. Entries are
kept for 90 days.
` + whereHelp + exitHelp,
		Example: "  cubby audit --since 7d\n  cubby audit --user alice --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			params := url.Values{"user": {user}, "token": {token}, "repo": {repo}}
			if since != "" {
				at, err := parseTime(since, time.Now())
				if err != nil {
					return UsageError(cmd, err)
				}
				params.Set("since", at.Format(time.RFC3339))
			}
			const header = "WHEN\tWHO\tTOKEN\tDID\tREPOSITORY\tREFERENCE\tDETAIL\tADDRESS\tCLIENT"
			return a.table(cmd, "/audit", params, header, func(e server.Event) any { return e.Audit }, func(e server.Event) string {
				v := e.Audit
				return strings.Join([]string{date(v.At), v.Who, v.Token, string(v.Action), v.Repository, printable(v.Reference), printable(v.Detail), v.Address, printable(v.Client)}, "\t")
			})
		},
	}
	a.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&user, "user", "", "only what the user `NAME` did")
	f.StringVar(&token, "token", "", "only what was done with the access token `ID`")
	f.StringVar(&repo, "repo", "", "only what concerns the repository `REPO`")
	f.StringVar(&since, "since", "", "only since this `TIME`, or this long ago, such as 7d")
	return cmd
}

// printable replaces what would move the cursor of a terminal: clients choose some texts.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}
