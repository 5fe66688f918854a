package upstream_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/hostrole/hostrole/rotation/upstream"
)

func TestAdvice(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"name in the endpoint or the region": &net.DNSError{IsNotFound: true},
		"resolver: it does not answer":       &net.DNSError{IsTimeout: true},
		"ca_file":                            x509.UnknownAuthorityError{},
		"of another":                         x509.HostnameError{Certificate: &x509.Certificate{}},
		"this host's clock":                  x509.CertificateInvalidError{Reason: x509.Expired},
		"nothing listens there":              &net.OpError{Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)},
		"no route leads there":               &net.OpError{Err: os.NewSyscallError("connect", syscall.ENETUNREACH)},
		"the firewall":                       context.DeadlineExceeded,
		"firewall or a proxy cuts":           io.ErrUnexpectedEOF,
	} {
		if got := upstream.Advice(fmt.Errorf("calling: %w", err)); !strings.Contains(got, want) {
			t.Errorf("%v: the advice is %q, want %q", err, got, want)
		}
	}
	if got := upstream.Advice(errors.New("odd")); got != "" {
		t.Errorf("it advises %q on what nobody knows", got)
	}
}
