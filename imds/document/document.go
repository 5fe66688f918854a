// Package document is the instance identity document with the signatures of a
// site.
//
// # Why not
//
// Not encoding/json: EC2 writes a space on both sides of the colon and null
// for what is absent, and readers compare bytes.
//
// Not EC2's certificates: only AWS has their keys. The form of the signatures
// is EC2's, so that what verifies them needs another certificate and nothing
// else.
//
// Not the PKCS#7 library for signing: it puts the wall clock into what it
// signs, so that a host whose clock is wrong at boot is refused, and it puts
// the certificate in, so that openssl calls a document verified whichever
// certificate it is given. EC2 leaves the certificate out, and so do we.
// Reading what a stranger sent is the library's.
//
// Not DSA with SHA-1 in pkcs7, as EC2 has it: nothing should trust it any
// more, and a reader finds the algorithm in the text. pkcs7 is the same as
// rsa2048 here. Not dsa2048, which EC2 lists and nobody is known to read.
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
