//go:build !linux

package durable

import "os"

func openBeneath(*os.File, string) (f *os.File, handled bool, err error) { return nil, false, nil }
