//go:build linux

package e2e_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"
)

// results names the file that raw figures are added to. A relative path is
// below agent/e2e, where the go command runs this test.
var results = flag.String("results", "", "append the benchmarks' raw results to this `file`, as JSON lines")

const (
	baselineURL = "http://127.0.0.1:18080/"
	fewestPairs = 6
	// most bounds the search for clean pairs; six benchmarks of this length
	// stay under four minutes.
	most = 36 * time.Second
)

// BenchmarkCredentialsGET compares the GET of a credential, one connection a
// request, with the same bytes from the smallest net/http server that there
// is. Only ratios count: slices of both alternate, each server has one core to
// itself, and a pair that other processes disturbed is dropped.
func BenchmarkCredentialsGET(b *testing.B) { compare(b, http.MethodGet) }

// BenchmarkTokenPUT compares the making of a session token likewise.
func BenchmarkTokenPUT(b *testing.B) { compare(b, http.MethodPut) }

func compare(b *testing.B, method string) {
	tool(b, "wrk")
	cores := twoCores(b)
	// Tens of thousands of connections a second want all the ports there are.
	// Both settings are the namespace's own.
	for name, value := range map[string]string{"ip_local_port_range": "1024 65535", "tcp_tw_reuse": "1"} {
		if err := os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	candidate := benchCandidate(b, method, cores[0])
	baseline := benchBaseline(b, method, cores[0])
	baseIdle, _ := memory(b, baseline.pid)
	idle, _ := memory(b, candidate.pid)
	b.Logf("VmRSS before the load: candidate %d kB, baseline %d kB", idle, baseIdle)
	for _, conns := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("connections=%d", conns), func(b *testing.B) {
			var pairs [][2]sample
			dropped := 0
			for end := time.Now().Add(most); len(pairs) < fewestPairs; {
				if time.Now().After(end) {
					report(b, pairs, dropped)
					b.Fatalf("only %d clean pairs in %v, want %d: other processes use these cores; try again when the machine is idle", len(pairs), most, fewestPairs)
				}
				pair := [2]sample{slice(b, baseline, method, conns, cores), slice(b, candidate, method, conns, cores)}
				record(b, pair)
				switch {
				case !pair[0].clean() || !pair[1].clean():
					dropped++
				case pair[0].Errors+pair[1].Errors > 0:
					b.Fatalf("on undisturbed cores %d connections to the baseline broke, and %d to the candidate", pair[0].Errors, pair[1].Errors)
				default:
					pairs = append(pairs, pair)
				}
			}
			report(b, pairs, dropped)
		})
	}
}

// benchCandidate is hostrole with one role, every rule and the audit on. The
// credential comes from a program, so that no server shares the machine.
func benchCandidate(b *testing.B, method string, core int) server {
	b.Helper()
	dir := b.TempDir()
	audit := filepath.Join(dir, "audit")
	keys := filepath.Join(dir, "keys.json")
	// As long as those of STS: a document of 1.3 kB.
	err := os.WriteFile(keys, encode(b, map[string]any{
		"Version": 1, "AccessKeyId": exampleKey, "SecretAccessKey": exampleSecret,
		"SessionToken": strings.Repeat("IQoJb3JpZ2luX2VjE", 60), "Expiration": time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
	}), 0o600)
	if err != nil {
		b.Fatal(err)
	}
	config := strings.Replace(preamble(b, "http://127.0.0.1:1", "app"), `level = "debug"`, `level = "warn"`, 1) + fmt.Sprintf(`
[audit]
file = %q
[source.helper]
kind = "process"
command = ["/bin/cat", %q]
[role.app]
from = "source.helper"
`, audit, keys)
	var d *daemon
	onCore(b, core, func() { d = startHostrole(b, config) })
	d.credential(b, "app")

	if method == http.MethodPut {
		return server{"candidate", d.cmd.Process.Pid, metadataURL + "api/token", []string{"-s", "testdata/put.lua"}, audit}
	}
	token := benchToken(b)
	return server{"candidate", d.cmd.Process.Pid, metadataURL + "meta-data/iam/security-credentials/app",
		[]string{"-H", "X-aws-ec2-metadata-token: " + token}, audit}
}

// benchToken gets a session token for six hours.
func benchToken(b *testing.B) string {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), http.MethodPut, metadataURL+"api/token", nil)
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("X-aws-ec2-metadata-token-ttl-seconds", "21600")
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	token, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		b.Fatalf("a token was answered with %d, %v", resp.StatusCode, err)
	}
	return string(token)
}

