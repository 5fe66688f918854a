package roles

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source/static"
)

// secretLimit bounds the file of a secret.
const secretLimit = 64 << 10

// An Environment is what the process was started with. It is kept apart, because
// the AWS_ variables are taken out of the process before the first upstream
// call: the SDK reads some of them wherever it is.
type Environment []string

func (e Environment) get(name string) (string, bool) {
	for i := len(e) - 1; i >= 0; i-- { // the last one counts
		if v, ok := strings.CutPrefix(e[i], name+"="); ok {
			return v, true
		}
	}
	return "", false
}

// Forget takes out of the process what could steer the SDK.
func (e Environment) Forget() {
	for _, kv := range e {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "AWS_") || name == "_X_AMZN_TRACE_ID" {
			_ = os.Unsetenv(name)
		}
	}
}

// Who may read the file of a secret: its owner; with him his group, as of the
// file that Vault Agent writes; or everyone, as of a token that Kubernetes puts
// into a container for all that is in it.
const (
	private fs.FileMode = 0o600
	grouped fs.FileMode = 0o640
	shared  fs.FileMode = 0o644
)

// follow returns the function that resolves a reference at each use.
func (e Environment) follow(r config.Ref) static.Value { return e.followed(r, private) }

// Secret follows a reference now.
func (e Environment) Secret(r config.Ref) (credential.Secret, error) { return e.follow(r)() }

// optional is follow for a reference that may be absent, which gives nil.
func (e Environment) optional(r *config.Ref) static.Value {
	if r == nil {
		return nil
	}
	return e.follow(*r)
}

// followed is follow with the widest mode that a file may have.
func (e Environment) followed(r config.Ref, mode fs.FileMode) static.Value {
	switch {
	case r.Env != "":
		return func() (credential.Secret, error) {
			v, ok := e.get(r.Env)
			if !ok || v == "" {
				return credential.Secret{}, fmt.Errorf("the environment variable %s is not set: see Environment= of the unit", r.Env)
			}
			return credential.NewSecret(v), nil
		}
	case r.Credential != "":
		return func() (credential.Secret, error) {
			dir, ok := e.get("CREDENTIALS_DIRECTORY")
			if !ok {
				return credential.Secret{}, fmt.Errorf("no systemd credential %s: give one with LoadCredential=%[1]s:PATH in the unit, or to try it by hand name the folder of that file in CREDENTIALS_DIRECTORY", r.Credential)
			}
			// Where the manager lets the service in by an access list, the
			// group's bits show the list's mask.
			return readSecret(filepath.Join(dir, r.Credential), mode|0o040)
		}
	default:
		return func() (credential.Secret, error) { return readSecret(r.File, mode) }
	}
}

func (e Environment) text(t config.Text) static.Value {
	if t.Ref != nil {
		return e.follow(*t.Ref)
	}
	return func() (credential.Secret, error) { return credential.NewSecret(t.Literal), nil }
}

// readSecret reads a file that is open to no more users than mode says. Its
// errors have nothing of the content.
func readSecret(path string, mode fs.FileMode) (credential.Secret, error) {
	f, err := os.Open(path)
	if err != nil {
		return credential.Secret{}, err
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	switch {
	case err != nil:
		return credential.Secret{}, err
	case !st.Mode().IsRegular():
		return credential.Secret{}, fmt.Errorf("%s is no regular file", path)
	case st.Mode().Perm()&0o077&^mode != 0:
		return credential.Secret{}, fmt.Errorf("%s is open to more users than it may be: chmod %o it", path, mode)
	}
	b, err := io.ReadAll(io.LimitReader(f, secretLimit+1))
	switch {
	case err != nil:
		return credential.Secret{}, err
	case len(b) > secretLimit:
		return credential.Secret{}, fmt.Errorf("%s is larger than %d bytes", path, secretLimit)
	}
	text := strings.TrimRight(string(b), "\r\n")
	if text == "" {
		return credential.Secret{}, errors.New(path + " is empty")
	}
	return credential.NewSecret(text), nil
}
