package watch

import "github.com/fsnotify/fsnotify"

// Blind has w get no events, as where the kernel's limits are reached.
func Blind(w *Watcher, err error) {
	w.open = func() (*fsnotify.Watcher, error) { return nil, err }
}

var Folders = folders
