//go:build linux

package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"

	"golang.org/x/sys/unix"
)

// ticks is USER_HZ, the unit of /proc/stat and /proc/PID/stat: 100 a second on
// every architecture that Go knows.
const ticks = 100

// A sample is one slice: the load of wrk on one server.
type sample struct {
	Server     string  `json:"server"` // "baseline" or "candidate"
	Method     string  `json:"method"`
	Conns      int     `json:"connections"`
	Seconds    float64 `json:"seconds"`
	Requests   int     `json:"requests"`
	PerSecond  float64 `json:"requests_per_second"`
	CPU        float64 `json:"cpu_us_per_request"` // of the server, user and system
	P50        float64 `json:"p50_us"`
	P99        float64 `json:"p99_us"`
	VmRSS      int     `json:"vm_rss_kb"`
	VmHWM      int     `json:"vm_hwm_kb"`
	ServerCore float64 `json:"others_on_server_core"` // share of the slice that other processes used
	LoadCore   float64 `json:"others_on_load_core"`
	Errors     int     `json:"socket_errors"` // connections that broke or took over two seconds
}

// clean reports whether other processes left both cores alone.
func (s sample) clean() bool { return s.ServerCore <= 0.1 && s.LoadCore <= 0.1 }

// A server is what wrk loads.
type server struct {
	name  string
	pid   int
	url   string
	args  []string // of wrk: headers, or a script
	audit string   // a file that grows with the requests; "" for none
}

// slice loads srv for two seconds.
func slice(t testing.TB, srv server, method string, conns int, cores [2]int) sample {
	t.Helper()
	// One connection a request, as every SDK does.
	argv := append([]string{"-t", "1", "-c", strconv.Itoa(conns), "-d", "2s", "--latency", "-H", "Connection: close"}, srv.args...)
	cmd := exec.Command("wrk", append(argv, srv.url)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}

	coresBefore, cpuBefore, began := busy(t, cores), cpu(t, srv.pid), time.Now()
	var err error
	onCore(t, cores[1], func() { err = cmd.Start() })
	if err != nil {
		t.Fatalf("wrk: %v", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("wrk: %v\n%s", err, out.Bytes())
	}
	took, cpuAfter, coresAfter := time.Since(began).Seconds(), cpu(t, srv.pid), busy(t, cores)

	s := parseWrk(t, out.String())
	s.Server, s.Method, s.Conns, s.Seconds = srv.name, method, conns, took
	s.CPU = (cpuAfter - cpuBefore) * 1e6 / float64(s.Requests)
	wrk := (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	s.ServerCore = max(0, coresAfter[0]-coresBefore[0]-(cpuAfter-cpuBefore)) / took
	s.LoadCore = max(0, coresAfter[1]-coresBefore[1]-wrk) / took
	s.VmRSS, s.VmHWM = memory(t, srv.pid)
	if srv.audit != "" { // a hundred thousand records more do not fill the disk
		if err := os.Truncate(srv.audit, 0); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	return s
}

var (
	wrkRequests = regexp.MustCompile(`(\d+) requests in `)
	wrkRate     = regexp.MustCompile(`Requests/sec:\s+([\d.]+)`)
	wrkPercent  = regexp.MustCompile(`(50|99)%\s+([\d.]+)(us|ms|s)`)
	wrkRefused  = regexp.MustCompile(`(?m)^.*Non-2xx.*$`)
	wrkErrors   = regexp.MustCompile(`Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)`)
)

// parseWrk reads wrk's report. An answer that is not 2xx makes it worthless.
func parseWrk(t testing.TB, report string) sample {
	t.Helper()
	if refused := wrkRefused.FindString(report); refused != "" {
		t.Fatalf("wrk:%s", refused)
	}
	var s sample
	if errs := wrkErrors.FindStringSubmatch(report); errs != nil {
		for _, n := range errs[1:] {
			s.Errors += int(number(t, n))
		}
	}
	requests, rate := wrkRequests.FindStringSubmatch(report), wrkRate.FindStringSubmatch(report)
	percents := wrkPercent.FindAllStringSubmatch(report, -1)
	if requests == nil || rate == nil || len(percents) != 2 {
		t.Fatalf("wrk's report is not understood:\n%s", report)
	}
	s.Requests, s.PerSecond = int(number(t, requests[1])), number(t, rate[1])
	for i, p := range []*float64{&s.P50, &s.P99} {
		*p = number(t, percents[i][2]) * map[string]float64{"us": 1, "ms": 1e3, "s": 1e6}[percents[i][3]]
	}
	if s.Requests == 0 {
		t.Fatalf("wrk made no request:\n%s", report)
	}
	return s
}

// twoCores returns the first two that this process may use, for the server and
// for the load.
func twoCores(t testing.TB) [2]int {
	t.Helper()
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	var found []int
	for i := 0; i < 1024 && len(found) < 2; i++ {
		if set.IsSet(i) {
			found = append(found, i)
		}
	}
	if len(found) < 2 {
		ownnet.Missing(t, "a second core, for the load")
	}
	return [2]int(found)
}

// onCore calls start with this thread on one core: a child inherits that, and
// a Go program among them starts with GOMAXPROCS=1.
func onCore(t testing.TB, core int, start func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var was, one unix.CPUSet
	one.Set(core)
	if err := unix.SchedGetaffinity(0, &was); err != nil {
		t.Fatal(err)
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.SchedSetaffinity(0, &was); err != nil {
			panic(err) // the thread must not go back to the scheduler like this
		}
	}()
	start()
}

// busy returns the seconds that each core has been busy since boot.
func busy(t testing.TB, cores [2]int) (seconds [2]float64) {
	t.Helper()
	text := readFile(t, "/proc/stat")
	for i, core := range cores {
		found := false
		for line := range strings.Lines(text) {
			f := strings.Fields(line)
			if len(f) < 9 || f[0] != "cpu"+strconv.Itoa(core) {
				continue
			}
			found = true
			// user nice system idle iowait irq softirq steal; guests are in user
			for n, v := range f[1:9] {
				if n != 3 && n != 4 {
					seconds[i] += number(t, v) / ticks
				}
			}
		}
		if !found {
			t.Fatalf("core %d is not in /proc/stat", core)
		}
	}
	return seconds
}

// cpu returns the seconds that a process has used, in user and system mode.
func cpu(t testing.TB, pid int) float64 {
	t.Helper()
	stat := readFile(t, fmt.Sprintf("/proc/%d/stat", pid))
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:]) // the name may hold anything
	return (number(t, f[11]) + number(t, f[12])) / ticks
}

// memory returns VmRSS and its peak VmHWM in kB.
func memory(t testing.TB, pid int) (rss, peak int) {
	t.Helper()
	for line := range strings.Lines(readFile(t, fmt.Sprintf("/proc/%d/status", pid))) {
		switch f := strings.Fields(line); f[0] {
		case "VmRSS:":
			rss = int(number(t, f[1]))
		case "VmHWM:":
			peak = int(number(t, f[1]))
		}
	}
	return rss, peak
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func number(t testing.TB, s string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
