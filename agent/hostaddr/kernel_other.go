//go:build !linux

package hostaddr

import (
	"errors"
	"net/netip"
)

type (
	addrNews struct{}
	linkNews struct{}
)

func findLink(string) (link, error)           { return link{}, errors.ErrUnsupported }
func makeLink(string) (link, error)           { return link{}, errors.ErrUnsupported }
func deleteLink(link) error                   { return errors.ErrUnsupported }
func findAddress(netip.Addr) ([]place, error) { return nil, errors.ErrUnsupported }
func putAddress(link, netip.Addr) error       { return errors.ErrUnsupported }
func removeAddress(link, netip.Addr) error    { return errors.ErrUnsupported }
func routeTo(netip.Addr) (route, bool, error) { return route{}, false, errors.ErrUnsupported }
func isLocal(netip.Addr) bool                 { return false }
func putFence(netip.Addr) error               { return errors.ErrUnsupported }
func removeFence(netip.Addr) error            { return errors.ErrUnsupported }
func subscribe() (*news, error)               { return nil, errors.ErrUnsupported }
func (*Claim) concerns(addrNews) bool         { return false }
func (*Claim) concernsLink(linkNews) bool     { return false }
