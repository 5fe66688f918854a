package facts

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// attempts bound how often a dump is begun again that changed under way.
const attempts = 4

// read asks the kernel for links and addresses, and for the links that lead to
// the rest of the world, the one for IPv4 first.
func read() (links []link, addrs []address, uplinks []int, err error) {
	found, err := whole(netlink.LinkList)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("reading the links: %w", err)
	}
	for _, f := range found {
		a := f.Attrs()
		l := link{index: a.Index, mac: a.HardwareAddr, up: a.Flags&net.FlagUp != 0, loop: a.Flags&net.FlagLoopback != 0, kind: f.Type(), master: a.MasterIndex}
		if a.NetNsID < 0 { // else the parent is in another namespace, and so is its index
			l.parent = a.ParentIndex
		}
		links = append(links, l)
	}
	list, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, nil, nil, fmt.Errorf("reading the addresses: %w", err)
	}
	for _, f := range list {
		ip, ok := netip.AddrFromSlice(f.IP)
		ones, _ := f.Mask.Size()
		if !ok {
			continue
		}
		ip = ip.Unmap()
		bad := unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED | unix.IFA_F_DEPRECATED
		if ip.Is6() {
			bad |= unix.IFA_F_TEMPORARY // in IPv4 the same bit is secondary
		}
		addrs = append(addrs, address{f.LinkIndex, netip.PrefixFrom(ip, ones), f.Scope == unix.RT_SCOPE_HOST, f.Flags&bad != 0})
	}
	// Addresses for documentation stand for the world: no host has a route of
	// its own to them. Nothing is sent.
	for _, world := range []string{"192.0.2.1", "2001:db8::1"} {
		if r, err := netlink.RouteGet(net.ParseIP(world)); err == nil && len(r) > 0 && r[0].Type == unix.RTN_UNICAST {
			uplinks = append(uplinks, r[0].LinkIndex)
		}
	}
	return links, addrs, uplinks, nil
}

// whole repeats a dump that changed under way.
func whole[T any](dump func() (T, error)) (v T, err error) {
	for range attempts {
		if v, err = dump(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return v, err
}

// A newsSocket is told by the kernel of every change of links, addresses and
// routes. It is small: one that ran over tells that there were news as well.
type newsSocket struct {
	file *os.File
	raw  syscall.RawConn
	buf  [1]byte
}

// newsBuffer is what the socket holds, in bytes: a message or two.
const newsBuffer = 4 << 10

func listen(what What) (news, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("asking the kernel for news of the network: %w", err)
	}
	file := os.NewFile(uintptr(fd), "netlink") // #nosec G115 -- a descriptor
	groups := uint32(1 << (unix.RTNLGRP_LINK - 1))
	if what == All {
		for _, g := range []int{unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE} {
			groups |= 1 << (g - 1)
		}
	}
	raw, err := file.SyscallConn()
	if err == nil {
		err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, newsBuffer),
			unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}))
	}
	if err != nil {
		return nil, fmt.Errorf("asking the kernel for news of the network: %w", errors.Join(err, file.Close()))
	}
	return &newsSocket{file: file, raw: raw}, nil
}

func (s *newsSocket) Close() error { return s.file.Close() }

func (s *newsSocket) wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.file.SetReadDeadline(time.Unix(1, 0)) }) // long ago
	defer stop()
	return s.raw.Read(func(fd uintptr) bool {
		_, _, e := unix.Recvfrom(int(fd), s.buf[:], unix.MSG_DONTWAIT) // #nosec G115 -- a descriptor
		return e != unix.EAGAIN && e != unix.EINTR
	})
}

func (s *newsSocket) some() (came bool, err error) {
	rerr := s.raw.Read(func(fd uintptr) bool {
		for {
			_, _, e := unix.Recvfrom(int(fd), s.buf[:], unix.MSG_DONTWAIT) // #nosec G115 -- a descriptor
			switch e {
			case unix.EAGAIN:
				return true
			case nil, unix.ENOBUFS: // a message, cut short; or some were lost
				came = true
			case unix.EINTR:
			default:
				err = e
				return true
			}
		}
	})
	return came, errors.Join(rerr, err)
}
