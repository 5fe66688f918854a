package rolesanywhere

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/hostrole/hostrole/rotation/command"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/upstream"
)

// pemLimit bounds a file of certificates: all of them go into headers.
const pemLimit = 64 << 10

// An Identity is a certificate and what signs for it. It is followed at each
// use, so that what a renewal has just written is what is shown. Certificate
// is required, and one of Key and Signer.
type Identity struct {
	Certificate string // path of a PEM file: the certificate first, then any intermediates
	Chain       string // path of a PEM file with more intermediates; "" for none

	// Key gives the private key in PEM, without a password: RSA or ECDSA, in
	// PKCS#8, PKCS#1 or SEC 1.
	Key func() (credential.Secret, error)

	// Signer signs with a key that cannot be read. The program gets a SHA-256
	// digest, 64 hexadecimal digits, as one more argument, and prints the
	// signature of it in hexadecimal or base64: PKCS#1 v1.5 of an RSA key, or
	// the ASN.1 form of an ECDSA key.
	Signer *command.Command
}

// NotAfter reads the certificate and tells when it ends, in UTC.
func (i Identity) NotAfter() (time.Time, error) {
	certs, err := readCertificates(i.Certificate)
	if err != nil {
		return time.Time{}, fmt.Errorf("certificate: %w", err)
	}
	return certs[0].NotAfter.UTC(), nil
}

// An identity is what was read for one attempt.
type identity struct {
	leaf  *x509.Certificate
	chain []*x509.Certificate
	sign  func(ctx context.Context, digest []byte) ([]byte, error)
}

func (i Identity) read() (*identity, error) {
	certs, err := readCertificates(i.Certificate)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	id := &identity{leaf: certs[0], chain: certs[1:]}
	if i.Chain != "" {
		more, err := readCertificates(i.Chain)
		if err != nil {
			return nil, fmt.Errorf("chain: %w", err)
		}
		id.chain = append(id.chain, more...)
	}
	if i.Signer != nil {
		id.sign = func(ctx context.Context, digest []byte) ([]byte, error) { return run(ctx, *i.Signer, digest) }
		return id, nil
	}
	text, err := i.Key()
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	key, err := parseKey([]byte(text.Reveal()))
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	if pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(id.leaf.PublicKey) {
		return nil, fmt.Errorf("key: it is not the key of the certificate in %s: was only one of the two renewed?", i.Certificate)
	}
	id.sign = func(_ context.Context, digest []byte) ([]byte, error) {
		return key.Sign(rand.Reader, digest, crypto.SHA256)
	}
	return id, nil
}

// describe tells whose certificate it is, for a refusal.
func (id *identity) describe(now time.Time) string {
	life := fmt.Sprintf("%v left", id.leaf.NotAfter.Sub(now).Round(time.Second))
	switch {
	case now.After(id.leaf.NotAfter):
		life = fmt.Sprintf("expired %v ago", now.Sub(id.leaf.NotAfter).Round(time.Second))
	case now.Before(id.leaf.NotBefore):
		life = fmt.Sprintf("not valid for another %v", id.leaf.NotBefore.Sub(now).Round(time.Second))
	}
	return fmt.Sprintf("the certificate of %q, issued by %q, serial number %v, %s",
		upstream.Clean(id.leaf.Subject.String()), upstream.Clean(id.leaf.Issuer.String()), id.leaf.SerialNumber, life)
}

func readCertificates(path string) ([]*x509.Certificate, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if st, err := f.Stat(); err != nil {
		return nil, err
	} else if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, pemLimit+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > pemLimit:
		return nil, fmt.Errorf("%s is larger than %d bytes", path, pemLimit)
	}
	certs, err := parseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return certs, nil
}

// parseCertificates takes the certificates out of PEM and leaves the rest.
func parseCertificates(text []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d in it: %w", len(certs)+1, err)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errors.New("it holds no certificate in PEM")
	}
	return certs, nil
}

// parseKey takes the first private key out of PEM. Its errors have nothing of
// the text.
func parseKey(text []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			block.Headers["DEK-Info"] = block.Type
		default:
			continue // parameters of a curve, or a certificate
		}
		if block.Headers["DEK-Info"] != "" {
			return nil, errors.New("it has a password: take that off and let a systemd credential protect it, or use a signer")
		}
		if err != nil {
			return nil, fmt.Errorf("its %s cannot be read: was it cut short?", block.Type)
		}
		switch key := key.(type) {
		case *rsa.PrivateKey:
			return key, nil
		case *ecdsa.PrivateKey:
			return key, nil
		}
		return nil, errors.New("it is neither an RSA nor an ECDSA key, and Roles Anywhere takes no other")
	}
	return nil, errors.New("it holds no private key in PEM")
}

// run has the signer sign.
func run(ctx context.Context, c command.Command, digest []byte) ([]byte, error) {
	c.Argv = append(c.Argv[:len(c.Argv):len(c.Argv)], hex.EncodeToString(digest))
	out, err := c.Output(ctx)
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	signature, err := parseSignature(string(out))
	if err != nil {
		return nil, fmt.Errorf("signing: what %s printed is of no use: %w", c.Argv[0], err)
	}
	return signature, nil
}

// parseSignature reads hexadecimal or base64, on one line or on several.
func parseSignature(text string) ([]byte, error) {
	text = strings.Join(strings.Fields(text), "")
	if text == "" {
		return nil, errors.New("it is empty")
	}
	if b, err := hex.DecodeString(text); err == nil {
		return b, nil
	}
	if b, err := base64.StdEncoding.DecodeString(text); err == nil {
		return b, nil
	}
	return nil, errors.New("it is neither hexadecimal nor base64")
}
