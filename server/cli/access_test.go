package cli

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"cubby/server"
	"cubby/store"

	"github.com/spf13/cobra"
)

// runCommand runs a command line on a store that no server owns, and returns what it printed and its exit code.
func runCommand(t *testing.T, dir, stdin, line string) (out string, code int) {
	t.Helper()
	root := &cobra.Command{Use: "cubby", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(Commands(func(st *store.Store) http.Handler { return server.Admin(st, nil) })...)
	WrongArgsAreUsage(root)
	var b bytes.Buffer
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&b)
	root.SetErr(&b)
	root.SetArgs(append(strings.Fields(line), "--data", dir))
	err := root.ExecuteContext(t.Context())
	if err != nil {
		code = ExitFailed
		fmt.Fprintln(&b, err)
	}
	if exit, ok := errors.AsType[*ExitError](err); ok {
		code = exit.Code
	}
	return b.String(), code
}

// TestAccessCommands: users, grants, tokens and the audit log, as people use them.
func TestAccessCommands(t *testing.T) {
	dir, _, _ := newStore(t)
	tokenID := ""
	for _, tt := range []struct {
		line, stdin string
		code        int
		want        []string
	}{
		{"user ls", "", 0, []string{"USER  TOKENS"}},
		{"anonymous", "", 0, []string{"nothing is open"}},
		{"user add", "", ExitUsage, nil},
		{"user add a:b --password-stdin", "long enough", ExitUsage, []string{"user name invalid"}},
		{"user add alice --password-stdin", "short\n", ExitUsage, []string{"8 to 72 bytes"}},
		{"user add alice --password-stdin", strings.Repeat("x", 73), ExitUsage, []string{"8 to 72 bytes"}},
		{"user add alice", "", ExitUsage, []string{"--password-stdin"}},
		{"user add alice --password-stdin --grant team", "long enough", ExitUsage, []string{"not PATTERN=ACTIONS"}},
		{"user add alice --password-stdin --grant team=write", "long enough", ExitUsage, []string{"not pull, push"}},
		{"user add alice --password-stdin", "long enough\n", 0, []string{"added alice: ** admin", "from now on everyone must log in", "cubby anonymous pull"}},
		{"user add alice --password-stdin", "long enough", ExitRefused, []string{"there is such a user already"}},
		{"user add bob --password-stdin --grant team/*=pull,push --grant **=pull", "long enough", 0, []string{"added bob: team/* pull,push; ** pull"}},
		{"user add ci --password-stdin --json", "long enough", 0, []string{`"name":"ci"`, "ci may do nothing yet", "cubby grant ci"}},
		{"user passwd bob --password-stdin", "other password", 0, []string{"changed the password of bob"}},
		{"user passwd nobody --password-stdin", "other password", ExitRefused, []string{"no such user"}},
		{"grant ci Team/* pull", "", ExitUsage, []string{"can match nothing"}},
		{"grant ci team/** everything", "", ExitUsage, []string{"not pull, push"}},
		{"grant ci team/** pull,push", "", 0, []string{"ci may now by the pattern team/**: pull,push"}},
		{"grant ci team/** delete --json", "", 0, []string{`"actions":"pull,push,delete"`}},
		{"revoke ci team/** delete,push", "", 0, []string{"ci may now by the pattern team/**: pull\n"}},
		{"revoke ci team/** push", "", ExitRefused, []string{"no such grant"}},
		{"user ls", "", 0, []string{"alice  0", "** admin", "ci     0", "team/** pull\n"}},
		{"anonymous pull", "", 0, []string{"anyone may now by the pattern **: pull"}},
		{"anonymous push pub/**", "", 0, []string{"pull,push,overwrite"}},
		{"anonymous", "", 0, []string{"pattern **: pull\n", "pattern pub/**: pull,push,overwrite\n"}},
		{"anonymous none", "", 0, []string{"pattern **: nothing"}},
		{"anonymous write", "", ExitUsage, []string{"not none, pull or push"}},
		{"token create", "", ExitUsage, []string{"--user is missing"}},
		{"token create --user nobody", "", ExitRefused, []string{"no such user"}},
		{"token create --user ci --expires 0d", "", ExitUsage, []string{"never"}},
		{"token create --user ci --cidr here", "", ExitUsage, []string{"here"}},
		{"token create --user ci --repo team/** --actions pull,push --cidr 192.0.2.7/24 --description build", "", 0, []string{"\ncubby_", "docker login --username ci --password-stdin", "pull,push of team/**"}},
		{"token ls", "", 0, []string{"ci", "192.0.2.0/24", "never", "build"}},
		{"token ls --user alice --json", "", 0, nil},
		{"token revoke nonsense", "", ExitRefused, []string{"no such token"}},
		{"token revoke TOKEN", "", 0, []string{"revoked "}},
		{"token revoke TOKEN", "", ExitRefused, []string{"no such token"}},
		{"audit", "", 0, []string{"user add", "token revoke", "token create", "anonymous", "admin", "socket", "user passwd"}},
		{"audit --user nobody", "", 0, []string{"WHEN"}},
		{"audit --since nonsense", "", ExitUsage, []string{"is no time"}},
		{"audit --since 1h --json", "", 0, []string{`"action":"user add"`}},
		{"user rm nobody", "", ExitRefused, []string{"no such user"}},
		{"user rm ci", "", 0, []string{"removed ci"}},
		{"user rm bob", "", 0, []string{"removed bob"}},
		{"user rm alice", "", 0, []string{"removed alice", "last user"}},
	} {
		line := strings.ReplaceAll(tt.line, "TOKEN", tokenID)
		out, code := runCommand(t, dir, tt.stdin, line)
		if m := regexp.MustCompile(`(?m)^cubby_\S+$`).FindString(out); m != "" {
			tokenID = m
		}
		if code != tt.code {
			t.Errorf("%s: exit code %d, want %d\n%s", line, code, tt.code, out)
		}
		for _, want := range tt.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in:\n%s", line, want, out)
			}
		}
		if strings.Contains(out, "long enough") || strings.Contains(out, "other password") || strings.Contains(out, "$2a$") {
			t.Errorf("%s: prints a password:\n%s", line, out)
		}
	}
}
