package cli

import (
	"cubby/server"

	"github.com/spf13/cobra"
)

func healthCommand() *cobra.Command {
	var addrs []string
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask a running server whether it is alive",
		Long:  "Ask the server at --addr whether it is alive. For containers.\n\nExit codes: 0 alive, 1 not, 2 wrong usage.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return AddressError(server.AskHealth(cmd.Context(), addrs[0]))
		},
	}
	cmd.Flags().StringArrayVar(&addrs, "addr", []string{"localhost:5000"}, "where the server listens, `HOST:PORT`; the first counts")
	return cmd
}
