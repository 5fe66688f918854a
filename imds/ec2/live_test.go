package ec2_test

import (
	"testing"
	"testing/synctest"

	"github.com/hostrole/hostrole/imds/ec2"
)

// A change on the host shows at the next request, in the values and in all of
// the listings.
func TestTreeIsLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state, looks := map[string]string{}, 0
		s := setting{tokens: ec2.Optional, roles: []string{"app"}, network: func() map[string]string { looks++; return state }}
		c := client(serve(t, s))
		want := func(path string, status int, body string) {
			t.Helper()
			if a := get(t, c, "", path); a.Status != status || status == 200 && string(a.Body) != body {
				t.Errorf("%s is %d %q, want %d %q", path, a.Status, a.Body, status, body)
			}
		}
		const top = "/latest/meta-data/"
		want(top+"local-ipv4", 404, "")
		want(top+"network/", 404, "")
		want(top, 200, "ami-id\nhostname\niam/\ninstance-id\ninstance-type\nplacement/\nramdisk-id\nservices/\ntags/")
		state = map[string]string{"local-ipv4": "10.0.0.9", "network/interfaces/macs/02:00:00:00:00:01/mac": "02:00:00:00:00:01"}
		want(top+"local-ipv4", 200, "10.0.0.9")
		want(top, 200, "ami-id\nhostname\niam/\ninstance-id\ninstance-type\nlocal-ipv4\nnetwork/\nplacement/\nramdisk-id\nservices/\ntags/")
		want(top+"network/interfaces/macs", 200, "02:00:00:00:00:01/")
		state = map[string]string{"network/interfaces/macs/02:00:00:00:00:02/mac": "02:00:00:00:00:02"}
		want(top+"network/interfaces/macs", 200, "02:00:00:00:00:02/")
		want(top+"network/interfaces/macs/02:00:00:00:00:01/mac", 404, "")
		want(top+"local-ipv4", 404, "")

		// Nobody looks at the host for anything else.
		looks = 0
		for _, path := range []string{"/", "/latest/", "/latest/user-data", "/latest/dynamic/instance-identity/document", top + "iam/security-credentials/app-role", top + "iam/info"} {
			if a := get(t, c, "", path); a.Status != 200 {
				t.Errorf("%s is %d", path, a.Status)
			}
		}
		if looks != 0 {
			t.Errorf("%d looks at the host for what does not depend on it", looks)
		}
		want(top+"instance-id", 200, leaves["instance-id"])
		if looks != 1 {
			t.Errorf("%d looks at the host in one request, want 1", looks)
		}
	})
}
