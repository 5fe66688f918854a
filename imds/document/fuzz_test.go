package document_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"testing"

	"github.com/hostrole/hostrole/imds/document"
)

// FuzzOpen shows anything at all as what a host was handed. The site's key has
// signed one document in its life.
func FuzzOpen(f *testing.F) {
	s, certificate := signed(), site().Certificate()
	data := raw(s.RSA2048)
	f.Add([]byte(s.RSA2048))
	f.Add([]byte(s.Signature))
	f.Add([]byte(must(stranger().Sign(captured)).RSA2048))
	f.Add([]byte(must(impostor().Sign(captured)).RSA2048))
	f.Add(armour(data))
	f.Add(armour(data[:len(data)/2]))
	f.Add(must(os.ReadFile("testdata/streamed.pem")))
	f.Add(armour(bytes.Repeat([]byte{0x30, 0x80}, 4000))) // nested without end
	f.Add(armour(bytes.Repeat([]byte{0x24, 0x80}, 4000)))
	f.Add(armour([]byte{0x30, 0x84, 0x7f, 0xff, 0xff, 0xff}))
	f.Add([]byte(captured))
	f.Fuzz(func(t *testing.T, text []byte) {
		check := func(text []byte) {
			got, err := document.Open(certificate, text)
			switch {
			case err == nil && string(got) != captured:
				t.Errorf("%q opens as %q, which nobody signed", text, got)
			case err != nil && (got != nil || !errors.Is(err, document.ErrForm) && !errors.Is(err, document.ErrSigner) && !errors.Is(err, document.ErrAltered)):
				t.Errorf("%q opens as %q with %v", text, got, err)
			}
			if verr := document.Verify(certificate, []byte(captured), text); err == nil && verr != nil {
				t.Errorf("%q opens and is not verified: %v", text, verr)
			}
			if document.Verify(certificate, []byte(`{}`), text) == nil {
				t.Errorf("%q verifies a document that nobody signed", text)
			}
		}
		check(text)
		check([]byte(base64.StdEncoding.EncodeToString(text))) // so that ASN.1 is near
	})
}

// FuzzParseKey reads anything at all as a key file.
func FuzzParseKey(f *testing.F) {
	f.Add(siteFile())
	f.Add(site().Certificate())
	f.Add(siteFile()[:1000])
	f.Add(bytes.ReplaceAll(siteFile(), []byte("\n"), []byte("\r\n")))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		k, err := document.ParseKey(text)
		if (k == nil) != (err != nil) {
			t.Fatalf("key %v with error %v", k, err)
		}
		if k == nil {
			return
		}
		s, err := k.Sign(captured)
		if err != nil {
			t.Fatalf("a key that cannot sign: %v", err)
		}
		if err := document.Verify(k.Certificate(), []byte(captured), []byte(s.RSA2048)); err != nil {
			t.Errorf("what a key signs does not verify: %v", err)
		}
	})
}
