package occupant

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Sizes and offsets of the kernel's inet_diag_req_v2 and inet_diag_msg.
const (
	requestSize  = 56
	bodySize     = 72
	tcpListen    = 10
	sockDiag     = 20 // SOCK_DIAG_BY_FAMILY
	attrOnlyIPv6 = 11 // INET_DIAG_SKV6ONLY
	attrCgroup   = 21 // INET_DIAG_CGROUP_ID
)

// A question is for the listening sockets of a family on a port.
type question struct {
	family uint8
	port   uint16
}

// Len is the size of the question in bytes.
func (question) Len() int { return requestSize }

// Serialize returns the question as the kernel reads it.
func (q question) Serialize() []byte {
	b := make([]byte, requestSize)
	b[0], b[1] = q.family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(b[4:], 1<<tcpListen)
	binary.BigEndian.PutUint16(b[8:], q.port)
	return b
}

// listening returns the sockets that listen on a port.
func listening(port uint16) (all []socket, err error) {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		ask := nl.NewNetlinkRequest(sockDiag, unix.NLM_F_DUMP)
		ask.AddData(question{family, port})
		answers, err := ask.Execute(unix.NETLINK_INET_DIAG, sockDiag)
		if err != nil {
			return nil, err
		}
		for _, a := range answers {
			s, err := decode(a)
			if err != nil {
				return nil, err
			}
			if s.Addr.Port() == port {
				all = append(all, s)
			}
		}
	}
	return all, nil
}

func decode(b []byte) (s socket, err error) {
	if len(b) < bodySize {
		return s, fmt.Errorf("an answer has %d bytes", len(b))
	}
	port := binary.BigEndian.Uint16(b[4:])
	switch b[0] {
	case unix.AF_INET:
		s.Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[8:])), port)
	case unix.AF_INET6:
		s.Addr = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:])).Unmap(), port)
	default:
		return s, fmt.Errorf("an answer is of address family %d", b[0])
	}
	s.UID, s.inode = binary.NativeEndian.Uint32(b[64:]), binary.NativeEndian.Uint32(b[68:])
	for rest := b[bodySize:]; len(rest) >= 4; {
		size, kind := int(binary.NativeEndian.Uint16(rest)), binary.NativeEndian.Uint16(rest[2:])
		if size < 4 || size > len(rest) {
			return s, fmt.Errorf("an attribute of an answer claims %d of %d bytes", size, len(rest))
		}
		switch value := rest[4:size]; {
		case kind == attrOnlyIPv6 && len(value) > 0:
			s.only6 = value[0] != 0
		case kind == attrCgroup && len(value) == 8:
			s.Cgroup = binary.NativeEndian.Uint64(value)
		}
		rest = rest[min((size+3)&^3, len(rest)):] // padded to 4 bytes
	}
	return s, nil
}
