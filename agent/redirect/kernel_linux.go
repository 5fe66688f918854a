package redirect

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// The chains of the table.
	onHost  = "callers_on_this_host"
	onLinks = "callers_behind_links"
)

// priority is before those who translate addresses by default, at -100.
var priority = nftables.ChainPriorityRef(-110)

// A kernel is our side of nftables: the socket that owns the table.
type kernel struct {
	table  string
	flags  uint32 // to make it with
	owned  bool
	socket *netlink.Conn // of conn
	conn   *nftables.Conn
}

// open opens the socket, and sees whether it may be used.
func (k *kernel) open() (err error) {
	k.conn, err = nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error { k.socket = c; return nil }))
	if err != nil {
		return explain(err)
	}
	if _, err = k.conn.ListTablesOfFamily(nftables.TableFamilyINet); err != nil {
		return errors.Join(explain(err), k.conn.CloseLasting())
	}
	return nil
}

func (k *kernel) raw() (syscall.RawConn, error) { return k.socket.SyscallConn() }

// close takes the table off, unless it goes, or stays, with its owner.
func (k *kernel) close() error {
	var err error
	if k.table != "" && !k.owned {
		err = k.remove()
	}
	return errors.Join(err, k.conn.CloseLasting())
}

func (k *kernel) inet() *nftables.Table {
	return &nftables.Table{Name: k.table, Family: nftables.TableFamilyINet}
}

// remove removes the table. That there is none is no error.
func (k *kernel) remove() error {
	if found, err := k.ours(); !found || err != nil {
		return err
	}
	k.conn.DelTable(k.inet())
	if err := k.conn.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return explain(err)
	}
	return nil
}

// ours reports whether the table is there, and returns an error if it is not
// ours: it has a chain that we make none of.
func (k *kernel) ours() (found bool, err error) {
	tables, err := k.conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, explain(err)
	}
	if !slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == k.table }) {
		return false, nil
	}
	chains, err := k.conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, explain(err)
	}
	for _, c := range chains {
		if c.Table.Name == k.table && c.Name != onHost && c.Name != onLinks {
			return true, fmt.Errorf("%w: there is a table inet %s with a chain %q, which is not hostrole's: look at it with `nft list table inet %s`, and delete it", ErrHeld, k.table, c.Name, k.table)
		}
	}
	return true, nil
}

// put makes the table anew, and returns the handles of its rules.
func (k *kernel) put(a netip.Addr, devices []string) ([]uint64, error) {
	err := k.create()
	if errors.Is(err, unix.EEXIST) { // left over, or what somebody has left of ours
		if err = k.remove(); err == nil {
			err = k.create()
		}
	}
	if err != nil {
		return nil, err
	}
	t := k.inet()
	for _, c := range []*nftables.Chain{
		{Name: onHost, Hooknum: nftables.ChainHookOutput},
		{Name: onLinks, Hooknum: nftables.ChainHookPrerouting},
	} {
		c.Table, c.Type, c.Priority = t, nftables.ChainTypeNAT, priority
		k.conn.AddChain(c)
		for _, d := range devices {
			if (d == loopback) == (c.Name == onHost) {
				k.conn.AddRule(&nftables.Rule{Table: t, Chain: c, Exprs: rule(a, d), UserData: userdata.AppendString(nil, userdata.TypeComment, "hostrole")})
			}
		}
	}
	if err := k.conn.Flush(); err != nil {
		return nil, errors.Join(lacking(err), k.remove())
	}
	return k.list()
}

// lacking explains why there is a table, but no chain and rule in it.
func lacking(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
		return fmt.Errorf("%w: it lacks what translates addresses of the family inet (nft_chain_nat, nft_nat and nf_conntrack, since Linux 5.2): %w", ErrKernel, err)
	}
	return explain(err)
}

// create makes an empty table, ours alone where the kernel can do that. The
// library knows no flags, so this message is written here; the socket is the
// library's, because it is the owner.
func (k *kernel) create() error {
	err := k.createWith(k.flags)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) { // an older kernel
		k.flags = 0
		err = k.createWith(k.flags)
	}
	switch {
	case err == nil:
		k.owned = k.flags&flagOwner != 0
	case errors.Is(err, unix.EPERM): // the capability is there: open has looked
		return fmt.Errorf("%w: another process has the table inet %s; is another hostrole running on this address?", ErrHeld, k.table)
	case !errors.Is(err, unix.EEXIST):
		return explain(err)
	}
	return err
}

