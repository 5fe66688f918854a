// Package assertion is what this host shows to be believed: an identity
// provider's token, from a file or from a command.
//
// # Why not
//
// Not a cache: a token is read at each use, so that the one that another
// program has just written is the one that is shown. Not a check of the
// signature: the upstream does that with keys that we would have to fetch. Not
// AWS_WEB_IDENTITY_TOKEN_FILE: an inherited variable must not choose an
// identity.
package assertion

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/hostrole/hostrole/rotation/command"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/upstream"
)

// TokenLimit is the longest token that STS takes, in bytes.
const TokenLimit = 20_000

// A Token is a JSON web token in its compact form, or where its reader is told
// to take one, an opaque token: of OAuth, which says nothing of itself.
type Token struct{ Text credential.Secret }

// A Getter obtains a token anew at each call.
type Getter interface {
	Get(ctx context.Context) (Token, error)
}

// File reads the token in a file, as Kubernetes, systemd or another agent
// leaves it there. The path may be a symbolic link.
type File struct {
	Path   string
	Opaque bool // the token is opaque
}

// Get reads the file. A file that is missing is looked for three times within
// 100 ms, because some writers remove it before they put the next one there.
func (f File) Get(ctx context.Context) (Token, error) {
	for try := 1; ; try++ {
		text, err := f.read()
		if err == nil {
			return checked(text, f.Path, f.Opaque)
		}
		if !errors.Is(err, fs.ErrNotExist) || try == 3 {
			return Token{}, fmt.Errorf("reading the token: %w; see what writes it, and whether it runs", err)
		}
		wait := time.NewTimer(50 * time.Millisecond)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return Token{}, ctx.Err()
		}
	}
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
	b, err := io.ReadAll(io.LimitReader(file, TokenLimit+1024))
	return string(b), err
}

// Command runs a program that prints the token, as it is or as {"token": …}.
type Command struct {
	Command command.Command
	Opaque  bool // the token is opaque
}

// Get runs the program.
func (c Command) Get(ctx context.Context) (Token, error) {
	out, err := c.Command.Output(ctx)
	if err != nil {
		return Token{}, fmt.Errorf("getting the token: %w", err)
	}
	text := strings.TrimSpace(string(out))
	if strings.HasPrefix(text, "{") {
		var doc struct {
			Token string `json:"token"`
		}
		if err := json.Unmarshal(out, &doc); err != nil || doc.Token == "" {
			// The decoder's error quotes the input, and with it the token.
			return Token{}, fmt.Errorf("getting the token: %s printed JSON without a \"token\"", c.Command.Argv[0])
		}
		text = doc.Token
	}
	return checked(text, c.Command.Argv[0], c.Opaque)
}

// checked checks the form of a token and nothing else. Its errors have nothing
// of the text in them.
func checked(text, from string, opaque bool) (Token, error) {
	if !opaque {
		return parse(text, from)
	}
	text = strings.TrimSpace(text)
	if len(text) < 4 || len(text) > TokenLimit || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return Token{}, fmt.Errorf("%s holds no access token: that is one word of 4 to %d letters", from, TokenLimit)
	}
	return Token{credential.NewSecret(text)}, nil
}

func parse(text, from string) (Token, error) {
	text = strings.TrimSpace(text)
	switch {
	case text == "":
		return Token{}, fmt.Errorf("%s is empty: whatever writes the token has not done so yet", from)
	case len(text) > TokenLimit:
		return Token{}, fmt.Errorf("%s holds more than %d bytes, the most that STS takes", from, TokenLimit)
	}
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return Token{}, fmt.Errorf("%s holds no JSON web token: that has three parts with dots between them", from)
	}
	for _, p := range parts {
		if _, err := base64.RawURLEncoding.DecodeString(p); err != nil || p == "" {
			return Token{}, fmt.Errorf("%s holds no JSON web token: a part of it is not base64url; was it cut short?", from)
		}
	}
	return Token{credential.NewSecret(text)}, nil
}

// Describe tells who the token says that we are, for an error or a log: its
// issuer, subject, audience and expiry, unverified, cleaned and cut. It reads
// on after the word "a".
func (t Token) Describe(now time.Time) string {
	parts := strings.Split(t.Text.Reveal(), ".")
	if len(parts) != 3 {
		return "token that says nothing of itself"
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "token that cannot be read"
	}
	var c struct {
		Iss, Sub string
		Aud      any
		Exp      float64
	}
	if err := json.Unmarshal(body, &c); err != nil {
		return "token whose claims are no JSON"
	}
	s := fmt.Sprintf("token of issuer %q for subject %q, audience %q", upstream.Clean(c.Iss), upstream.Clean(c.Sub), upstream.Clean(fmt.Sprint(c.Aud)))
	if c.Exp == 0 {
		return s + ", without expiry"
	}
	left := time.Unix(int64(c.Exp), 0).Sub(now).Round(time.Second)
	if left <= 0 {
		return fmt.Sprintf("%s, expired %v ago", s, -left)
	}
	return fmt.Sprintf("%s, %v left", s, left)
}
