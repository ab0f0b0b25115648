package store

import "syscall"

// networkFileSystems are refused: SQLite's locks and shared memory do not work across them.
var networkFileSystems = map[int64]string{
	0x6969:     "NFS",
	0x517B:     "SMB",
	0xFF534D42: "SMB (cifs)",
	0xFE534D42: "SMB2",
	0x01021997: "9p",
}

// networkFileSystem names the network file system that path lies on, or returns "".
func networkFileSystem(path string) (string, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		return "", err
	}
	return networkFileSystems[int64(uint32(st.Type))], nil
}
