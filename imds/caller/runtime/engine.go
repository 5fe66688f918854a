package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// answerLimit is how many bytes of one answer are read.
const answerLimit = 1 << 20

// An engine is Docker, or Podman, which speaks the same.
type engine struct{ socket string }

// ask makes the two questions: what is the container, and what is its image?
// No version is in the paths: each engine has dropped old ones, and none has
// changed these fields.
func (g engine) ask(ctx context.Context, id string) (facts, error) {
	client := g.client()
	var c struct {
		ID     string `json:"Id"`
		Name   string
		Image  string // id
		Config struct {
			Image  string // as it was asked for
			Labels map[string]string
		}
	}
	if err := get(ctx, client, "http://engine/containers/"+id+"/json", nil, &c); err != nil {
		return facts{}, err
	}
	if c.ID != id {
		return facts{}, fmt.Errorf("%w: it spoke of container %.12q", ErrRefused, c.ID)
	}
	f := facts{name: strings.TrimPrefix(c.Name, "/"), image: c.Config.Image, digest: digestOf(c.Image), labels: c.Config.Labels}
	if f.digest == "" {
		return f, nil
	}
	var image struct{ RepoDigests []string }
	switch err := get(ctx, client, "http://engine/images/"+f.digest+"/json", nil, &image); {
	case errors.Is(err, ErrUnknown): // removed, while its container goes on
	case err != nil:
		return facts{}, err
	default:
		f.digest = published(f, image.RepoDigests)
	}
	return f, nil
}

// published is the digest by which a registry has the image, which is the one
// that people write down; that of its configuration, where no registry has it.
// An image can be in several, under several digests: then the one by whose name
// the container was made counts.
func published(f facts, all []string) string {
	var found []string
	for _, one := range all {
		name, digest, _ := strings.Cut(one, "@")
		if digest = digestOf(digest); digest == "" {
			continue
		}
		if name == repository(f.image) || strings.HasSuffix(name, "/"+repository(f.image)) {
			return digest
		}
		found = append(found, digest)
	}
	if len(found) == 1 {
		return found[0]
	}
	return f.digest
}

// repository is an image's name without its tag and digest.
func repository(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if at := strings.LastIndexByte(image, ':'); at > strings.LastIndexByte(image, '/') {
		return image[:at]
	}
	return image
}

// digestOf is the digest that s is, in its one form; "" for anything else.
func digestOf(s string) string {
	hex := strings.TrimPrefix(s, "sha256:")
	if len(hex) != 64 || strings.Trim(hex, "0123456789abcdef") != "" {
		return ""
	}
	return "sha256:" + hex
}

// client is one that knows nothing but the socket. It keeps no connection: the
// engine of a moment ago may have been another one.
func (g engine) client() *http.Client {
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				c, err := (&net.Dialer{}).DialContext(ctx, "unix", g.socket)
				if err != nil {
					return nil, err
				}
				if err := trusted(c.(*net.UnixConn)); err != nil {
					_ = c.Close()
					return nil, fmt.Errorf("%w: %s: %w", ErrRefused, g.socket, err)
				}
				return c, nil
			}},
	}
}

// get reads one JSON document.
func get(ctx context.Context, client *http.Client, url string, header http.Header, into any) error {
	return read(ctx, client, url, header, answerLimit, func(d *json.Decoder) error { return d.Decode(into) })
}

// read has an answer of so many bytes at most decoded.
func read(ctx context.Context, client *http.Client, url string, header http.Header, limit int64, decode func(*json.Decoder) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if header != nil {
		req.Header = header
	}
	resp, err := client.Do(req)
	switch {
	case errors.Is(err, ErrRefused):
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer func() { _ = resp.Body.Close() }()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return ErrUnknown
	default:
		return fmt.Errorf("%w: its status is %d", ErrRefused, resp.StatusCode)
	}
	body := &io.LimitedReader{R: resp.Body, N: limit}
	if err := decode(json.NewDecoder(body)); err != nil {
		switch {
		case body.N <= 0:
			return fmt.Errorf("%w: it is longer than %d bytes", ErrRefused, limit)
		case ctx.Err() != nil:
			return fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
		}
		return fmt.Errorf("%w: reading it as JSON: %w", ErrRefused, err)
	}
	return nil
}
