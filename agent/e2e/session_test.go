//go:build linux

package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"

	"github.com/hostrole/hostrole/agent"
	"github.com/hostrole/hostrole/agent/devsts"
)

// The kernel says who calls, and so does STS: each user has a session that is
// named after it, and explain shows it beforehand.
func TestEveryUserHasItsOwnSession(t *testing.T) {
	if !ownnet.RealRoot() {
		ownnet.Missing(t, "a real root, to be several users")
	}
	const owner, shared = "arn:aws:iam::111122223333:user/host", "arn:aws:iam::111122223333:role/shared"
	sts := devsts.New(devsts.Options{Account: "111122223333", Region: "us-east-1", Now: agent.Now,
		Users: []devsts.User{{ARN: owner, AccessKeyID: exampleKey, SecretAccessKey: exampleSecret}},
		Roles: []devsts.Role{{ARN: shared, Principals: []string{owner}, TagSession: true, SetSourceIdentity: true}}})
	srv := httptest.NewServer(sts)
	t.Cleanup(srv.Close)
	config := strings.Replace(preamble(t, srv.URL, "shared"), "any = true", "any = true\nsession = \"caller\"", 1) + fmt.Sprintf(`
[role.shared]
arn = %q
from = "source.keys"
session_name = "uid-{uid}"
source_identity = "uid-{uid}"
tags = { Uid = "{uid}" }
`, shared)
	d := startHostrole(t, config)
	for _, uid := range []int{1001, 1002} {
		name := fmt.Sprintf("uid-%d", uid)
		status, token := ask(t, uid, "-X", "PUT", "-H", "X-aws-ec2-metadata-token-ttl-seconds: 60", metadataURL+"api/token")
		if status != "200" {
			t.Fatalf("a token for uid %d: status %s", uid, status)
		}
		var doc document
		d.await(t, "has a session for "+name, 10*time.Second, func() bool {
			status, body := ask(t, uid, "-H", "X-aws-ec2-metadata-token: "+token, metadataURL+"meta-data/iam/security-credentials/shared")
			return status == "200" && json.Unmarshal([]byte(body), &doc) == nil && doc.Code == "Success"
		})
		s, err := sts.Verify(doc.AccessKeyId, doc.SecretAccessKey, doc.Token)
		if err != nil || s.Name != name || s.SourceIdentity != name || s.Tags["Uid"] != fmt.Sprint(uid) || !strings.HasSuffix(s.ARN, ":assumed-role/shared/"+name) {
			t.Errorf("STS knows uid %d as %+v, %v", uid, s, err)
		}
		if log := d.out.since(0); !strings.Contains(log, `"session":"`+name+`"`) {
			t.Errorf("no record names the session of uid %d", uid)
		}
	}
	if n := sts.CallCount(shared); n != 2 {
		t.Errorf("%d calls for two users", n)
	}
	_, socket, _ := strings.Cut(config, "socket = \"")
	socket, _, _ = strings.Cut(socket, "\"")
	out, err := exec.CommandContext(t.Context(), os.Getenv(binaryEnv), "explain", "--socket", filepath.Clean(socket), "--uid", "1003").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "shared: session uid-1003, source identity uid-1003, tag Uid=1003") {
		t.Errorf("explain says %v\n%s", err, out)
	}
}
