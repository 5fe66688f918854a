// Package ec2 is the wire protocol of EC2's instance metadata service, version
// 2 and, where the operator allows it, version 1.
//
// # Why not
//
// Not a 403 for a missing or bad token: SDKs that have dropped to version 1
// come back on a 401 only. Not a token refused to a caller without a role:
// that, too, would send them to version 1. Not a 200 without keys while the
// upstream is away: some SDKs take it for credentials.
package ec2

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/imds/document"
	"github.com/hostrole/hostrole/imds/gate"
	"github.com/hostrole/hostrole/imds/metadata"
	"github.com/hostrole/hostrole/imds/token"
)

// Server is what EC2 calls itself in the Server header.
const Server = "EC2ws"

// hold is how long the document of a role without a credential is waited for:
// the SDK for Go, version 2, waits 500 ms for the first byte.
const hold = 400 * time.Millisecond

// endpoint names this protocol to the gate.
const endpoint = "imds"

// Tokens says which requests may come without a session token.
type Tokens int

// The values of a listener's tokens key.
const (
	Required    Tokens = iota // none
	Credentials               // all but those below iam/
	Optional                  // all
)

// Options are the parts of a Handler. UserData may be nil; all others are
// required.
type Options struct {
	Gate      *gate.Gate
	Sealer    *token.Sealer
	Tokens    Tokens
	Tree      func() *metadata.Tree // as it is now; called once a request
	Identity  document.Signed       // Document is required; a signature that is empty is not served
	UserData  []byte                // nil: none
	AccountID string                // of instance profiles whose role has no ARN; 12 digits
	Started   time.Time
	Now       func() time.Time
}

// A Handler answers for one listener.
type Handler struct {
	o        Options
	modified []imds.Field      // Content-Type, Accept-Ranges, Last-Modified of a leaf
	identity map[string]string // below dynamic/instance-identity/; "" is the listing
}

// New returns a Handler.
func New(o Options) *Handler {
	return &Handler{o: o, modified: leafFields(o.Started), identity: identity(o.Identity)}
}

// identity is what is served of the document: what has a value, and its
// listing. Nobody makes a dsa2048, see package document, and fws/ would speak of
// EC2's own monitoring.
func identity(signed document.Signed) map[string]string {
	served := map[string]string{"document": signed.Document, "pkcs7": signed.PKCS7, "rsa2048": signed.RSA2048, "signature": signed.Signature}
	maps.DeleteFunc(served, func(_, value string) bool { return value == "" })
	served[""] = strings.Join(slices.Sorted(maps.Keys(served)), "\n")
	return served
}

const (
	ttlHeader   = "x-aws-ec2-metadata-token-ttl-seconds"
	tokenHeader = "x-aws-ec2-metadata-token" // #nosec G101 -- a name
)

// TokenPath is where session tokens are put for, and the one path that takes a
// PUT.
const TokenPath = "/latest/api/token" // #nosec G101 -- a path

var (
	tokenMethods = []imds.Field{{Name: "Allow", Value: "OPTIONS, PUT"}}
	readMethods  = []imds.Field{{Name: "Allow", Value: "GET, HEAD"}}
)

// Serve answers one request. The order of the checks is EC2's: the token's own
// path, the token, the method, the path.
func (h *Handler) Serve(ctx context.Context, r *imds.Request) imds.Response {
	switch {
	case r.Path == TokenPath:
		return h.tokenResponse(r)
	case r.Method == "PUT":
		return imds.Empty(403)
	}
	path, ok := normalize(r.Path)
	left, valid := h.session(r, path)
	if !valid {
		return imds.Empty(401)
	}
	resp := notFound
	switch {
	case r.Method != "GET" && r.Method != "HEAD":
		resp = imds.Empty(405)
		resp.Head = readMethods
	case ok:
		resp = h.read(ctx, r, path)
	}
	if left > 0 {
		ttl := imds.Field{Name: "X-Aws-Ec2-Metadata-Token-Ttl-Seconds", Value: strconv.FormatInt(int64(left/time.Second), 10)}
		resp.Head = append([]imds.Field{ttl}, resp.Head...)
	}
	return resp
}

func (h *Handler) tokenResponse(r *imds.Request) imds.Response {
	switch r.Method {
	case "PUT":
	case "OPTIONS":
		resp := imds.Empty(200)
		resp.Head = tokenMethods
		return resp
	default:
		resp := imds.Empty(405)
		resp.Head = tokenMethods
		return resp
	}
	text, n := r.Lookup(ttlHeader)
	ttl, ok := parseTTL(text)
	if n != 1 || !ok {
		return imds.Empty(400)
	}
	resp := imds.Empty(200)
	resp.Head = []imds.Field{{Name: "X-Aws-Ec2-Metadata-Token-Ttl-Seconds", Value: text}}
	resp.Body = []byte(h.o.Sealer.Issue(ttl))
	resp.HopLimited = true
	return resp
}

