package host

import (
	"bytes"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/hostrole/hostrole/imds/caller"
)

// Exchange returns the very bytes of one question and its answer.
func (e *Enricher) Exchange(c caller.Conn) (request, reply []byte, err error) {
	talk := <-e.pool
	defer func() { e.pool <- talk }()
	encode(&talk.request, question{c.Remote, c.Local}, 1)
	n, err := talk.exchange()
	if err != nil {
		return nil, nil, err
	}
	return bytes.Clone(talk.request[:]), bytes.Clone(talk.reply[:n]), nil
}

// LeaveAnswers makes every socket hold an answer that nobody has read, as
// after a question that was given up.
func (e *Enricher) LeaveAnswers(c caller.Conn) error {
	for range cap(e.pool) {
		talk := <-e.pool
		encode(&talk.request, question{c.Remote, c.Local}, talk.seq)
		_, err := unix.Write(talk.fd, talk.request[:])
		e.pool <- talk
		if err != nil {
			return fmt.Errorf("writing the question: %w", err)
		}
	}
	return nil
}

// Sockets is how many questions can be under way.
func (e *Enricher) Sockets() int { return cap(e.pool) }
