package process

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Debian's configuration, but for the address, the directory and the log; it asks nobody to log in.
const distributionConfig = `
version: 0.1
log: {formatter: json, accesslog: {disabled: true}}
storage:
  cache: {blobdescriptor: inmemory}
  filesystem: {rootdirectory: %q}
  delete: {enabled: true}
http: {addr: "127.0.0.1:0", relativeurls: true}
health: {storagedriver: {enabled: true, interval: 10s, threshold: 3}}
`

// NewDistribution returns a function that starts Debian's docker-registry, to compare with.
func NewDistribution(t *testing.T) func(t *testing.T, dir string) *Server {
	t.Helper()
	NeedTool(t, "docker-registry")
	config := filepath.Join(Dir(t), "config.yml")
	return func(t *testing.T, dir string) *Server {
		t.Helper()
		if err := os.WriteFile(config, fmt.Appendf(nil, distributionConfig, dir), 0o600); err != nil {
			t.Fatal(err)
		}
		s := Command{Path: "docker-registry", Args: []string{"serve", config}}.launch(t, dir)
		if !s.Serves(t) {
			t.Fatalf("docker-registry on %s ended: %v\n%s", dir, s.cmd.ProcessState, s.Log())
		}
		return s
	}
}
