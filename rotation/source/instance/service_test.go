package instance_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hostrole/hostrole/rotation/source/sourcetest"
)

const (
	canary = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	token  = "AQAEAIXkhdOR3sIqAVRdg0mVAdHYRr_fkfFDU7SDzH9whlWZJwANKg=="
	secret = "eyJhbGciOi.container-authorization.x" // of a container endpoint
	path   = "/v2/credentials/5b5dc1c6-4c3d-4f7e-secret-in-itself"
)

// A service is EC2's metadata service with tokens required, and a container
// endpoint beside it, as captures show them.
type service struct {
	behaviour sourcetest.Behaviour // of the document; "" works
	instead   map[string]http.HandlerFunc
	role      string // attached; "" for none

	sync.Mutex // guards what follows
	calls      []string
	ttls       []string
	n          int
}

func (s *service) start(t *testing.T) string {
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	return srv.URL
}

const notFound = `<?xml version="1.0" encoding="iso-8859-1"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"
`

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Server", "EC2ws")
	w.Header().Set("Connection", "close")
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.Lock()
	defer s.Unlock()
	s.calls = append(s.calls, r.Method+" "+r.RequestURI)
	if h := s.instead[r.RequestURI]; h != nil {
		h(w, r)
		return
	}
	for _, name := range []string{"X-Forwarded-For", "Origin", "Referer", "Cookie"} {
		if r.Header.Get(name) != "" {
			plain(w, 403, "")
			return
		}
	}
	if r.RequestURI == path {
		s.container(w, r)
		return
	}
	if r.RequestURI == "/latest/api/token" {
		ttl := r.Header.Get("X-aws-ec2-metadata-token-ttl-seconds")
		n, err := strconv.Atoi(ttl)
		switch {
		case r.Method != "PUT":
			plain(w, 405, "")
		case err != nil || n < 1 || n > 21600 || len(body) > 0:
			plain(w, 400, "")
		default:
			s.ttls = append(s.ttls, ttl)
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", ttl)
			plain(w, 200, token)
		}
		return
	}
	const list = "/latest/meta-data/iam/security-credentials/"
	switch {
	case r.Header.Get("X-aws-ec2-metadata-token") != token:
		plain(w, 401, "")
	case r.Method != "GET":
		plain(w, 405, "")
	case r.RequestURI == list && s.role != "":
		plain(w, 200, s.role)
	case r.RequestURI == list+s.role && s.role != "":
		s.document(w, r, false)
	default:
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(404)
		_, _ = io.WriteString(w, notFound)
	}
}

func (s *service) container(w http.ResponseWriter, r *http.Request) {
	switch got := r.Header.Get("Authorization"); {
	case got == "":
		http.Error(w, "Service account token cannot be empty", 400)
	case got != secret:
		http.Error(w, "Service account token cannot be parsed: "+got, 400)
	case r.Method != "GET":
		http.Error(w, "", http.StatusMethodNotAllowed)
	default:
		s.document(w, r, true)
	}
}

// document answers as it is told.
func (s *service) document(w http.ResponseWriter, r *http.Request, container bool) {
	s.n++
	key, life := canary, 6*time.Hour
	switch s.behaviour {
	case sourcetest.Refuses:
		if container {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(400)
			_, _ = io.WriteString(w, `{"code":"InvalidIdInRequest","message":"CredentialsV2Request: Credentials not found","HTTPErrorCode":400}`)
			return
		}
		plain(w, 200, "{\n  \"Code\" : \"AssumeRoleUnauthorizedAccess\",\n  \"Message\" : \"EC2 cannot assume the role app.\",\n  \"LastUpdated\" : \"2026-01-01T00:00:00Z\"\n}")
		return
	case sourcetest.Garbage:
		plain(w, 200, `{"Code":"Success","SecretAccessKey":"`+canary)
		return
	case sourcetest.Silent:
		s.Unlock()
		<-r.Context().Done()
		s.Lock()
		return
	case sourcetest.Huge:
		for range 1 << 10 {
			if _, err := w.Write(bytes.Repeat([]byte(canary), 1<<10)); err != nil {
				return
			}
		}
		return
	case sourcetest.Down:
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = conn.Close()
		}
		return
	case sourcetest.Blank:
		key = ""
	case sourcetest.Expired:
		life = -time.Hour
	}
	end := now().Add(life).Format(time.RFC3339)
	if container {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]string{"RoleArn": "arn:aws:iam::111122223333:role/task", "AccessKeyId": fmt.Sprintf("ASIA%016d", s.n),
			"SecretAccessKey": key, "Token": "session-" + canary, "Expiration": end})
		return
	}
	plain(w, 200, fmt.Sprintf("{\n  \"Code\" : \"Success\",\n  \"LastUpdated\" : %q,\n  \"Type\" : \"AWS-HMAC\",\n  \"AccessKeyId\" : \"ASIA%016d\",\n  \"SecretAccessKey\" : %q,\n  \"Token\" : %q,\n  \"Expiration\" : %q\n}",
		now().Format(time.RFC3339), s.n, key, "session-"+canary, end))
}

func now() time.Time { return time.Now().Round(0).UTC() }
