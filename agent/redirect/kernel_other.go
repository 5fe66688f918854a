//go:build !linux

package redirect

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
)

type kernel struct {
	table string
	flags uint32
	owned bool
}

func (*kernel) open() error                                    { return errors.ErrUnsupported }
func (*kernel) close() error                                   { return errors.ErrUnsupported }
func (*kernel) raw() (syscall.RawConn, error)                  { return nil, errors.ErrUnsupported }
func (*kernel) put(netip.Addr, []string) ([]uint64, error)     { return nil, errors.ErrUnsupported }
func (*kernel) list() ([]uint64, error)                        { return nil, errors.ErrUnsupported }
func (*kernel) listen(context.Context, chan<- struct{}) func() { return func() {} }

func dialled(*net.TCPConn) (netip.AddrPort, error) { return netip.AddrPort{}, errors.ErrUnsupported }
