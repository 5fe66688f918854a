package assertion

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/oauth2"

	"github.com/hostrole/hostrole/rotation/credential"
)

// The ways in which a client authenticates, by their registered names.
const (
	ClientSecretBasic = "client_secret_basic" // Secret, in a header
	ClientSecretPost  = "client_secret_post"  // Secret, in the form
	PrivateKeyJWT     = "private_key_jwt"     // a statement that Key signs (RFC 7523)
	TLSClientAuth     = "tls_client_auth"     // the certificate of the connection (RFC 8705), which is the Upstream's
	NoClientAuth      = "none"                // a public client, or an exchange where the token is all that counts
)

const (
	// statementLife is how long a signed statement can be used: the call with
	// its retries, and clocks that differ.
	statementLife = 5 * time.Minute
	// statementAge is for an endpoint whose clock is behind: some take no
	// statement from the future, not even of a second.
	statementAge = 10 * time.Second
)

// ClientAuth is how a client proves who it is.
type ClientAuth struct {
	Method string // one of the above

	Secret func() (credential.Secret, error) // followed at each use

	Key         func() (credential.Secret, error) // PEM of an RSA, ECDSA or Ed25519 key, followed at each use
	KeyID       string                            // kid in the header; "" for none
	Algorithm   string                            // "" is RS256, ES256, ES384, ES512 or EdDSA, by the key
	Certificate string                            // PEM file of the key's certificate, for an endpoint that goes by x5t#S256, read at each use; "" for none
	Audience    string                            // whom the statement is for; "" is the token endpoint's URL
}

// add puts the proof into q.
func (a ClientAuth) add(q *query) error {
	switch a.Method {
	case ClientSecretBasic, ClientSecretPost:
		secret, err := a.Secret()
		if err != nil {
			return fmt.Errorf("client_secret: %w", err)
		}
		q.secrets = append(q.secrets, secret)
		q.ClientSecret = secret.Reveal()
		if a.Method == ClientSecretBasic {
			q.AuthStyle = oauth2.AuthStyleInHeader
		}
	case PrivateKeyJWT:
		statement, err := a.statement(q)
		if err != nil {
			return err
		}
		q.secrets = append(q.secrets, credential.NewSecret(statement))
		q.EndpointParams.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		q.EndpointParams.Set("client_assertion", statement)
	case TLSClientAuth, NoClientAuth: // client_id alone, if there is one
	default:
		return fmt.Errorf("no client authenticates by %q", a.Method)
	}
	return nil
}

// statement signs that we are the client, for one use.
func (a ClientAuth) statement(q *query) (string, error) {
	secret, err := a.Key()
	if err != nil {
		return "", fmt.Errorf("private_key: %w", err)
	}
	key, algorithm, err := parseKey(secret)
	if err != nil {
		return "", fmt.Errorf("private_key: %w", err)
	}
	if a.Algorithm != "" {
		algorithm = jose.SignatureAlgorithm(a.Algorithm)
	}
	options := (&jose.SignerOptions{}).WithType("JWT")
	if a.Certificate != "" {
		sum, err := fingerprint(a.Certificate)
		if err != nil {
			return "", fmt.Errorf("certificate: %w", err)
		}
		options.WithHeader("x5t#S256", sum)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: key, KeyID: a.KeyID}}, options)
	if err != nil {
		return "", fmt.Errorf("private_key: a %T does not sign with %s", key, algorithm)
	}
	audience := a.Audience
	if audience == "" {
		audience = q.TokenURL
	}
	now := q.time()
	issued := jwt.NewNumericDate(now.Add(-statementAge))
	return jwt.Signed(signer).Claims(jwt.Claims{
		Issuer: q.ClientID, Subject: q.ClientID, Audience: jwt.Audience{audience}, ID: rand.Text(),
		IssuedAt: issued, NotBefore: issued, Expiry: jwt.NewNumericDate(now.Add(statementLife)),
	}).Serialize()
}

// parseKey reads the first private key in PEM. Its errors have nothing of the
// text in them.
func parseKey(text credential.Secret) (crypto.Signer, jose.SignatureAlgorithm, error) {
	key, err := firstKey([]byte(text.Reveal()))
	if err != nil {
		return nil, "", err
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return k, jose.RS256, nil
	case *ecdsa.PrivateKey:
		switch k.Curve.Params().BitSize {
		case 256:
			return k, jose.ES256, nil
		case 384:
			return k, jose.ES384, nil
		case 521:
			return k, jose.ES512, nil
		}
	case ed25519.PrivateKey:
		return k, jose.EdDSA, nil
	}
	return nil, "", fmt.Errorf("a %T signs no JSON web token: use RSA, P-256 or Ed25519", key)
}

func firstKey(text []byte) (any, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			return nil, errors.New("the key has a passphrase: store it without one, as a systemd credential")
		default: // a certificate beside it, or the parameters of a curve
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("the PEM block %s holds no key that can be read", block.Type)
		}
		return key, nil
	}
	return nil, errors.New("there is no private key in PEM")
}

// fingerprint is a certificate's x5t#S256.
func fingerprint(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return "", fmt.Errorf("%s does not begin with a certificate in PEM", path)
	}
	sum := sha256.Sum256(block.Bytes)
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}
