package devsts_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/devsts"
)

// xmlsec runs the reference implementation of XML Signature.
func xmlsec(t *testing.T, args ...string) ([]byte, error) {
	t.Helper()
	path, err := exec.LookPath("xmlsec1")
	if err != nil {
		t.Skip("no second opinion: xmlsec1 is not installed")
	}
	return exec.CommandContext(t.Context(), path, args...).CombinedOutput()
}

const idAttribute = "--id-attr:ID"

// TestSecondOpinionOnOurSignatures has xmlsec1 verify what the issuer signs,
// and refuse what was changed.
func TestSecondOpinionOnOurSignatures(t *testing.T) {
	t.Parallel()
	idp := sharedIdP()
	dir := t.TempDir()
	cert, file := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "response.xml")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: idp.Certificates()[0].Raw})))
	document := idp.Document(offers(map[string][]string{"PrincipalTag:Name": {"Größe <&> \"'\t值"}}))
	for id, element := range map[string]string{devsts.AssertionID: "urn:oasis:names:tc:SAML:2.0:assertion:Assertion", "_response": "urn:oasis:names:tc:SAML:2.0:protocol:Response"} {
		signed := idp.Sign(document, id)
		verify := func(text string) ([]byte, error) {
			write(file, text)
			return xmlsec(t, "--verify", "--enabled-key-data", "raw-x509-cert,x509", "--pubkey-cert-pem", cert, idAttribute, element, file)
		}
		if out, err := verify(signed); err != nil {
			t.Errorf("%s: %v\n%s\n%s", id, err, out, signed)
		}
		if out, err := verify(strings.Replace(signed, ">host-7<", ">host-8<", 1)); err == nil {
			t.Errorf("%s: a changed document was verified\n%s", id, out)
		}
	}
}

