//go:build linux

package e2e_test

import (
	"os"
	"runtime"
	"strings"
	"testing"
)

// clientsEnv is "all" where the clients that take minutes to install are
// tested as well: make clients.
const clientsEnv = "HOSTROLE_E2E_CLIENTS"

// field are programs in the field, each with an SDK, or code of its own, that
// asks the metadata service.
var field = []sdk{
	{name: "debian-awscli-2", argv: debian("awscli")},
	{name: "debian-boto3", argv: debian("boto3")},
	{name: "debian-ruby", argv: debian("ruby")},
	{name: "debian-rclone", argv: debian("rclone")},
	{name: "debian-restic", argv: debian("restic")},
	{name: "debian-s3cmd", argv: debian("s3cmd")},
	{name: "debian-duplicity", argv: debian("duplicity")},
	{name: "debian-prometheus", argv: debian("prometheus")},
	{name: "debian-pgbackrest", argv: debian("pgbackrest"), blind: "its S3 is HTTPS only"},
	{name: "debian-ec2-metadata", argv: debian("ec2-metadata"), blind: "it reads the tree"},
	{name: "debian-ec2metadata", argv: debian("ec2metadata"), blind: "it reads the tree"},
	{name: "debian-cloud-init", argv: debian("cloud-init"), blind: "it leaves credentials alone"},
	{name: "aws-sdk-rust", argv: func(t *testing.T) []string {
		if runtime.GOARCH != "amd64" {
			missing(t, "LanceDB for %s", runtime.GOARCH)
		}
		return node("rust", "client.mjs")(t)
	}},
}

// TestField is TestSDKs with all of them.
func TestField(t *testing.T) {
	fieldOnly(t)
	startMinIO(t, nil)
	w := newWitness(t)
	d := startHostrole(t, sdkConfig(t))
	name := hostname(t)
	for _, c := range field {
		t.Run(c.name, func(t *testing.T) {
			c.run(t, d, w, bare(t))
			if now := hostname(t); now != name { // cloud-init
				t.Fatalf("this machine was called %q and is now called %q", name, now)
			}
		})
	}
}

// TestFieldWithoutTokens: some speak version 1, and are served if the operator
// allows that. cloud-init does where it is not told that this is EC2; s3fs does
// when it gets no token, and it sends its PUT in chunks, which are refused.
func TestFieldWithoutTokens(t *testing.T) {
	fieldOnly(t)
	startMinIO(t, nil)
	w := newWitness(t)
	d := startHostrole(t, strings.Replace(sdkConfig(t), `kind = "imds"`, "kind = \"imds\"\ntokens = \"optional\"", 1))
	for _, c := range []sdk{
		{name: "debian-cloud-init-elsewhere", argv: debian("cloud-init-elsewhere"), blind: "it leaves credentials alone"},
		{name: "debian-s3fs", argv: debian("s3fs")},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, d, w, bare(t)) })
	}
}

func hostname(t *testing.T) string {
	t.Helper()
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func fieldOnly(t *testing.T) {
	t.Helper()
	if os.Getenv(clientsEnv) != "all" {
		t.Skipf("the clients that take minutes to install: make clients, or %s=all", clientsEnv)
	}
}

// debian runs a client of the Debian tree.
func debian(client string) func(t *testing.T) []string {
	return func(t *testing.T) []string {
		t.Helper()
		if !realRoot(t) {
			missing(t, "a real root, for the mounts of a Debian tree")
		}
		return []string{tool(t, "unshare"), "--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--propagation", "private",
			"bash", "clients/debian.sh", cached(t, "clients-bookworm"), t.TempDir(), client}
	}
}
