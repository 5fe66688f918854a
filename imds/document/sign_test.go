package document_test

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/hostrole/hostrole/imds/document"
)

// signed is the captured document with the site's signatures.
func signed() document.Signed { return must(site().Sign(captured)) }

func raw(text string) []byte { return must(base64.StdEncoding.DecodeString(text)) }

func armour(data []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PKCS7", Bytes: data})
}

// TestSignaturesNeverChange holds Sign to what it once wrote: whoever keeps a
// signature may compare it.
func TestSignaturesNeverChange(t *testing.T) {
	s := signed()
	if s.Document != captured {
		t.Errorf("the document has become %q", s.Document)
	}
	for name, got := range map[string]string{"signature": s.Signature, "pkcs7": s.PKCS7, "rsa2048": s.RSA2048} {
		file := name
		if name == "pkcs7" {
			file = "rsa2048" // one form under two names
		}
		if want := strings.TrimSuffix(string(must(os.ReadFile("testdata/"+file))), "\n"); got != want {
			t.Errorf("%s is\n%s\nwant\n%s", name, got, want)
		}
	}
}

func TestSignaturesAreServedAsEC2Does(t *testing.T) {
	s := signed()
	for name, text := range map[string]string{"signature": s.Signature, "pkcs7": s.PKCS7, "rsa2048": s.RSA2048} {
		lines := strings.Split(text, "\n")
		for i, line := range lines {
			if last := i == len(lines)-1; len(line) > 76 || len(line) < 76 && !last || line == "" {
				t.Errorf("%s: line %d of %d has %d columns, want 76", name, i+1, len(lines), len(line))
			}
		}
		if strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\n") != "" {
			t.Errorf("%s is not base64 alone: %q", name, text)
		}
	}
	if n := len(raw(s.Signature)); n != 256 {
		t.Errorf("the signature has %d bytes, want 256", n)
	}
	data := raw(s.RSA2048)
	if !bytes.Contains(data, []byte(captured)) {
		t.Error("the document is not inside")
	}
	if bytes.Contains(data, certificateOf(site()).Raw) {
		t.Error("the certificate is inside: openssl would believe any document that brings its own")
	}
}

func TestSignRefusesWhatIsNoDocument(t *testing.T) {
	for _, text := range []string{"", "null", `"text"`, "[]", "{", captured + "}", " " + captured, "\x31\x00"} {
		if s, err := site().Sign(text); err == nil || s != (document.Signed{}) {
			t.Errorf("%q is signed", text)
		}
	}
}

func TestVerifyAndOpenAccept(t *testing.T) {
	s, certificate := signed(), site().Certificate()
	for name, text := range map[string]string{
		"as served":                s.RSA2048,
		"as pkcs7":                 s.PKCS7,
		"with a line end":          s.RSA2048 + "\n",
		"in one line":              strings.ReplaceAll(s.RSA2048, "\n", ""),
		"with Windows line ends":   strings.ReplaceAll(s.RSA2048, "\n", "\r\n"),
		"as AWS tells to write it": "-----BEGIN PKCS7-----\n" + s.RSA2048 + "\n-----END PKCS7-----\n",
		"with lengths left open, as EC2's has them": string(must(os.ReadFile("testdata/streamed.pem"))),
		"as openssl cms writes it":                  strings.ReplaceAll(string(armour(raw(s.RSA2048))), "PKCS7", "CMS"),
	} {
		got, err := document.Open(certificate, []byte(text))
		if err != nil || string(got) != captured {
			t.Errorf("Open, %s: %q %v", name, got, err)
		}
		if err := document.Verify(certificate, []byte(captured), []byte(text)); err != nil {
			t.Errorf("Verify, %s: %v", name, err)
		}
	}
	for name, text := range map[string]string{"as served": s.Signature, "with a line end": s.Signature + "\n", "in one line": strings.ReplaceAll(s.Signature, "\n", "")} {
		if err := document.Verify(certificate, []byte(captured), []byte(text)); err != nil {
			t.Errorf("Verify, signature %s: %v", name, err)
		}
	}
}

func TestVerifyTellsWhatIsWrong(t *testing.T) {
	s, certificate := signed(), site().Certificate()
	other := strings.Replace(captured, "10.0.0.1", "10.0.0.2", 1)
	foreign, forged := must(stranger().Sign(captured)), must(impostor().Sign(captured))
	inside := bytes.Replace(raw(s.RSA2048), []byte("10.0.0.1"), []byte("10.0.0.2"), 1)
	cut := raw(s.RSA2048)
	cut = cut[:len(cut)-1]
	both := []error{document.ErrSigner, document.ErrAltered}
	for name, row := range map[string]struct {
		doc, text string
		want      []error
	}{
		"another's PKCS#7":                       {captured, foreign.RSA2048, both[:1]},
		"another's signature":                    {captured, foreign.Signature, both},
		"an impostor's PKCS#7":                   {captured, forged.RSA2048, both},
		"an impostor's signature":                {captured, forged.Signature, both},
		"a document that was altered, PKCS#7":    {other, s.RSA2048, both[1:]},
		"a document that was altered, signature": {other, s.Signature, both},
		"a line end at the end, PKCS#7":          {captured + "\n", s.RSA2048, both[1:]},
		"a line end at the end, signature":       {captured + "\n", s.Signature, both},
		"Windows line ends, PKCS#7":              {strings.ReplaceAll(captured, "\n", "\r\n"), s.RSA2048, both[1:]},
		"altered inside":                         {captured, string(armour(inside)), both[1:]},
		"PKCS#7 that was cut":                    {captured, string(armour(cut)), []error{document.ErrForm}},
		"nothing":                                {captured, "", []error{document.ErrForm}},
		"line ends":                              {captured, "\n\n", []error{document.ErrForm}},
		"the document in place of the signature": {captured, captured, []error{document.ErrForm}},
		"a certificate in place of it":           {captured, string(certificate), []error{document.ErrForm}},
		"base64 of something else":               {captured, "aGVsbG8=", []error{document.ErrForm}},
		"base64 that was cut":                    {captured, s.RSA2048[:len(s.RSA2048)-3], []error{document.ErrForm}},
		"PKCS#7 under another name":              {captured, strings.ReplaceAll(string(armour(raw(s.RSA2048))), "PKCS7", "MESSAGE"), []error{document.ErrForm}},
		"too much, if only of nothing":           {captured, s.RSA2048 + strings.Repeat("\n", 16<<10), []error{document.ErrForm}},
		"a signature of what is no document":     {"hello", s.Signature, []error{document.ErrForm}},
	} {
		err := document.Verify(certificate, []byte(row.doc), []byte(row.text))
		tell(t, "Verify, "+name, err, row.want)
		// Without a document beside it, there is only what is inside.
		if row.doc == captured && row.text != foreign.Signature && row.text != forged.Signature {
			got, err := document.Open(certificate, []byte(row.text))
			if tell(t, "Open, "+name, err, row.want); got != nil {
				t.Errorf("Open, %s: there is a document beside the error", name)
			}
		}
	}
	if _, err := document.Open(certificate, []byte(s.Signature)); !errors.Is(err, document.ErrForm) || !strings.Contains(err.Error(), "needs it beside") {
		t.Errorf("Open of a signature alone: %v", err)
	}
}

