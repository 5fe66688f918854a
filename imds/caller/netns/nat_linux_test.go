package netns_test

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// translate has all connections leave from one address, other than that of
// their sockets.
func translate(from netip.AddrPort) error {
	kernel, err := nftables.New()
	if err != nil {
		return err
	}
	table := kernel.AddTable(&nftables.Table{Name: "nat", Family: nftables.TableFamilyIPv4})
	chain := kernel.AddChain(&nftables.Chain{Name: "out", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
	address := from.Addr().As4()
	kernel.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Immediate{Register: 1, Data: address[:]},
		&expr.Immediate{Register: 2, Data: binary.BigEndian.AppendUint16(nil, from.Port())},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2},
	}})
	return kernel.Flush()
}
