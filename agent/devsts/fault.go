package devsts

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A Kind is what a client should make of a Fault.
type Kind int

// The kinds of fault.
const (
	Transient Kind = iota // worth another try
	Refusal               // a definite no, understood and meant
	BadData               // a success that must not be believed
	Usable                // unusual, but a credential that works
)

// String names k.
func (k Kind) String() string {
	return [...]string{"transient", "refusal", "bad data", "usable"}[k]
}

// A Fault is one way to fail. Take one from [AllFaults] or [Named], set where
// and how often it applies, and give it to [Server.Break]. A fault that
// spoils a good answer judges the request first and lets a refusal stand.
type Fault struct {
	Name   string
	Kind   Kind
	Status int    // HTTP status of a signed call that would have succeeded; 0 when the connection is cut instead
	Code   string // its error code; "" for none

	Calls  int           // how many calls it applies to; 0 until Heal
	Role   string        // ARN: only calls that name it; "" for all
	Action string        // only calls of it; "" for all
	Delay  time.Duration // of slow, before the headers; of drip and endless, between pieces
	Skew   time.Duration // of the Server's clock while the fault applies

	instead func(*Fault, string) answer                              // replaces the answer
	alter   func(*Fault, time.Time, *result)                         // changes a success
	mangle  func([]byte) []byte                                      // changes a success as text
	send    func(*Fault, http.ResponseWriter, *http.Request, answer) // replaces the sending
	cuts    bool                                                     // nothing is sent at all
}

// Bounds of the large answers.
const (
	hugeBody    = 10_000_000
	endlessBody = 64 << 20
)

// AllFaults returns every fault, each with its defaults: all calls, until
// Heal.
func AllFaults() []Fault {
	all := []Fault{
		{Name: "down", Kind: Transient, cuts: true, send: drop},
		{Name: "slow", Kind: Transient, Status: 200, Delay: 30 * time.Second, send: late},
		{Name: "drip", Kind: Transient, Status: 200, Delay: 100 * time.Millisecond, send: drip},
		{Name: "clock-ahead", Kind: Transient, Status: 403, Code: "SignatureDoesNotMatch", Skew: 20 * time.Minute},
		{Name: "clock-behind", Kind: Transient, Status: 403, Code: "SignatureDoesNotMatch", Skew: -20 * time.Minute},
		refuse("throttling", Transient, 400, "Throttling", "Rate exceeded"),
		refuse("too-many-requests", Transient, 429, "TooManyRequestsException", "Rate exceeded"),
		refuse("idp-communication-error", Transient, 400, "IDPCommunicationError", "the identity provider could not be reached"),
		refuse("access-denied", Refusal, 403, "AccessDenied", "not authorized to perform this action"),
		refuse("expired-token", Refusal, 403, "ExpiredToken", "The security token included in the request is expired"),
		refuse("expired-identity-token", Refusal, 400, "ExpiredTokenException", "Token expired: current date/time must be before the expiration date/time"),
		refuse("invalid-identity-token", Refusal, 400, "InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider, please reference AssumeRoleWithWebIdentity documentation for requirements"),
		refuse("signature-does-not-match", Refusal, 403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."),
		refuse("region-disabled", Refusal, 403, "RegionDisabledException", "STS is not activated in this region for account"),
		redirect(302), redirect(307),
		{Name: "short-body", Kind: BadData, Status: 200, send: short},
		instead("html", []byte("<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>Guest network</h1><p>Please sign in.</body></html>\n")),
		instead("binary", bytes.Repeat([]byte{0x00, 0xff, 0x1f, 0x8b, 0xfe, 0x3c}, 100)),
		instead("empty-body", nil),
		mangled("truncated-xml", func(b []byte) []byte { return b[:len(b)/2] }),
		mangled("duplicate-field", func(b []byte) []byte {
			return bytes.Replace(b, []byte("<AccessKeyId>"), []byte("<AccessKeyId>ASIAAAAAAAAAAAAAAAAA</AccessKeyId><AccessKeyId>"), 1)
		}),
		altered("no-credentials", BadData, func(r *result, _ time.Time) { r.Credentials = nil }),
		issued("empty-access-key-id", BadData, func(c *credentials, _ time.Time) { c.AccessKeyID = "" }),
		issued("empty-secret-access-key", BadData, func(c *credentials, _ time.Time) { c.SecretAccessKey = "" }),
		issued("empty-session-token", BadData, func(c *credentials, _ time.Time) { c.SessionToken = "" }),
		issued("empty-expiration", BadData, func(c *credentials, _ time.Time) { c.Expiration = "" }),
		issued("expired-already", BadData, func(c *credentials, now time.Time) { c.Expiration = instant(now.Add(-time.Hour)) }),
		issued("expires-at-once", BadData, func(c *credentials, now time.Time) { c.Expiration = instant(now.Add(3 * time.Second)) }),
		issued("huge", BadData, func(c *credentials, _ time.Time) { c.SessionToken = strings.Repeat("A", hugeBody) }),
		altered("wrong-role", BadData, func(r *result, _ time.Time) {
			if u := r.AssumedRoleUser; u != nil {
				u.ARN = "arn:aws:sts::999999999999:assumed-role/someone-else/session"
			}
		}),
		{Name: "endless", Kind: BadData, Status: 200, Delay: time.Millisecond, send: endless},
		altered("no-assumed-role-user", Usable, func(r *result, _ time.Time) { r.AssumedRoleUser = nil }),
		issued("shorter-than-asked", Usable, func(c *credentials, now time.Time) {
			if end, err := time.Parse(time.RFC3339, c.Expiration); err == nil {
				c.Expiration = instant(now.Add(end.Sub(now) / 2))
			}
		}),
	}
	for _, after := range []string{"", "1"} {
		all = append(all, unavailable(500, "InternalFailure", after), unavailable(502, "", after), unavailable(503, "ServiceUnavailable", after))
	}
	return all
}

// Named returns the fault of that name, and panics when there is none.
func Named(name string) Fault {
	for _, f := range AllFaults() {
		if f.Name == name {
			return f
		}
	}
	panic("devsts: there is no fault " + name)
}

// Break makes f apply, after the faults that apply already: of several that
// match a call, the oldest counts.
func (s *Server) Break(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
}

// Heal ends all faults. Answers on their way stay as they are.
func (s *Server) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// fault takes the fault that applies to a call; without one, an empty Fault.
func (s *Server) fault(action, role string) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.faults {
		if f.Role != "" && f.Role != role || f.Action != "" && f.Action != action {
			continue
		}
		taken := *f
		if f.Calls == 1 {
			s.faults = append(s.faults[:i:i], s.faults[i+1:]...)
		} else if f.Calls > 1 {
			f.Calls--
		}
		return taken
	}
	return Fault{}
}

