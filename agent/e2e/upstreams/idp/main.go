// Command idp is a SAML identity provider for tests: crewjam/saml makes and
// signs the assertions. It prints one response for AWS in base64, which is how
// a program hands hostrole an assertion.
//
//	idp DIR
//
// DIR/claims.json says what is asserted. DIR/idp.key and DIR/idp.crt are made
// when they are not there.
//
// # Why not
//
// Not one with a login: what STS takes and refuses is the question, and the
// logins have tests of their own. Not agent/devsts, which signs as well: it is
// the judge here.
package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/beevik/etree"
	"github.com/crewjam/saml"
	dsig "github.com/russellhaering/goxmldsig"
)

// Claims are the file claims.json.
type Claims struct {
	Audience, Recipient, Subject string
	Roles                        []string // each with the ARNs of a role and a provider
	Age                          int      // seconds since the issue
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "idp DIR")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "idp:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "claims.json"))
	if err != nil {
		return err
	}
	var c Claims
	if err := json.Unmarshal(text, &c); err != nil {
		return err
	}
	key, cert, err := pair(dir)
	if err != nil {
		return err
	}
	now := time.Now().Add(-time.Duration(c.Age) * time.Second).UTC()
	idp := &saml.IdentityProvider{
		Key: key, Certificate: cert, SignatureMethod: dsig.RSASHA256SignatureMethod,
		MetadataURL: url.URL{Scheme: "https", Host: "idp.example.com", Path: "/saml"},
		Clock:       dsig.NewFakeClockAt(now),
	}
	consumer := saml.IndexedEndpoint{Binding: saml.HTTPPostBinding, Location: c.Recipient, Index: 1}
	sp := saml.SPSSODescriptor{AssertionConsumerServices: []saml.IndexedEndpoint{consumer}}
	req := &saml.IdpAuthnRequest{
		IDP: idp, Now: now, SPSSODescriptor: &sp, ACSEndpoint: &consumer, HTTPRequest: &http.Request{RemoteAddr: "127.0.0.1:1"},
		ServiceProviderMetadata: &saml.EntityDescriptor{EntityID: c.Audience, SPSSODescriptors: []saml.SPSSODescriptor{sp}},
	}
	attribute := func(name string, values ...string) saml.Attribute {
		a := saml.Attribute{Name: "https://aws.amazon.com/SAML/Attributes/" + name, NameFormat: "urn:oasis:names:tc:SAML:2.0:attrname-format:uri"}
		for _, v := range values {
			a.Values = append(a.Values, saml.AttributeValue{Type: "xs:string", Value: v})
		}
		return a
	}
	err = saml.DefaultAssertionMaker{}.MakeAssertion(req, &saml.Session{
		ID: "session", Index: "session", CreateTime: now, ExpireTime: now.Add(12 * time.Hour),
		NameID: c.Subject, NameIDFormat: string(saml.PersistentNameIDFormat),
		CustomAttributes: []saml.Attribute{attribute("Role", c.Roles...), attribute("RoleSessionName", c.Subject)},
	})
	if err != nil {
		return err
	}
	if err := req.MakeResponse(); err != nil {
		return err
	}
	doc := etree.NewDocument()
	doc.SetRoot(req.ResponseEl)
	xml, err := doc.WriteToBytes()
	if err != nil {
		return err
	}
	fmt.Println(base64.StdEncoding.EncodeToString(xml))
	return nil
}

// pair reads the provider's key and certificate, or makes them.
func pair(dir string) (*rsa.PrivateKey, *x509.Certificate, error) {
	read := func(name string) ([]byte, error) {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		block, _ := pem.Decode(text)
		if block == nil {
			return nil, fmt.Errorf("%s is no PEM", name)
		}
		return block.Bytes, nil
	}
	der, err := read("idp.key")
	if errors.Is(err, fs.ErrNotExist) {
		if err := generate(dir); err != nil {
			return nil, nil, err
		}
		der, err = read("idp.key")
	}
	if err != nil {
		return nil, nil, err
	}
	key, err := x509.ParsePKCS1PrivateKey(der)
	if err != nil {
		return nil, nil, err
	}
	if der, err = read("idp.crt"); err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return key, cert, err
}

func generate(dir string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "idp.example.com"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	put := func(name, kind string, der []byte) error {
		return os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
	}
	return errors.Join(put("idp.crt", "CERTIFICATE", der), put("idp.key", "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)))
}
