package ingress_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/ingress"
)

func TestNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ingress, device                 string
		names, comes, severalMayBeMeant bool
	}{
		{"docker0", "docker0", true, true, false},
		{"docker0", "docker01", false, true, false},
		{"docker", "docker0", false, true, false},
		{"br-*", "br-1a2b", true, true, true},
		{"br-*", "br-", true, true, true},
		{"br-*", "br", false, true, true},
		{"br-*", "xbr-1", false, true, true},
		{"*", "cni0", true, true, true},
		{"*", "lo", false, true, true},
		{"*", "", false, true, true},
		{"l*", "lo", false, true, true},
		{"lo", "lo", true, false, false},
		{"", "", true, false, false},
		{"", "lo", false, false, false},
	} {
		if got := ingress.Names(c.ingress, c.device); got != c.names {
			t.Errorf("%q means %q: %t", c.ingress, c.device, got)
		}
		if ingress.Comes(c.ingress) != c.comes || ingress.Pattern(c.ingress) != c.severalMayBeMeant {
			t.Errorf("%q: may come and go: %t, is a pattern: %t", c.ingress, ingress.Comes(c.ingress), ingress.Pattern(c.ingress))
		}
	}
}

// A harbour is a host whose devices are what the test says. A socket on one is a
// listener on a loopback address.
type harbour struct {
	mu      sync.Mutex
	devices []ingress.Device
	broken  map[string]error        // devices on which there can be no socket
	at      map[string]net.Listener // the newest sockets
	events  []string
	log     journal
}

// A journal is what was logged so far.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func (h *harbour) are(devices ...ingress.Device) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.devices = devices
}

func (h *harbour) tell(format string, args ...any) {
	h.events = append(h.events, fmt.Sprintf(format, args...))
}

// told are the events since it was asked the last time.
func (h *harbour) told() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := strings.Join(h.events, ", ")
	h.events = nil
	return all
}

func (h *harbour) berth(means string, before ...string) *ingress.Berth {
	return &ingress.Berth{Name: "listener", Ingress: means, Before: before,
		Open: func(ctx context.Context, device string) (net.Listener, error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			if err := h.broken[device]; err != nil {
				return nil, err
			}
			l, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", "127.0.0.1:0")
			if err == nil {
				h.at[device] = l
				h.tell("open %s", device)
			}
			return l, err
		},
		Serve: func(ctx context.Context, l net.Listener) error {
			stop := context.AfterFunc(ctx, func() { _ = l.Close() })
			defer stop()
			for {
				c, err := l.Accept()
				if err != nil {
					return err
				}
				_, _ = io.WriteString(c, "served")
				_ = c.Close()
			}
		},
		Forget: func(device string) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.tell("forget %s", device)
		}}
}

// serves reports whether somebody answers on a device.
func (h *harbour) serves(device string) bool {
	h.mu.Lock()
	l := h.at[device]
	h.mu.Unlock()
	if l == nil {
		return false
	}
	c, err := net.DialTimeout("tcp4", l.Addr().String(), time.Second)
	if err != nil {
		return false
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	b, _ := io.ReadAll(c)
	return string(b) == "served"
}

func newHarbour(devices ...ingress.Device) *harbour {
	return &harbour{devices: devices, broken: map[string]error{}, at: map[string]net.Listener{}}
}

// run starts a Follower, and returns what has it look.
func (h *harbour) run(t *testing.T, berths ...*ingress.Berth) (look func(), lost map[*ingress.Berth]error) {
	t.Helper()
	f := ingress.NewFollower(slog.New(slog.NewTextHandler(&h.log, nil)), berths)
	looked := make(chan struct{})
	f.Devices = func() ([]ingress.Device, error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		defer func() {
			select {
			case looked <- struct{}{}:
			default:
			}
		}()
		return slices.Clone(h.devices), nil
	}
	lost, err := f.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	news, ended := make(chan struct{}), make(chan error)
	go func() { ended <- f.Run(ctx, news) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		f.Close()
		for device := range h.at {
			if h.serves(device) {
				t.Errorf("%s is served after the end", device)
			}
		}
	})
	return func() { news <- struct{}{}; news <- struct{}{} }, lost // the second is taken once the first is done
}

func bridge(name string, index int) ingress.Device {
	return ingress.Device{Name: name, Index: index, Leads: true}
}