// parseTTL takes 1 to 21600 in decimal digits. More is refused, not clamped,
// as on EC2.
func parseTTL(text string) (time.Duration, bool) {
	if len(text) == 0 || len(text) > 5 || text[0] < '1' || text[0] > '9' {
		return 0, false
	}
	n, err := strconv.Atoi(text)
	ttl := time.Duration(n) * time.Second
	return ttl, err == nil && ttl >= token.MinTTL && ttl <= token.MaxTTL
}

// session checks the session token. left is 0 for a valid request of version
// 1. A token that is there and does not hold is never taken for none.
func (h *Handler) session(r *imds.Request, path string) (left time.Duration, valid bool) {
	text, n := r.Lookup(tokenHeader)
	switch {
	case n == 0 && h.o.Tokens == Optional:
		return 0, true
	case n == 0 && h.o.Tokens == Credentials:
		_, below, _ := strings.Cut(path, "/")
		return 0, below != "meta-data/iam" && !strings.HasPrefix(below, "meta-data/iam/")
	case n != 1:
		return 0, false
	}
	left, err := h.o.Sealer.Check(text)
	return left, err == nil
}

// normalize turns a target into a path without slashes at its ends. It
// tolerates what known clients send, doubled slashes (ec2-metadata, minio-js)
// and percent escapes (URI builders of .NET and Java), and decodes once. It
// refuses dot segments, and escapes that would make a slash or a control
// character.
func normalize(target string) (path string, ok bool) {
	if !strings.ContainsAny(target, "%.") && !strings.Contains(target, "//") {
		return strings.Trim(target, "/"), true
	}
	var segs []string
	for seg := range strings.SplitSeq(target, "/") {
		plain, err := url.PathUnescape(seg)
		if err != nil || plain == "." || plain == ".." || strings.ContainsFunc(plain, func(r rune) bool { return r < ' ' || r == '/' || r == 0x7f }) {
			return "", false
		}
		if plain != "" {
			segs = append(segs, plain)
		}
	}
	return strings.Join(segs, "/"), true
}

// versions are those of the root listing of 2024. Each serves the same tree.
var versions = []string{"1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01",
	"2009-04-04", "2011-01-01", "2011-05-01", "2012-01-12", "2014-02-25", "2014-11-05", "2015-10-20", "2016-04-19", "2016-06-30",
	"2016-09-02", "2018-03-28", "2018-08-17", "2018-09-24", "2019-10-01", "2020-10-27", "2021-01-03", "2021-03-23", "2021-07-15",
	"2022-09-24", "2024-04-11", "latest"}

var root = strings.Join(versions, "\n")

func (h *Handler) read(ctx context.Context, r *imds.Request, path string) imds.Response {
	if path == "" {
		return h.leaf(root)
	}
	version, path, _ := strings.Cut(path, "/")
	if !slices.Contains(versions, version) {
		return notFound
	}
	top, below, _ := strings.Cut(path, "/")
	switch top {
	case "":
		if h.o.UserData == nil {
			return h.leaf("dynamic\nmeta-data")
		}
		return h.leaf("dynamic\nmeta-data\nuser-data")
	case "meta-data":
		return h.metaData(ctx, r, below)
	case "dynamic":
		if below == "" {
			return h.leaf("instance-identity/")
		}
		dir, name, _ := strings.Cut(below, "/")
		if value, ok := h.identity[name]; ok && dir == "instance-identity" {
			return h.leaf(value)
		}
	case "user-data":
		if below == "" && h.o.UserData != nil {
			return h.userData()
		}
	}
	return notFound
}

func (h *Handler) metaData(ctx context.Context, r *imds.Request, path string) imds.Response {
	if top, below, _ := strings.Cut(path, "/"); top == "iam" {
		return h.iam(ctx, r.Caller, below)
	}
	tree := h.o.Tree()
	if value, ok := tree.Leaf(path); ok {
		return h.leaf(value)
	}
	var more []string
	if path == "" && h.o.Gate.HasRole(r.Caller) {
		more = []string{"iam/"}
	}
	if listing, ok := tree.List(path, more...); ok {
		return h.leaf(listing)
	}
	return notFound
}

// leaf is the answer of every path that has a value, listings included.
func (h *Handler) leaf(value string) imds.Response {
	return imds.Response{Status: 200, Head: h.modified, Body: []byte(value)}
}

func (h *Handler) userData() imds.Response {
	fields := slices.Clone(h.modified)
	fields[0].Value, fields[1].Value = "application/octet-stream", "bytes"
	return imds.Response{Status: 200, Head: fields, Body: h.o.UserData}
}

func leafFields(modified time.Time) []imds.Field {
	return []imds.Field{
		{Name: "Content-Type", Value: "text/plain"},
		{Name: "Accept-Ranges", Value: "none"},
		{Name: "Last-Modified", Value: modified.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")},
	}
}

// notFound is EC2's page, byte for byte: 339 of them.
var notFound = imds.Response{
	Status: 404,
	Head:   []imds.Field{{Name: "Content-Type", Value: "text/html"}},
	Body: []byte(`<?xml version="1.0" encoding="iso-8859-1"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"
		 "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
 <head>
  <title>404 - Not Found</title>
 </head>
 <body>
  <h1>404 - Not Found</h1>
 </body>
</html>
`),
}
