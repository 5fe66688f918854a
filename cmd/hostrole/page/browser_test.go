package page_test

import (
	"flag"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/cmd/hostrole/page"
)

var update = flag.Bool("update", false, "write the screenshots of the documentation")

// start serves a page for a browser, until the test ends.
func start(t *testing.T, srv *page.Server) string {
	t.Helper()
	web := httptest.NewServer(srv)
	t.Cleanup(web.Close)
	return web.URL
}

// What a browser without JavaScript shows, bright and dark, and that it has
// nothing to complain about.
func TestBrowser(t *testing.T) {
	for _, dark := range []bool{false, true} {
		t.Run(map[bool]string{false: "bright", true: "dark"}[dark], func(t *testing.T) {
			t.Parallel()
			looks(t, dark)
		})
	}
}

func looks(t *testing.T, dark bool) {
	name, paper := "status-light.png", "rgba(246, 247, 249, 1)"
	if dark {
		name, paper = "status-dark.png", "rgba(14, 19, 26, 1)"
	}
	b := browse(t, dark, 1180, 2010)
	srv := serve(day())
	url := start(t, srv)
	first := srv.First()
	b.open(url + first)
	if got := b.title(); got != "5 of 5 roles · hostrole on db-7" {
		t.Errorf("the title is %q", got)
	}
	if at := b.at(); strings.Contains(at, "/open/") || strings.Contains(at, first) {
		t.Errorf("the token stays in the address bar: %s", at)
	}
	if got := b.style("body", "background-color"); got != paper {
		t.Errorf("the style does not reach the page: its background is %s, want %s", got, paper)
	}
	if *update {
		file := filepath.Join("../../../packaging/docs/screenshots", name)
		if err := os.WriteFile(file, b.picture(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b.click("nav a:nth-child(3)")
	if got := b.text("nav a[aria-current]"); got != "24h" {
		t.Errorf("a click on 24h shows %q", got)
	}
	b.click("header .end a")
	if got := b.text("header .end"); !strings.Contains(got, "paused") || b.text("nav a[aria-current]") != "24h" {
		t.Errorf("after a click on pause it says %q", got)
	}
	if all := b.complaints(); len(all) > 0 {
		t.Errorf("the browser complains:\n%s", strings.Join(all, "\n"))
	}
	b.open(url + first)
	if got := b.text("main"); !strings.Contains(got, "has been used") {
		t.Errorf("the address that was printed works twice: %s", got)
	}
	b.open(strings.Replace(url, "127.0.0.1", "elsewhere.example", 1))
	if got := b.text("main"); !strings.Contains(got, "127.0.0.1 and localhost alone") {
		t.Errorf("a name that somebody has pointed here shows %s", got)
	}
}

// What strangers call themselves stays text in a real browser; on a small screen
// nothing but tables is wider than it; and what is new comes without anybody's
// help.
func TestBrowserStrangers(t *testing.T) {
	t.Parallel()
	b := browse(t, false, 500, 900)
	srv := serve(everywhere(hostile))
	b.open(start(t, srv) + srv.First())
	if n := b.count("script, img"); n != 0 {
		t.Errorf("a name became %d elements", n)
	}
	if got := b.text("#callers ~ div tbody th"); !strings.Contains(got, "<script>alert(1)</script>") {
		t.Errorf("the caller is shown as %q", got)
	}
	if all := b.complaints(); len(all) > 0 {
		t.Errorf("the browser complains:\n%s", strings.Join(all, "\n"))
	}
	if n := b.number("return document.documentElement.scrollWidth - document.documentElement.clientWidth"); n > 0 {
		t.Errorf("the page is %d pixels wider than the screen", n)
	}
	loaded := b.number("return performance.timeOrigin")
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); b.number("return performance.timeOrigin") == loaded; <-tick.C {
		if time.Now().After(end) {
			t.Fatal("it was not loaded again")
		}
	}
}
