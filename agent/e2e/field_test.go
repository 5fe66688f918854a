//go:build linux

package e2e_test

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"
)

// clientsEnv is "all" where the clients that take minutes to install are
// tested as well: make clients.
const clientsEnv = "HOSTROLE_E2E_CLIENTS"

// field are programs in the field, each with an SDK, or code of its own, that
// asks the metadata service.
var field = []sdk{
	{name: "debian-awscli-2", version: "2.9.19", region: "region-debian-awscli-2", argv: debian("awscli"), life: life{unnoticed, recovers, anew}},
	{name: "debian-boto3", version: "1.26.27", argv: debian("boto3"), loop: debian("boto3-loop"), patient: true,
		life: life{unnoticed, between, once}},
	{name: "debian-ruby", version: "3.168.1", region: "region-debian-ruby", argv: debian("ruby"), loop: debian("ruby-loop"), patient: true,
		life: life{unnoticed, keeps, stale}},
	{name: "debian-rclone", version: "1.60.1", argv: debian("rclone"), life: life{unnoticed, runFails, anew}},
	{name: "debian-restic", version: "0.14.0", argv: debian("restic"), life: life{unnoticed, recovers, anew}},
	{name: "debian-s3cmd", version: "2.3.0", argv: debian("s3cmd"), life: life{unnoticed, runFails, anew}},
	{name: "debian-s3fs", version: "1.90", argv: debian("s3fs"), loop: debian("s3fs-loop"), sure: true,
		life: life{unnoticed, between, once}},
	{name: "debian-duplicity", version: "0.8.22", argv: debian("duplicity"), life: life{unnoticed, runFails, anew}},
	{name: "debian-prometheus", version: "2.42.0", argv: debian("prometheus"), loop: debian("prometheus-loop"), insists: true,
		life: life{unnoticed, recovers, once}},
	{name: "debian-pgbackrest", version: "2.45", argv: debian("pgbackrest"), blind: "its S3 is HTTPS only",
		life: life{unnoticed, runFails, anew}},
	{name: "debian-ec2-metadata", version: "2.0.1", argv: debian("ec2-metadata"), blind: "it reads the tree"},
	{name: "debian-ec2metadata", version: "0.33", argv: debian("ec2metadata"), blind: "it reads the tree"},
	{name: "debian-ec2-net-utils", version: "2.3.0", argv: debian("ec2-net-utils"), blind: "it reads the tree"},
	{name: "debian-cloud-init", version: "22.4.2", argv: debian("cloud-init"), blind: "it leaves credentials alone"},
	{name: "aws-sdk-rust", version: "0.37.1", region: "region-aws-sdk-rust", argv: rust("client.mjs"), loop: rust("loop.mjs"), insists: true, life: life{unnoticed, stubborn, once}},
	{name: "opentofu", version: "1.12.6", argv: tofu, life: life{unnoticed, recovers, anew}},
}

// older are those that speak version 1, and are served if the operator allows
// that. cloud-init does where it is not told that this is EC2, and s3fs when it
// looks for its role by itself.
var older = []sdk{
	{name: "debian-cloud-init-elsewhere", version: "22.4.2", argv: debian("cloud-init-elsewhere"), blind: "it leaves credentials alone"},
	{name: "debian-s3fs-auto", version: "1.90", argv: debian("s3fs-auto")},
}

// rust runs a program of clients/rust.
func rust(program string) func(t *testing.T) []string {
	return func(t *testing.T) []string {
		if runtime.GOARCH != "amd64" {
			ownnet.Missing(t, "LanceDB for %s", runtime.GOARCH)
		}
		return node("rust", program)(t)
	}
}

// tofu is OpenTofu with its state in S3.
func tofu(t *testing.T) []string {
	t.Helper()
	return []string{tool(t, "sh"), "clients/tofu.sh", cached(t, "tofu-"+pinned(t, "tofu", "github.com/opentofu/opentofu"))}
}

// likeAnInstance is the metadata of a host whose operator says all that EC2
// says of an instance and no host knows by itself.
const likeAnInstance = `
[metadata]
instance_type = "m5.large"
image_id = "ami-0123456789abcdef0"
[metadata.tags]
Name = "db-7"
[metadata.extra]
ami-launch-index = "0"
ami-manifest-path = "(unknown)"
"block-device-mapping/ami" = "/dev/xvda"
"block-device-mapping/root" = "/dev/xvda"
"events/maintenance/history" = "[]"
"events/maintenance/scheduled" = "[]"
instance-action = "none"
instance-life-cycle = "on-demand"
"metrics/vhostmd" = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>"
"placement/availability-zone-id" = "use1-az1"
profile = "default-hvm"
public-hostname = "db-7.example.com"
public-ipv4 = "203.0.113.25"
reservation-id = "r-0123456789abcdef0"
security-groups = "default"
system = "nitro"
"network/interfaces/macs/MAC/interface-id" = "eni-0123456789abcdef0"
"network/interfaces/macs/MAC/ipv4-associations/203.0.113.25" = "10.0.0.1"
"network/interfaces/macs/MAC/local-hostname" = "db-7.example.com"
"network/interfaces/macs/MAC/owner-id" = "111122223333"
"network/interfaces/macs/MAC/public-hostname" = "db-7.example.com"
"network/interfaces/macs/MAC/public-ipv4s" = "203.0.113.25"
"network/interfaces/macs/MAC/security-group-ids" = "sg-0123456789abcdef0"
"network/interfaces/macs/MAC/security-groups" = "default"
"network/interfaces/macs/MAC/subnet-id" = "subnet-0123456789abcdef0"
"network/interfaces/macs/MAC/vpc-id" = "vpc-0123456789abcdef0"
"network/interfaces/macs/MAC/vpc-ipv4-cidr-block" = "10.0.0.0/16"
"network/interfaces/macs/MAC/vpc-ipv4-cidr-blocks" = "10.0.0.0/16"
`

func fieldConfig(t *testing.T) string {
	t.Helper()
	return sdkConfig(t) + strings.ReplaceAll(likeAnInstance, "MAC", uplinkMAC)
}

// TestField is TestSDKs with all of them.
func TestField(t *testing.T) {
	fieldOnly(t)
	startMinIO(t, nil)
	uplink(t)
	w := newWitness(t)
	d := startHostrole(t, fieldConfig(t))
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

// TestFieldWithoutTokens is TestField with those that speak version 1, on a
// host whose operator allows that.
func TestFieldWithoutTokens(t *testing.T) {
	fieldOnly(t)
	startMinIO(t, nil)
	uplink(t)
	w := newWitness(t)
	d := startHostrole(t, strings.Replace(fieldConfig(t), `kind = "imds"`, "kind = \"imds\"\ntokens = \"optional\"", 1))
	for _, c := range older {
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
		if !ownnet.RealRoot() {
			ownnet.Missing(t, "a real root, for the mounts of a Debian tree")
		}
		return []string{tool(t, "unshare"), "--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--propagation", "private",
			"bash", "clients/debian.sh", cached(t, "clients-bookworm"), t.TempDir(), client}
	}
}
