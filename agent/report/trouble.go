package report

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hostrole/hostrole/agent/admin"
)

const (
	// troubleLasts is how long what happened once is told.
	troubleLasts = time.Hour
	// troublesKept bounds what is told; there are a few of each listener.
	troublesKept = 64
)

// Troubles remember what is wrong beside roles and addresses. The zero Troubles
// are none. They may be used concurrently.
type Troubles struct {
	mu  sync.Mutex
	all map[[2]string]admin.Trouble // guarded by mu: by kind and thing
}

// Set says that something is wrong until Clear.
func (t *Troubles) Set(kind, text string, now time.Time) {
	t.put([2]string{kind}, admin.Trouble{Kind: kind, Time: now, Text: text})
}

// Clear says that it is not wrong any more.
func (t *Troubles) Clear(kind string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.all, [2]string{kind})
}

// Note says that something happened to a thing; it is told for an hour, with
// how often.
func (t *Troubles) Note(kind, thing, text string, now time.Time) {
	t.put([2]string{kind, thing}, admin.Trouble{Kind: kind, Time: now, Text: text, Count: 1})
}

func (t *Troubles) put(at [2]string, one admin.Trouble) {
	t.mu.Lock()
	defer t.mu.Unlock()
	was, there := t.all[at]
	if !there && len(t.all) >= troublesKept {
		return
	}
	if t.all == nil {
		t.all = map[[2]string]admin.Trouble{}
	}
	if one.Count > 0 && one.Time.Sub(was.Time) < troubleLasts {
		one.Count += was.Count
	}
	t.all[at] = one
}

// List is what is wrong now, by kind, the newest first.
func (t *Troubles) List(now time.Time) []admin.Trouble {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := []admin.Trouble{}
	for at, one := range t.all {
		if one.Count > 0 && now.Sub(one.Time) > troubleLasts {
			delete(t.all, at)
			continue
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b admin.Trouble) int {
		if c := strings.Compare(a.Kind, b.Kind); c != 0 {
			return c
		}
		if c := b.Time.Compare(a.Time); c != 0 {
			return c
		}
		return strings.Compare(a.Text, b.Text)
	})
	return all
}