func refuse(name string, k Kind, status int, code, message string) Fault {
	return Fault{Name: name, Kind: k, Status: status, Code: code,
		instead: func(f *Fault, id string) answer { return (&refusal{f.Status, f.Code, message}).answer(id) }}
}

// unavailable is a 5xx; without a code it is the page of a proxy.
func unavailable(status int, code, after string) Fault {
	f := refuse("http-"+strconv.Itoa(status), Transient, status, code, "try again later")
	if after != "" {
		f.Name += "-retry-after"
	}
	xml := f.instead
	f.instead = func(f *Fault, id string) answer {
		a := xml(f, id)
		if code == "" {
			a.body = fmt.Appendf(nil, "<html><body><h1>%d %s</h1></body></html>\n", status, http.StatusText(status))
			a.header = map[string]string{"Content-Type": "text/html"}
		}
		if after != "" {
			if a.header == nil {
				a.header = map[string]string{}
			}
			a.header["Retry-After"] = after
		}
		return a
	}
	return f
}

// redirect leads to another path of the same host; whoever follows is in the
// log with a second call.
func redirect(status int) Fault {
	return Fault{Name: "redirect-" + strconv.Itoa(status), Kind: Transient, Status: status, instead: func(*Fault, string) answer {
		return answer{status: status, header: map[string]string{"Location": "/redirected"}}
	}}
}

func instead(name string, body []byte) Fault {
	return Fault{Name: name, Kind: BadData, Status: 200, instead: func(*Fault, string) answer {
		return answer{status: 200, body: bytes.Clone(body), header: map[string]string{"Content-Type": http.DetectContentType(body)}}
	}}
}

func mangled(name string, change func([]byte) []byte) Fault {
	return Fault{Name: name, Kind: BadData, Status: 200, mangle: change}
}

func altered(name string, k Kind, change func(*result, time.Time)) Fault {
	return Fault{Name: name, Kind: k, Status: 200, alter: func(_ *Fault, now time.Time, r *result) { change(r, now) }}
}

func issued(name string, k Kind, change func(*credentials, time.Time)) Fault {
	return altered(name, k, func(r *result, now time.Time) {
		if r.Credentials != nil {
			change(r.Credentials, now)
		}
	})
}

// drop closes the connection without a byte.
func drop(_ *Fault, w http.ResponseWriter, _ *http.Request, _ answer) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // HTTP/2: the way to cut one stream
	}
	_ = conn.Close()
}

// late waits before it answers, unless the client has gone.
func late(f *Fault, w http.ResponseWriter, r *http.Request, a answer) {
	if pause(r, f.Delay) {
		a.write(w)
	}
}

// drip sends a byte at a time.
func drip(f *Fault, w http.ResponseWriter, r *http.Request, a answer) {
	a.head(w)
	w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(a.status)
	for i := range a.body {
		if _, err := w.Write(a.body[i : i+1]); err != nil || !flushed(w) || !pause(r, f.Delay) {
			return
		}
	}
}

// short says how long the answer is and sends half of it; net/http then closes
// the connection.
func short(_ *Fault, w http.ResponseWriter, _ *http.Request, a answer) {
	a.head(w)
	w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body[:len(a.body)/2])
}

// endless sends a session token that does not end until the client has gone,
// or 64 MiB.
func endless(f *Fault, w http.ResponseWriter, r *http.Request, a answer) {
	start, _, found := bytes.Cut(a.body, []byte("</SessionToken>"))
	if !found {
		a.write(w)
		return
	}
	a.head(w)
	w.WriteHeader(a.status)
	piece := bytes.Repeat([]byte("A"), 32<<10)
	_, err := w.Write(start)
	for sent := 0; err == nil && sent < endlessBody; sent += len(piece) {
		if _, err = w.Write(piece); !flushed(w) || !pause(r, f.Delay) {
			return
		}
	}
}

func flushed(w http.ResponseWriter) bool { return http.NewResponseController(w).Flush() == nil }

// pause waits, and reports whether the client is still there.
func pause(r *http.Request, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.Context().Done():
		return false
	}
}
