package main

import "golang.org/x/sys/unix"

// clockSynchronised reads the state that NTP clients keep in the kernel.
func clockSynchronised() (synced, known bool) {
	state, err := unix.Adjtimex(&unix.Timex{})
	if err != nil {
		return false, false
	}
	return state != unix.TIME_ERROR, true
}

// fileSystem names the kind on which a folder lies. On those that are not trusted
// a sync does not outlive the machine, or SQLite's locks do not work
// (https://sqlite.org/howtocorrupt.html §2.1).
func fileSystem(dir string) (kind string, trusted bool, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "", false, err
	}
	switch uint32(st.Type) { //nolint:gosec // magic numbers of 32 bits; some systems have them signed
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC:
		return "a disk in memory (tmpfs)", false, nil
	case unix.NFS_SUPER_MAGIC:
		return "a network disk (NFS)", false, nil
	case unix.SMB_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC:
		return "a network disk (SMB)", false, nil
	case unix.EXT4_SUPER_MAGIC:
		return "ext4", true, nil
	case unix.XFS_SUPER_MAGIC:
		return "xfs", true, nil
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs", true, nil
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs: make sure that it outlives the container", true, nil
	}
	return "a file system of a kind not known here", true, nil
}