func (k *kernel) createWith(flags uint32) error {
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_TABLE_NAME, Data: append([]byte(k.table), 0)},
		{Type: unix.NFTA_TABLE_FLAGS, Data: binary.BigEndian.AppendUint32(nil, flags)},
	})
	if err != nil {
		return err
	}
	const subsystem = unix.NFNL_SUBSYS_NFTABLES
	header := func(family uint8, resource uint16) []byte {
		return binary.BigEndian.AppendUint16([]byte{family, unix.NFNETLINK_V0}, resource)
	}
	_, err = k.socket.SendMessages([]netlink.Message{
		{Header: netlink.Header{Type: unix.NFNL_MSG_BATCH_BEGIN, Flags: netlink.Request}, Data: header(0, subsystem)},
		{Header: netlink.Header{Type: subsystem<<8 | unix.NFT_MSG_NEWTABLE, Flags: netlink.Request | netlink.Acknowledge | netlink.Create | netlink.Excl},
			Data: append(header(unix.NFPROTO_INET, 0), attrs...)},
		{Header: netlink.Header{Type: unix.NFNL_MSG_BATCH_END, Flags: netlink.Request}, Data: header(0, subsystem)},
	})
	if err != nil {
		return err
	}
	_, err = k.socket.Receive()
	return err
}

// rule leads what arrives for an address on a device to our port. Callers on
// this host leave by lo, whatever link carries the address.
func rule(a netip.Addr, device string) []expr.Any {
	family, offset, key := byte(unix.NFPROTO_IPV4), uint32(16), expr.MetaKeyIIFNAME
	if a.Is6() {
		family, offset = unix.NFPROTO_IPV6, 24
	}
	if device == loopback {
		key = expr.MetaKeyOIFNAME
	}
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, device)
	if beginning, pattern := strings.CutSuffix(device, "*"); pattern {
		name = []byte(beginning) // as nft itself compares names that end in *
	}
	port := func(p uint16) []byte { return binary.BigEndian.AppendUint16(nil, p) }
	equal := func(what []byte) *expr.Cmp { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: what} }
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equal([]byte{family}),
		&expr.Meta{Key: key, Register: 1}, equal(name),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(a.BitLen()) / 8}, equal(a.AsSlice()), // #nosec G115 -- 32 or 128
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal([]byte{unix.IPPROTO_TCP}),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}, equal(port(From)),
		&expr.Immediate{Register: 1, Data: port(Port)},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(family), RegProtoMin: 1},
	}
}

// list returns the handles of the rules that are there.
func (k *kernel) list() ([]uint64, error) {
	var handles []uint64
	for _, chain := range []string{onHost, onLinks} {
		rules, err := k.conn.GetRules(k.inet(), &nftables.Chain{Name: chain})
		if err != nil {
			return nil, explain(err)
		}
		for _, r := range rules {
			handles = append(handles, r.Handle)
		}
	}
	return handles, nil
}

// explain adds what to do.
func explain(err error) error {
	switch {
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w: this needs CAP_NET_ADMIN", err)
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w: it has no nf_tables: %w", ErrKernel, err)
	}
	return err
}

// listen asks the kernel for news of all tables, and puts a word into heard for
// each and for those that may have been missed. stop ends that and waits for it.
func (k *kernel) listen(ctx context.Context, heard chan<- struct{}) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			hear(ctx, heard)
			again := time.NewTimer(100 * time.Millisecond)
			select {
			case <-again.C:
			case <-ctx.Done():
			}
			again.Stop()
		}
	}()
	return func() { cancel(); <-done }
}

// hear listens until ctx ends or the news do.
func hear(ctx context.Context, heard chan<- struct{}) {
	say := func() {
		select {
		case heard <- struct{}{}:
		default: // one word is enough
		}
	}
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{})
	if err != nil {
		return
	}
	over := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer func() {
		if over() {
			_ = c.Close()
		}
	}()
	if err := c.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		return
	}
	say() // for what happened before
	for {
		_, err := c.Receive()
		say()
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return
		}
	}
}
