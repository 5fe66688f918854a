package document

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// columns is the width of EC2's base64 in every capture that we know of,
// though the 64 of its documentation would do: all readers take both.
const columns = 76

// Signed is what EC2 serves below dynamic/instance-identity/, each under the
// name of its field. None ends with a line end.
type Signed struct {
	// Document is as it was given.
	Document string
	// Signature is an RSA signature (PKCS #1 v1.5) of the document's SHA-256,
	// in base64. Some notes on EC2 say SHA-1; its User Guide says SHA-256, and
	// the verifiers that we know of check that.
	Signature string
	// PKCS7 and RSA2048 are the same: a SignedData of PKCS#7 with the document
	// in it, by RSA and SHA-256, in base64 without PEM's first and last line.
	PKCS7, RSA2048 string
}

// Sign signs a document, which must be a JSON object. It takes milliseconds,
// and the same key and document have the same signatures each time: do it once
// and keep them.
func (k *Key) Sign(document string) (Signed, error) {
	content := []byte(document)
	if !isDocument(content) {
		return Signed{}, errors.New("signing the identity document: it is no JSON object")
	}
	signature, err := k.sign(content)
	if err != nil {
		return Signed{}, fmt.Errorf("signing the identity document: %w", err)
	}
	data, err := k.signedData(content)
	if err != nil {
		return Signed{}, fmt.Errorf("signing the identity document as PKCS#7: %w", err)
	}
	text := wrap(data)
	return Signed{Document: document, Signature: wrap(signature), PKCS7: text, RSA2048: text}, nil
}

// isDocument keeps the two kinds of signatures of one key apart: in PKCS#7 it
// is ASN.1 that is signed, which without this could be shown as a document.
func isDocument(content []byte) bool {
	return len(content) > 0 && content[0] == '{' && json.Valid(content)
}

func (k *Key) sign(content []byte) ([]byte, error) {
	sum := sha256.Sum256(content)
	return rsa.SignPKCS1v15(nil, k.private, crypto.SHA256, sum[:])
}

// wrap writes base64 in lines.
func wrap(data []byte) string {
	text := base64.StdEncoding.EncodeToString(data)
	var b strings.Builder
	for len(text) > columns {
		b.WriteString(text[:columns] + "\n")
		text = text[columns:]
	}
	return b.String() + text
}

// The names of RFC 2315 and RFC 5652.
var (
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidSHA256        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidRSA           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidRSAWithSHA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
)

type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content signedData `asn1:"explicit,tag:0"`
}

type signedData struct {
	Version int
	Digests []pkix.AlgorithmIdentifier `asn1:"set"`
	Content struct {
		Type asn1.ObjectIdentifier
		Data []byte `asn1:"explicit,tag:0"`
	}
	Signers []signerInfo `asn1:"set"`
}

type signerInfo struct {
	Version int
	Signer  struct {
		Issuer asn1.RawValue
		Serial *big.Int
	}
	Digest     pkix.AlgorithmIdentifier
	Attributes asn1.RawValue
	Encryption pkix.AlgorithmIdentifier
	Signature  []byte
}

type attribute struct {
	Type   asn1.ObjectIdentifier
	Values []asn1.RawValue `asn1:"set"`
}

// signedData returns the DER of PKCS#7 as EC2 fills it, less the time.
func (k *Key) signedData(content []byte) ([]byte, error) {
	sum := sha256.Sum256(content)
	kind, err := attributeOf(oidContentType, oidData)
	if err != nil {
		return nil, err
	}
	digest, err := attributeOf(oidMessageDigest, sum[:])
	if err != nil {
		return nil, err
	}
	attributes, err := asn1.MarshalWithParams([]attribute{kind, digest}, "set")
	if err != nil {
		return nil, err
	}
	signature, err := k.sign(attributes)
	if err != nil {
		return nil, err
	}
	// What is signed is a SET; what is sent has the tag [0] in its place.
	tagged := bytes.Clone(attributes)
	tagged[0] = 0xa0

	sha := pkix.AlgorithmIdentifier{Algorithm: oidSHA256, Parameters: asn1.NullRawValue}
	signer := signerInfo{
		Version: 1, Digest: sha, Attributes: asn1.RawValue{FullBytes: tagged},
		Encryption: pkix.AlgorithmIdentifier{Algorithm: oidRSA, Parameters: asn1.NullRawValue}, Signature: signature,
	}
	signer.Signer.Issuer.FullBytes = k.certificate.RawIssuer
	signer.Signer.Serial = k.certificate.SerialNumber
	data := signedData{Version: 1, Digests: []pkix.AlgorithmIdentifier{sha}, Signers: []signerInfo{signer}}
	data.Content.Type, data.Content.Data = oidData, content
	return asn1.Marshal(contentInfo{oidSignedData, data})
}

func attributeOf(kind asn1.ObjectIdentifier, value any) (attribute, error) {
	der, err := asn1.Marshal(value)
	return attribute{kind, []asn1.RawValue{{FullBytes: der}}}, err
}
