//go:build linux

package upstreams_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"

	"github.com/hostrole/hostrole/agent/devsts"
)

// static is a source of long-term keys, and a role that they may assume.
func static(t testing.TB, role string) string {
	t.Helper()
	return fmt.Sprintf("[source.keys]\nkind = 'static'\naccess_key_id = %q\nsecret_access_key = { file = %q }\n[role.%s]\narn = %q\nfrom = 'source.keys'\n",
		exampleKey, write(t, "secret", exampleSecret), role, roleARN(role))
}

// trusting is an STS with a role that trusts the user of static.
func trusting(t testing.TB) (endpoint string) {
	t.Helper()
	return startSTS(t, devsts.Options{Roles: []devsts.Role{{ARN: roleARN("app"), Principals: []string{user}}}})
}

// A daemon is the metadata service of another host: a network namespace that
// is joined to ours by a link, where a second daemon hands on what the first
// one gives it, by EC2's protocol and as a credential_process.
func TestADaemonBehindADaemon(t *testing.T) {
	needs(t)
	space := fmt.Sprintf("hostrole%d", os.Getpid())
	ip(t, "netns", "add", space)
	t.Cleanup(func() { ip(t, "netns", "del", space) })
	ip(t, "link", "add", "bridge", "type", "veth", "peer", "name", "guest", "netns", space)
	t.Cleanup(func() { ip(t, "link", "del", "bridge") })
	ip(t, "link", "set", "bridge", "up")
	ip(t, "addr", "add", "10.9.0.1/24", "dev", "bridge")
	for _, args := range []string{"link set lo up", "link set guest up", "addr add 10.9.0.2/24 dev guest", "route add 169.254.169.254/32 via 10.9.0.1"} {
		ip(t, append([]string{"-n", space}, strings.Fields(args)...)...)
	}

	endpoint := trusting(t)
	first := startHostrole(t, endpoint, []string{"app"}, "[[listener]]\nname = 'bridge'\nkind = 'imds'\naddress = ['169.254.169.254:80']\ningress = 'bridge'\n"+static(t, "app"))
	first.serves(t, "app")
	inside := []string{tool(t, "nsenter"), "--net=/run/netns/" + space}
	second := startAt(t, door, inside, "", []string{"handed", "nobody", "helped", "own"}, fmt.Sprintf(`
[source.ec2]
kind = "instance"
endpoint = "http://169.254.169.254"
[source.stranger]
kind = "instance"
endpoint = "http://169.254.169.254"
role = "stranger"
[source.helper]
kind = "process"
command = [%q, "credential-process", "--role", "app", "--socket", %q]
[source.own]
kind = "instance"
uri = "http://%s/role/handed"
[role.handed]
from = "source.ec2"
[role.nobody]
from = "source.stranger"
[role.helped]
from = "source.helper"
[role.own]
from = "source.own"
`, os.Getenv(binaryEnv), first.socket, door))

	for _, role := range []string{"handed", "helped"} {
		second.works(t, role, "", "")
		if got, want := second.grant(t, role), first.grant(t, "app"); got != want {
			t.Errorf("%s has the key %s until %v, and the first daemon serves %s until %v", role, got.AccessKeyID, got.Expiration, want.AccessKeyID, want.Expiration)
		}
	}
	first.renews(t, "app")
	for _, role := range []string{"handed", "helped"} {
		second.renews(t, role)
		if got, want := second.grant(t, role), first.grant(t, "app"); got != want {
			t.Errorf("after a renewal %s has the key %s, and the first daemon serves %s", role, got.AccessKeyID, want.AccessKeyID)
		}
	}
	second.refuses(t, "nobody", "stranger", "404")
	second.refuses(t, "own", "the endpoint leads back to this daemon")
}

// A way back to the daemon that no address shows, such as a proxy, is known by
// the daemon's own session token.
func TestADaemonBehindItself(t *testing.T) {
	needs(t)
	const own, detour = "127.0.0.1:31338", "127.0.0.1:31339"
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: own})
		r.Out.Host = own
	}}
	l, err := net.Listen("tcp", detour)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: proxy, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close()
		<-done
	})
	d := startHostrole(t, trusting(t), []string{"app", "round"}, static(t, "app")+fmt.Sprintf(`
[[listener]]
name = "own"
kind = "imds"
address = [%q]
ingress = ""
manage_address = false
[source.round]
kind = "instance"
endpoint = "http://%s"
role = "app"
[role.round]
from = "source.round"
`, own, detour))
	d.serves(t, "app")
	d.refuses(t, "round", "the endpoint leads back to this daemon")
}

// botocore is behind the AWS CLI: what it finds in the CLI's files is what the
// role is assumed with.
func TestBotocoreAsAHelper(t *testing.T) {
	needs(t)
	keys := func(secret string) string {
		return "[default]\naws_access_key_id = " + exampleKey + "\naws_secret_access_key = " + secret + "\n"
	}
	file := write(t, "credentials", keys(exampleSecret))
	script, err := filepath.Abs("testdata/helper.py")
	if err != nil {
		t.Fatal(err)
	}
	argv := []string{"/usr/bin/env", "HOME=/nonexistent", "AWS_EC2_METADATA_DISABLED=true", "AWS_SHARED_CREDENTIALS_FILE=" + file, tool(t, "python3"), script}
	probe := exec.Command(argv[0], argv[1:]...)
	probe.Env = bare(t)
	if out, err := probe.CombinedOutput(); err != nil {
		ownnet.Missing(t, "botocore: run agent/e2e/setup.sh (%s)", out)
	}
	command, err := json.Marshal(argv)
	if err != nil {
		t.Fatal(err)
	}
	endpoint := trusting(t)
	d := startHostrole(t, endpoint, []string{"app"}, fmt.Sprintf(`
[source.cli]
kind = "process"
command = %s
[role.app]
arn = %q
from = "source.cli"
session_name = "helped"
`, command, roleARN("app")))
	if got, want := d.whoami(t, "app", endpoint), "arn:aws:sts::"+account+":assumed-role/app/helped"; got != want {
		t.Errorf("the STS takes the CLI for %q, want %q", got, want)
	}
	d.renews(t, "app")
	replace(t, file, keys("wrong"))
	d.keeps(t, "app", "AssumeRole", "SignatureDoesNotMatch")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	d.keeps(t, "app", "botocore finds no credentials")
}
