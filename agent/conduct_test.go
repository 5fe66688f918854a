package agent_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostrole/hostrole/agent"
	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/imds/document"
)

// A treeHost is an agent that was built and is asked without a connection.
type treeHost struct {
	*agent.Agent
	log *lockedBuffer
}

// newTree builds an agent in a folder of its own, with more lines in its
// configuration and its environment.
func newTree(t *testing.T, extra string, env ...string) treeHost {
	t.Helper()
	h, err := buildTree(t, extra, env...)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func buildTree(t *testing.T, extra string, env ...string) (treeHost, error) {
	t.Helper()
	cfg, err := config.Parse(filepath.Join(t.TempDir(), "hostrole.toml"), []byte(`version = 1
[upstream]
region = "eu-central-1"
[[listener]]
name = "host"
kind = "imds"
address = ["127.0.0.1:8080"]
ingress = ""
manage_address = false
tokens = "optional"
[source.keys]
kind = "static"
access_key_id = "AKIAIOSFODNN7EXAMPLE"
secret_access_key = { env = "TREE_SECRET" }
[role.app]
arn = "arn:aws:iam::111122223333:role/app"
from = "source.keys"
[[allow]]
any = true
roles = ["app"]
`+extra))
	if err != nil {
		t.Fatal(err)
	}
	h := treeHost{log: &lockedBuffer{}}
	h.Agent, err = agent.New(cfg, agent.Options{Log: slog.New(slog.NewJSONHandler(h.log, nil)), Environ: append(env, "TREE_SECRET=x")})
	return h, err
}

func (h treeHost) get(t *testing.T, path string) (status int, body string) {
	t.Helper()
	r := h.Ask(t.Context(), "host", &imds.Request{Method: "GET", Path: "/latest/" + path})
	return r.Status, string(r.Body)
}

func (h treeHost) want(t *testing.T, path, body string) {
	t.Helper()
	if status, got := h.get(t, path); status != 200 || got != body {
		t.Errorf("%s is %d %q, want %q", path, status, got, body)
	}
}

func TestTreeOfAHost(t *testing.T) {
	h := newTree(t, `[metadata]
instance_id = "i-0123456789abcdef0"
[metadata.tags]
Name = "db-7"
[metadata.extra]
"placement/rack" = "r12"
"mac" = "the operator's word"
"network/interfaces/macs/02:00:00:00:00:01/vpc-id" = "vpc-1"
`)
	h.want(t, "meta-data/instance-id", "i-0123456789abcdef0")
	h.want(t, "meta-data/placement/region", "eu-central-1")
	h.want(t, "meta-data/placement/", "availability-zone\nrack\nregion")
	h.want(t, "meta-data/services/domain", "amazonaws.com")
	h.want(t, "meta-data/tags/instance/Name", "db-7")
	h.want(t, "meta-data/mac", "the operator's word")
	h.want(t, "meta-data/network/interfaces/macs/02:00:00:00:00:01/", "vpc-id")
	h.want(t, "dynamic/instance-identity/", "document")
	if status, top := h.get(t, "meta-data/"); status != 200 || strings.Contains(top, "ami-id") || strings.Contains(top, "instance-type") || strings.Contains(top, "system") {
		t.Errorf("the tree lists %q, and more of it than is known", top)
	}
	// The address of the document is the one of the tree, if there is one.
	var doc struct{ PrivateIP *string }
	_, text := h.get(t, "dynamic/instance-identity/document")
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	status, local := h.get(t, "meta-data/local-ipv4")
	if (status == 200) != (doc.PrivateIP != nil) || doc.PrivateIP != nil && *doc.PrivateIP != local {
		t.Errorf("local-ipv4 is %d %q, and the document says %s", status, local, text)
	}
	if addr, err := netip.ParseAddr(local); status == 200 && (err != nil || addr.IsLinkLocalUnicast() || addr.IsLoopback()) {
		t.Errorf("local-ipv4 is %q", local)
	}
}

// The key is made once, and what it signs is the document that is served.
func TestSiteKeyOfTheStateDirectory(t *testing.T) {
	dir := t.TempDir()
	env := "STATE_DIRECTORY=" + dir + ":/elsewhere"
	h := newTree(t, "", env)
	h.want(t, "dynamic/instance-identity/", "document\npkcs7\nrsa2048\nsignature")
	text, err := os.ReadFile(filepath.Join(dir, "site.pem"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := document.ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	_, doc := h.get(t, "dynamic/instance-identity/document")
	for _, name := range []string{"pkcs7", "rsa2048", "signature"} {
		_, signature := h.get(t, "dynamic/instance-identity/"+name)
		if err := document.Verify(key.Certificate(), []byte(doc), []byte(signature)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	newTree(t, "", env)
	if again, err := os.ReadFile(filepath.Join(dir, "site.pem")); err != nil || !bytes.Equal(text, again) {
		t.Errorf("the next start made another key, %v", err)
	}
}

// A key that cannot be had costs the signatures alone, and the log says so.
func TestSiteKeyThatCannotBeHad(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "site.pem"), []byte("no key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := newTree(t, "", "STATE_DIRECTORY="+dir)
	h.want(t, "dynamic/instance-identity/", "document")
	if !strings.Contains(h.log.String(), "without signatures") {
		t.Errorf("the log does not say so: %s", h.log)
	}
}

func TestUserDataIsServedAsItIs(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(z, "#!/bin/sh\n")
	_ = z.Close()
	file := filepath.Join(t.TempDir(), "user-data")
	for name, data := range map[string][]byte{"empty": {}, "compressed": zipped.Bytes(), "as large as may be": bytes.Repeat([]byte{0xff}, 16<<10)} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if status, got := newTree(t, "[metadata]\nuser_data = { file = \""+file+"\" }\n").get(t, "user-data"); status != 200 || got != string(data) {
			t.Errorf("%s: %d and %d bytes, want %d", name, status, len(got), len(data))
		}
	}
	if err := os.WriteFile(file, make([]byte, 16<<10+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := buildTree(t, "[metadata]\nuser_data = { file = \""+file+"\" }\n"); err == nil || !strings.Contains(err.Error(), "16384 bytes at most") {
		t.Errorf("one byte more: %v", err)
	}
}