// TestOurOpinionOnOtherSignatures has xmlsec1 sign: as Shibboleth does, with a
// list of prefixes, and in ways that are good signatures of the right key and
// still none of ours.
func TestOurOpinionOnOtherSignatures(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key, cert, file, signed := filepath.Join(dir, "key.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "in.xml"), filepath.Join(dir, "out.xml")
	certificate := testKey(t, key, cert)
	r := newRig(t, func(o *devsts.Options) {
		o.SAML = []devsts.SAMLProvider{{ARN: corp, Issuer: entity, Certificates: certificate}}
		o.Roles[0].SAML = []devsts.SAMLTrust{{Provider: corp, Subject: "*"}}
	})
	const (
		exclusive = "http://www.w3.org/2001/10/xml-exc-c14n#"
		sha512    = "http://www.w3.org/2001/04/xmlenc#sha512"
		rsaSHA512 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512"
		enveloped = `<ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/>`
		canonical = `<ds:Transform Algorithm="` + exclusive + `"><ec:InclusiveNamespaces xmlns:ec="` + exclusive + `" PrefixList="xs"/></ds:Transform>`
		template  = `<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#">
<ds:SignedInfo>
<ds:CanonicalizationMethod Algorithm="` + exclusive + `"/>
<ds:SignatureMethod Algorithm="` + rsaSHA512 + `"/>
<ds:Reference URI="#_assertion">
<ds:Transforms>` + enveloped + canonical + `</ds:Transforms>
<ds:DigestMethod Algorithm="` + sha512 + `"/>
<ds:DigestValue/>
</ds:Reference>
</ds:SignedInfo>
<ds:SignatureValue/>
<ds:KeyInfo><ds:X509Data/></ds:KeyInfo>
</ds:Signature>`
	)
	document := sharedIdP().Document(offers(map[string][]string{"PrincipalTag:Name": {"Größe /=+-@_.:1"}}))
	// An outer declaration that only the list of prefixes refers to.
	document = strings.Replace(document, ` xmlns:xs="http://www.w3.org/2001/XMLSchema"`, "", 1)
	document = strings.Replace(document, "<samlp:Response ", `<samlp:Response xmlns:xs="http://www.w3.org/2001/XMLSchema" `, 1)
	signIn := func(t *testing.T, document string, change ...string) string {
		t.Helper()
		at := strings.Index(document, "<saml:Subject>")
		signature := strings.NewReplacer(change...).Replace(template)
		if err := os.WriteFile(file, []byte(document[:at]+signature+"\n"+document[at:]), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := xmlsec(t, "--sign", "--privkey-pem", key+","+cert, idAttribute, "urn:oasis:names:tc:SAML:2.0:assertion:Assertion", "--output", signed, file); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		b, err := os.ReadFile(signed)
		return string(must(t, b, err))
	}
	sign := func(t *testing.T, change ...string) string {
		t.Helper()
		return signIn(t, document, change...)
	}
	from, to := strings.Index(document, "<saml:Assertion "), strings.Index(document, "</samlp:Response>")
	alone := strings.Replace(document[from:to], "<saml:Assertion ", `<saml:Assertion xmlns:xs="http://www.w3.org/2001/XMLSchema" `, 1)
	embed := func(assertion string) string {
		return document[:from] + assertion[strings.Index(assertion, "<saml:Assertion "):] + document[to:]
	}
	good := sign(t)
	for name, text := range map[string]string{
		"as Shibboleth signs": good,
		"SHA-256":             sign(t, sha512, "http://www.w3.org/2001/04/xmlenc#sha256", rsaSHA512, "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"),
		"signed elsewhere":    embed(signIn(t, alone)),
		"without the key":     sign(t, "<ds:KeyInfo><ds:X509Data/></ds:KeyInfo>", ""),
	} {
		if out, err := r.assert(t, hub, corp, b64(text)); err != nil || *out.Subject != "host-7" {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
	for name, text := range map[string]string{
		"changed":                   strings.Replace(good, "host-7", "host-8", 1),
		"RSA with SHA-1":            sign(t, rsaSHA512, "http://www.w3.org/2000/09/xmldsig#rsa-sha1"),
		"a digest of SHA-1":         sign(t, sha512, "http://www.w3.org/2000/09/xmldsig#sha1"),
		"inclusive, in the signing": sign(t, `Method Algorithm="`+exclusive, `Method Algorithm="http://www.w3.org/2006/12/xml-c14n11`),
		"inclusive, in the digest":  sign(t, canonical, `<ds:Transform Algorithm="http://www.w3.org/2006/12/xml-c14n11"/>`),
		"canonical twice":           sign(t, canonical, canonical+canonical),
		"only one transform":        sign(t, canonical, ""),
		"the whole document":        sign(t, "#_assertion", ""),
		"whatever document it is":   embed(signIn(t, alone, "#_assertion", "")),
		"an object":                 sign(t, "</ds:Signature>", "<ds:Object>x</ds:Object></ds:Signature>"),
	} {
		_, err := r.assert(t, hub, corp, b64(text))
		t.Run(name, func(t *testing.T) { wantRefusal(t, err, 400, "InvalidIdentityToken", "Response signature invalid") })
	}
}

// FuzzSAML replaces a part of a signed response by anything: whoever is
// believed after that is the one who was signed.
func FuzzSAML(f *testing.F) {
	r, idp := newSAMLRig(f), sharedIdP()
	good := idp.Sign(idp.Document(offers(nil)), devsts.AssertionID)
	at := func(s string) uint16 { return uint16(strings.Index(good, s)) }
	f.Add(uint16(0), uint16(0), "")
	f.Add(uint16(0), uint16(65535), "<a><b/></a>")
	f.Add(at("-7</saml:NameID>"), uint16(0), "<!-- -->")
	f.Add(at("<saml:Subject>"), uint16(0), "<saml:Assertion/>")
	f.Add(at("<ds:Object"), uint16(20), " xmlns:ds='urn:x'")
	f.Add(at("ID=\"_assertion"), uint16(15), "ID='_x'")
	f.Fuzz(func(t *testing.T, from, n uint16, with string) {
		start := min(int(from), len(good))
		document := good[:start] + with + good[min(start+int(n), len(good)):]
		resp := raw(r.Server, "POST", "/", form("Action", "AssumeRoleWithSAML", "Version", "2011-06-15", "RoleArn", hub, "PrincipalArn", corp, "SAMLAssertion", b64(document)), nil)
		if resp.StatusCode != 200 {
			return
		}
		calls := r.Calls()
		if who := calls[len(calls)-1].Principal; who != entity+" host-7" {
			t.Errorf("%s was believed to be %q", document, who)
		}
	})
}

// testKey writes a key and its certificate.
func testKey(t *testing.T, keyPath, certPath string) func() []*x509.Certificate {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, key, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, der, err)
	cert, err := x509.ParseCertificate(der)
	must(t, cert, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, private, err)
	for path, block := range map[string]*pem.Block{keyPath: {Type: "PRIVATE KEY", Bytes: private}, certPath: {Type: "CERTIFICATE", Bytes: der}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return func() []*x509.Certificate { return []*x509.Certificate{cert} }
}
