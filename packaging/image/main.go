// Command image writes hostrole's OCI image: one static program, the certificate
// authorities that it needs to speak with an upstream, and nothing else.
//
//	image -o FILE -version V -revision R -epoch SECONDS amd64=PROGRAM arm64=PROGRAM
//
// The file is an archive of an OCI layout with an index of both architectures,
// the same to the byte each time that it is made of the same programs.
//
// # Why not
//
// Not a Dockerfile: it needs a daemon, and what it makes is never twice the
// same. Not a base image: each has a shell, a package manager or a schedule of
// its own, and the program needs three files. Not Debian's bundle of
// certificates: its version on a mirror goes, while Mozilla's list as a Go
// module stays, and go.sum says what is in it.
package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// nobody is the user of the image: nobody's and without a name elsewhere. What
// needs the address or a port below 1024 is run as another one.
const nobody = "65532:65532"

func main() {
	out := flag.String("o", "", "the `file` to write")
	version := flag.String("version", "dev", "of the program")
	revision := flag.String("revision", "", "the commit")
	epoch := flag.Int64("epoch", 0, "the time of everything, in `seconds`")
	flag.Parse()
	err := build(*out, *version, *revision, time.Unix(*epoch, 0).UTC(), flag.Args())
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func build(out, version, revision string, at time.Time, programs []string) error {
	if out == "" || len(programs) == 0 {
		return fmt.Errorf("name a file with -o, and programs as amd64=PATH")
	}
	labels := map[string]string{
		"org.opencontainers.image.title":       "hostrole",
		"org.opencontainers.image.description": "Gives any Linux host what EC2 gives its instances: a role",
		"org.opencontainers.image.source":      "https://github.com/hostrole/hostrole",
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.version":     version,
		"org.opencontainers.image.revision":    revision,
		"org.opencontainers.image.created":     at.Format(time.RFC3339),
	}
	system, err := layer(at, systemFiles())
	if err != nil {
		return err
	}
	var index v1.ImageIndex = mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, program := range programs {
		arch, path, _ := strings.Cut(program, "=")
		image, err := one(arch, path, at, labels, system)
		if err != nil {
			return fmt.Errorf("the image for %s: %w", arch, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	index = mutate.Annotations(index, labels).(v1.ImageIndex)
	dir, err := os.MkdirTemp("", "hostrole-image-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	top := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	described, err := partial.Descriptor(index)
	if err != nil {
		return err
	}
	described.Annotations = map[string]string{"org.opencontainers.image.ref.name": version, "io.containerd.image.name": "localhost/hostrole:" + version}
	if _, err := layout.Write(dir, mutate.AppendManifests(top, mutate.IndexAddendum{Add: index, Descriptor: *described})); err != nil {
		return err
	}
	return archive(dir, out, at)
}

// one is the image for one architecture.
func one(arch, path string, at time.Time, labels map[string]string, system v1.Layer) (v1.Image, error) {
	program, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	own, err := layer(at, map[string]file{"usr/": {mode: 0o755}, "usr/bin/": {mode: 0o755}, "usr/bin/hostrole": {mode: 0o755, data: program}})
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, l := range []struct {
		v1.Layer
		by string
	}{{system, "the certificate authorities, users, folders"}, {own, "the program"}} {
		if image, err = mutate.Append(image, mutate.Addendum{Layer: l.Layer, MediaType: types.OCILayer, History: v1.History{Created: v1.Time{Time: at}, CreatedBy: "hostrole: " + l.by}}); err != nil {
			return nil, err
		}
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", arch, v1.Time{Time: at}
	config.Config = v1.Config{
		Entrypoint: []string{"/usr/bin/hostrole"}, Cmd: []string{"run"}, User: nobody, Labels: labels, WorkingDir: "/",
		Env: []string{"PATH=/usr/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"}, StopSignal: "SIGTERM",
	}
	return mutate.ConfigFile(image, config)
}

// A file of a layer; its name ends with a slash for a folder.
type file struct {
	mode  int64
	owner int
	data  []byte
}

// systemFiles are what a static program looks for on a host.
func systemFiles() map[string]file {
	return map[string]file{
		"etc/":                              {mode: 0o755},
		"etc/group":                         {mode: 0o644, data: []byte("root:x:0:\nhostrole:x:65532:\n")},
		"etc/hostrole/":                     {mode: 0o755},
		"etc/passwd":                        {mode: 0o644, data: []byte("root:x:0:0:root:/:/nonexistent\nhostrole:x:65532:65532:hostrole:/:/nonexistent\n")},
		"etc/ssl/":                          {mode: 0o755},
		"etc/ssl/certs/":                    {mode: 0o755},
		"etc/ssl/certs/ca-certificates.crt": {mode: 0o644, data: authorities()},
		"run/":                              {mode: 0o755},
		"run/hostrole/":                     {mode: 0o755, owner: 65532},
		"tmp/":                              {mode: 0o1777},
		"var/":                              {mode: 0o755},
		"var/lib/":                          {mode: 0o755},
		"var/lib/hostrole/":                 {mode: 0o700, owner: 65532},
	}
}

// authorities are Mozilla's. One that is to be believed only in part is left
// out, as a file of PEM cannot say so.
func authorities() []byte {
	var all bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&all, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // to memory
		}
	}
	return all.Bytes()
}

func layer(at time.Time, files map[string]file) (v1.Layer, error) {
	var all bytes.Buffer
	w := tar.NewWriter(&all)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f := files[name]
		h := &tar.Header{Name: name, Mode: f.mode, Uid: f.owner, Gid: f.owner, Size: int64(len(f.data)), ModTime: at, Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
		if strings.HasSuffix(name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(all.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
}

// archive writes a folder as a tar file, in the order of its names.
func archive(dir, out string, at time.Time) (err error) {
	f, err := os.Create(out) // #nosec G304 -- the file that was named
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	w := tar.NewWriter(f)
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return w.WriteHeader(&tar.Header{Name: name + "/", Mode: 0o755, ModTime: at, Typeflag: tar.TypeDir, Format: tar.FormatUSTAR})
		}
		data, err := os.ReadFile(path) // #nosec G304,G122 -- below a folder of our own
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data)), ModTime: at, Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}); err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	})
	if err != nil {
		return err
	}
	return w.Close()
}
