package document_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hostrole/hostrole/imds/document"
)

// captured is EC2's form, as a host of ours fills it.
const captured = `{
  "accountId" : "111122223333",
  "architecture" : "x86_64",
  "availabilityZone" : "us-east-1a",
  "billingProducts" : null,
  "devpayProductCodes" : null,
  "marketplaceProductCodes" : null,
  "imageId" : "ami-0123456789abcdef0",
  "instanceId" : "i-0123456789abcdef0",
  "instanceType" : "t3.micro",
  "kernelId" : null,
  "pendingTime" : "2022-02-12T21:03:58Z",
  "privateIp" : "10.0.0.1",
  "ramdiskId" : null,
  "region" : "us-east-1",
  "version" : "2017-09-30"
}`

var filled = document.Document{
	AccountID: "111122223333", Architecture: "x86_64", AvailabilityZone: "us-east-1a", ImageID: "ami-0123456789abcdef0",
	InstanceID: "i-0123456789abcdef0", InstanceType: "t3.micro", PrivateIP: "10.0.0.1", Region: "us-east-1",
	PendingTime: time.Date(2022, 2, 12, 22, 3, 58, 999, time.FixedZone("", 3600)),
}

func TestRenderIsEC2sFormToTheByte(t *testing.T) {
	if diff := cmp.Diff(captured, filled.Render()); diff != "" {
		t.Errorf("the document differs (-want +got):\n%s", diff)
	}
}

func TestRenderSaysNullForWhatIsAbsent(t *testing.T) {
	got := document.Document{Region: "eu-central-1", PendingTime: filled.PendingTime}.Render()
	want := regexp.MustCompile(`(accountId|architecture|availabilityZone|imageId|instanceId|instanceType|privateIp)" : "[^"]*"`).
		ReplaceAllString(strings.Replace(captured, "us-east-1\"", "eu-central-1\"", 1), `$1" : null`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the document differs (-want +got):\n%s", diff)
	}
}

func TestRenderIsJSONWhateverTheValue(t *testing.T) {
	for _, value := range []string{`"`, `\`, "a\nb", "a\r\n\t\x00\x7f", `", "region" : "us-east-1`, "}", "Zürich", "\u2028", "<a&b>", strings.Repeat("x", 1<<16)} {
		d := filled
		d.Region, d.AccountID, d.InstanceType = value, value, value
		text := d.Render()
		var got struct{ Region, AccountID, InstanceType, Version string }
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Errorf("%.20q: %v in %s", value, err, text)
			continue
		}
		if got.Region != value || got.AccountID != value || got.InstanceType != value || got.Version != "2017-09-30" {
			t.Errorf("%.20q comes back as %.20q, %.20q, %.20q, version %s", value, got.Region, got.AccountID, got.InstanceType, got.Version)
		}
		if n := strings.Count(text, "\n"); n != strings.Count(captured, "\n") || strings.HasSuffix(text, "\n") {
			t.Errorf("%.20q makes %d lines: a value must not break one", value, n)
		}
	}
	// What is no UTF-8 cannot be JSON, and must not spoil the rest.
	d := filled
	d.PrivateIP = "10.\xff.0.1"
	if text := d.Render(); !json.Valid([]byte(text)) || strings.Contains(text, "\xff") {
		t.Errorf("bytes that are no UTF-8 come out: %q", text)
	}
}
