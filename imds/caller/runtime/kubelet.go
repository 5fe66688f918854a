package runtime

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// listLimit is how many bytes of the kubelet's list are read. A node has
	// some hundred pods, of 10 to 50 kB each.
	listLimit = 32 << 20
	// tokenLimit is how many bytes a token may have.
	tokenLimit = 16 << 10
)

// A Kubelet is where the list of a node's pods is read. The files are read anew
// each time: both are rotated.
type Kubelet struct {
	URL       string // https, with the name that is in its certificate: "https://node-7:10250"
	CAFile    string // PEM certificates that its own is checked against; required
	TokenFile string // bearer token of an account that may get nodes/proxy, or nodes/pods; required
}

// A kubelet has the names of all containers of its node's pods.
type kubelet struct {
	from  Kubelet
	boot  func() time.Duration
	mu    sync.Mutex // held while the list is read: who needs it waits for it
	names map[string]facts
	at    time.Duration // when the list was asked for, since boot; 0 is never
}

func newKubelet(from Kubelet, boot func() time.Duration) (*kubelet, error) {
	u, err := url.Parse(from.URL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the kubelet's address: %w", err)
	case u.Scheme != "https" || u.Host == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("the kubelet's address %q is not https://NAME:PORT alone", u.Redacted())
	case from.CAFile == "" || from.TokenFile == "":
		return nil, errors.New("the kubelet needs a file of certificates to check it against, and one with a token")
	}
	from.URL = "https://" + u.Host + "/pods"
	return &kubelet{from: from, boot: boot}, nil
}

// ask finds a container in the list, and reads the list again when the
// container is not there, or the list is old.
func (k *kubelet) ask(ctx context.Context, id string) (facts, error) {
	asked := k.boot()
	k.mu.Lock()
	defer k.mu.Unlock()
	f, is := k.names[id]
	if k.at == 0 || k.at < asked && (!is || asked-k.at >= fresh/2) {
		at := k.boot()
		names, err := k.list(ctx)
		if err != nil {
			return facts{}, err
		}
		k.names, k.at = names, at
		f, is = names[id]
	}
	if !is {
		return facts{}, ErrUnknown
	}
	return f, nil
}

// A pod is what we need of one.
type pod struct {
	Metadata struct {
		Name, Namespace string
		Labels          map[string]string
	}
	Spec struct {
		ServiceAccountName string
	}
	Status struct {
		ContainerStatuses, InitContainerStatuses, EphemeralContainerStatuses []status
	}
}

// A status is what the kubelet says of one container of a pod.
type status struct {
	Name, Image string
	ImageID     string `json:"imageID"`     // "name@sha256:…", or the digest alone
	ContainerID string `json:"containerID"` // "containerd://…"; "" before it begins
}

// list reads the pods of the node.
func (k *kubelet) list(ctx context.Context) (map[string]facts, error) {
	client, header, err := k.client()
	if err != nil {
		return nil, err
	}
	names, twice := map[string]facts{}, map[string]bool{}
	err = read(ctx, client, k.from.URL, header, listLimit, func(d *json.Decoder) error {
		return items(d, func(p *pod) {
			for _, c := range slices.Concat(p.Status.ContainerStatuses, p.Status.InitContainerStatuses, p.Status.EphemeralContainerStatuses) {
				_, id, _ := strings.Cut(c.ContainerID, "://")
				if id == "" {
					continue
				}
				if _, is := names[id]; is {
					twice[id] = true
				}
				names[id] = facts{
					name:  p.Metadata.Namespace + "/" + p.Metadata.Name + "/" + c.Name,
					image: c.Image, digest: digestOf(c.ImageID[strings.LastIndexByte(c.ImageID, '@')+1:]),
					labels: p.Metadata.Labels, namespace: p.Metadata.Namespace, serviceAccount: p.Spec.ServiceAccountName,
				}
			}
		})
	})
	if errors.Is(err, ErrUnknown) {
		err = fmt.Errorf("%w: there is no list of pods", ErrRefused)
	}
	for id := range twice {
		delete(names, id) // whose it is cannot be told
	}
	return names, err
}

// items decodes the pods of a list one by one, and keeps none.
func items(d *json.Decoder, each func(*pod)) error {
	if err := delim(d, '{'); err != nil {
		return err
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		if key != "items" {
			if err := d.Decode(new(json.RawMessage)); err != nil {
				return err
			}
			continue
		}
		open, err := d.Token()
		if err != nil {
			return err
		}
		if open == nil {
			continue // null: no pods
		}
		if open != json.Delim('[') {
			return fmt.Errorf("items are %v", open)
		}
		for d.More() {
			var p pod
			if err := d.Decode(&p); err != nil {
				return err
			}
			each(&p)
		}
		if err := delim(d, ']'); err != nil {
			return err
		}
	}
	return delim(d, '}')
}

func delim(d *json.Decoder, want json.Delim) error {
	got, err := d.Token()
	if err == nil && got != want {
		err = fmt.Errorf("there is %v in place of %v", got, want)
	}
	return err
}

// client is one that trusts the kubelet's own authority only, and the header
// that shows the token.
func (k *kubelet) client() (*http.Client, http.Header, error) {
	pem, err := readFile(k.from.CAFile, answerLimit)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: the kubelet's certificates: %w", ErrUnavailable, err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, nil, fmt.Errorf("%w: %s holds no certificate", ErrUnavailable, k.from.CAFile)
	}
	text, err := readFile(k.from.TokenFile, tokenLimit)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: the kubelet's token: %w", ErrUnavailable, err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, nil, fmt.Errorf("%w: %s holds no token", ErrUnavailable, k.from.TokenFile)
	}
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10,
			TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}},
	}, http.Header{"Authorization": {"Bearer " + token}}, nil
}

func readFile(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name) // #nosec G304 -- the operator's own file
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s is longer than %d bytes", name, limit)
	}
	return b, err
}
