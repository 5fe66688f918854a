package runtime_test

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/caller/runtime"
)

// listed is a kubelet's list of pods: one with two containers, and one of a
// neighbour's that claims a container of the first, when told to.
func listed(claim string) string {
	return fmt.Sprintf(`{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[
{"metadata":{"name":"web-7","namespace":"shop","labels":{"app":"web"},"annotations":{"x":"y"}},
 "spec":{"serviceAccountName":"api","containers":[{"name":"app"}]},
 "status":{"containerStatuses":[{"name":"app","image":"registry.example.com/web:7","imageID":"registry.example.com/web@%s","containerID":"containerd://%s"},{"name":"slow","image":"s"}],
  "initContainerStatuses":[{"name":"init","image":"i","imageID":"%s","containerID":"containerd://%s"}]}},
{"metadata":{"name":"db","namespace":"other"},"spec":{"serviceAccountName":"default"},"status":{"containerStatuses":[{"name":"c","containerID":%q}]}}
]}`, digest, idA, imageID, idB, claim)
}

// startKubelet serves lists as the kubelet does, and returns where it is.
func startKubelet(t *testing.T, token string, list func() string) (k runtime.Kubelet, asked *atomic.Int32) {
	t.Helper()
	asked = &atomic.Int32{}
	dir := t.TempDir()
	k.CAFile, k.TokenFile = filepath.Join(dir, "ca"), filepath.Join(dir, "token")
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Path != "/pods" || r.Header.Get("Authorization") != "Bearer "+token {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, list())
	}))
	t.Cleanup(srv.Close)
	k.URL = srv.URL
	for name, text := range map[string][]byte{k.CAFile: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), k.TokenFile: []byte(token + "\n")} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return k, asked
}

func TestNamesOfAPod(t *testing.T) {
	claim := ""
	k, asked := startKubelet(t, "a-token", func() string { return listed(claim) })
	b := newBench(t, runtime.Options{Kubelet: k})
	for _, made := range []string{"containerd", "cri-o", "kubernetes"} {
		who := b.who(t, made, 7, idA)
		if who.ContainerName != "shop/web-7/app" || who.Image != "registry.example.com/web:7" || who.ImageDigest != digest ||
			!maps.Equal(who.Labels, map[string]string{"app": "web"}) || who.Namespace != "shop" || who.ServiceAccount != "api" {
			t.Errorf("%s: got %+v", made, who)
		}
	}
	if who := b.who(t, "containerd", 8, idB); who.ContainerName != "shop/web-7/init" || who.ImageDigest != imageID {
		t.Errorf("of a container of its start: %+v", who)
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the list was read %d times for two containers, want once", n)
	}
	// One that is not in the list yet is looked for again, a second later.
	claim = "containerd://" + strings.Repeat("c", 64)
	nameless(t, b.who(t, "containerd", 9, strings.Repeat("d", 64)))
	b.later(time.Second)
	if who := b.who(t, "containerd", 10, strings.Repeat("c", 64)); who.ContainerName != "other/db/c" {
		t.Errorf("a second later: %+v", who)
	}
	// Two pods that claim one container: neither has it.
	claim = "containerd://" + idA
	b.later(time.Minute)
	nameless(t, b.who(t, "containerd", 7, idA))
	if errs := b.failures(); len(errs) != 0 {
		t.Errorf("told of %v", errs)
	}
}

