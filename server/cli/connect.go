package cli

import (
	"fmt"
	"net/http"
	"strings"

	"cubby/server"
	"cubby/store"

	"github.com/spf13/cobra"
)

func connectCommand() *cobra.Command {
	var a adminCommand
	var host, user string
	var https bool
	cmd := &cobra.Command{
		Use:   "connect CLIENT",
		Short: "Show what a client needs to use this registry",
		Long: `Show the file, its exact content and the commands with which CLIENT uses this registry: its address, plain HTTP or its
certificate, and how to log in. CLIENT is one of ` + strings.Join(server.ConnectClients(), ", ") + `.
` + whereHelp + exitHelp,
		Example: "  cubby connect docker\n  cubby connect k3s --host nas.home:5000 --user alice",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := server.Connect(args[0], server.ConnectItem{}, user)
			if err == nil && user != "" {
				err = store.CheckUserName(user)
			}
			if err == nil && strings.Trim(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]") != "" {
				err = fmt.Errorf("--host %q is not HOST or HOST:PORT", host)
			}
			if err != nil {
				return UsageError(cmd, err)
			}
			return a.run(cmd, http.MethodGet, "/connect", nil, func(e server.Event) error {
				c := *e.Connect
				if host != "" {
					c.Host = host
				}
				if https { // a proxy in front speaks it, with a certificate that clients know
					c.HTTPS, c.CA = true, ""
				}
				if a.json {
					return printJSON(cmd.OutOrStdout(), c)
				}
				text, err := server.Connect(args[0], c, user)
				if err != nil {
					return err
				}
				if c.Users && user == "" {
					text = "# People log in here: see it with --user NAME.\n" + text
				}
				_, err = fmt.Fprint(cmd.OutOrStdout(), text)
				return err
			})
		},
	}
	cmd.ValidArgs = server.ConnectClients()
	a.flags(cmd)
	cmd.Flags().StringVar(&host, "host", "", "as clients reach it, `HOST:PORT`; else as the server was started")
	cmd.Flags().BoolVar(&https, "https", false, "clients reach it by https, through a proxy with a certificate that they know")
	cmd.Flags().StringVar(&user, "user", "", "who logs in, `NAME`")
	return cmd
}
