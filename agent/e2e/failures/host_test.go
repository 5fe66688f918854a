//go:build linux

package failures_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/devsts"
)

// AWS's documented examples.
const (
	account = "111122223333"
	keyID   = "AKIAIOSFODNN7EXAMPLE"
	secret  = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	user    = "arn:aws:iam::" + account + ":user/host"
	issuer  = "https://idp.example.com"
)

func arn(name string) string { return "arn:aws:iam::" + account + ":role/" + name }

// An sts is an upstream with its own clock.
type sts struct {
	*devsts.Server
	url  string
	oidc *devsts.Issuer
}

func newSTS(t *testing.T, fast time.Duration, tls bool) *sts {
	t.Helper()
	now := func() time.Time { return time.Now().Add(fast) }
	s := &sts{oidc: devsts.NewIssuer(issuer, now)}
	trust := []devsts.OIDCTrust{{Issuer: issuer, Subject: "*"}}
	s.Server = devsts.New(devsts.Options{
		Account: account, Region: "eu-central-1", Now: now,
		Users:     []devsts.User{{ARN: user, AccessKeyID: keyID, SecretAccessKey: secret}},
		Providers: []devsts.Provider{{Issuer: issuer, Audiences: []string{"sts.amazonaws.com"}, Keys: s.oidc.Keys}},
		Roles: []devsts.Role{
			{ARN: arn("app"), Principals: []string{user}, OIDC: trust},
			{ARN: arn("external"), Principals: []string{user}, ExternalID: "fra-dc2"},
			{ARN: arn("stranger"), Principals: []string{"arn:aws:iam::" + account + ":user/another"}},
			{ARN: arn("region"), Principals: []string{user}}, {ARN: arn("throttled"), Principals: []string{user}},
			{ARN: arn("broken"), Principals: []string{user}},
		},
	})
	var web *httptest.Server
	if tls {
		web = httptest.NewUnstartedServer(s)
		web.Config.ErrorLog = nil
		web.StartTLS()
	} else {
		web = httptest.NewServer(s)
	}
	t.Cleanup(web.Close)
	s.url = web.URL
	return s
}

// token writes a token with these claims to a file of its own.
func (s *sts) token(t *testing.T, claims map[string]any) string {
	t.Helper()
	all := map[string]any{"sub": "host-7", "aud": "sts.amazonaws.com", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
	for k, v := range claims {
		all[k] = v
	}
	return file(t, s.oidc.Mint(all), 0o600)
}

// file writes a file that everybody can find.
func file(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := errors.Join(os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
	return path
}

// A host is one machine with a daemon, or without.
type host struct {
	t      *testing.T
	dir    string
	socket string
	config string
	daemon *exec.Cmd
	log    *journal
	ended  chan struct{}
}

// A journal is what a daemon writes.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

func newHost(t *testing.T, config string) *host {
	t.Helper()
	h := &host{t: t, dir: t.TempDir()}
	for at := h.dir; len(at) > len(os.TempDir()); at = filepath.Dir(at) {
		if err := os.Chmod(at, 0o755); err != nil { // #nosec G302 -- other users' commands go through it
			t.Fatal(err)
		}
	}
	h.socket, h.config = filepath.Join(h.dir, "admin.sock"), filepath.Join(h.dir, "hostrole.toml")
	h.write(config)
	return h
}

// write gives the host a configuration; LISTENER stands for one that needs no
// rights, and KEYS for what most have in common.
func (h *host) write(config string) {
	h.t.Helper()
	config = strings.ReplaceAll(config, "LISTENER", "[[listener]]\nname = \"host\"\nkind = \"imds\"\naddress = [\"127.0.0.1:"+h.port()+"\"]\ningress = \"\"\nmanage_address = false\n")
	config = strings.ReplaceAll(config, "KEYS", "kind = \"static\"\naccess_key_id = \""+keyID+"\"\nsecret_access_key = { file = \""+h.key()+"\" }\n")
	head := fmt.Sprintf("version = 1\n[admin]\nsocket = %q\ngroup = \"\"\n[log]\nlevel = \"error\"\nformat = \"json\"\n[rotation]\nsplay = \"0s\"\n", h.socket)
	if err := os.WriteFile(h.config, []byte(head+config), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) key() string {
	path := filepath.Join(h.dir, "key")
	if err := os.WriteFile(path, []byte(secret), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// port is that of the listener, the same for as long as the host lives.
func (h *host) port() string {
	path := filepath.Join(h.dir, "port")
	if text, err := os.ReadFile(path); err == nil {
		return string(text)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	if err := errors.Join(l.Close(), os.WriteFile(path, []byte(port), 0o600)); err != nil {
		h.t.Fatal(err)
	}
	return port
}

// start runs the daemon until the test ends, and waits until it tells its
// status.
func (h *host) start() {
	h.t.Helper()
	h.log, h.ended = &journal{}, make(chan struct{})
	h.daemon = exec.Command(os.Getenv(binaryEnv), "run", "--config", h.config)
	h.daemon.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + h.dir}
	h.daemon.Stdout, h.daemon.Stderr, h.daemon.WaitDelay = h.log, h.log, 5*time.Second
	h.daemon.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := h.daemon.Start(); err != nil {
		h.t.Fatal(err)
	}
	go func() { _ = h.daemon.Wait(); close(h.ended) }()
	h.t.Cleanup(func() {
		_ = h.daemon.Process.Signal(syscall.SIGTERM)
		select {
		case <-h.ended:
		case <-time.After(10 * time.Second):
			_ = h.daemon.Process.Kill()
			<-h.ended
		}
		if h.t.Failed() {
			h.t.Logf("the daemon wrote:\n%s", h.log)
		}
	})
	h.until("it tells its status", func() bool {
		select {
		case <-h.ended:
			h.t.Fatal("the daemon ended")
		default:
		}
		_, err := os.Stat(h.socket)
		return err == nil && !strings.Contains(h.run("status"), "no daemon answers")
	})
}

func (h *host) until(what string, done func() bool) {
	h.t.Helper()
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); !done(); <-tick.C {
		if time.Now().After(end) {
			h.t.Fatalf("waited in vain until %s; status says\n%s", what, h.run("status"))
		}
	}
}

// status waits until the status has a text, and returns all of it on one line.
func (h *host) status(has string) string {
	h.t.Helper()
	var text string
	h.until("status says "+has, func() bool {
		text = h.run("status")
		return strings.Contains(text, has)
	})
	return text
}

// run is what a command of hostrole writes, on one line however it is broken.
func (h *host) run(args ...string) string { return h.runAs(0, args...) }

// runAs is run of another user.
func (h *host) runAs(uid uint32, args ...string) string {
	h.t.Helper()
	cmd := exec.Command(os.Getenv(binaryEnv), args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + h.dir, "HOSTROLE_ADMIN_SOCKET=" + h.socket}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if uid != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: uid}
		cmd.Dir = "/"
	}
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	var exited *exec.ExitError
	if err != nil && !errors.As(err, &exited) {
		h.t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(out)), " ")
}

// fails is what a daemon writes that does not come up.
func (h *host) fails(args ...string) string {
	return h.run(append([]string{"run", "--config", h.config}, args...)...)
}

// ask is the status of one request to the listener.
func (h *host) ask(method, path string, header ...string) int {
	h.t.Helper()
	req, err := http.NewRequest(method, "http://127.0.0.1:"+h.port()+path, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}
