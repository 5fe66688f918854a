//go:build linux

package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

const (
	minioURL = "http://127.0.0.1:19000" // ours alone: the namespace is
	bucket   = "e2e"
	// MinIO grants what its user may, whatever the ARN is.
	anyARN = "arn:aws:iam::111122223333:role/app"
)

// startMinIO runs MinIO with an empty bucket until the test ends. With an
// issuer it grants web identities: those with the audience "byclaim" what
// their claim "policy" names, those with "byrole" what the returned role may.
func startMinIO(t testing.TB, iss *issuer) (roleARN string) {
	t.Helper()
	version := pinned(t, "minio", "github.com/minio/minio")
	binary := cached(t, "minio-"+version)
	data := t.TempDir()
	cmd := exec.Command(binary, "server", "--address", "127.0.0.1:19000", data)
	cmd.Env = append(bare(t), "MINIO_ROOT_USER="+exampleKey, "MINIO_ROOT_PASSWORD="+exampleSecret,
		"MINIO_UPDATE=off", "MINIO_BROWSER=off", "MINIO_CALLHOME_ENABLE=off")
	if iss != nil {
		discovery := iss.url + "/.well-known/openid-configuration"
		cmd.Env = append(cmd.Env,
			"MINIO_IDENTITY_OPENID_CONFIG_URL="+discovery,
			"MINIO_IDENTITY_OPENID_CLIENT_ID=byclaim",
			"MINIO_IDENTITY_OPENID_CLAIM_NAME=policy",
			"MINIO_IDENTITY_OPENID_CONFIG_URL_ROLE="+discovery,
			"MINIO_IDENTITY_OPENID_CLIENT_ID_ROLE=byrole",
			"MINIO_IDENTITY_OPENID_ROLE_POLICY_ROLE=readwrite")
	}
	p := start(t, "MinIO", cmd)
	p.await(t, "is ready", 30*time.Second, ready(t, minioURL+"/minio/health/ready"))
	// For a moment after it calls itself ready, its storage says 503.
	p.await(t, "makes a bucket", 30*time.Second, func() bool {
		return s3(t, rootKeys, minioURL, http.MethodPut, "/"+bucket, "") == http.StatusOK
	})
	if iss != nil {
		printed := regexp.MustCompile(`arn:minio:iam:::role/\S+`)
		p.await(t, "prints its role", 10*time.Second, func() bool {
			roleARN = printed.FindString(p.out.since(0))
			return roleARN != ""
		})
	}
	return roleARN
}

func TestMinIOAssumeRole(t *testing.T) {
	startMinIO(t, nil)
	d := startHostrole(t, preamble(t, minioURL, "app")+`
[role.app]
arn = "`+anyARN+`"
from = "source.keys"
duration = "15m"
`)
	doc := d.credential(t, "app")
	if doc.Type != "AWS-HMAC" || doc.AccessKeyId == exampleKey || doc.Token == "" {
		t.Errorf("the document has type %q, key %s, token of %d bytes: not a session", doc.Type, doc.AccessKeyId, len(doc.Token))
	}
	if left := time.Until(doc.Expiration); left < 14*time.Minute || left > 15*time.Minute+time.Second {
		t.Errorf("the session lasts %v longer, want 15m", left)
	}
	mustS3(t, doc, minioURL, http.MethodPut, "/"+bucket+"/f", "hello")
	mustS3(t, doc, minioURL, http.MethodGet, "/"+bucket+"/f", "")

	// The same keys without the session are nobody's.
	doc.Token = ""
	if status := s3(t, doc, minioURL, http.MethodGet, "/"+bucket+"/f", ""); status != http.StatusForbidden {
		t.Errorf("without its token the key was answered with %d, want 403", status)
	}
}

// TestMinIOWebIdentity gets one credential by a claim of the token and one by
// a role's ARN, and replaces both tokens between two renewals. What the first
// may after its renewal shows which token it was got with. The second gets a
// token that is refused: its credential stays, until a good token lies there.
func TestMinIOWebIdentity(t *testing.T) {
	if testing.Short() {
		t.Skip("a renewal comes after a minute at the soonest")
	}
	iss := newIssuer(t)
	roleARN := startMinIO(t, iss)
	const claim = "app"        // the role's name in anyARN
	role := path.Base(roleARN) // and in MinIO's
	claimToken := filepath.Join(t.TempDir(), "token")
	roleToken := filepath.Join(t.TempDir(), "token")
	replace(t, claimToken, iss.mint(t, map[string]any{"aud": "byclaim", "policy": "readwrite"}))
	replace(t, roleToken, iss.mint(t, map[string]any{"aud": "byrole"}))
	d := startHostrole(t, preamble(t, minioURL, "claim", "role")+fmt.Sprintf(`
[source.claim]
kind = "web-identity"
assertion = { file = %q }
[source.role]
kind = "web-identity"
assertion = { file = %q }
[role.claim]
arn = %q
from = "source.claim"
duration = "15m"
[role.role]
arn = %q
from = "source.role"
duration = "15m"
`, claimToken, roleToken, anyARN, roleARN))

	firstByClaim, firstByRole := d.credential(t, claim), d.credential(t, role)
	for _, doc := range []document{firstByClaim, firstByRole} {
		mustS3(t, doc, minioURL, http.MethodPut, "/"+bucket+"/f", "hello")
	}
	replace(t, claimToken, iss.mint(t, map[string]any{"aud": "byclaim", "policy": "readonly"}))
	replace(t, roleToken, iss.mint(t, map[string]any{"aud": "nobody"}))
	renewed := func(role string, old document) document {
		var doc document
		d.await(t, "renews "+role, 90*time.Second, func() bool {
			doc = d.credential(t, role)
			return doc.AccessKeyId != old.AccessKeyId
		})
		return doc
	}

	second := renewed(claim, firstByClaim)
	mustS3(t, second, minioURL, http.MethodGet, "/"+bucket+"/f", "")
	if status := s3(t, second, minioURL, http.MethodPut, "/"+bucket+"/f", "hello"); status != http.StatusForbidden {
		t.Errorf("a PUT with the credential of a read-only token was answered with %d, want 403", status)
	}

	d.await(t, "warns of the refused token", 90*time.Second, func() bool {
		for line := range strings.Lines(d.out.since(0)) {
			if strings.Contains(line, `"msg":"renewal failed"`) {
				return true
			}
		}
		return false
	})
	if kept := d.credential(t, role); kept != firstByRole {
		t.Errorf("after a refused renewal the key is %s, want %s as before", kept.AccessKeyId, firstByRole.AccessKeyId)
	}
	mustS3(t, firstByRole, minioURL, http.MethodPut, "/"+bucket+"/f", "hello")
	replace(t, roleToken, iss.mint(t, map[string]any{"aud": "byrole"}))
	mustS3(t, renewed(role, firstByRole), minioURL, http.MethodPut, "/"+bucket+"/f", "hello")
}

// replace changes a file as a rotating agent does: whole, by its name.
func replace(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}
