package document_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/document"
)

var made = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// siteFile is a key file as it was once written. Its key is for tests alone,
// and says so in place of PRIVATE KEY, for those who look for lost keys.
var siteFile = sync.OnceValue(func() []byte {
	text, err := os.ReadFile("testdata/site.pem")
	if err != nil {
		panic(err)
	}
	return bytes.ReplaceAll(text, []byte("TESTING KEY"), []byte("PRIVATE KEY"))
})

var site = sync.OnceValue(func() *document.Key { return must(document.ParseKey(siteFile())) })

// stranger is another host's key, of the same name.
var stranger = sync.OnceValue(func() *document.Key { return must(document.Generate("i-0123456789abcdef0", made)) })

// impostor's certificate has the name and the serial number of the site's.
var impostor = sync.OnceValue(func() *document.Key {
	private := must(rsa.GenerateKey(rand.Reader, 2048))
	return must(document.ParseKey(keyFile(private, template(certificateOf(site()).SerialNumber))))
})

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func certificateOf(k *document.Key) *x509.Certificate {
	block, _ := pem.Decode(k.Certificate())
	return must(x509.ParseCertificate(block.Bytes))
}

func template(serial *big.Int) *x509.Certificate {
	return &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "i-0123456789abcdef0"}, NotBefore: made, NotAfter: made.Add(time.Hour)}
}

type private interface {
	*rsa.PrivateKey | *ecdsa.PrivateKey
}

// keyFile makes what an operator could put there, self-signed.
func keyFile[K private](key K, c *x509.Certificate) []byte {
	var public any
	switch k := any(key).(type) {
	case *rsa.PrivateKey:
		public = k.Public()
	case *ecdsa.PrivateKey:
		public = k.Public()
	}
	return append(privateBlock(key), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: must(x509.CreateCertificate(rand.Reader, c, c, public, key))})...)
}

func privateBlock(key any) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))})
}

// body is base64 from the middle of the private key, which nothing may print.
func body() string { return strings.Split(string(siteFile()), "\n")[5] }

func TestGeneratedCertificate(t *testing.T) {
	c := certificateOf(stranger())
	if key, ok := c.PublicKey.(*rsa.PublicKey); !ok || key.N.BitLen() != 2048 {
		t.Errorf("the key is no RSA-2048, as the name rsa2048 promises")
	}
	if c.Subject.String() != "CN=i-0123456789abcdef0" || c.Issuer.String() != c.Subject.String() {
		t.Errorf("subject %s, issuer %s", c.Subject, c.Issuer)
	}
	if err := c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
		t.Errorf("it is not self-signed: %v", err)
	}
	if c.IsCA || c.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("the key may do more than sign: CA %v, usage %b", c.IsCA, c.KeyUsage)
	}
	if !c.NotBefore.Equal(made.AddDate(0, 0, -1)) || !c.NotAfter.Equal(made.AddDate(100, 0, 0)) || !stranger().Expires().Equal(c.NotAfter) {
		t.Errorf("valid from %v to %v, expires %v", c.NotBefore, c.NotAfter, stranger().Expires())
	}
	if c.SerialNumber.BitLen() < 100 || c.SerialNumber.Cmp(certificateOf(site()).SerialNumber) == 0 {
		t.Errorf("serial number %v is not random", c.SerialNumber)
	}
}

func TestGenerateTakesAnyName(t *testing.T) {
	for name, want := range map[string]string{
		"":                            "",
		strings.Repeat("a", 64):       strings.Repeat("a", 64),
		strings.Repeat("a", 300):      strings.Repeat("a", 64),
		strings.Repeat("a", 63) + "ü": strings.Repeat("a", 63),
		"\xff,CN=other":               ",CN=other",
	} {
		k, err := document.Generate(name, made)
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		if got := certificateOf(k).Subject.CommonName; got != want {
			t.Errorf("%q becomes %q, want %q", name, got, want)
		}
	}
}

