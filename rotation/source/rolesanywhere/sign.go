package rolesanywhere

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// authorize signs r, whose payload is body, for a region at a time. The form
// is that of Signature Version 4 with a certificate in the place of the access
// key.
func (id *identity) authorize(ctx context.Context, r *http.Request, body []byte, region string, at time.Time) error {
	var name string
	var check x509.SignatureAlgorithm
	switch id.leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		name, check = "AWS4-X509-RSA-SHA256", x509.SHA256WithRSA
	case *ecdsa.PublicKey:
		name, check = "AWS4-X509-ECDSA-SHA256", x509.ECDSAWithSHA256
	default:
		return errors.New("certificate: its key is neither RSA nor ECDSA, and Roles Anywhere takes no other")
	}
	date := at.Format("20060102T150405Z")
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Amz-Date", date)
	r.Header.Set("X-Amz-X509", base64.StdEncoding.EncodeToString(id.leaf.Raw))
	signed := []string{"content-type", "host", "x-amz-date", "x-amz-x509"} // in the order of their names
	if len(id.chain) > 0 {
		r.Header.Set("X-Amz-X509-Chain", encoded(id.chain))
		signed = append(signed, "x-amz-x509-chain")
	}

	lines := []string{r.Method, r.URL.EscapedPath(), r.URL.RawQuery}
	for _, h := range signed {
		value := r.Header.Get(h)
		if h == "host" {
			value = r.URL.Host
		}
		lines = append(lines, h+":"+value)
	}
	headers := strings.Join(signed, ";")
	lines = append(lines, "", headers, digest(body))
	scope := date[:8] + "/" + region + "/rolesanywhere/aws4_request"
	text := strings.Join([]string{name, date, scope, digest([]byte(strings.Join(lines, "\n")))}, "\n")

	sum := sha256.Sum256([]byte(text))
	signature, err := id.sign(ctx, sum[:])
	if err != nil {
		return err
	}
	// A signer with another key would read as a refusal of the certificate.
	if id.leaf.CheckSignature(check, []byte(text), signature) != nil {
		return errors.New("signing: the signature does not belong to the certificate: does the signer have the certificate's key?")
	}
	r.Header.Set("Authorization", fmt.Sprintf("%s Credential=%v/%s, SignedHeaders=%s, Signature=%s",
		name, id.leaf.SerialNumber, scope, headers, hex.EncodeToString(signature)))
	return nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func encoded(certs []*x509.Certificate) string {
	var list []string
	for _, c := range certs {
		list = append(list, base64.StdEncoding.EncodeToString(c.Raw))
	}
	return strings.Join(list, ",")
}
