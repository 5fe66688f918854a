package document

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/smallstep/pkcs7"
)

// Why a document is not to be believed. RSA alone cannot tell the last two
// apart; such an error is both.
var (
	// ErrForm is the failure of what is no signature in a known form.
	ErrForm = errors.New("no signed identity document in a known form")
	// ErrSigner is the failure of what another key signed.
	ErrSigner = errors.New("not signed with the key of this certificate")
	// ErrAltered is the failure of what was changed after it was signed.
	ErrAltered = errors.New("altered after it was signed")
)

// textLimit bounds a signature's text, in bytes. EC2's have fewer than two
// thousand; a chain of certificates may be inside.
const textLimit = 16 << 10

// Open returns the document that text has inside, if the key of the
// certificate (PEM, exactly one) signed it. text is what pkcs7 or rsa2048
// serve, with or without PEM's first and last line. It fails with [ErrForm],
// [ErrSigner] or [ErrAltered].
//
// What it returns are the bytes that were signed. No certificate that text
// brings along is believed, unlike by openssl smime -verify -noverify. The
// dates of the certificate do not count: a signature has no time that could be
// held against them. That the document is of the host that showed it is for
// the caller to judge: a document is no secret.
func Open(certificate, text []byte) (document []byte, err error) {
	c, err := parseCertificate(certificate)
	if err != nil {
		return nil, err
	}
	data, err := decode(text)
	if err != nil {
		return nil, err
	}
	return c.open(data)
}

// Verify returns nil if the key of the certificate (PEM, exactly one) signed
// this document, byte for byte, which has no line end at its end. text is what
// signature, pkcs7 or rsa2048 serve. It fails as [Open] does.
func Verify(certificate, document, text []byte) error {
	c, err := parseCertificate(certificate)
	if err != nil {
		return err
	}
	data, err := decode(text)
	if err != nil {
		return err
	}
	if c.isSignature(data) {
		if !isDocument(document) {
			return fmt.Errorf("the document is no JSON object: %w", ErrForm)
		}
		if err := c.CheckSignature(x509.SHA256WithRSA, document, data); err != nil {
			return fmt.Errorf("the signature does not fit: the document is %w, or %w", ErrSigner, ErrAltered)
		}
		return nil
	}
	inside, err := c.open(data)
	if err == nil && !bytes.Equal(inside, document) {
		err = fmt.Errorf("the document is not the one that was signed, to the last byte: %w", ErrAltered)
	}
	return err
}

// A signer is a certificate whose key is RSA.
type signer struct {
	*x509.Certificate
	key *rsa.PublicKey
}

func parseCertificate(text []byte) (signer, error) {
	blocks, err := decodePEM(text, certificateBlock)
	if err != nil {
		return signer{}, fmt.Errorf("reading the certificate of whoever signed: %w", err)
	}
	c, err := x509.ParseCertificate(blocks[certificateBlock])
	if err != nil {
		return signer{}, fmt.Errorf("reading the certificate of whoever signed: %w", err)
	}
	key, ok := c.PublicKey.(*rsa.PublicKey)
	if !ok {
		return signer{}, errors.New("reading the certificate of whoever signed: its key is not RSA, and no site key is another")
	}
	return signer{c, key}, nil
}

// decode takes off base64, and PEM's armour if there is any.
func decode(text []byte) ([]byte, error) {
	if len(text) > textLimit {
		return nil, fmt.Errorf("the signature is larger than %d bytes: %w", textLimit, ErrForm)
	}
	if block, _ := pem.Decode(text); block != nil {
		if block.Type != "PKCS7" && block.Type != "CMS" {
			return nil, fmt.Errorf("a PEM block %q is not PKCS7: %w", block.Type, ErrForm)
		}
		return block.Bytes, nil
	}
	data, err := base64.StdEncoding.AppendDecode(nil, text) // line ends are nothing to it
	if err != nil {
		return nil, fmt.Errorf("the signature is not base64, as pkcs7, rsa2048 and signature are served: %w", ErrForm)
	}
	return data, nil
}

// isSignature reports whether data is as long as a signature alone. PKCS#7 has
// one inside and is longer.
func (s signer) isSignature(data []byte) bool { return len(data) == s.key.Size() }

func (s signer) open(data []byte) ([]byte, error) {
	if s.isSignature(data) {
		return nil, fmt.Errorf("a signature alone has no document inside, and needs it beside: %w", ErrForm)
	}
	p, err := pkcs7.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("what the base64 holds is no PKCS#7: %w", ErrForm) // not %w: it may quote a stranger
	}
	if len(p.Signers) != 1 || len(p.Content) == 0 {
		return nil, fmt.Errorf("PKCS#7 with %d signers and %d bytes inside, where one signer and a document should be: %w", len(p.Signers), len(p.Content), ErrForm)
	}
	by := p.Signers[0]
	p.Certificates = []*x509.Certificate{s.Certificate} // and none of those that came along
	if p.GetOnlySigner() == nil {
		return nil, fmt.Errorf("signed for the certificate with serial number %x, and this one has %x: the document is %w", by.IssuerAndSerialNumber.SerialNumber, s.SerialNumber, ErrSigner)
	}
	// The library would take SHA-1, and a signature of the bare content.
	rsaKind := by.DigestEncryptionAlgorithm.Algorithm
	if !by.DigestAlgorithm.Algorithm.Equal(oidSHA256) || !rsaKind.Equal(oidRSA) && !rsaKind.Equal(oidRSAWithSHA256) {
		return nil, fmt.Errorf("PKCS#7 by other means than RSA and SHA-256: %w", ErrForm)
	}
	var kind asn1.ObjectIdentifier
	if err := p.UnmarshalSignedAttribute(oidContentType, &kind); err != nil || !kind.Equal(oidData) {
		return nil, fmt.Errorf("PKCS#7 without the signed attribute that says that it is data: %w", ErrForm)
	}
	if err := p.Verify(); err != nil {
		if _, ok := errors.AsType[*pkcs7.MessageDigestMismatchError](err); ok {
			return nil, fmt.Errorf("what is inside is not what was signed: the document is %w", ErrAltered)
		}
		return nil, fmt.Errorf("the signature does not fit: the document is %w, or %w", ErrSigner, ErrAltered)
	}
	if !isDocument(p.Content) {
		return nil, fmt.Errorf("what was signed is no JSON object: %w", ErrForm)
	}
	return p.Content, nil
}
