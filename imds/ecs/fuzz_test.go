package ecs_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/imds/caller"
)

// FuzzTarget asks for any path and query at all, for a caller with roles and
// for one without.
func FuzzTarget(f *testing.F) {
	for _, target := range []string{"/", "/role/app-role", "/role/%61pp-role", "/role//app-role", "/v2/credentials/a%2Bb%3Dc%2Cd%40e", "/v2/credentials/%2e%2e/x", "/v2/credentials/%",
		"/v1/credentials?id=app-role", "/v1/credentials?id=%61pp-role&x=1", "/v1/credentials?id=app-role&id=", "/v1/credentials?id=a%2Bb%3Dc%2Cd%40e", "/v1/credentials?;id=app-role"} {
		path, query, _ := strings.Cut(target, "?")
		f.Add(path, query)
	}
	mine := []string{"app-role", "second-role", "a+b=c,d@e", "minio"}
	f.Fuzz(func(t *testing.T, path, query string) {
		path = "/" + strings.TrimPrefix(path, "/") // as the server has it, always
		ask := func(s setting) imds.Response {
			return s.handler().Serve(t.Context(), &imds.Request{Method: "GET", Path: path, Query: query, Caller: caller.Caller{UID: caller.NewID(1000)}})
		}
		has, denied := ask(states()["app"]), ask(states()["denied"])
		switch {
		case has.Status != 200 && has.Status != 400 && has.Status != 404:
			t.Errorf("%q ? %q gets %d", path, query, has.Status)
		case has.Status == 200 && !slices.Contains(mine, plainID(path, query)):
			t.Errorf("%q ? %q is answered", path, query)
		case has.Status != 200 && slices.Contains(mine, plainID(path, query)):
			t.Errorf("%q ? %q gets %d", path, query, has.Status)
		case has.Status == 200 && denied.Status != 400, has.Status != 200 && string(denied.Body) != string(has.Body):
			t.Errorf("%q ? %q gets %d, and a stranger %d %s", path, query, has.Status, denied.Status, denied.Body)
		}
	})
}

// plainID is written another way than the handler's: it is the id that a
// target names, or "".
func plainID(path, query string) string {
	escaped := ""
	switch segs := strings.Split(path, "/"); {
	case path == "/v1/credentials":
		for pair := range strings.SplitSeq(query, "&") {
			key, value, _ := strings.Cut(pair, "=")
			name, err := url.QueryUnescape(key)
			id, err2 := url.QueryUnescape(value)
			if err != nil || err2 != nil || strings.Contains(pair, ";") || name == "id" && escaped != "" {
				return ""
			}
			if name == "id" {
				escaped = "id " + id
			}
		}
		return strings.TrimPrefix(escaped, "id ")
	case len(segs) == 3 && segs[1] == "role":
		escaped = segs[2]
	case len(segs) == 4 && segs[1] == "v2" && segs[2] == "credentials":
		escaped = segs[3]
	}
	id, err := url.PathUnescape(escaped)
	if err != nil {
		return ""
	}
	return id
}

// FuzzAuthorization shows any value at all.
func FuzzAuthorization(f *testing.F) {
	for _, seed := range []string{"", "x", fullURIToken, fullURIToken + " ", "Basic", strings.Repeat("x", 100)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, shown string) {
		if !printable(shown) {
			return // refused before the handler
		}
		l := serve(t, states()["own"])
		conn, err := l.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte("GET /role/app-role HTTP/1.1\r\nHost: " + loopback + "\r\nAuthorization: " + shown + "\r\n\r\n"))
		answer := make([]byte, 12)
		if _, err := conn.Read(answer); err != nil {
			t.Fatal(err)
		}
		want := "HTTP/1.1 403"
		if strings.Trim(shown, " \t") == fullURIToken {
			want = "HTTP/1.1 200"
		}
		if string(answer) != want {
			t.Errorf("%q gets %s, want %s", shown, answer, want)
		}
	})
}

func printable(s string) bool {
	return len(s) < 4096 && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r >= 0x7f })
}
