package rolesanywhere_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hostrole/hostrole/rotation/source/sourcetest"
)

const (
	region      = "eu-central-1"
	trustAnchor = "arn:aws:rolesanywhere:" + region + ":111122223333:trust-anchor/11111111-2222-3333-4444-555555555555"
	profile     = "arn:aws:rolesanywhere:" + region + ":111122223333:profile/11111111-2222-3333-4444-666666666666"
	role        = "arn:aws:iam::111122223333:role/path/edge"
	canary      = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

// A service is Roles Anywhere as the user guide has it: it rebuilds the
// canonical request from what arrived, and checks the signature with the
// certificate, the certificate with its trust anchor, and every limit.
type service struct {
	anchors      *x509.CertPool
	names        bool // the profile accepts a session name
	skew         time.Duration
	behaviour    sourcetest.Behaviour // "" works
	instead      http.HandlerFunc     // nil: none
	sync.Mutex                        // guards what follows
	calls        int
	dates        []time.Time
	sessionNames []string
	durations    []int64
}

func (s *service) start(t *testing.T) string {
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	return srv.URL
}

func (s *service) now() time.Time { return time.Now().Add(s.skew).UTC() }

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.Lock()
	defer s.Unlock()
	s.calls++
	w.Header().Set("Date", s.now().Format(http.TimeFormat))
	w.Header().Set("X-Amzn-Requestid", fmt.Sprintf("request-%d", s.calls))
	switch {
	case s.instead != nil:
		s.instead(w, r)
		return
	case s.behaviour == sourcetest.Refuses:
		refuse(w, 403, "AccessDeniedException", "Untrusted certificate. Insufficient certificate")
		return
	case s.behaviour == sourcetest.Garbage:
		w.WriteHeader(201)
		_, _ = io.WriteString(w, `{"credentialSet":[{"credentials":{"secretAccessKey":"`+canary+`"`)
		return
	case s.behaviour == sourcetest.Silent:
		s.Unlock()
		<-r.Context().Done()
		s.Lock()
		return
	case s.behaviour == sourcetest.Huge:
		w.WriteHeader(201)
		for range 1 << 10 {
			if _, err := w.Write(bytes.Repeat([]byte(canary), 1<<10)); err != nil {
				return
			}
		}
		return
	case s.behaviour == sourcetest.Down:
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.Close()
		}
		return
	}
	if status, code, message := s.judge(r, body); code != "" {
		refuse(w, status, code, message)
		return
	}
	s.answer(w)
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-Errortype", code+":http://internal.amazon.com/coral/com.amazonaws.rolesanywhere/")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": message})
}

func (s *service) answer(w http.ResponseWriter) {
	secret, life := canary, time.Hour
	if s.behaviour == sourcetest.Blank {
		secret = ""
	}
	if s.behaviour == sourcetest.Expired {
		life = -time.Hour
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(201)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"subjectArn": "arn:aws:rolesanywhere:" + region + ":111122223333:subject/41cl0bae-6783-40d4-ab20-65dc5d922e45",
		"credentialSet": []any{map[string]any{
			"assumedRoleUser":  map[string]string{"arn": "arn:aws:sts::111122223333:assumed-role/edge/42", "assumedRoleId": "AROAIOSFODNN7EXAMPLE:42"},
			"roleArn":          role,
			"sourceIdentity":   "CN=host-7",
			"packedPolicySize": 10,
			"credentials": map[string]string{"accessKeyId": fmt.Sprintf("ASIA%016d", s.calls), "secretAccessKey": secret,
				"sessionToken": "session-" + canary, "expiration": s.now().Add(life).Format(time.RFC3339)},
		}},
	})
}

const denied = "AccessDeniedException"

