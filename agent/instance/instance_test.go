package instance_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/agent/facts"
	"github.com/hostrole/hostrole/agent/instance"
	"github.com/hostrole/hostrole/imds/document"
	"github.com/hostrole/hostrole/imds/metadata"
)

var host = facts.Host{Hostname: "db-7", FQDN: "db-7.example.com", MachineID: "b02bb7eba7134de3912904b432046082"}

// parse reads a configuration whose region is that.
func parse(t *testing.T, region, extra string) *config.Config {
	t.Helper()
	cfg, err := config.Parse(filepath.Join(t.TempDir(), "hostrole.toml"), []byte(`version = 1
[upstream]
region = "`+region+`"
[source.keys]
kind = "static"
access_key_id = "AKIAIOSFODNN7EXAMPLE"
secret_access_key = { env = "SECRET" }
[role.app]
from = "source.keys"
endpoint = "https://sts.example.com"
[[allow]]
any = true
roles = ["app"]
`+extra))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func build(t *testing.T, o instance.Options) *instance.Instance {
	t.Helper()
	o.Host, o.Network, o.Booted = host, &facts.Network{}, time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	i, err := instance.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.Network.Close() })
	return i
}

func leaf(i *instance.Instance, path string) string {
	v, ok := i.Tree().Leaf(path)
	if !ok {
		return "none"
	}
	return v
}

func TestWhatIsDerived(t *testing.T) {
	i := build(t, instance.Options{Config: parse(t, "eu-central-1", "")})
	for path, want := range map[string]string{
		"instance-id": host.InstanceID(), "hostname": "db-7.example.com", "local-hostname": "db-7.example.com",
		"placement/region": "eu-central-1", "placement/availability-zone": "eu-central-1a", "services/domain": "amazonaws.com", "services/partition": "aws",
		"ami-id": "none", "instance-type": "none", "ami-launch-index": "none", "reservation-id": "none", "system": "none", "instance-life-cycle": "none",
		"tags/instance/Name": "none", "events/maintenance/scheduled": "none", "spot/instance-action": "none", "autoscaling/target-lifecycle-state": "none",
	} {
		if got := leaf(i, path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	if i.UserData != nil || i.Identity.Signature != "" || i.AccountID != "000000000000" {
		t.Errorf("the instance is %+v", i)
	}
	for _, line := range []string{`"pendingTime" : "2026-01-02T03:04:05Z"`, `"instanceType" : null`, `"instanceId" : "` + host.InstanceID() + `"`, `"region" : "eu-central-1"`} {
		if !strings.Contains(i.Identity.Document, line) {
			t.Errorf("the document has no %s: %s", line, i.Identity.Document)
		}
	}
}

func TestWhatIsConfigured(t *testing.T) {
	i := build(t, instance.Options{RoleARN: "arn:aws:iam::111122223333:role/app", Config: parse(t, "eu-central-1", `[metadata]
region = "cn-north-1"
availability_zone = "cn-north-1b"
instance_id = "i-0123456789abcdef0"
instance_type = "m5.large"
image_id = "ami-0123456789abcdef0"
[metadata.tags]
Name = ""
[metadata.extra]
hostname = "another"
"placement/rack" = "r12"
`)})
	for path, want := range map[string]string{
		"instance-id": "i-0123456789abcdef0", "instance-type": "m5.large", "ami-id": "ami-0123456789abcdef0", "hostname": "another", "local-hostname": "db-7.example.com",
		"placement/region": "cn-north-1", "placement/availability-zone": "cn-north-1b", "services/domain": "amazonaws.com.cn", "services/partition": "aws-cn",
		"placement/rack": "r12", "tags/instance/Name": "",
	} {
		if got := leaf(i, path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	if i.AccountID != "111122223333" {
		t.Errorf("the account is %s", i.AccountID)
	}
}

// What is announced is in the tree; the operator's own word comes before it.
func TestNoticesAreLeaves(t *testing.T) {
	o := instance.Options{Config: parse(t, "eu-central-1", "[metadata.extra]\n\"spot/termination-time\" = \"soon\"\n"),
		Notices: metadata.Notices{LifecycleState: "Terminated", Spot: metadata.Interruption{Action: "terminate", Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}}}
	i := build(t, o)
	for path, want := range map[string]string{
		"autoscaling/target-lifecycle-state": "Terminated", "spot/instance-action": `{"action": "terminate", "time": "2026-01-02T03:04:05Z"}`, "spot/termination-time": "soon", "events/maintenance/scheduled": "none",
	} {
		if got := leaf(i, path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
}

func TestPartitions(t *testing.T) {
	for region, want := range map[string]string{
		"us-east-1": "aws amazonaws.com", "us-gov-west-1": "aws-us-gov amazonaws.com", "cn-north-1": "aws-cn amazonaws.com.cn", "eusc-de-east-1": "aws-eusc amazonaws.eu",
		"us-iso-east-1": "aws-iso c2s.ic.gov", "us-isob-east-1": "aws-iso-b sc2s.sgov.gov", "eu-isoe-west-1": "aws-iso-e cloud.adc-e.uk", "us-isof-south-1": "aws-iso-f csp.hci.ic.gov",
	} {
		i := build(t, instance.Options{Config: parse(t, region, "")})
		if got := leaf(i, "services/partition") + " " + leaf(i, "services/domain"); got != want {
			t.Errorf("%s is in %s, want %s", region, got, want)
		}
	}
}

func TestFaultsOfAnInstance(t *testing.T) {
	for extra, want := range map[string]string{
		"[metadata.extra]\n\"hostname/x\" = \"y\"\n":                  "value and a directory",
		"[metadata.extra]\n\"iam/info\" = \"y\"\n":                    "iam/",
		"[metadata]\nuser_data = { file = \"/nowhere/user-data\" }\n": "not there",
	} {
		cfg, err := config.Parse("hostrole.toml", []byte(`version = 1
[upstream]
region = "eu-central-1"
[source.keys]
kind = "static"
access_key_id = "AKIAIOSFODNN7EXAMPLE"
secret_access_key = { env = "SECRET" }
[role.app]
from = "source.keys"
endpoint = "https://sts.example.com"
[[allow]]
any = true
roles = ["app"]
`+extra))
		if err != nil {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %s", extra, err, want)
			}
			continue // the file's own rules have found it
		}
		if _, err := instance.New(instance.Options{Config: cfg, Host: host, Network: &facts.Network{}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", extra, err, want)
		}
	}
}

func TestSiteKey(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if key, err := instance.SiteKey("", "i-0123456789abcdef0", now); key != nil || err != nil {
		t.Errorf("without a state directory: %v, %v", key, err)
	}
	if key, err := instance.SiteKey(filepath.Join(t.TempDir(), "nowhere"), "i-0123456789abcdef0", now); key != nil || err == nil {
		t.Errorf("with a state directory that is not there: %v, %v", key, err)
	}
	key, err := instance.SiteKey(t.TempDir()+":/var/lib/another", "i-0123456789abcdef0", now)
	if err != nil {
		t.Fatal(err)
	}
	i := build(t, instance.Options{Config: parse(t, "eu-central-1", ""), Site: key})
	if err := document.Verify(key.Certificate(), []byte(i.Identity.Document), []byte(i.Identity.RSA2048)); err != nil {
		t.Error(err)
	}
}
