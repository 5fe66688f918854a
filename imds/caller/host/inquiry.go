package host

import (
	"fmt"

	"github.com/hostrole/hostrole/imds/caller"
)

// An Inquiry asks the kernel about the sockets of one network namespace. It is
// not safe for concurrent use.
type Inquiry struct {
	e    *Enricher
	talk *conversation
}

// Open returns an Inquiry about the network namespace of the calling thread,
// and stays one about it whatever thread uses it. Until its Close it keeps the
// namespace alive.
func (e *Enricher) Open() (*Inquiry, error) {
	i := &Inquiry{e: e, talk: newConversation()}
	if err := i.talk.open(); err != nil {
		return nil, err
	}
	return i, nil
}

// Close ends the Inquiry. It is safe to call twice.
func (i *Inquiry) Close() { i.talk.hangUp() }

// IsOpen reports whether the Inquiry can be asked.
func (i *Inquiry) IsOpen() bool { return i.talk.line.IsOpen() }

// Enrich does what [Enricher.Enrich] does, in that namespace, and leaves User
// and Groups alone: what this host calls a uid says nothing about who has it in
// a container. An answer that is none ends the Inquiry, and later questions
// fail with [ErrClosed]: another socket would be one into the namespace of
// whoever asks.
func (i *Inquiry) Enrich(c caller.Conn, who *caller.Caller) error {
	if !i.talk.line.IsOpen() {
		return failed(c, ErrClosed)
	}
	if err := valid(c); err != nil {
		return failed(c, err)
	}
	owner, err := i.talk.about(c)
	if err != nil {
		return failed(c, err)
	}
	if i.e.meaningless(owner.uid) {
		return failed(c, fmt.Errorf("%w: it reads as %d", ErrUnmapped, owner.uid))
	}
	who.UID, who.Inode, who.Cgroup = caller.NewID(owner.uid), owner.inode, owner.cgroup
	return nil
}
