package vault_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hostrole/hostrole/rotation/source/sourcetest"
)

const (
	canary = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	held   = "hvs.held-by-an-agent" // a token that no login gave
)

// A server is Vault as its API documentation has it, as far as this source
// goes: the logins of AppRole, JWT and Kubernetes below their mounts, tokens
// that end when they are given back, namespaces, the two paths of the AWS
// engine with the policies that they need, and leases.
type server struct {
	namespace string               // all that exists is in it
	roles     map[string]role      // of the engine at team/aws
	behaviour sourcetest.Behaviour // of the engine; "" works
	instead   map[string]http.HandlerFunc
	old       bool // before 1.16: security_token alone, and a lease instead of a ttl

	sync.Mutex // guards what follows
	calls      []string
	tokens     map[string]bool
	revoked    []string // leases
}

// A role is one of the engine.
type role struct {
	kind string // assumed_role or iam_user
	arns []string
}

func (s *server) start(t *testing.T) string {
	s.tokens = map[string]bool{held: true}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	return srv.URL
}

func fail(w http.ResponseWriter, status int, texts ...string) {
	if texts == nil {
		texts = []string{}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": texts})
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.Lock()
	defer s.Unlock()
	path, ok := strings.CutPrefix(r.URL.EscapedPath(), "/v1/")
	s.calls = append(s.calls, r.Method+" "+path)
	switch {
	case s.instead[path] != nil:
		s.instead[path](w, r)
		return
	case !ok || strings.Contains(path, "//"):
		fail(w, 404)
		return
	case r.Header.Get("X-Vault-Request") != "true":
		fail(w, 412, "missing required header X-Vault-Request") // what an agent with require_request_header answers, in 412
		return
	case r.Header.Get("X-Vault-Namespace") != s.namespace:
		fail(w, 403, "permission denied")
		return
	case len(body) > 0 && r.Header.Get("Content-Type") != "application/json":
		fail(w, 400, "error parsing JSON")
		return
	}
	if mount, ok := strings.CutSuffix(path, "/login"); ok {
		s.login(w, r, mount, body)
		return
	}
	token := r.Header.Get("X-Vault-Token")
	if !s.tokens[token] {
		fail(w, 403, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n")
		return
	}
	switch {
	case r.Method == "POST" && path == "auth/token/revoke-self" && len(body) == 0:
		delete(s.tokens, token)
		w.WriteHeader(204)
	case r.Method == "POST" && path == "sys/leases/revoke":
		var in struct {
			LeaseID string `json:"lease_id"`
		}
		if !strict(body, &in) {
			fail(w, 400, "error parsing JSON")
			return
		}
		s.revoked = append(s.revoked, in.LeaseID)
		w.WriteHeader(204)
	case r.Method == "GET" && strings.HasPrefix(path, "team/aws/creds/"), r.Method == "POST" && strings.HasPrefix(path, "team/aws/sts/"):
		s.credentials(w, r, path[strings.LastIndexByte(path, '/')+1:], body)
	case strings.HasPrefix(path, "team/aws/"):
		fail(w, 403, "1 error occurred:\n\t* permission denied\n\n") // the policy names the two above
	default:
		fail(w, 404, fmt.Sprintf("no handler for route %q. route entry not found.", path))
	}
}

func strict(body []byte, to any) bool {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	return d.Decode(to) == nil
}

func (s *server) login(w http.ResponseWriter, r *http.Request, mount string, body []byte) {
	var in struct {
		RoleID   string `json:"role_id"`
		SecretID string `json:"secret_id"`
		Role     string
		JWT      string
	}
	if r.Method != "POST" || r.Header.Get("X-Vault-Token") != "" || !strict(body, &in) {
		fail(w, 400, "error parsing JSON")
		return
	}
	switch mount {
	case "auth/approle":
		if in.RoleID != "role-id" || in.SecretID != "secret-id-of-host-7" {
			fail(w, 400, "invalid role or secret ID")
			return
		}
	case "auth/approle-by-address":
		if in.RoleID != "role-id" || in.SecretID != "" {
			fail(w, 400, "invalid role or secret ID")
			return
		}
	case "auth/hosts/jwt":
		if in.Role != "host" || in.JWT != jwt {
			fail(w, 400, "error validating token: "+in.JWT)
			return
		}
	case "auth/kubernetes":
		if in.Role != "host" || in.JWT != jwt {
			fail(w, 403, "permission denied")
			return
		}
	default:
		fail(w, 404, "no handler for route")
		return
	}
	token := fmt.Sprintf("hvs.login-%d-%s", len(s.calls), canary)
	s.tokens[token] = true
	_ = json.NewEncoder(w).Encode(map[string]any{
		"request_id": "login", "lease_id": "", "renewable": false, "lease_duration": 0, "data": nil, "wrap_info": nil, "warnings": nil,
		"auth": map[string]any{"client_token": token, "accessor": "a", "policies": []string{"default", "aws"}, "lease_duration": 1200, "renewable": true, "token_type": "service"},
	})
}

func (s *server) credentials(w http.ResponseWriter, r *http.Request, name string, body []byte) {
	switch s.behaviour {
	case sourcetest.Refuses:
		fail(w, 400, "Error assuming role: AccessDenied: User: arn:aws:iam::111122223333:user/vault is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::111122223333:role/app\n\tstatus code: 403, request id: 8f6e")
		return
	case sourcetest.Garbage:
		_, _ = io.WriteString(w, `{"data":{"secret_key":"`+canary+`"`)
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
	}
	var in struct {
		RoleARN     string `json:"role_arn"`
		SessionName string `json:"role_session_name"`
		TTL         string
	}
	if r.Method == "GET" {
		q := r.URL.Query()
		in.RoleARN, in.SessionName, in.TTL = take(q, "role_arn"), take(q, "role_session_name"), take(q, "ttl")
		if len(body) > 0 || len(q) > 0 {
			fail(w, 400, "unknown parameters")
			return
		}
	} else if !strict(body, &in) || r.URL.RawQuery != "" {
		fail(w, 400, "error parsing JSON")
		return
	}
	have, ok := s.roles[name]
	if !ok {
		fail(w, 400, fmt.Sprintf("Role %q not found", name))
		return
	}
	id, secret := len(s.calls), canary
	if s.behaviour == sourcetest.Blank {
		secret = ""
	}
	if have.kind == "iam_user" {
		_ = json.NewEncoder(w).Encode(map[string]any{
			"request_id": fmt.Sprintf("request-%d", id), "lease_id": "team/aws/creds/" + name + "/lease", "renewable": true, "lease_duration": 3600,
			"data": map[string]any{"access_key": fmt.Sprintf("AKIA%016d", id), "secret_key": secret, "security_token": nil},
		})
		return
	}
	ttl := 3600
	if in.TTL != "" {
		n, err := strconv.Atoi(strings.TrimSuffix(in.TTL, "s"))
		if err != nil || !strings.HasSuffix(in.TTL, "s") {
			fail(w, 400, "Field validation failed: error converting input "+in.TTL+" for field ttl")
			return
		}
		ttl = min(n, 43200)
	}
	arn := in.RoleARN
	switch {
	case arn == "" && len(have.arns) == 1:
		arn = have.arns[0]
	case arn == "":
		fail(w, 400, "did not supply a role_arn parameter and unable to determine one")
		return
	case !strings.Contains(strings.Join(have.arns, " "), arn):
		fail(w, 400, fmt.Sprintf("role_arn %q not in allowed role arns for Vault role %q", arn, name))
		return
	}
	if s.behaviour == sourcetest.Expired {
		ttl = -3600
	}
	session := in.SessionName
	if session == "" {
		session = "vault-1600000000-x"
	}
	data := map[string]any{
		"access_key": fmt.Sprintf("ASIA%016d", id), "secret_key": secret, "security_token": "session-" + canary,
		"arn": "arn:aws:sts::111122223333:assumed-role/" + arn[strings.LastIndexByte(arn, '/')+1:] + "/" + session,
	}
	lease, leaseID := ttl, "team/aws/creds/"+name+"/lease"
	if !s.old {
		data["session_token"], data["ttl"] = data["security_token"], ttl
		lease, leaseID = 0, ""
	}
	_ = json.NewEncoder(w).Encode(map[string]any{
		"request_id": fmt.Sprintf("request-%d", id), "lease_id": leaseID, "renewable": false, "lease_duration": lease, "data": data, "wrap_info": nil, "warnings": nil, "auth": nil,
	})
}

func take(q url.Values, key string) string {
	defer q.Del(key)
	return q.Get(key)
}

func now() time.Time { return time.Now().Round(0).UTC() }
