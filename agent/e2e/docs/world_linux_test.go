package docs_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/hostrole/hostrole/agent/devsts"
)

const (
	exampleKey    = "AKIAIOSFODNN7EXAMPLE" // from AWS's documentation
	exampleSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	appARN        = "arn:aws:iam::111122223333:role/app"
	corpSAML      = "arn:aws:iam::111122223333:saml-provider/Corp"
	region        = "eu-central-1"
)

// names are those of the servers that the pages speak of.
var names = []string{"sts." + region + ".amazonaws.com", "rolesanywhere." + region + ".amazonaws.com", "idp.example.com", "vault.example.com", "minio.example.com"}

// A world is the servers of the pages, in the machine. This binary serves them
// when worldEnv names the folder of their certificates.
type world struct {
	sts     *devsts.Server
	own     *sts.Client // of who gives sessions: Roles Anywhere and Vault
	oidc    *devsts.Issuer
	saml    *devsts.SAMLIssuer
	devices *x509.CertPool
}

const worldEnv = "HOSTROLE_DOCS_WORLD"

// serveWorld serves until it fails.
func serveWorld(dir string) error {
	w := &world{
		oidc: devsts.NewIssuer("https://idp.example.com", time.Now),
		saml: devsts.NewSAMLIssuer("https://idp.example.com/idp/shibboleth", time.Now),
	}
	const giver = "arn:aws:iam::111122223333:user/giver"
	w.sts = devsts.New(devsts.Options{
		Account: "111122223333", Region: region, Now: time.Now,
		Users:     []devsts.User{{ARN: giver, AccessKeyID: exampleKey, SecretAccessKey: exampleSecret}},
		Providers: []devsts.Provider{{Issuer: "https://idp.example.com", Audiences: []string{"sts.amazonaws.com"}, Keys: w.oidc.Keys}},
		SAML:      []devsts.SAMLProvider{{ARN: corpSAML, Issuer: "https://idp.example.com/idp/shibboleth", Certificates: w.saml.Certificates}},
		Roles: []devsts.Role{{
			ARN: appARN, Principals: []string{giver},
			OIDC: []devsts.OIDCTrust{{Issuer: "https://idp.example.com", Audiences: []string{"sts.amazonaws.com"}, Subject: "hostrole"}},
			SAML: []devsts.SAMLTrust{{Provider: corpSAML, Subject: "host-7"}},
		}},
	})
	w.own = sts.New(sts.Options{
		Region: region, BaseEndpoint: aws.String("http://sts.in.here"), HTTPClient: local{w.sts},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: exampleKey, SecretAccessKey: exampleSecret}, nil
		}),
	})
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return err
	}
	w.devices = x509.NewCertPool()
	w.devices.AppendCertsFromPEM(ca)
	mux := http.NewServeMux()
	mux.Handle("sts."+region+".amazonaws.com/", w.sts)
	mux.HandleFunc("POST rolesanywhere."+region+".amazonaws.com/sessions", w.sessions)
	mux.HandleFunc("POST idp.example.com/token", w.token)
	mux.HandleFunc("POST idp.example.com/idp/profile/SAML2/SOAP/ECP", w.ecp)
	mux.HandleFunc("POST vault.example.com/v1/auth/approle/login", w.login)
	mux.HandleFunc("POST vault.example.com/v1/auth/token/revoke-self", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("vault.example.com/v1/aws/sts/deploy", w.deploy)
	cert, key := filepath.Join(dir, "public.crt"), filepath.Join(dir, "private.key")
	failed := make(chan error, 2)
	for _, port := range []string{"443", "8200"} {
		s := &http.Server{Addr: "127.0.0.1:" + port, Handler: mux, ReadHeaderTimeout: 10 * time.Second, TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
		go func() { failed <- s.ListenAndServeTLS(cert, key) }()
	}
	return <-failed
}

// local is an HTTP client of a handler in this process.
type local struct{ http.Handler }

func (l local) Do(r *http.Request) (*http.Response, error) {
	r.RequestURI, r.Host = r.URL.RequestURI(), r.URL.Host
	w := httptest.NewRecorder()
	l.ServeHTTP(w, r)
	return w.Result(), nil
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// token is the token endpoint, for its one client.
func (d *world) token(w http.ResponseWriter, r *http.Request) {
	if id, secret, _ := r.BasicAuth(); id != "hostrole" || secret != "of-the-client" || r.FormValue("grant_type") != "client_credentials" {
		reply(w, http.StatusUnauthorized, map[string]string{"error": "invalid_client"})
		return
	}
	reply(w, http.StatusOK, map[string]any{
		"access_token": d.oidc.Mint(map[string]any{"sub": "hostrole", "aud": "sts.amazonaws.com"}), "token_type": "Bearer", "expires_in": 3600,
	})
}

// ecp is a login by SOAP, as Shibboleth answers it.
func (d *world) ecp(w http.ResponseWriter, r *http.Request) {
	if user, word, _ := r.BasicAuth(); user != "host-7" || word != "of-the-account" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	response, err := base64.StdEncoding.DecodeString(d.saml.Mint(devsts.SAMLClaims{
		Subject: "host-7", Audience: "urn:amazon:webservices", Recipient: "https://signin.aws.amazon.com/saml",
		Attributes: map[string][]string{"Role": {appARN + "," + corpSAML}},
	}))
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/xml")
	_, _ = fmt.Fprintf(w, `<S:Envelope xmlns:S="http://schemas.xmlsoap.org/soap/envelope/"><S:Header><ecp:Response xmlns:ecp="urn:oasis:names:tc:SAML:2.0:profiles:SSO:ecp"`+
		` AssertionConsumerServiceURL="https://signin.aws.amazon.com/saml" S:actor="http://schemas.xmlsoap.org/soap/actor/next" S:mustUnderstand="1"/></S:Header><S:Body>%s</S:Body></S:Envelope>`, response)
}

// session is one of the role, as whoever trusts somebody gives it.
func (d *world) session(ctx context.Context) (key, secret, token string, expires time.Time, err error) {
	out, err := d.own.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: aws.String(appARN), RoleSessionName: aws.String("42")})
	if err != nil {
		return "", "", "", time.Time{}, err
	}
	c := out.Credentials
	return *c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken, *c.Expiration, nil
}

