package host

import (
	"bytes"
	"fmt"

	"github.com/hostrole/hostrole/imds/caller"
)

// Exchange returns the very bytes of one question and its answer.
func (e *Enricher) Exchange(c caller.Conn) (request, reply []byte, err error) {
	talk := <-e.pool
	defer func() { e.pool <- talk }()
	request = Encode(c.Remote, c.Local, 1)
	if err := talk.line.Send(request); err != nil {
		return nil, nil, err
	}
	reply, err = talk.line.Receive()
	return request, bytes.Clone(reply), err
}

// LeaveAnswers makes every socket hold an answer that nobody has read, as
// after a question that was given up.
func (e *Enricher) LeaveAnswers(c caller.Conn) error {
	for range cap(e.pool) {
		talk := <-e.pool
		err := talk.line.Send(Encode(c.Remote, c.Local, 0))
		e.pool <- talk
		if err != nil {
			return fmt.Errorf("writing the question: %w", err)
		}
	}
	return nil
}

// Sockets is how many questions can be under way.
func (e *Enricher) Sockets() int { return cap(e.pool) }
