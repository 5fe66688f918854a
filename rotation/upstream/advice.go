package upstream

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"syscall"
)

// Advice is what an operator can do about a call that had no answer; "" when we
// do not know.
func Advice(err error) string {
	var dns *net.DNSError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var network interface{ Timeout() bool }
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return "check the name in the endpoint or the region, and this host's resolver"
	case errors.As(err, &dns):
		return "check this host's resolver: it does not answer"
	case errors.As(err, &unknown):
		return "name the certificate authority in ca_file, or see whether a proxy breaks into TLS"
	case errors.As(err, &name):
		return "check the name in the endpoint: the certificate there is of another"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "check this host's clock; if it is right, the certificate there has to be renewed"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "check the endpoint and its port: nothing listens there"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return "check this host's network: no route leads there"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return "check the network, the firewall, and whether the upstream is reached by a proxy"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return "check whether a firewall or a proxy cuts the connection"
	}
	return ""
}
