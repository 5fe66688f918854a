package vault

import (
	"context"
	"fmt"

	"github.com/hostrole/hostrole/rotation/assertion"
	"github.com/hostrole/hostrole/rotation/credential"
)

// An Auth is a way to a Vault token: a [Token], an [AppRole] or a [JWT].
type Auth interface {
	// form is what is sent to the login at mount. A form without a mount
	// holds the token itself, below "token".
	form(ctx context.Context) (mount string, fields map[string]credential.Secret, err error)
}

// A Token is one that somebody else renews, such as Vault Agent with a file as
// its sink. It is followed at each use and never given back.
type Token func() (credential.Secret, error)

func (t Token) form(context.Context) (string, map[string]credential.Secret, error) {
	token, err := t()
	if err != nil {
		return "", nil, fmt.Errorf("token: %w", err)
	}
	return "", map[string]credential.Secret{"token": token}, nil
}

// AppRole logs in with a role id and a secret id, both followed at each use.
type AppRole struct {
	Mount    string // such as "approle"
	RoleID   func() (credential.Secret, error)
	SecretID func() (credential.Secret, error) // nil where the role is bound to no secret id
}

func (a AppRole) form(context.Context) (string, map[string]credential.Secret, error) {
	id, err := a.RoleID()
	if err != nil {
		return "", nil, fmt.Errorf("role_id: %w", err)
	}
	fields := map[string]credential.Secret{"role_id": id}
	if a.SecretID != nil {
		if fields["secret_id"], err = a.SecretID(); err != nil {
			return "", nil, fmt.Errorf("secret_id: %w", err)
		}
	}
	return a.Mount, fields, nil
}

// JWT logs in with a token of an identity provider. The login of Kubernetes is
// the same call with the token of the service account.
type JWT struct {
	Mount string // such as "jwt" or "kubernetes"
	Role  string // of the auth method; "" is the method's default, which Kubernetes has not
	Token assertion.Getter
}

func (j JWT) form(ctx context.Context) (string, map[string]credential.Secret, error) {
	token, err := j.Token.Get(ctx)
	if err != nil {
		return "", nil, err
	}
	fields := map[string]credential.Secret{"jwt": token.Text}
	if j.Role != "" {
		fields["role"] = credential.NewSecret(j.Role)
	}
	return j.Mount, fields, nil
}
