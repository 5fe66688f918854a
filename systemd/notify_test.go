package systemd_test

import (
	"net"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/hostrole/hostrole/systemd"
)

func TestNotifySpeaksTheProtocol(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	for _, c := range []struct {
		send func() error
		want string
	}{
		{func() error { return systemd.Ready("serving 1 role") }, "READY=1\nSTATUS=serving 1 role"},
		{func() error { return systemd.Status("2 of 2 roles live") }, "STATUS=2 of 2 roles live"},
		{systemd.Stopping, "STOPPING=1"},
	} {
		if err := c.send(); err != nil {
			t.Fatal(err)
		}
		_ = l.SetReadDeadline(time.Now().Add(5 * time.Second))
		b := make([]byte, 256)
		n, err := l.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(b[:n]); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestReloadingIsOneDatagramWithItsTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	if err := systemd.Reloading(); err != nil {
		t.Fatal(err)
	}
	_ = l.SetReadDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 256)
	n, err := l.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(b[:n]); !regexp.MustCompile(`^RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]+$`).MatchString(got) {
		t.Errorf("got %q", got)
	}
}

func TestNotifyWithoutAManagerIsNoError(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := systemd.Ready("serving"); err != nil {
		t.Error(err)
	}
}
