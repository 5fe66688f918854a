package page_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A browser is a Chromium that is driven by the W3C's WebDriver protocol.
type browser struct {
	t    *testing.T
	base string // of the session
}

// browse starts a browser, without JavaScript, that goes nowhere but where it
// is sent.
func browse(t *testing.T, dark bool, wide, high int) *browser {
	t.Helper()
	for _, program := range []string{"chromedriver", "chromium"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("HOSTROLE_E2E") == "require" {
				t.Fatalf("missing, and HOSTROLE_E2E=require: %s: run agent/e2e/setup.sh", program)
			}
			t.Skipf("SKIPPED, missing: %s: run agent/e2e/setup.sh", program)
		}
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().(*net.TCPAddr)
	_ = l.Close()
	home := t.TempDir()
	cmd := exec.Command("chromedriver", fmt.Sprintf("--port=%d", at.Port), "--silent")
	cmd.Env = []string{"HOME=" + home, "XDG_RUNTIME_DIR=" + home, "PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8", "TZ=UTC"}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &said, &said, 5*time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("chromedriver wrote:\n%s", said.String())
		}
	})
	b := &browser{t: t, base: fmt.Sprintf("http://%v", at)}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); ; <-tick.C {
		resp, err := http.Get(b.base + "/status")
		if err == nil {
			_ = resp.Body.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatalf("chromedriver does not answer: %v", err)
		}
	}
	args := []string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--force-device-scale-factor=1",
		"--host-resolver-rules=MAP elsewhere.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
		fmt.Sprintf("--window-size=%d,%d", wide, high), "--user-data-dir=" + filepath.Join(home, "profile")}
	if dark {
		args = append(args, "--force-dark-mode", "--blink-settings=preferredColorScheme=0")
	}
	var made struct{ SessionID string }
	b.call(http.MethodPost, "/session", map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{
		"browserName": "chrome", "goog:loggingPrefs": map[string]string{"browser": "ALL"},
		"goog:chromeOptions": map[string]any{"binary": "/usr/bin/chromium", "args": args,
			"prefs": map[string]any{"profile.managed_default_content_settings.javascript": 2}},
	}}}, &made)
	b.base += "/session/" + made.SessionID
	t.Cleanup(func() { b.call(http.MethodDelete, "", nil, nil) })
	return b
}

func (b *browser) call(method, path string, body, into any) {
	b.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		b.t.Fatal(err)
	}
	var send io.Reader
	if method == http.MethodPost {
		send = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, b.base+path, send)
	if err != nil {
		b.t.Fatal(err)
	}
	resp, err := (&http.Client{Timeout: time.Minute}).Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		b.t.Fatalf("%s %s: %.800s", method, path, answer)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(answer, &struct{ Value any }{into}); err != nil {
		b.t.Fatalf("%s: %v: %.300s", path, err, answer)
	}
}

func (b *browser) open(url string) {
	b.t.Helper()
	b.call(http.MethodPost, "/url", map[string]string{"url": url}, nil)
}

func (b *browser) title() (s string) {
	b.t.Helper()
	b.call(http.MethodGet, "/title", nil, &s)
	return s
}

func (b *browser) at() (s string) {
	b.t.Helper()
	b.call(http.MethodGet, "/url", nil, &s)
	return s
}

func (b *browser) find(selector string) string {
	b.t.Helper()
	var found map[string]string
	b.call(http.MethodPost, "/element", map[string]string{"using": "css selector", "value": selector}, &found)
	for _, id := range found {
		return id
	}
	return ""
}

func (b *browser) count(selector string) int {
	b.t.Helper()
	var found []any
	b.call(http.MethodPost, "/elements", map[string]string{"using": "css selector", "value": selector}, &found)
	return len(found)
}

func (b *browser) text(selector string) (s string) {
	b.t.Helper()
	b.call(http.MethodGet, "/element/"+b.find(selector)+"/text", nil, &s)
	return s
}

// style is a property as the browser computed it.
func (b *browser) style(selector, property string) (s string) {
	b.t.Helper()
	b.call(http.MethodGet, "/element/"+b.find(selector)+"/css/"+property, nil, &s)
	return s
}

func (b *browser) click(selector string) {
	b.t.Helper()
	b.call(http.MethodPost, "/element/"+b.find(selector)+"/click", map[string]any{}, nil)
}

// number is what a script of the driver's returns; scripts of the page do not
// run.
func (b *browser) number(script string) int {
	b.t.Helper()
	var n float64
	b.call(http.MethodPost, "/execute/sync", map[string]any{"script": script, "args": []any{}}, &n)
	return int(n)
}

// picture is what the window shows, as PNG.
func (b *browser) picture() []byte {
	b.t.Helper()
	var text string
	b.call(http.MethodGet, "/screenshot", nil, &text)
	png, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		b.t.Fatal(err)
	}
	return png
}

// complaints are what the browser wrote about pages, such as what a policy
// forbade.
func (b *browser) complaints() (all []string) {
	b.t.Helper()
	var log []struct{ Level, Message string }
	b.call(http.MethodPost, "/se/log", map[string]string{"type": "browser"}, &log)
	for _, l := range log {
		if !strings.Contains(l.Message, "favicon.ico") {
			all = append(all, l.Level+" "+l.Message)
		}
	}
	return all
}