func TestKubeletThatIsNotBelieved(t *testing.T) {
	list := listed("")
	for what, tc := range map[string]struct {
		change func(t *testing.T, k *runtime.Kubelet)
		list   string
		want   error
	}{
		"by a name that is not in its certificate": {func(t *testing.T, k *runtime.Kubelet) {
			t.Helper()
			k.URL = strings.Replace(k.URL, "127.0.0.1", "localhost", 1)
		}, list, runtime.ErrUnavailable},
		"that refuses the token":    {func(t *testing.T, k *runtime.Kubelet) { t.Helper(); write(t, k.TokenFile, "another") }, list, runtime.ErrRefused},
		"without a token":           {func(t *testing.T, k *runtime.Kubelet) { t.Helper(); write(t, k.TokenFile, "") }, list, runtime.ErrUnavailable},
		"with a token of two lines": {func(t *testing.T, k *runtime.Kubelet) { t.Helper(); write(t, k.TokenFile, "a\nHost: b") }, list, runtime.ErrUnavailable},
		"without certificates":      {func(t *testing.T, k *runtime.Kubelet) { t.Helper(); write(t, k.CAFile, "none") }, list, runtime.ErrUnavailable},
		"whose list is none":        {nil, `{"items":{}}`, runtime.ErrRefused},
		"whose list is cut off":     {nil, list[:len(list)-3], runtime.ErrRefused},
	} {
		t.Run(what, func(t *testing.T) {
			k, _ := startKubelet(t, "a-token", func() string { return tc.list })
			if tc.change != nil {
				tc.change(t, &k)
			}
			b := newBench(t, runtime.Options{Kubelet: k})
			nameless(t, b.who(t, "containerd", 7, idA))
			errs := b.failures()
			if len(errs) != 1 || !errors.Is(errs[0], tc.want) {
				t.Fatalf("told of %v, want %v", errs, tc.want)
			}
			if strings.Contains(errs[0].Error(), "a-token") {
				t.Errorf("the token is in the error: %v", errs[0])
			}
		})
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestKubeletMustBeChecked(t *testing.T) {
	for what, k := range map[string]runtime.Kubelet{
		"without TLS":          {URL: "http://127.0.0.1:10255", CAFile: "ca", TokenFile: "token"},
		"without certificates": {URL: "https://node-7:10250", TokenFile: "token"},
		"without a token":      {URL: "https://node-7:10250", CAFile: "ca"},
		"with a path":          {URL: "https://node-7:10250/pods", CAFile: "ca", TokenFile: "token"},
		"with a password":      {URL: "https://a:b@node-7:10250", CAFile: "ca", TokenFile: "token"},
	} {
		if _, err := runtime.New(runtime.Options{Kubelet: k}); err == nil {
			t.Errorf("%s it is taken", what)
		}
	}
}

func TestDigests(t *testing.T) {
	d2, d3 := "sha256:"+strings.Repeat("2", 64), "sha256:"+strings.Repeat("3", 64)
	for what, tc := range map[string]struct {
		image string
		all   []string
		want  string
	}{
		"never pulled":                         {"web", nil, imageID},
		"pulled from one":                      {"anything", []string{"registry.example.com/web@" + d2}, d2},
		"from several, by its name":            {"b.example.com:5000/web:7", []string{"a.example.com/web@" + d2, "b.example.com:5000/web@" + d3}, d3},
		"by its short name":                    {"web:7", []string{"docker.io/library/web@" + d2, "docker.io/library/other@" + d3}, d2},
		"by its digest":                        {"web@" + d3, []string{"docker.io/library/web@" + d3}, d3},
		"from several, and none by its name":   {"sha256:" + strings.Repeat("1", 64), []string{"a/x@" + d2, "b/y@" + d3}, imageID},
		"from one whose digest is none at all": {"web", []string{"registry.example.com/web@sha1:1234"}, imageID},
	} {
		if got := runtime.Published(tc.image, imageID, tc.all); got != tc.want {
			t.Errorf("%s: %s, want %s", what, got, tc.want)
		}
	}
}

func FuzzPods(f *testing.F) {
	f.Add(listed(""))
	f.Add(`{"items":null}`)
	f.Add(`{"items":[{}],"items":[]}`)
	f.Add(`[]`)
	f.Fuzz(func(t *testing.T, text string) {
		n, err := runtime.Pods(json.NewDecoder(strings.NewReader(text)))
		if err == nil && n > len(text) {
			t.Errorf("%d containers in %d bytes", n, len(text))
		}
		if err == nil && !strings.HasPrefix(strings.TrimLeft(text, " \t\r\n"), "{") {
			t.Errorf("a list in %q", text)
		}
	})
}

func FuzzDigest(f *testing.F) {
	f.Add("web:7", "registry.example.com/web@sha256:"+strings.Repeat("2", 64))
	f.Add("a@b:c/d", "@")
	f.Fuzz(func(t *testing.T, image, one string) {
		if d := runtime.Published(image, imageID, []string{one}); runtime.DigestOf(d) != d || d == "" {
			t.Errorf("the digest of %q in %q is %q", image, one, d)
		}
	})
}