// benchBaseline is this binary as the server to compare with, which answers
// with the very bytes that the candidate does.
func benchBaseline(b *testing.B, method string, core int) server {
	b.Helper()
	status, body, err := fetch(b.Context(), "meta-data/iam/security-credentials/app")
	if err != nil || status != http.StatusOK {
		b.Fatalf("the credential was answered with %d, %v", status, err)
	}
	srv := server{name: "baseline", url: baselineURL}
	if method == http.MethodPut {
		body = []byte(benchToken(b))
		srv.args = []string{"-s", "testdata/put.lua"}
	}
	file := filepath.Join(b.TempDir(), "body")
	if err := os.WriteFile(file, body, 0o600); err != nil {
		b.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = bare(b, ownnet.As("baseline"), bodyEnv+"="+file)
	var p *process
	onCore(b, core, func() { p = start(b, "baseline", cmd) })
	p.await(b, "answers", 10*time.Second, ready(b, baselineURL))
	srv.pid = p.cmd.Process.Pid
	return srv
}

// bodyEnv names the file that the baseline serves.
const bodyEnv = "HOSTROLE_E2E_BODY"

// serveBaseline is the minimal server: one handler, one document.
func serveBaseline() error {
	body, err := os.ReadFile(os.Getenv(bodyEnv))
	if err != nil {
		return err
	}
	return http.ListenAndServe("127.0.0.1:18080", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(body)
	}))
}

// report prints the ratios of candidate to baseline and sets them as metrics.
func report(b *testing.B, pairs [][2]sample, dropped int) {
	b.Helper()
	if len(pairs) == 0 {
		return
	}
	var table strings.Builder
	fmt.Fprintf(&table, "%d pairs, %d dropped; candidate / baseline, median (range)\n", len(pairs), dropped)
	ratio := func(name, unit string, of func(sample) float64) {
		var all, base, cand []float64
		for _, p := range pairs {
			base, cand = append(base, of(p[0])), append(cand, of(p[1]))
			all = append(all, of(p[1])/of(p[0]))
		}
		fmt.Fprintf(&table, "  %-16s %5.2f (%.2f to %.2f)   %.6g / %.6g %s\n", name,
			median(all), slices.Min(all), slices.Max(all), median(cand), median(base), unit)
		b.ReportMetric(median(all), "x-"+strings.ReplaceAll(name, " ", "-"))
	}
	ratio("requests/s", "", func(s sample) float64 { return s.PerSecond })
	ratio("CPU/request", "us", func(s sample) float64 { return s.CPU })
	ratio("p50", "us", func(s sample) float64 { return s.P50 })
	ratio("p99", "us", func(s sample) float64 { return s.P99 })
	ratio("VmRSS", "kB", func(s sample) float64 { return float64(s.VmRSS) })
	ratio("VmHWM", "kB", func(s sample) float64 { return float64(s.VmHWM) })
	b.ReportMetric(0, "ns/op") // of no meaning here
	b.Log(table.String())
}

func median(of []float64) float64 {
	s := slices.Sorted(slices.Values(of))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// record appends a pair to the file of raw results.
func record(b *testing.B, pair [2]sample) {
	b.Helper()
	if *results == "" {
		return
	}
	f, err := os.OpenFile(*results, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	lines := json.NewEncoder(f)
	for _, s := range pair {
		err := lines.Encode(struct {
			Time    string `json:"time"`
			Commit  string `json:"commit"`
			Machine string `json:"machine"`
			Command string `json:"command"`
			Clean   bool   `json:"clean"`
			sample
		}{time.Now().UTC().Format(time.RFC3339), commit(b.Context()), machine(), "go test ./agent/e2e -run ^$ -bench " + flag.Lookup("test.bench").Value.String(), pair[0].clean() && pair[1].clean(), s})
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
}

func commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=12").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// machine says what the figures were made on.
func machine() string {
	model := runtime.GOARCH
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, found := strings.CutPrefix(line, "model name"); found {
				model = strings.TrimLeft(strings.TrimSpace(name), ": \t")
				break
			}
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return fmt.Sprintf("%s, %d cores, Linux %s, %s", model, runtime.NumCPU(), strings.TrimSpace(string(kernel)), runtime.Version())
}

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		of   []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{4, 1}, 2.5}, {[]float64{9, 1, 2}, 2}} {
		if got := median(test.of); math.Abs(got-test.want) > 1e-9 {
			t.Errorf("median of %v is %v, want %v", test.of, got, test.want)
		}
	}
}
