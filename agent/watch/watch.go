// Package watch tells when files have changed and gone quiet.
//
// What it goes by is the content, which it looks at by itself; events of the
// file system only have it look sooner. So nothing depends on an event that
// arrives, on its name, or on its kind.
//
// # Why not
//
// Not the names and kinds of events: one change of a Kubernetes volume has no
// event with the file's name, editors rename, the kernel's queue overflows, and
// network file systems send nothing. Not a watch on the file itself: it dies
// with the inode that a rename replaces. Not a callback for each event: whoever
// reads a file between two writes of it reads half of one.
package watch

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// quiet is how long nothing must have happened before a file is whole.
	quiet = 200 * time.Millisecond
	// restless is how long a file that never becomes quiet is waited for.
	restless = 2 * time.Second
	// every is the time between two looks that nothing asked for.
	every = time.Minute
)

// Options are what a Watcher needs.
type Options struct {
	// Paths names the files and folders to look at; it is asked before each
	// look. A file that is not there yet is looked for. Of a folder the names
	// in it count, and not what the files below have in them.
	Paths func() []string
	// Changed is told which of them have other content than before, sorted. It
	// is called by Run, one call after the other; what changes meanwhile is
	// told with the next.
	Changed func(ctx context.Context, paths []string)
	Log     *slog.Logger // required
	// Every is the time between two looks that no event asked for, 1 s at the
	// least; default 1 min. A change on a file system without events is told
	// within it.
	Every time.Duration
}

// A Watcher looks at files. It is made by [New]. Learn may be called from
// everywhere.
type Watcher struct {
	o Options

	mu       sync.Mutex
	contents map[string]content // guarded by mu: of the last look

	events *fsnotify.Watcher      // nil: the time alone says when to look
	inodes map[string]os.FileInfo // folders that the kernel tells about, as they were then
	told   bool                   // that the kernel will not tell
	asked  chan struct{}          // holds one word that there may be other paths
	open   func() (*fsnotify.Watcher, error)
}

// New returns a Watcher for what the paths hold now: a change from then on is
// told once Run runs. It reads the files and starts nothing.
func New(o Options) *Watcher {
	if o.Every == 0 {
		o.Every = every
	}
	o.Every = max(o.Every, time.Second)
	w := &Watcher{o: o, inodes: map[string]os.FileInfo{}, asked: make(chan struct{}, 1), open: fsnotify.NewWatcher}
	w.contents = look(o.Paths())
	return w
}

// Learn takes note of what is new among the paths, as it is now: that is no
// change, and the next one is told. Whoever reads a file calls it before, so
// that what is written while they read is told.
func (w *Watcher) Learn() {
	w.learn()
	select {
	case w.asked <- struct{}{}:
	default:
	}
}

func (w *Watcher) learn() {
	w.mu.Lock() // over all of it: who asks for the paths later has the later ones
	defer w.mu.Unlock()
	now := look(w.o.Paths())
	for path, c := range w.contents {
		if _, still := now[path]; still {
			now[path] = c
		}
	}
	w.contents = now
}

// Run tells of changes until ctx ends. Its error is always nil: without
// events it goes on by time alone, and says so once in the log.
func (w *Watcher) Run(ctx context.Context) error {
	var happened <-chan fsnotify.Event
	var failed <-chan error
	if events, err := w.open(); err != nil {
		w.blind(err)
	} else {
		w.events, happened, failed = events, events.Events, events.Errors
		defer func() { _ = events.Close() }()
	}
	w.follow()
	w.look(ctx) // what changed before the kernel was asked to tell
	next := time.NewTimer(w.o.Every)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.asked: // what changed before the kernel is asked to tell is looked for
			w.follow()
		case <-next.C:
		case <-happened:
		case err := <-failed: // also that events were lost, which asks for a look as well
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				w.blind(err)
			}
		}
		if !settle(ctx, happened, failed) {
			return nil
		}
		w.look(ctx)
		next.Reset(w.o.Every)
	}
}

// settle waits until nothing has happened for a while, and reports whether ctx
// still lasts.
func settle(ctx context.Context, happened <-chan fsnotify.Event, failed <-chan error) bool {
	still, enough := time.NewTimer(quiet), time.NewTimer(restless)
	defer still.Stop()
	defer enough.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-happened:
			still.Reset(quiet)
		case <-failed:
			still.Reset(quiet)
		case <-still.C:
			return true
		case <-enough.C:
			return true
		}
	}
}

// look tells what has changed since the last look, once two looks in a row
// agree: without events, only that shows that nobody is writing.
func (w *Watcher) look(ctx context.Context) {
	now := look(w.o.Paths())
	for range int(restless / quiet) {
		if len(w.changes(now)) == 0 {
			break
		}
		if !pause(ctx, quiet) {
			return
		}
		again := look(w.o.Paths())
		if maps.Equal(again, now) {
			break
		}
		now = again
	}
	changed := w.changes(now)
	w.mu.Lock()
	for _, path := range changed {
		w.contents[path] = now[path]
	}
	w.mu.Unlock()
	if len(changed) > 0 {
		w.o.Changed(ctx, changed)
	}
	w.learn()
	w.follow()
}

// changes are the paths that have other content than at the last look.
func (w *Watcher) changes(now map[string]content) (changed []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for path, c := range now {
		if was, known := w.contents[path]; known && was != c {
			changed = append(changed, path)
		}
	}
	slices.Sort(changed)
	return changed
}

// pause reports whether ctx outlasted d.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// follow has the kernel tell about the folders in which the paths are now, and
// no others. A folder that was replaced is another one by the same name.
func (w *Watcher) follow() {
	if w.events == nil {
		return
	}
	now := map[string]os.FileInfo{}
	for _, dir := range folders(w.o.Paths()) {
		if info, err := os.Stat(dir); err == nil {
			now[dir] = info
		}
	}
	for dir, was := range w.inodes {
		if info, still := now[dir]; !still || !os.SameFile(info, was) {
			_ = w.events.Remove(dir) // an error says that the kernel has done so
			delete(w.inodes, dir)
		}
	}
	// A folder that was away for a moment may have lost its watch and kept its
	// inode: to add what is there changes nothing.
	for dir, info := range now {
		if err := w.events.Add(dir); err != nil {
			if !errors.Is(err, os.ErrNotExist) {
				w.blind(err)
			}
			continue
		}
		w.inodes[dir] = info
	}
}

// blind says once that some changes are seen later.
func (w *Watcher) blind(err error) {
	if w.told {
		return
	}
	w.told = true
	w.o.Log.Warn("the kernel does not tell when files change: they are looked at by time alone", "every", w.o.Every.String(), "error", err.Error(),
		"hint", "raise fs.inotify.max_user_instances and fs.inotify.max_user_watches, or reload by hand")
}
