package ecs

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"strings"

	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/rotation/credential"
)

var (
	errMissing = errors.New("the request has no Authorization header: see AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE of the workload")
	errWrong   = errors.New("the Authorization header is not the one of the listener: compare the file of the workload with that of the listener, also their last bytes")
)

// An authorization is what requests must show. It holds a digest, so that all
// that is compared has one length. The zero authorization asks for nothing.
type authorization struct {
	asked  bool
	digest [sha256.Size]byte
}

func newAuthorization(token credential.Secret) (authorization, error) {
	if token.Empty() {
		return authorization{}, nil
	}
	text := token.Reveal()
	if text != strings.TrimSpace(text) || strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c > '~' }) {
		return authorization{}, errors.New("the token of the listener is no value of a header: write printable ASCII, without a space at its ends")
	}
	return authorization{asked: true, digest: sha256.Sum256([]byte(text))}, nil
}

// check returns errMissing or errWrong for a request that may not pass.
func (a authorization) check(r *imds.Request) error {
	if !a.asked {
		return nil
	}
	shown, n := r.Lookup("authorization")
	if n == 0 {
		return errMissing
	}
	digest := sha256.Sum256([]byte(shown))
	if subtle.ConstantTimeCompare(digest[:], a.digest[:]) != 1 || n > 1 {
		return errWrong
	}
	return nil
}