// judge checks a request and tells what is wrong with it.
func (s *service) judge(r *http.Request, body []byte) (status int, code, message string) {
	if r.Method != "POST" || r.URL.Path != "/sessions" || r.URL.RawQuery != "" {
		return 404, "UnknownOperationException", r.Method + " " + r.URL.String()
	}
	if got := r.Header.Get("Content-Type"); got != "application/json" {
		return 415, "UnsupportedMediaType", got
	}
	if message := s.authenticate(r, body); message != "" {
		return 403, denied, message
	}
	var in struct {
		DurationSeconds                                      *int64
		ProfileArn, RoleArn, TrustAnchorArn, RoleSessionName string
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return 400, "ValidationException", err.Error()
	}
	switch {
	case in.TrustAnchorArn != trustAnchor || in.ProfileArn != profile:
		return 404, "ResourceNotFoundException", "no such trust anchor or profile"
	case in.RoleArn != role:
		return 403, denied, "the profile does not have the role"
	case in.DurationSeconds != nil && (*in.DurationSeconds < 900 || *in.DurationSeconds > 43200):
		return 400, "ValidationException", "durationSeconds"
	case in.RoleSessionName != "" && !s.names:
		return 403, denied, "the profile does not accept a session name"
	}
	if in.DurationSeconds != nil {
		s.durations = append(s.durations, *in.DurationSeconds)
	}
	s.sessionNames = append(s.sessionNames, in.RoleSessionName)
	return 0, "", ""
}

// authenticate checks the signature and the certificates.
func (s *service) authenticate(r *http.Request, body []byte) string {
	algorithm, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	part := map[string]string{}
	for p := range strings.SplitSeq(rest, ", ") {
		k, v, _ := strings.Cut(p, "=")
		part[k] = v
	}
	if len(part) != 3 || part["Credential"] == "" || part["SignedHeaders"] == "" || part["Signature"] == "" {
		return "the Authorization header is incomplete"
	}
	leaf, err := certificate(r.Header.Get("X-Amz-X509"))
	if err != nil {
		return "X-Amz-X509: " + err.Error()
	}

	date, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil || date.Sub(s.now()).Abs() > 5*time.Minute {
		return "Signature expired"
	}
	s.dates = append(s.dates, date)
	scope := date.Format("20060102") + "/" + region + "/rolesanywhere/aws4_request"
	if want := leaf.SerialNumber.Text(10) + "/" + scope; part["Credential"] != want {
		return fmt.Sprintf("the credential is %q, want %q", part["Credential"], want)
	}

	// Whatever says who asks and when must be signed.
	names := strings.Split(part["SignedHeaders"], ";")
	if !slices.IsSorted(names) {
		return "the signed headers are not in order"
	}
	for _, h := range slices.Concat([]string{"host", "content-type"}, slices.Collect(maps.Keys(r.Header))) {
		if h = strings.ToLower(h); (h == "host" || h == "content-type" || strings.HasPrefix(h, "x-amz-")) && !slices.Contains(names, h) {
			return "not signed: " + h
		}
	}
	var canonical strings.Builder
	canonical.WriteString("POST\n/sessions\n\n")
	for _, h := range names {
		value := strings.Join(r.Header.Values(h), ",")
		if h == "host" {
			value = r.Host
		}
		fmt.Fprintf(&canonical, "%s:%s\n", h, strings.TrimSpace(value))
	}
	sum := sha256.Sum256(body)
	fmt.Fprintf(&canonical, "\n%s\n%x", part["SignedHeaders"], sum)
	text := fmt.Sprintf("%s\n%s\n%s\n%x", algorithm, r.Header.Get("X-Amz-Date"), scope, sha256.Sum256([]byte(canonical.String())))
	hashed := sha256.Sum256([]byte(text))
	signature, err := hex.DecodeString(part["Signature"])
	if err != nil {
		return "the signature is not hexadecimal"
	}
	switch key := leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		if algorithm != "AWS4-X509-RSA-SHA256" || rsa.VerifyPKCS1v15(key, crypto.SHA256, hashed[:], signature) != nil {
			return "Invalid signature"
		}
	case *ecdsa.PublicKey:
		if algorithm != "AWS4-X509-ECDSA-SHA256" || !ecdsa.VerifyASN1(key, hashed[:], signature) {
			return "Invalid signature"
		}
	default:
		return "Unsupported key"
	}

	intermediates := x509.NewCertPool()
	if list := r.Header.Values("X-Amz-X509-Chain"); len(list) > 0 {
		for text := range strings.SplitSeq(list[0], ",") {
			c, err := certificate(text)
			if err != nil {
				return "X-Amz-X509-Chain: " + err.Error()
			}
			intermediates.AddCert(c)
		}
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: s.anchors, Intermediates: intermediates, CurrentTime: s.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return "Untrusted certificate. " + err.Error()
	}
	if leaf.IsCA || leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return "Untrusted certificate. Not for signing"
	}
	return ""
}

func certificate(text string) (*x509.Certificate, error) {
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
