package operator

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/hostrole/hostrole/imds/document"
)

// siteKey is the file with the key and the certificate of this host.
const siteKey = "/var/lib/hostrole/site.pem"

// fileLimit bounds what is read, in bytes. A signed document has two thousand.
const fileLimit = 64 << 10

func documentCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "document", Short: "Check instance identity documents, and hand out what they are checked with", Args: atMost(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(verifyCommand(), certificateCommand())
	return c
}

func verifyCommand() *cobra.Command {
	var certificate, beside string
	c := &cobra.Command{
		Use: "verify FILE", Short: "Check who signed an instance identity document, and print it", Args: atMost(1, 1, "file with what pkcs7, rsa2048 or signature served, or - for the standard input"),
		Long: `Verify checks that the key of a certificate signed an instance identity document,
and prints the document that was signed, to the byte. FILE has what the metadata
service serves below dynamic/instance-identity as pkcs7 or rsa2048, with or
without PEM's first and last line; - is the standard input. What it serves as
signature has no document inside, which --document then names.

The certificate is that of the host or site that is believed; default this host's own, as root:

  hostrole document verify --certificate site.pem pkcs7.txt

Exit status: 1 when the document is not to be believed.`,
	}
	c.Flags().StringVar(&certificate, "certificate", "", "the `file` with the certificate of whoever is believed, in PEM; default this host's own, of "+siteKey)
	c.Flags().StringVar(&beside, "document", "", "the `file` with the document itself, where FILE is a signature alone")
	c.RunE = func(c *cobra.Command, args []string) error {
		believed, err := certificateOf(certificate)
		if err != nil {
			return err
		}
		text, err := read(args[0], c.InOrStdin())
		if err != nil {
			return err
		}
		var signed []byte
		if beside == "" {
			signed, err = document.Open(believed, text)
		} else if signed, err = read(beside, c.InOrStdin()); err == nil {
			err = document.Verify(believed, signed, text)
		}
		if err != nil {
			return fmt.Errorf("not to be believed: %w", err)
		}
		_, err = c.OutOrStdout().Write(signed)
		return err
	}
	return c
}

func certificateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "certificate", Short: "Print the certificate of this host, to hand out; as root", Args: atMost(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			pem, err := certificateOf("")
			_, werr := c.OutOrStdout().Write(pem)
			return errors.Join(err, werr)
		},
	}
}

// certificateOf reads the certificate of a file, or of this host's key.
func certificateOf(path string) ([]byte, error) {
	if path != "" {
		return read(path, nil)
	}
	var key *document.Key
	text, err := read(filepath.Join(cmp.Or(os.Getenv("STATE_DIRECTORY"), filepath.Dir(siteKey)), filepath.Base(siteKey)), nil)
	if err == nil {
		key, err = document.ParseKey(text)
	}
	if err != nil {
		return nil, fmt.Errorf("reading this host's own certificate: %w; --certificate names another one", err)
	}
	return key.Certificate(), nil
}

// read reads a file, or the standard input for -.
func read(path string, stdin io.Reader) ([]byte, error) {
	r := stdin
	if path != "-" || stdin == nil {
		f, err := os.Open(path) // #nosec G703 -- the operator names it, or their service manager
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		r = f
	}
	text, err := io.ReadAll(io.LimitReader(r, fileLimit+1))
	if err == nil && len(text) > fileLimit {
		err = errors.New(path + " is too large for what it should be")
	}
	return text, err
}
