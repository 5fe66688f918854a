package roles

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/rotation/source/cognito"
	"github.com/hostrole/hostrole/rotation/source/static"
	"github.com/hostrole/hostrole/rotation/source/vault"
	"github.com/hostrole/hostrole/rotation/sts"
	"github.com/hostrole/hostrole/rotation/upstream"
)

// A reach is how a server is reached, and which rule tells that an answer of
// it is worth another try.
type reach struct {
	kind          string // sts, vault, cognito, or another without a rule
	server        string // with a region where that says it
	caFile, proxy string
	pins          string // in one line
	certificate   string // of this client, and its key
	key           config.Ref
}

// transient are the rules of those that have one.
var transient = map[string]func(int, []byte) bool{"sts": sts.Transient, "vault": vault.Transient, "cognito": cognito.Transient}

// A server is the one client of an upstream, and the upstream's name for the
// budget of retries.
type server struct {
	*upstream.Client
	name string
}

// sts returns a client of STS for a role, and the name of what it calls.
func (b *builder) sts(role string, up config.Upstream) (*sts.Client, string) {
	at := "role." + role
	reach := func(region, endpoint string) reach {
		return reach{kind: "sts", server: region + " " + endpoint, caFile: up.CAFile, proxy: up.Proxy, pins: strings.Join(up.Pins, " ")}
	}
	first := b.client(at, reach(up.Region, up.Endpoint))
	o := sts.Options{Region: up.Region, Endpoint: up.Endpoint, HTTP: first.Client, Now: b.Now, Boot: b.Boot}
	if region := cmp.Or(up.FallbackRegion, up.Region); up.FallbackRegion+up.FallbackEndpoint != "" {
		second := b.client(at, reach(region, up.FallbackEndpoint))
		o.Fallback = b.fallback(first, second, region, up.FallbackEndpoint)
	}
	return sts.New(o), first.name
}

// fallback is the one that all roles of the same two servers share.
func (b *builder) fallback(first, second *server, region, endpoint string) *sts.Fallback {
	pair := [2]*server{first, second}
	if f := b.fallbacks[pair]; f != nil {
		return f
	}
	f := &sts.Fallback{Region: region, Endpoint: endpoint, HTTP: second.Client, Moved: func(to string, why error) {
		if why != nil {
			b.Log.Warn("STS does not answer, its fallback does", "endpoint", to, "error", why.Error())
		} else {
			b.Log.Info("STS answers again", "endpoint", to)
		}
	}}
	b.fallbacks[pair] = f
	return f
}

// client returns the one client of an upstream; at is the table whose files it
// reads.
func (b *builder) client(at string, r reach) *server {
	if c := b.clients[r]; c != nil {
		return c
	}
	o := upstream.Options{Timeout: b.timeout(), Transient: transient[r.kind], Logger: b.Log}
	if r.caFile != "" {
		pem, err := os.ReadFile(r.caFile)
		o.Roots = x509.NewCertPool()
		switch {
		case err != nil:
			b.fault(at, "ca_file: "+err.Error(), "name a PEM file with the upstream's certificate authority")
		case !o.Roots.AppendCertsFromPEM(pem):
			b.fault(at, "ca_file: "+r.caFile+" has no certificate", "name a PEM file with the upstream's certificate authority")
		}
	}
	for text := range strings.FieldsSeq(r.pins) {
		pin, err := upstream.ParsePin(text)
		if err != nil {
			b.fault(at, "pins: "+err.Error(), "take the 44 letters of base64 that curl --pinnedpubkey takes")
		}
		o.Pins = append(o.Pins, pin)
	}
	switch r.proxy {
	case "", "none":
	case "env":
		o.Proxy = http.ProxyFromEnvironment
	default:
		if u, err := url.Parse(r.proxy); err == nil { // the config has parsed it
			o.Proxy = http.ProxyURL(u)
		}
	}
	if r.certificate != "" {
		o.Certificate = certificate(r.certificate, b.Env.follow(r.key))
	}
	c := &server{upstream.New(o), list([]string{r.kind, r.server, r.proxy})}
	b.clients[r] = c
	return c
}

// timeout is the limit of one call.
func (b *builder) timeout() time.Duration { return time.Duration(b.Config.Upstream.Timeout) }

// certificate reads the certificate of this client at each connection.
func certificate(path string, key static.Value) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		chain, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		secret, err := key()
		if err != nil {
			return nil, fmt.Errorf("private_key: %w", err)
		}
		pair, err := tls.X509KeyPair(chain, []byte(secret.Reveal()))
		if err != nil { // whose text is not ours to show
			return nil, errors.New("certificate: " + path + " and private_key are no pair in PEM: was only one of the two renewed?")
		}
		return &pair, nil
	}
}
