//go:build linux

package upstreams_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

const (
	anchor  = "arn:aws:rolesanywhere:us-east-1:" + account + ":trust-anchor/11111111-2222-3333-4444-555555555555"
	profile = "arn:aws:rolesanywhere:us-east-1:" + account + ":profile/11111111-2222-3333-4444-666666666666"
)

// An anywhere is Roles Anywhere as its user guide has it. It rebuilds what was
// signed from what arrived; OpenSSL, which shares nothing with hostrole, says
// whether the signature and the chain are good. The session is one of our STS.
type anywhere struct {
	t    testing.TB
	ca   string // PEM file of the trust anchor
	sts  *sts.Client
	dir  string
	seen []string // serial numbers of the certificates that were taken
}

func (a *anywhere) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	refusal := ""
	if err == nil {
		refusal = a.judge(r, body)
	}
	w.Header().Set("Content-Type", "application/json")
	if err != nil || refusal != "" {
		w.Header().Set("X-Amzn-Errortype", "AccessDeniedException")
		w.WriteHeader(http.StatusForbidden)
		_ = json.NewEncoder(w).Encode(map[string]string{"message": refusal})
		return
	}
	out, err := a.sts.AssumeRole(r.Context(), &sts.AssumeRoleInput{RoleArn: aws.String(roleARN("app")), RoleSessionName: aws.String("42")})
	if err != nil {
		a.t.Error(err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(map[string]any{"credentialSet": []any{map[string]any{"roleArn": roleARN("app"), "credentials": map[string]string{
		"accessKeyId": *out.Credentials.AccessKeyId, "secretAccessKey": *out.Credentials.SecretAccessKey,
		"sessionToken": *out.Credentials.SessionToken, "expiration": out.Credentials.Expiration.Format(time.RFC3339),
	}}}})
}

// judge is why a request is refused, or "".
func (a *anywhere) judge(r *http.Request, body []byte) string {
	var in struct{ ProfileArn, RoleArn, TrustAnchorArn string }
	if err := json.Unmarshal(body, &in); err != nil || in.ProfileArn != profile || in.TrustAnchorArn != anchor || in.RoleArn != roleARN("app") {
		return fmt.Sprintf("what is asked for: %s", body)
	}
	algorithm, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	part := map[string]string{}
	for p := range strings.SplitSeq(rest, ", ") {
		k, v, _ := strings.Cut(p, "=")
		part[k] = v
	}
	der, err := base64.StdEncoding.DecodeString(r.Header.Get("X-Amz-X509"))
	if err != nil {
		return err.Error()
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return err.Error()
	}
	date := r.Header.Get("X-Amz-Date")
	at, err := time.Parse("20060102T150405Z", date)
	if err != nil || time.Since(at).Abs() > 5*time.Minute {
		return "Signature expired"
	}
	scope := date[:8] + "/us-east-1/rolesanywhere/aws4_request"
	if part["Credential"] != leaf.SerialNumber.String()+"/"+scope {
		return "the credential is " + part["Credential"]
	}
	names := strings.Split(part["SignedHeaders"], ";")
	for _, h := range append(slices.Collect(maps.Keys(r.Header)), "host") {
		if h = strings.ToLower(h); (h == "host" || h == "content-type" || strings.HasPrefix(h, "x-amz-")) && !slices.Contains(names, h) {
			return "not signed: " + h
		}
	}
	var canonical strings.Builder
	fmt.Fprintf(&canonical, "POST\n%s\n%s\n", r.URL.Path, r.URL.RawQuery)
	for _, h := range names {
		value := r.Header.Get(h)
		if h == "host" {
			value = r.Host
		}
		fmt.Fprintf(&canonical, "%s:%s\n", h, strings.TrimSpace(value))
	}
	fmt.Fprintf(&canonical, "\n%s\n%x", part["SignedHeaders"], sha256.Sum256(body))
	signed := fmt.Sprintf("%s\n%s\n%s\n%x", algorithm, date, scope, sha256.Sum256([]byte(canonical.String())))
	signature, err := hex.DecodeString(part["Signature"])
	if err != nil {
		return err.Error()
	}
	public, err := x509.MarshalPKIXPublicKey(leaf.PublicKey)
	if err != nil {
		return err.Error()
	}
	kept := func(name string, text []byte) string {
		file := filepath.Join(a.dir, name)
		replace(a.t, file, string(text))
		return file
	}
	key := kept("public.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
	cert := kept("leaf.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	var chain bytes.Buffer
	for text := range strings.SplitSeq(r.Header.Get("X-Amz-X509-Chain"), ",") {
		if der, err := base64.StdEncoding.DecodeString(text); err == nil && len(der) > 0 {
			_ = pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: der})
		}
	}
	openssl := tool(a.t, "openssl")
	if out, err := exec.Command(openssl, "dgst", "-sha256", "-verify", key, "-signature", kept("signature", signature), kept("signed", []byte(signed))).CombinedOutput(); err != nil {
		return fmt.Sprintf("Invalid signature: %s", out)
	}
	verify := []string{"verify", "-CAfile", a.ca, cert}
	if chain.Len() > 0 {
		verify = []string{"verify", "-CAfile", a.ca, "-untrusted", kept("chain.pem", chain.Bytes()), cert}
	}
	if out, err := exec.Command(openssl, verify...).CombinedOutput(); err != nil {
		return fmt.Sprintf("Untrusted certificate. Insufficient certificate: %s", out)
	}
	a.seen = append(a.seen, leaf.SerialNumber.String())
	return ""
}

// A certificate by each kind of key gets a session, behind an intermediate
// authority; its successor is used as soon as it lies there; one of another
// authority is refused, and so is a key that is not the certificate's.
func TestRolesAnywhere(t *testing.T) {
	needs(t)
	for _, c := range []struct {
		name string
		key  func(testing.TB) crypto.Signer
	}{{"RSA", rsa2048}, {"ECDSA", ec}} {
		t.Run(c.name, func(t *testing.T) {
			endpoint := trusting(t)
			root := issue(t, nil, ec(t), "root")
			between := intermediate(t, root)
			first, second := issue(t, between, c.key(t), "host"), issue(t, between, c.key(t), "host")
			dir := put(t, map[string]string{
				"host.crt": first.certPEM() + between.certPEM(), "host.key": keyPEM(t, first.key), "ca.crt": root.certPEM(),
			})
			a := &anywhere{t: t, ca: filepath.Join(dir, "ca.crt"), dir: t.TempDir(), sts: sts.New(sts.Options{
				Region: "us-east-1", BaseEndpoint: &endpoint,
				Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
					return aws.Credentials{AccessKeyID: exampleKey, SecretAccessKey: exampleSecret}, nil
				}),
			})}
			s := httptest.NewServer(a)
			t.Cleanup(s.Close)
			d := startHostrole(t, endpoint, []string{"app"}, fmt.Sprintf(`
[source.device]
kind = "roles-anywhere"
certificate = %q
key = { file = %q }
trust_anchor_arn = %q
profile_arn = %q
endpoint = %q
[role.app]
arn = %q
from = "source.device"
`, filepath.Join(dir, "host.crt"), filepath.Join(dir, "host.key"), anchor, profile, s.URL, roleARN("app")))
			if got, want := d.whoami(t, "app", endpoint), "arn:aws:sts::"+account+":assumed-role/app/42"; got != want {
				t.Errorf("the STS takes the CLI for %q, want %q", got, want)
			}
			use := func(cert string, key crypto.Signer) {
				replace(t, filepath.Join(dir, "host.key"), keyPEM(t, key))
				replace(t, filepath.Join(dir, "host.crt"), cert)
			}
			use(second.certPEM()+between.certPEM(), second.key)
			d.renews(t, "app")
			if want := second.cert.SerialNumber.String(); a.seen[len(a.seen)-1] != want {
				t.Errorf("the last certificate that was shown is number %s, want %s", a.seen[len(a.seen)-1], want)
			}
			stranger := issue(t, nil, c.key(t), "stranger")
			use(stranger.certPEM(), stranger.key)
			d.keeps(t, "app", "Untrusted certificate", "trust anchor")
			use(second.certPEM(), second.key) // without the authority between
			d.keeps(t, "app", "Untrusted certificate")
			use(second.certPEM()+between.certPEM(), first.key)
			d.keeps(t, "app", "key")
		})
	}
}
