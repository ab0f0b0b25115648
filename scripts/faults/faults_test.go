//go:build faults

package main

import (
	"testing"

	"cubby/scripts/process"
)

// These tests are rows of the table. They want root, for mounts and tracing, and are run by scripts/faults.sh.

func TestMain(m *testing.M) { process.Main(m) }
