package host

import (
	"errors"
	"fmt"

	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/caller/kernel"
)

// A conversation asks about one client at a time.
type conversation struct {
	line    kernel.Line
	request [requestSize]byte
	own     *end
}

func newConversation() *conversation { return &conversation{own: newEnd()} }

func (talk *conversation) open() error {
	if err := talk.line.Open(kernel.Sockets); err != nil {
		return fmt.Errorf("opening a socket for questions about sockets: %w; the kernel needs CONFIG_INET_DIAG, and a service's RestrictAddressFamilies= must have AF_NETLINK", err)
	}
	return nil
}

func (talk *conversation) hangUp() { talk.line.Close() }

// ask returns what the kernel says of the client's socket.
func (talk *conversation) ask(q question) (answer, error) {
	encode(&talk.request, q)
	a, err := decode(talk.line.Ask(talk.request[:]))
	if err != nil && !errors.Is(err, ErrNotFound) {
		talk.hangUp()
	}
	return a, err
}

// about makes all checks of an answer about the client of c, which is valid.
func (talk *conversation) about(c caller.Conn) (owner, error) {
	q := question{client: c.Remote, server: c.Local}
	got, err := talk.ask(q)
	if err != nil {
		return owner{}, err
	}
	if err := got.answers(q); err != nil {
		return owner{}, err
	}
	// Last: while our end lives, the kernel gives this pair of addresses to
	// no other socket, so what it said before was about this connection.
	state, err := talk.own.state(c.Raw)
	if err != nil {
		return owner{}, fmt.Errorf("%w: %w", ErrEnded, err)
	}
	if state != stateEstablished && state != stateCloseWait {
		return owner{}, fmt.Errorf("%w: its own end is in state %d", ErrEnded, state)
	}
	return got.owner, nil
}
