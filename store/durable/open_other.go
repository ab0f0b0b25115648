//go:build !linux

package durable

import "os"

const largeFile = 0

func openBeneath(*os.File, string) (f *os.File, handled bool, err error) { return nil, false, nil }

func (d *Dir) stat(name string) (Stat, error) { return d.statRoot(name) }
