//go:build !linux

package durable

import "os"

const largeFile = 0

func openBeneath(*os.File, string) (f *os.File, handled bool, err error) { return nil, false, nil }

func (d *Dir) stat(name string) (Stat, error) {
	info, err := d.root.Stat(name)
	if err != nil {
		return Stat{}, err
	}
	return StatOf(info), nil
}