func TestDevicesComeAndGo(t *testing.T) {
	h := newHarbour(bridge("br-a", 2), ingress.Device{Name: "br-uplink", Index: 3}, bridge("docker0", 4))
	b := h.berth("br-*")
	look, lost := h.run(t, b)
	if got := h.told(); got != "open br-a" || len(lost) > 0 {
		t.Errorf("at first: %s, %v", got, lost)
	}
	look()
	if got := h.told(); got != "" || !h.serves("br-a") {
		t.Errorf("nothing has changed: %s", got)
	}
	h.are(bridge("br-b", 5), bridge("br-a", 2))
	look()
	if got := h.told(); got != "open br-b" || !h.serves("br-a") || !h.serves("br-b") || fmt.Sprint(b.Devices()) != "[br-a br-b]" {
		t.Errorf("one more: %s, %v", got, b.Devices())
	}
	old := h.at["br-a"]
	h.are(bridge("br-a", 6), bridge("br-b", 5))
	look()
	if got := h.told(); got != "forget br-a, open br-a" || !h.serves("br-a") || h.at["br-a"] == old {
		t.Errorf("made anew under its old name: %s", got)
	}
	closes(t, old)
	h.are()
	look()
	if got := h.told(); !strings.Contains(got, "forget br-a") || !strings.Contains(got, "forget br-b") || len(b.Devices()) > 0 {
		t.Errorf("all gone: %s, %v", got, b.Devices())
	}
	closes(t, h.at["br-a"])
	closes(t, h.at["br-b"])
}

// closes waits until nobody listens any more.
func closes(t *testing.T, l net.Listener) {
	t.Helper()
	for range 500 {
		c, err := net.DialTimeout("tcp4", l.Addr().String(), time.Second)
		if err != nil {
			return
		}
		_ = c.Close()
		<-time.After(10 * time.Millisecond)
	}
	t.Error("the socket of a device that is gone is open")
}

// A device that two mean belongs to the first. An ingress without a pattern
// means its device, whatever it leads to.
func TestFirstThatMeansADevice(t *testing.T) {
	h := newHarbour(bridge("br-a", 2), bridge("br-b", 3), ingress.Device{Name: "eth1", Index: 4})
	one, rest, uplink := h.berth("br-b"), h.berth("*", "br-b"), h.berth("eth1")
	h.run(t, one, rest, uplink)
	for b, want := range map[*ingress.Berth]string{one: "[br-b]", rest: "[br-a]", uplink: "[eth1]"} {
		if got := fmt.Sprint(b.Devices()); got != want {
			t.Errorf("%s has %s, want %s", b.Ingress, got, want)
		}
	}
}

func TestDeviceWithoutASocket(t *testing.T) {
	h := newHarbour(bridge("br-a", 2), bridge("br-b", 3))
	h.broken["br-a"] = errors.New("the port is taken")
	b, waiting := h.berth("br-a"), h.berth("cni0")
	some := h.berth("br-*")
	look, lost := h.run(t, b, waiting, some)
	if lost[b] == nil || !strings.Contains(lost[b].Error(), "on br-a: the port is taken") || lost[waiting] != nil || lost[some] != nil {
		t.Errorf("lost are %v: want the one whose device is there, and that has no other", lost)
	}
	if !strings.Contains(b.Failure(), "the port is taken") || waiting.Failure() != "" {
		t.Errorf("the failures are %q and %q", b.Failure(), waiting.Failure())
	}
	look()
	if n := strings.Count(h.log.String(), "the port is taken"); n != 2 { // once for each berth
		t.Errorf("it is logged %d times:\n%s", n, h.log.String())
	}
	if n := strings.Count(h.log.String(), "waits for its device"); n != 1 {
		t.Errorf("that one waits is logged %d times:\n%s", n, h.log.String())
	}
	h.mu.Lock()
	delete(h.broken, "br-a")
	h.mu.Unlock()
	look()
	if !h.serves("br-a") || b.Failure() != "" {
		t.Errorf("as soon as the port is free: %q", b.Failure())
	}
}

// A socket that fails is not the end of the others, and is opened anew.
func TestSocketThatFails(t *testing.T) {
	h := newHarbour(bridge("br-a", 2), bridge("br-b", 3))
	b := h.berth("br-*")
	serve, failed := b.Serve, make(chan struct{})
	var once sync.Once
	b.Serve = func(ctx context.Context, l net.Listener) (err error) {
		once.Do(func() { err = errors.Join(errors.New("out of order"), l.Close()) })
		if err != nil {
			defer close(failed)
			return err
		}
		return serve(ctx, l)
	}
	look, _ := h.run(t, b)
	<-failed
	for range 100 { // until it is known
		look()
		if h.serves("br-a") && h.serves("br-b") {
			break
		}
	}
	if got := h.told(); !h.serves("br-a") || !h.serves("br-b") || strings.Count(got, "forget") != 1 || strings.Count(got, "open") != 3 {
		t.Errorf("after a failure: %s", got)
	}
}

func TestDevicesAreBounded(t *testing.T) {
	var many []ingress.Device
	for i := range 300 {
		many = append(many, bridge(fmt.Sprintf("br-%03d", i), i+2))
	}
	h := newHarbour(many...)
	b := h.berth("br-*")
	h.run(t, b)
	if n := len(b.Devices()); n != 256 || b.Devices()[0] != "br-000" || b.Devices()[255] != "br-255" {
		t.Errorf("%d devices are served", n)
	}
	if !strings.Contains(h.log.String(), "left out=44") && !strings.Contains(h.log.String(), `"left out"=44`) {
		t.Errorf("nobody is told:\n%s", h.log.String())
	}
}