func TestParseKeyAccepts(t *testing.T) {
	key, certificate := bytes.SplitAfterN(siteFile(), []byte("-----END PRIVATE KEY-----\n"), 2)[0], site().Certificate()
	ca := must(rsa.GenerateKey(rand.Reader, 2048))
	own := must(rsa.GenerateKey(rand.Reader, 3072))
	issued := template(big.NewInt(7))
	issuer := template(big.NewInt(1))
	issuer.Subject.CommonName = "the site's CA"
	byCA := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: must(x509.CreateCertificate(rand.Reader, issued, issuer, own.Public(), ca))})
	for name, text := range map[string][]byte{
		"the file that was written":   siteFile(),
		"the certificate first":       append(bytes.Clone(certificate), key...),
		"text around the blocks":      []byte("subject=CN = x\n" + string(key) + "\nissuer\n" + string(certificate) + "\n"),
		"Windows line ends":           bytes.ReplaceAll(siteFile(), []byte("\n"), []byte("\r\n")),
		"a longer key of the site CA": append(privateBlock(own), byCA...),
		"an expired certificate":      keyFile(own, &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: made.AddDate(-9, 0, 0), NotAfter: made.AddDate(-8, 0, 0)}),
	} {
		k, err := document.ParseKey(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		signed, err := k.Sign(captured)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := document.Open(k.Certificate(), []byte(signed.RSA2048)); err != nil || string(got) != captured {
			t.Errorf("%s: what it signs does not open: %v", name, err)
		}
		if name == "an expired certificate" && !k.Expires().Before(made) {
			t.Errorf("expires %v: nobody can be warned", k.Expires())
		}
	}
}

func TestParseKeyRefuses(t *testing.T) {
	file := string(siteFile())
	key, certificate, _ := strings.Cut(file, "-----BEGIN CERTIFICATE-----")
	certificate = "-----BEGIN CERTIFICATE-----" + certificate
	ec := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	t.Setenv("GODEBUG", "rsa1024min=0")
	small := must(rsa.GenerateKey(rand.Reader, 1024))
	for name, row := range map[string]struct{ text, want string }{
		"nothing":                 {"", `no PEM block "PRIVATE KEY"`},
		"no certificate":          {key, `no PEM block "CERTIFICATE"`},
		"no key":                  {certificate, `no PEM block "PRIVATE KEY"`},
		"a file that was cut":     {file[:len(file)-50], `no PEM block "CERTIFICATE", or a part of it is missing`},
		"a key that was cut":      {key[:500] + "\n" + certificate, `no PEM block "PRIVATE KEY"`},
		"two certificates":        {file + certificate, `more than one PEM block "CERTIFICATE"`},
		"two keys":                {key + file, `more than one PEM block "PRIVATE KEY"`},
		"an encrypted key":        {strings.ReplaceAll(file, "PRIVATE KEY", "ENCRYPTED PRIVATE KEY"), `"ENCRYPTED PRIVATE KEY", where only PRIVATE KEY and CERTIFICATE belongs`},
		"a key of the old form":   {strings.ReplaceAll(file, "PRIVATE KEY", "RSA PRIVATE KEY"), `"RSA PRIVATE KEY"`},
		"a key that is no PKCS#8": {string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(small)})) + certificate, "no PKCS#8"},
		"an elliptic curve":       {string(keyFile(ec, template(big.NewInt(1)))), "RSA of 2048 bits"},
		"a short key":             {string(keyFile(small, template(big.NewInt(1)))), "RSA of 2048 bits"},
		"another's certificate":   {key + string(stranger().Certificate()), "certificate is of another key"},
		"a damaged certificate":   {key + "-----BEGIN CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----\n", "reading its certificate"},
	} {
		k, err := document.ParseKey([]byte(row.text))
		if err == nil || k != nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %s", name, err, row.want)
		} else if strings.Contains(err.Error(), body()[:16]) {
			t.Errorf("%s: the error shows the key", name)
		}
	}
}

func TestNothingPrintsAKey(t *testing.T) {
	var log bytes.Buffer
	k := site()
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("key", "pointer", k, "value", *k, "inside", struct{ K *document.Key }{k})
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%p", "%T"} {
		fmt.Fprintf(&log, verb+"\n", k)
		fmt.Fprintf(&log, verb+"\n", *k)
		fmt.Fprintf(&log, verb+"\n", struct{ K document.Key }{*k})
	}
	text := must(json.Marshal(struct{ K *document.Key }{k}))
	log.Write(text)
	block, _ := pem.Decode(siteFile())
	secret := must(x509.ParsePKCS8PrivateKey(block.Bytes)).(*rsa.PrivateKey)
	for _, n := range []*big.Int{secret.D, secret.Primes[0], secret.Primes[1], secret.N} {
		for _, form := range []string{n.String(), fmt.Sprintf("%x", n), body()} {
			if strings.Contains(log.String(), form[:16]) {
				t.Fatalf("a number of the key is printed: %s", log.String())
			}
		}
	}
	if !strings.Contains(log.String(), "[site key]") {
		t.Errorf("no placeholder in %s", log.String())
	}
}
