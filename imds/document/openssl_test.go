package document_test

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostrole/hostrole/imds/document"
)

// texts are one document in the line ends that openssl is known to touch.
var texts = map[string]string{
	"as Render writes it":    captured,
	"with a line end":        captured + "\n",
	"with Windows line ends": strings.ReplaceAll(captured, "\n", "\r\n"),
	"with mixed line ends":   strings.Replace(captured, ",\n", ",\r\n", 3) + "\n\n",
	"in one line":            strings.ReplaceAll(captured, "\n", ""),
}

// A desk is a folder with openssl in it.
type desk struct {
	t   *testing.T
	dir string
}

func newDesk(t *testing.T) desk {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		missing(t, err)
	}
	d := desk{t, t.TempDir()}
	d.put("certificate", string(site().Certificate()))
	d.put("strange", string(stranger().Certificate()))
	d.put("site.pem", string(siteFile()))
	return d
}

// missing skips a test, or fails it where nothing may be skipped.
func missing(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("HOSTROLE_E2E") == "require" {
		t.Fatalf("missing: %v", err)
	}
	t.Skipf("SKIPPED, missing: %v", err)
}

func (d desk) put(name, text string) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// run runs one command in the folder and returns what it prints.
func (d desk) run(command string) (string, error) {
	argv := strings.Fields(command)
	c := exec.CommandContext(d.t.Context(), argv[0], argv[1:]...)
	c.Dir = d.dir
	var failure bytes.Buffer
	c.Stderr = &failure
	out, err := c.Output()
	if err != nil {
		err = errors.New(command + ": " + err.Error() + ": " + failure.String())
	}
	return string(out), err
}

// TestOpenSSLVerifies follows the pages of the EC2 User Guide on verifying an
// instance identity document, command by command.
func TestOpenSSLVerifies(t *testing.T) {
	d := newDesk(t)
	for name, text := range texts {
		s := must(site().Sign(text))
		for form, served := range map[string]string{"pkcs7": s.PKCS7, "rsa2048": s.RSA2048} {
			d.put(form, "-----BEGIN PKCS7-----\n"+served+"\n-----END PKCS7-----\n") // echo, curl, echo, echo
			out, err := d.run("openssl smime -verify -in " + form + " -inform PEM -certfile certificate -noverify")
			if err != nil || out != text {
				t.Errorf("%s, document %s: %q, %v", form, name, out, err)
			}
			if _, err := d.run("openssl smime -verify -in " + form + " -inform PEM -certfile strange -noverify"); err == nil {
				t.Errorf("%s, document %s: another's certificate is as good", form, name)
			}
			// With the certificate as the root of trust, which AWS leaves out.
			out, err = d.run("openssl cms -verify -binary -in " + form + " -inform PEM -certfile certificate -CAfile certificate")
			if err != nil || out != text {
				t.Errorf("%s by cms, document %s: %q, %v", form, name, out, err)
			}
		}
		d.put("signature", string(raw(s.Signature))) // curl, base64 -d
		d.put("document", text)
		key := must(d.run("openssl x509 -pubkey -noout -in certificate"))
		d.put("key", key)
		if out, err := d.run("openssl dgst -sha256 -verify key -signature signature document"); err != nil || out != "Verified OK\n" {
			t.Errorf("signature, document %s: %q, %v", name, out, err)
		}
		d.put("document", text+" ")
		if out, err := d.run("openssl dgst -sha256 -verify key -signature signature document"); err == nil {
			t.Errorf("signature, document %s, altered: %q", name, out)
		}
	}
}

// TestOpenSSLSigns has openssl sign with the key file, in each form that it
// knows, among them EC2's: lengths left open and no certificate inside.
func TestOpenSSLSigns(t *testing.T) {
	d := newDesk(t)
	certificate := site().Certificate()
	for name, text := range texts {
		d.put("document", text)
		for _, command := range []string{
			"openssl smime -sign -binary -nodetach -in document -outform PEM -signer certificate -inkey site.pem",
			"openssl smime -sign -binary -nodetach -nocerts -in document -outform PEM -signer certificate -inkey site.pem",
			"openssl smime -sign -binary -nodetach -in document -outform PEM -signer certificate -inkey site.pem -certfile strange",
			"openssl cms -sign -binary -nodetach -in document -outform PEM -signer certificate -inkey site.pem -md sha256",
			"openssl cms -sign -binary -nodetach -nocerts -stream -in document -outform PEM -signer certificate -inkey site.pem -md sha256",
		} {
			out, err := d.run(command)
			if err != nil {
				t.Fatal(err)
			}
			block, _ := pem.Decode([]byte(out))
			for form, text2 := range map[string]string{"PEM": out, "as served": base64.StdEncoding.EncodeToString(block.Bytes)} {
				got, err := document.Open(certificate, []byte(text2))
				if err != nil || string(got) != text {
					t.Errorf("%s, document %s, %s: %q, %v", command, name, form, got, err)
				}
				if err := document.Verify(certificate, []byte(text), []byte(text2)); err != nil {
					t.Errorf("%s, document %s, %s: %v", command, name, form, err)
				}
			}
		}
		d.put("signature", must(d.run("openssl dgst -sha256 -sign site.pem document")))
		if err := document.Verify(certificate, []byte(text), []byte(must(d.run("openssl base64 -in signature")))); err != nil {
			t.Errorf("dgst, document %s: %v", name, err)
		}
	}
}

