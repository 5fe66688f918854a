// Package document is the instance identity document.
//
// # Why not
//
// Not encoding/json: EC2 writes a space on both sides of the colon and null
// for what is absent, and readers compare bytes.
package document

import (
	"encoding/json"
	"strings"
	"time"
)

// A Document holds the fields of EC2's document that a host outside EC2 can
// fill. An empty one is null.
type Document struct {
	AccountID        string
	Architecture     string // x86_64 | arm64, or Go's name for another
	AvailabilityZone string
	ImageID          string
	InstanceID       string
	InstanceType     string
	PendingTime      time.Time // required: SDKs parse it
	PrivateIP        string
	Region           string
}

// Render returns the document as EC2 lays it out, without a line end.
func (d Document) Render() string {
	var b strings.Builder
	b.WriteString("{")
	sep := "\n"
	line := func(key, value string) {
		b.WriteString(sep + `  "` + key + `" : ` + value)
		sep = ",\n"
	}
	text := func(key, value string) {
		if value == "" {
			line(key, "null")
			return
		}
		quoted, _ := json.Marshal(value) // a string cannot fail
		line(key, string(quoted))
	}
	text("accountId", d.AccountID)
	text("architecture", d.Architecture)
	text("availabilityZone", d.AvailabilityZone)
	line("billingProducts", "null")
	line("devpayProductCodes", "null")
	line("marketplaceProductCodes", "null")
	text("imageId", d.ImageID)
	text("instanceId", d.InstanceID)
	text("instanceType", d.InstanceType)
	line("kernelId", "null")
	text("pendingTime", d.PendingTime.UTC().Format("2006-01-02T15:04:05Z"))
	text("privateIp", d.PrivateIP)
	line("ramdiskId", "null")
	text("region", d.Region)
	text("version", "2017-09-30")
	b.WriteString("\n}")
	return b.String()
}
