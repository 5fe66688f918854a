package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/upstream"
)

// login obtains a token.
func (s Source) login(ctx context.Context) (credential.Secret, error) {
	mount, fields, err := s.Auth.form(ctx)
	if err != nil {
		return credential.Secret{}, err
	}
	if mount == "" {
		token := fields["token"]
		if !sendable(token) {
			return credential.Secret{}, errors.New("token: it is empty, or has characters that no token has")
		}
		return token, nil
	}
	path := "auth/" + strings.Trim(mount, "/") + "/login"
	body := map[string]string{}
	var secrets []credential.Secret
	for k, v := range fields {
		body[k] = v.Reveal()
		if k != "role" {
			secrets = append(secrets, v)
		}
	}
	a, err := s.call(ctx, http.MethodPost, path, body, credential.Secret{}, secrets...)
	if err != nil {
		return credential.Secret{}, err
	}
	if a.Auth == nil || !sendable(credential.NewSecret(a.Auth.ClientToken)) {
		return credential.Secret{}, &source.Error{Op: "POST " + path, Err: errors.New("the answer has no token"),
			Hint: "check the address, and whether the login wants a second factor"}
	}
	return credential.NewSecret(a.Auth.ClientToken), nil
}

// sendable reports whether a token can stand in a header. The library's own
// error would quote it.
func sendable(token credential.Secret) bool {
	text := token.Reveal()
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// call makes one request of the API. The secrets are those that the request
// has beside its token, so that no error repeats them.
func (s Source) call(ctx context.Context, method, path string, body any, token credential.Secret, secrets ...credential.Secret) (answer, error) {
	op, _, _ := strings.Cut(method+" "+path, "?")
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return answer{}, fmt.Errorf("%s: %w", op, err)
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(s.Address, "/")+"/v1/"+path, content)
	if err != nil {
		return answer{}, fmt.Errorf("address: %w", err)
	}
	req.Header.Set("X-Vault-Request", "true") // what Vault Agent may insist on
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if s.Namespace != "" {
		req.Header.Set("X-Vault-Namespace", s.Namespace)
	}
	if !token.Empty() {
		req.Header.Set("X-Vault-Token", token.Reveal())
	}
	secrets = append(secrets, token)
	resp, err := s.HTTP.Do(req)
	if err != nil {
		return answer{}, &source.Error{Op: op, Message: upstream.Clean(err.Error(), secrets...), Err: err}
	}
	text, err := io.ReadAll(resp.Body) // it is in memory
	_ = resp.Body.Close()
	switch {
	case err != nil:
		return answer{}, fmt.Errorf("%s: %w", op, err)
	case resp.StatusCode == http.StatusNoContent:
		return answer{}, nil
	case resp.StatusCode != http.StatusOK:
		return answer{}, explain(op, resp, text, secrets)
	}
	a, err := parse(text)
	if err != nil {
		return answer{}, &source.Error{Op: op, Err: err, Hint: "check the address, and whether a proxy answers in its place"}
	}
	return a, nil
}

// parse reads an answer. Its error quotes nothing of it: the decoder's own
// would.
func parse(text []byte) (answer, error) {
	var a answer
	if json.Unmarshal(text, &a) != nil {
		return answer{}, errors.New("the answer is not the JSON of Vault")
	}
	return a, nil
}

// end gives back what is of no more use. What cannot be given back ends by
// itself, so that nobody is told.
func (s Source) end(ctx context.Context, token credential.Secret, path string, body any) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, _ = s.call(ctx, http.MethodPost, path, body, token)
}