// sessions is Roles Anywhere, as far as a page needs it: it looks at the chain
// of the certificate. That signatures are good is a test of agent/e2e/upstreams.
func (d *world) sessions(w http.ResponseWriter, r *http.Request) {
	der, err := base64.StdEncoding.DecodeString(r.Header.Get("X-Amz-X509"))
	var leaf *x509.Certificate
	if err == nil {
		leaf, err = x509.ParseCertificate(der)
	}
	if err == nil {
		_, err = leaf.Verify(x509.VerifyOptions{Roots: d.devices, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	}
	key, secret, token, expires, failed := d.session(r.Context())
	if err = errors.Join(err, failed); err != nil {
		w.Header().Set("X-Amzn-Errortype", "AccessDeniedException")
		reply(w, http.StatusForbidden, map[string]string{"message": "Untrusted certificate. " + err.Error()})
		return
	}
	reply(w, http.StatusCreated, map[string]any{"credentialSet": []any{map[string]any{"roleArn": appARN, "credentials": map[string]string{
		"accessKeyId": key, "secretAccessKey": secret, "sessionToken": token, "expiration": expires.Format(time.RFC3339),
	}}}})
}

// login is that of Vault by AppRole.
func (d *world) login(w http.ResponseWriter, r *http.Request) {
	var in struct {
		RoleID   string `json:"role_id"`
		SecretID string `json:"secret_id"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.RoleID != "of-the-approle" || in.SecretID != "of-the-host" {
		reply(w, http.StatusBadRequest, map[string]any{"errors": []string{"invalid role or secret ID"}})
		return
	}
	reply(w, http.StatusOK, map[string]any{"auth": map[string]any{"client_token": "hvs.CAESIJ", "lease_duration": 300, "token_type": "service"}})
}

// deploy is the role of Vault's AWS engine.
func (d *world) deploy(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("X-Vault-Token") != "hvs.CAESIJ" {
		reply(w, http.StatusForbidden, map[string]any{"errors": []string{"permission denied"}})
		return
	}
	key, secret, token, expires, err := d.session(r.Context())
	if err != nil {
		reply(w, http.StatusBadRequest, map[string]any{"errors": []string{err.Error()}})
		return
	}
	ttl := int(time.Until(expires).Seconds())
	reply(w, http.StatusOK, map[string]any{"lease_id": "", "lease_duration": ttl, "renewable": false, "data": map[string]any{
		"access_key": key, "secret_key": secret, "security_token": token, "session_token": token, "ttl": ttl, "arn": "arn:aws:sts::111122223333:assumed-role/app/42",
	}})
}

// certificates are an authority that the machine trusts, its certificate for
// the servers and its certificate for the host, by the names of their files.
func certificates(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	make := func(name string, c, by *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if by == nil {
			by, signer = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, by, key.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		secret, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		files[name+".crt"] = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
		files[name+".key"] = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
		made, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return made, key
	}
	life := func(serial int64, name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
			BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
	}
	authority := life(1, "Corp")
	authority.IsCA, authority.KeyUsage = true, x509.KeyUsageCertSign
	ca, key := make("ca", authority, nil, nil)
	servers := life(2, "servers")
	servers.DNSNames = names
	make("servers", servers, ca, key)
	make("device", life(3, "host-7"), ca, key)
	return files
}
