// Package samlp is the SAML response that this host shows: from a file, from a
// command, or from a login at an identity provider, and what it says of itself.
//
// # Why not
//
// Not a check of the signature: AWS does that, with the keys that its account
// trusts, and a second verdict could only differ. What a response says is read
// to explain a refusal, and never believed. Not a decoder into structs that
// are written out again: a signature is over bytes, and no encoder gives them
// back, so an element is cut out of its document by offsets. Not a SAML
// framework: we are neither a service provider nor an identity provider. Not
// Kerberos, NTLM and the login pages of identity providers: each is a program
// of its own, and runs as a [Command].
package samlp

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/hostrole/hostrole/rotation/command"
	"github.com/hostrole/hostrole/rotation/credential"
)

// Limit is the longest response that STS takes, in bytes of base64.
const Limit = 100_000

// ErrRefused matches an identity provider's definite no: to the account, its
// password, or the request.
var ErrRefused = errors.New("the identity provider refused")

// A Response is a SAML response in the form that STS takes: base64 of the
// whole samlp:Response, in one line. For five minutes it is as good as a
// password.
type Response struct{ Text credential.Secret }

// A Responder obtains a response anew at each call. Its errors match
// [ErrRefused] where asking again soon is pointless, and hold nothing of the
// response.
type Responder interface {
	Get(ctx context.Context) (Response, error)
}

// Claims are what the response says, unverified. The error has nothing of it.
func (r Response) Claims() (Claims, error) {
	doc, err := base64.StdEncoding.DecodeString(r.Text.Reveal())
	if err != nil {
		return Claims{}, errors.New("it is no base64")
	}
	return read(doc)
}

// Same reports whether both have the same text.
func (r Response) Same(other Response) bool { return r.Text.Reveal() == other.Text.Reveal() }

// File reads the response in a file, base64 or XML, as another program leaves
// it there. STS takes a response for five minutes after it was issued, so that
// program has to write one for each renewal.
type File struct{ Path string }

// Get reads the file.
func (f File) Get(ctx context.Context) (Response, error) {
	if err := ctx.Err(); err != nil {
		return Response{}, err
	}
	text, err := f.read()
	if err != nil {
		return Response{}, fmt.Errorf("reading the SAML response: %w", err)
	}
	return response(text, f.Path)
}

func (f File) read() (string, error) {
	file, err := os.Open(f.Path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	if st, err := file.Stat(); err != nil {
		return "", err
	} else if !st.Mode().IsRegular() {
		return "", fmt.Errorf("%s is no regular file", f.Path)
	}
	b, err := io.ReadAll(io.LimitReader(file, 2*Limit)) // line breaks are no part of it
	return string(b), err
}

// Command runs a program that prints the response, base64 or XML: the way to
// every identity provider that wants a browser, a second factor or a ticket.
type Command struct{ Command command.Command }

// Get runs the program.
func (c Command) Get(ctx context.Context) (Response, error) {
	out, err := c.Command.Output(ctx)
	if err != nil {
		return Response{}, fmt.Errorf("getting the SAML response: %w", err)
	}
	return response(string(out), c.Command.Argv[0])
}

// response brings text into the form that STS takes. Its errors have nothing
// of the text in them.
func response(text, from string) (Response, error) {
	if text = strings.TrimSpace(text); strings.HasPrefix(text, "<") {
		text = base64.StdEncoding.EncodeToString([]byte(text))
	} else {
		text = strings.Join(strings.Fields(text), "") // base64 comes in lines
	}
	doc, err := base64.StdEncoding.DecodeString(text)
	switch {
	case text == "":
		return Response{}, fmt.Errorf("%s is empty: whatever writes the SAML response has not done so yet", from)
	case len(text) > Limit:
		return Response{}, fmt.Errorf("%s holds more than %d bytes of base64, the most that STS takes", from, Limit)
	case err != nil:
		return Response{}, fmt.Errorf("%s holds neither XML nor base64; was it cut short?", from)
	}
	if _, err := read(doc); err != nil {
		return Response{}, fmt.Errorf("%s holds no SAML response: %w", from, err)
	}
	return Response{credential.NewSecret(text)}, nil
}