// TestOpenSSLSignsAnother has openssl sign what must not pass.
func TestOpenSSLSignsAnother(t *testing.T) {
	d := newDesk(t)
	certificate := site().Certificate()
	d.put("document", captured)
	d.put("note", "not JSON")
	if _, err := d.run("openssl req -x509 -newkey rsa:2048 -nodes -keyout other.pem -out other -subj /CN=i-0123456789abcdef0"); err != nil {
		t.Fatal(err)
	}
	for command, want := range map[string]error{
		// openssl itself believes this one: see below.
		"openssl smime -sign -binary -nodetach -in document -outform PEM -signer other -inkey other.pem -certfile certificate":                   document.ErrSigner,
		"openssl smime -sign -binary -nodetach -noattr -in document -outform PEM -signer certificate -inkey site.pem":                            document.ErrForm,
		"openssl smime -sign -binary -nodetach -md sha1 -in document -outform PEM -signer certificate -inkey site.pem":                           document.ErrForm,
		"openssl smime -sign -binary -nodetach -md sha512 -in document -outform PEM -signer certificate -inkey site.pem":                         document.ErrForm,
		"openssl smime -sign -binary -in document -outform PEM -signer certificate -inkey site.pem":                                              document.ErrForm, // detached
		"openssl cms -sign -binary -nodetach -in document -outform PEM -signer certificate -inkey site.pem -keyopt rsa_padding_mode:pss":         document.ErrForm,
		"openssl cms -sign -binary -nodetach -in document -outform PEM -signer certificate -inkey site.pem -signer other -inkey other.pem":       document.ErrForm,
		"openssl cms -sign -binary -nodetach -in note -outform PEM -signer certificate -inkey site.pem":                                          document.ErrForm,
		"openssl cms -sign -binary -nodetach -econtent_type 1.3.6.1.4.1.311.2.1.4 -in document -outform PEM -signer certificate -inkey site.pem": document.ErrForm,
		"openssl cms -encrypt -binary -in document -outform PEM certificate":                                                                     document.ErrForm,
		"openssl cms -data_create -in document -outform PEM":                                                                                     document.ErrForm,
	} {
		t.Run(command, func(t *testing.T) {
			out, err := d.run(command)
			if err != nil {
				missing(t, err) // some systems forbid SHA-1
			}
			if got, err := document.Open(certificate, []byte(out)); !errors.Is(err, want) || got != nil {
				t.Errorf("%q, %v, want %q", got, err, want)
			}
		})
	}
	d.put("rsa2048", must(d.run("openssl smime -sign -binary -nodetach -in document -outform PEM -signer other -inkey other.pem")))
	if out, err := d.run("openssl smime -verify -in rsa2048 -inform PEM -certfile certificate -noverify"); err != nil || out != captured {
		t.Errorf("openssl no longer believes the certificate that comes along: say so in the comment of Open: %v", err)
	}
	// A certificate with a key identifier can be named by it, which no EC2 does.
	must(d.run("openssl req -x509 -key site.pem -out keyed -subj /CN=i-0123456789abcdef0"))
	keyed := must(d.run("openssl cms -sign -binary -nodetach -keyid -in document -outform PEM -signer keyed -inkey site.pem"))
	if got, err := document.Open(must(os.ReadFile(filepath.Join(d.dir, "keyed"))), []byte(keyed)); !errors.Is(err, document.ErrForm) || got != nil {
		t.Errorf("a signer named by a key identifier: %q, %v", got, err)
	}
	// Without -binary it is a mail that openssl signs, with a mail's line ends.
	mail := must(d.run("openssl smime -sign -nodetach -in document -outform PEM -signer certificate -inkey site.pem"))
	if got, err := document.Open(certificate, []byte(mail)); err != nil || string(got) != texts["with Windows line ends"] {
		t.Errorf("a mail opens as %q, %v: it must be what was signed, as it is", got, err)
	}
	if err := document.Verify(certificate, []byte(captured), []byte(mail)); !errors.Is(err, document.ErrAltered) {
		t.Errorf("a mail verifies a document with other line ends: %v", err)
	}
}
