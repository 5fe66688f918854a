package document

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

const (
	// bits is what the name rsa2048 promises.
	bits = 2048
	// years are many, as with EC2's certificates: whoever verifies has pinned
	// the certificate, and nothing could renew it there.
	years = 100
	// nameLimit is X.509's own for a common name.
	nameLimit = 64

	keyBlock, certificateBlock = "PRIVATE KEY", "CERTIFICATE"
)

// A Key is the private key of a site, or of one host, and the certificate of
// its signatures. It never changes and may be used concurrently. No printer,
// logger or encoder shows it.
type Key struct {
	private     *rsa.PrivateKey
	certificate *x509.Certificate
}

// Generate returns a new key with a certificate that it signed itself, valid
// for a hundred years from the day before now. name says whose it is, such as
// the instance id; X.509 keeps 64 bytes of it.
func Generate(name string, now time.Time) (*Key, error) {
	private, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, fmt.Errorf("making a site key: %w", err)
	}
	template := &x509.Certificate{ // without a serial number it gets a random one
		Subject:   pkix.Name{CommonName: strings.ToValidUTF8(name[:min(len(name), nameLimit)], "")},
		NotBefore: now.UTC().AddDate(0, 0, -1), // the clock of whoever verifies may be behind
		NotAfter:  now.UTC().AddDate(years, 0, 0),
		KeyUsage:  x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, fmt.Errorf("making the certificate of the site key: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("making the certificate of the site key: %w", err)
	}
	return &Key{private, certificate}, nil
}

// ParseKey reads a private key (RSA of 2048 bits or more, PKCS#8, not
// encrypted) and its certificate, each one PEM block, in either order. The
// certificate may be of a CA, and it may have expired: see [Key.Expires]. No
// error has anything of the key in it.
func ParseKey(text []byte) (*Key, error) {
	blocks, err := decodePEM(text, keyBlock, certificateBlock)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(blocks[keyBlock])
	if err != nil {
		return nil, errors.New("its private key is damaged, or no PKCS#8") // not %w: a parser may quote
	}
	private, ok := parsed.(*rsa.PrivateKey)
	if !ok || private.N.BitLen() < bits {
		return nil, fmt.Errorf("its private key is not RSA of %d bits or more, which the signatures need", bits)
	}
	certificate, err := x509.ParseCertificate(blocks[certificateBlock])
	if err != nil {
		return nil, fmt.Errorf("reading its certificate: %w", err)
	}
	if !private.PublicKey.Equal(certificate.PublicKey) {
		return nil, errors.New("its certificate is of another key: put the two that belong together in one file")
	}
	return &Key{private, certificate}, nil
}

// decodePEM returns the content of exactly one block of each of the types, and
// accepts no other.
func decodePEM(text []byte, types ...string) (map[string][]byte, error) {
	blocks := make(map[string][]byte)
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if !slices.Contains(types, block.Type) {
			return nil, fmt.Errorf("it has a PEM block %q, where only %s belongs", block.Type, strings.Join(types, " and "))
		}
		if _, twice := blocks[block.Type]; twice {
			return nil, fmt.Errorf("it has more than one PEM block %q", block.Type)
		}
		blocks[block.Type] = block.Bytes
	}
	for _, t := range types {
		if blocks[t] == nil {
			return nil, fmt.Errorf("it has no PEM block %q, or a part of it is missing", t)
		}
	}
	return blocks, nil
}

// file returns what ParseKey reads: a secret.
func (k *Key) file() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return nil, errors.New("the private key cannot be written as PKCS#8")
	}
	return bytes.Join([][]byte{pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der}), k.Certificate()}, nil), nil
}

// Certificate returns the certificate as PEM. It is public: whoever verifies
// needs it, and should get it on a way that they trust.
func (k *Key) Certificate() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: k.certificate.Raw})
}

// Expires is when the certificate ends. A key signs on after that, and [Open]
// and [Verify] do not mind; others may, so a warning is due.
func (k *Key) Expires() time.Time { return k.certificate.NotAfter }

// Format prints a placeholder for every verb.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[site key]") }
