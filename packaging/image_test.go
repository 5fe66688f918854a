//go:build linux

package packaging_test

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// image writes one of the program that make build has made, for both
// architectures: which one it really is does not matter to the form.
func image(t *testing.T) string {
	t.Helper()
	program := absolute(t, "../build/hostrole")
	if _, err := os.Stat(program); err != nil {
		t.Skipf("SKIPPED, missing: %v; make build makes it", err)
	}
	path := filepath.Join(t.TempDir(), "image.tar")
	run(t, ".", "go", "run", "./image", "-o", path, "-version", "1.2.3", "-revision", "0123456789ab", "-epoch", epoch, "amd64="+program, "arm64="+program)
	return path
}

// unpacked is the layout in an archive.
func unpacked(t *testing.T, path string) layout.Path {
	t.Helper()
	dir := t.TempDir()
	for tr := tar.NewReader(bytes.NewReader(read(t, path))); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, filepath.FromSlash(h.Name))
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(to, 0o755)
		} else {
			var data []byte
			if data, err = io.ReadAll(tr); err == nil {
				err = os.WriteFile(to, data, 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return layout.Path(dir)
}

func TestImage(t *testing.T) {
	path := image(t)
	if !bytes.Equal(read(t, path), read(t, image(t))) {
		t.Error("it is not the same each time")
	}
	top, err := unpacked(t, path).ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	outer, err := top.IndexManifest()
	if err != nil || len(outer.Manifests) != 1 {
		t.Fatalf("%d indexes: %v", len(outer.Manifests), err)
	}
	index, err := top.ImageIndex(outer.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	inner, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var platforms []string
	for _, m := range inner.Manifests {
		platforms = append(platforms, m.Platform.String())
		one, err := index.Image(m.Digest)
		if err != nil {
			t.Fatal(err)
		}
		lookedInto(t, one)
	}
	if got := strings.Join(platforms, " "); got != "linux/amd64 linux/arm64" {
		t.Errorf("platforms: %s", got)
	}
}

// lookedInto looks at one image: what is in it, and how it is run.
func lookedInto(t *testing.T, image v1.Image) {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c := config.Config
	if c.User != "65532:65532" || c.Labels["org.opencontainers.image.version"] != "1.2.3" || c.Labels["org.opencontainers.image.revision"] != "0123456789ab" ||
		strings.Join(append(c.Entrypoint, c.Cmd...), " ") != "/usr/bin/hostrole run" {
		t.Errorf("its configuration is %+v", c)
	}
	files := map[string][]byte{}
	r := mutate.Extract(image)
	defer func() { _ = r.Close() }()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Mode&0o6022 != 0 && h.Name != "tmp/" && h.Name != "tmp" {
			t.Errorf("%s has mode %o", h.Name, h.Mode)
		}
		if h.Typeflag == tar.TypeReg {
			data, err := io.ReadAll(tr)
			if err != nil {
				t.Fatal(err)
			}
			files[h.Name] = data
		}
	}
	if len(files) != 4 || len(files["usr/bin/hostrole"]) == 0 || len(files["etc/passwd"]) == 0 || len(files["etc/group"]) == 0 {
		t.Errorf("%d files", len(files))
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(files["etc/ssl/certs/ca-certificates.crt"]) || strings.Count(string(files["etc/ssl/certs/ca-certificates.crt"]), "BEGIN") < 100 {
		t.Error("the certificate authorities are not all there")
	}
}

// An engine takes the image, and its program runs in it.
func TestImageInPodman(t *testing.T) {
	tool(t, "podman")
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: an engine of its own needs root")
	}
	dir := t.TempDir()
	podman := []string{"podman", "--root", dir + "/root", "--runroot", dir + "/run", "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none"}
	with := func(args ...string) string {
		t.Helper()
		return run(t, ".", append(podman[:len(podman):len(podman)], args...)...)
	}
	t.Cleanup(func() { with("system", "reset", "--force") })
	if got := with("load", "--input", image(t)); !strings.Contains(got, "localhost/hostrole:1.2.3") {
		t.Fatalf("podman load: %s", got)
	}
	var all []struct{ Config v1.Config }
	if err := json.Unmarshal([]byte(with("image", "inspect", "localhost/hostrole:1.2.3")), &all); err != nil || len(all) != 1 || all[0].Config.User != "65532:65532" {
		t.Errorf("podman image inspect: %+v, %v", all, err)
	}
	if got := with("run", "--rm", "--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--read-only", "--cap-drop", "all", "localhost/hostrole:1.2.3", "version"); !strings.HasPrefix(got, "hostrole ") {
		t.Errorf("podman run: %s", got)
	}
}