func tell(t *testing.T, name string, err error, want []error) {
	t.Helper()
	for _, kind := range []error{document.ErrForm, document.ErrSigner, document.ErrAltered} {
		wanted := false
		for _, w := range want {
			wanted = wanted || w == kind //nolint:errorlint // they are the sentinels themselves
		}
		if errors.Is(err, kind) != wanted {
			t.Errorf("%s: %v: is it %q? want %v", name, err, kind, wanted)
		}
	}
}

// TestASignatureOfASN1IsNoDocument shows the attributes that PKCS#7 signs as if
// they were the document: the key did sign these bytes.
func TestASignatureOfASN1IsNoDocument(t *testing.T) {
	data := raw(signed().RSA2048)
	at := bytes.Index(data, []byte{0xa0, 0x4b}) // [0] of 75 bytes: two attributes
	if at < 0 {
		t.Fatal("no attributes where this test looks for them")
	}
	attributes := bytes.Clone(data[at : at+2+0x4b])
	attributes[0] = 0x31
	signature := base64.StdEncoding.EncodeToString(data[len(data)-256:])
	if err := document.Verify(site().Certificate(), attributes, []byte(signature)); !errors.Is(err, document.ErrForm) {
		t.Errorf("what PKCS#7 signs passes for a document: %v", err)
	}
}

// TestEveryBitCounts turns the bits of what is served. A few say nothing; the
// document must be the same then.
func TestEveryBitCounts(t *testing.T) {
	s, certificate := signed(), site().Certificate()
	data, inert := raw(s.RSA2048), 0
	at := bytes.Index(data, []byte(captured))
	for i := range data {
		for bit := range 8 {
			if (i >= at && i < at+len(captured) || i >= len(data)-256) && bit != i%8 {
				continue // one of a byte is enough in the document and in the signature
			}
			data[i] ^= 1 << bit
			got, err := document.Open(certificate, armour(data))
			data[i] ^= 1 << bit
			switch {
			case err == nil && string(got) != captured:
				t.Fatalf("with bit %d of byte %d turned, it opens as %q", bit, i, got)
			case err == nil:
				inert++
			case !errors.Is(err, document.ErrForm) && !errors.Is(err, document.ErrSigner) && !errors.Is(err, document.ErrAltered):
				t.Fatalf("with bit %d of byte %d turned: %v", bit, i, err)
			}
		}
	}
	if limit := 8 * 32; inert > limit { // versions, what names the algorithms once more, lengths said twice
		t.Errorf("%d bits do not count, and %d at most should not", inert, limit)
	}
	data = raw(s.Signature)
	for i := range data {
		data[i] ^= 1 << (i % 8)
		if document.Verify(certificate, []byte(captured), []byte(base64.StdEncoding.EncodeToString(data))) == nil {
			t.Fatalf("with byte %d altered, the signature fits", i)
		}
		data[i] ^= 1 << (i % 8)
	}
}

func TestVerifyNeedsOneCertificate(t *testing.T) {
	s, certificate := signed(), string(site().Certificate())
	for name, row := range map[string]struct{ text, want string }{
		"nothing":          {"", `no PEM block "CERTIFICATE"`},
		"two certificates": {certificate + string(stranger().Certificate()), "more than one"},
		"the key file":     {string(siteFile()), `"PRIVATE KEY", where only CERTIFICATE belongs`},
		"a damaged one":    {"-----BEGIN CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----\n", "reading the certificate of whoever signed"},
		"the signature":    {s.RSA2048, `no PEM block "CERTIFICATE"`},
	} {
		_, err := document.Open([]byte(row.text), []byte(s.RSA2048))
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("Open, %s: %v, want %s", name, err, row.want)
		}
		if verr := document.Verify([]byte(row.text), []byte(captured), []byte(s.RSA2048)); verr == nil || verr.Error() != err.Error() {
			t.Errorf("Verify, %s: %v, want %v", name, verr, err)
		}
		if err != nil && strings.Contains(err.Error(), body()[:16]) {
			t.Errorf("%s: the error shows the key", name)
		}
	}
}
