package operator

import (
	"io/fs"
	"os"
)

// Subject finds who a unit or a container is, in a tree of cgroups.
func Subject(tree fs.FS, unit, container string) (uid uint32, path string, err error) {
	return subject{unit: unit, container: container, uid: -1}.find(tree)
}

// Self is this process as --pid has it.
func Self() (uid uint32, path string, err error) {
	return subject{pid: os.Getpid(), uid: -1}.find(nil)
}
