package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/hostrole/hostrole/imds/caller/kernel"
)

// Sizes and numbers of linux/sock_diag.h, linux/inet_diag.h and
// net/tcp_states.h. They are written here so that the messages can be built and
// read on any system.
const (
	headerSize   = kernel.HeaderSize
	requestSize  = headerSize + 56
	bodySize     = 72 // struct inet_diag_msg
	typeSockDiag = 20 // SOCK_DIAG_BY_FAMILY
	attrCgroup   = 21 // INET_DIAG_CGROUP_ID, a u64, unasked since Linux 5.8
	familyIPv4   = 2
	familyIPv6   = 10
	protocolTCP  = 6

	stateEstablished = 1
	stateFinWait1    = 4
	stateFinWait2    = 5
	stateCloseWait   = 8
	stateListen      = 10
)

// Where the parts of a request and of an answer's body begin.
const (
	requestStates = headerSize + 4
	requestID     = headerSize + 8 // struct inet_diag_sockid
	bodyID        = 4
	bodyUID       = 64
	bodyInode     = 68

	idSource      = 4
	idDestination = 20
	idCookie      = 40
)

// An owner is whom the kernel names.
type owner struct {
	uid    uint32 // of the process that made the socket
	inode  uint32 // of the socket; 0 when nobody holds it any more
	cgroup uint64 // of that process then; 0 when the kernel does not say
}

// An answer is what the kernel says of one socket: src is its own end.
type answer struct {
	owner
	state    uint8
	src, dst netip.AddrPort
}

// encode writes the request for exactly one socket, the client's, into b,
// which has requestSize bytes. It is no dump, which would go by ports alone.
func encode(b *[requestSize]byte, q question) {
	*b = [requestSize]byte{}
	native, network := binary.NativeEndian, binary.BigEndian
	kernel.Head(b[:], typeSockDiag)
	b[headerSize], b[headerSize+1] = familyIPv6, protocolTCP
	native.PutUint32(b[requestStates:], 1<<32-1) // of any state: the answer's is looked at
	id := b[requestID:]
	network.PutUint16(id[0:], q.client.Port())
	network.PutUint16(id[2:], q.server.Port())
	if q.client.Addr().Is4() {
		b[headerSize] = familyIPv4
		src, dst := q.client.Addr().As4(), q.server.Addr().As4()
		copy(id[idSource:], src[:])
		copy(id[idDestination:], dst[:])
	} else {
		src, dst := q.client.Addr().As16(), q.server.Addr().As16()
		copy(id[idSource:], src[:])
		copy(id[idDestination:], dst[:])
	}
	native.PutUint64(id[idCookie:], 1<<64-1) // INET_DIAG_NOCOOKIE
}

// decode reads the kernel's answer. One that it returns is well-formed; whether
// it is to be believed is for [answer.answers] to say.
func decode(kind uint16, body []byte, err error) (answer, error) {
	switch {
	case errors.Is(err, syscall.ENOENT):
		return answer{}, ErrNotFound
	case err != nil:
		return answer{}, err
	case kind != typeSockDiag:
		return answer{}, fmt.Errorf("%w: it is of type %d", ErrMalformed, kind)
	}
	return decodeBody(body)
}

func decodeBody(body []byte) (answer, error) {
	if len(body) < bodySize {
		return answer{}, fmt.Errorf("%w: a body of %d bytes", ErrMalformed, len(body))
	}
	native := binary.NativeEndian
	a := answer{state: body[1]}
	a.uid, a.inode = native.Uint32(body[bodyUID:]), native.Uint32(body[bodyInode:])
	var err error
	if a.src, a.dst, err = decodeID(body[0], body[bodyID:]); err != nil {
		return answer{}, err
	}
	err = kernel.Attributes(body[bodySize:], func(kind uint16, value []byte) error {
		if kind == attrCgroup {
			if len(value) != 8 {
				return fmt.Errorf("%w: a cgroup id of %d bytes", ErrMalformed, len(value))
			}
			a.cgroup = native.Uint64(value)
		}
		return nil
	})
	if err != nil {
		return answer{}, err
	}
	return a, nil
}

// decodeID reads both ends of a socket. A socket of IPv6 that speaks IPv4, as
// Java's do, has mapped addresses; they count as what they map.
func decodeID(family uint8, id []byte) (src, dst netip.AddrPort, err error) {
	sport, dport := binary.BigEndian.Uint16(id[0:]), binary.BigEndian.Uint16(id[2:])
	switch family {
	case familyIPv4:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(id[idSource:])), sport),
			netip.AddrPortFrom(netip.AddrFrom4([4]byte(id[idDestination:])), dport), nil
	case familyIPv6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(id[idSource:])).Unmap(), sport),
			netip.AddrPortFrom(netip.AddrFrom16([16]byte(id[idDestination:])).Unmap(), dport), nil
	}
	return src, dst, fmt.Errorf("%w: address family %d", ErrMalformed, family)
}

// answers reports why a does not say who asked q; nil means that it does, as
// long as q's connection lives.
func (a answer) answers(q question) error {
	switch {
	// The kernel falls back to a listener when the connection is gone.
	case a.state == stateListen:
		return fmt.Errorf("%w: one that listens on %v", ErrOther, a.src)
	case a.src != q.client || a.dst != q.server:
		return fmt.Errorf("%w: from %v to %v", ErrOther, a.src, a.dst)
	// A socket that nobody holds reads as root's.
	case a.inode == 0:
		return fmt.Errorf("%w: it is in state %d and nobody holds it", ErrGone, a.state)
	// A client may half-close and still wait for its answer.
	case a.state != stateEstablished && a.state != stateFinWait1 && a.state != stateFinWait2:
		return fmt.Errorf("%w: it is in state %d", ErrGone, a.state)
	}
	return nil
}
