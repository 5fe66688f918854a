package devsts

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// A Session is what a set of issued credentials stands for.
type Session struct {
	Generation     uint64            `json:"g"` // counts what a Server has issued: never 0, always rising
	AccessKeyID    string            `json:"k"`
	RoleARN        string            `json:"r"`
	Name           string            `json:"n"`
	ARN            string            `json:"a"` // arn:aws:sts::ACCOUNT:assumed-role/ROLE/NAME
	Issued         time.Time         `json:"i"`
	Expires        time.Time         `json:"e"`           // whole seconds
	Tags           map[string]string `json:"t,omitempty"` // inherited ones, too
	TransitiveTags []string          `json:"v,omitempty"` // keys, sorted
	SourceIdentity string            `json:"s,omitempty"`
	ExternalID     string            `json:"x,omitempty"`
	Depth          int               `json:"d"` // 1 for a session that a user or a token got, one more for each link of a chain
}

var (
	// ErrTorn matches keys and a token that were not issued together.
	ErrTorn = errors.New("the parts of the credential do not belong together")
	// ErrExpired matches a set that was issued together and is over.
	ErrExpired = errors.New("the credential has expired")
)

// Verify says what a set of credentials stands for. Its error matches
// [ErrTorn], and says which generation each part is of, or [ErrExpired], which
// comes with the Session. The error holds no secret.
func (s *Server) Verify(accessKeyID, secret, token string) (Session, error) {
	sess, ok := s.open(token)
	if !ok || sess.AccessKeyID != accessKeyID || !hmac.Equal([]byte(s.secret(sess.Generation)), []byte(secret)) {
		of := func(g uint64, known bool) string {
			if !known {
				return "unknown"
			}
			return fmt.Sprint("generation ", g)
		}
		keyID, keyKnown := s.generationOfKey(accessKeyID)
		secretOf, secretKnown := s.generationOfSecret(secret)
		return Session{}, fmt.Errorf("%w: access key id %s, secret %s, token %s",
			ErrTorn, of(keyID, keyKnown), of(secretOf, secretKnown), of(sess.Generation, ok))
	}
	if !s.now().Before(sess.Expires) {
		return sess, fmt.Errorf("%w at %s", ErrExpired, instant(sess.Expires))
	}
	return sess, nil
}

func (s Session) userID() string { return stableID("AROA", s.RoleARN) + ":" + s.Name }

// stableID is what IAM calls a unique id: the same for one ARN.
func stableID(prefix, arn string) string {
	sum := sha256.Sum256([]byte(arn))
	return prefix + base32.StdEncoding.EncodeToString(sum[:])[:17]
}

// stamp puts a generation in front of bytes that only this Server can make
// for it. The mask keeps the first keys from looking alike.
func (s *Server) stamp(purpose string, generation uint64, n int) []byte {
	b := binary.BigEndian.AppendUint64(nil, generation)[3:]
	for i, m := range s.derive(purpose+" mask", 0, 5) {
		b[i] ^= m
	}
	return append(b, s.derive(purpose, generation, n-5)...)
}

func (s *Server) unstamp(purpose string, b []byte) (uint64, bool) {
	if len(b) < 5 {
		return 0, false
	}
	masked := slices.Clone(b[:5])
	for i, m := range s.derive(purpose+" mask", 0, 5) {
		masked[i] ^= m
	}
	g := binary.BigEndian.Uint64(append(make([]byte, 3), masked...))
	return g, hmac.Equal(b, s.stamp(purpose, g, len(b)))
}

const (
	keyBytes    = 10 // 16 characters of base32
	secretBytes = 30 // 40 characters of base64
)

func (s *Server) keyID(generation uint64) string {
	return "ASIA" + base32.StdEncoding.EncodeToString(s.stamp("key id", generation, keyBytes))
}

func (s *Server) secret(generation uint64) string {
	return base64.StdEncoding.EncodeToString(s.stamp("secret", generation, secretBytes))
}

func (s *Server) generationOfKey(id string) (uint64, bool) {
	b, err := base32.StdEncoding.DecodeString(strings.TrimPrefix(id, "ASIA"))
	if err != nil || len(b) != keyBytes {
		return 0, false
	}
	return s.unstamp("key id", b)
}

func (s *Server) generationOfSecret(secret string) (uint64, bool) {
	b, err := base64.StdEncoding.DecodeString(secret)
	if err != nil || len(b) != secretBytes {
		return 0, false
	}
	return s.unstamp("secret", b)
}

// seal writes sess as a token of at least size bytes; open reads it back.
func (s *Server) seal(sess Session, size int) string {
	b, err := json.Marshal(sess)
	if err != nil {
		panic("devsts: encoding a session: " + err.Error()) // its types are ours
	}
	if short := (size+3)/4*3 - sha256.Size - len(b); short > 2 {
		b = append(b, strings.Repeat(" ", short-2)...) // still JSON
	}
	return base64.StdEncoding.EncodeToString(append(s.mac(b), b...))
}

func (s *Server) open(token string) (sess Session, ok bool) {
	b, err := base64.StdEncoding.Strict().DecodeString(token)
	if err != nil || len(token) > maxTokenSize || len(b) < sha256.Size || strings.ContainsAny(token, "\r\n") {
		return sess, false
	}
	if !hmac.Equal(s.mac(b[sha256.Size:]), b[:sha256.Size]) {
		return sess, false
	}
	return sess, json.Unmarshal(b[sha256.Size:], &sess) == nil
}

func (s *Server) mac(b []byte) []byte {
	h := hmac.New(sha256.New, s.derive("token", 0, sha256.Size))
	h.Write(b)
	return h.Sum(nil)
}

// assumeRole answers AssumeRole.
func (s *Server) assumeRole(q *request) (*result, *refusal) {
	want := q.wish(s.minSession)
	want.externalID = q.text("ExternalId", false, 2, 1224, idPattern)
	if want.sourceIdentity = q.text("SourceIdentity", false, 2, 64, namePattern); reserved(want.sourceIdentity) {
		q.identity(want.sourceIdentity, "sourceIdentity")
	}
	want.tags, want.transitive = q.sessionTags()
	if refused := q.policies(want.roleARN); refused != nil {
		return nil, refused
	}
	switch {
	case parseARN(want.roleARN) == arn{}:
		return nil, invalid(cut(want.roleARN) + " is invalid")
	case parseARN(q.caller.arn).resource == "root":
		return nil, denied("Roles may not be assumed by root accounts.")
	}
	no := func(action string) *refusal {
		return denied(fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s", q.caller.arn, action, cut(want.roleARN)))
	}
	role, known := s.roles[want.roleARN]
	if !known || !role.trusts(q.caller) || role.ExternalID != "" && role.ExternalID != want.externalID {
		return nil, no("sts:AssumeRole")
	}
	if parent := q.caller.session; parent != nil {
		if refused := want.inherit(*parent); refused != nil {
			return nil, refused
		}
	}
	switch {
	case len(want.tags) > 0 && !role.TagSession:
		return nil, no("sts:TagSession")
	case want.sourceIdentity != "" && !role.SetSourceIdentity:
		return nil, no("sts:SetSourceIdentity")
	}
	want.role = role
	return s.issue(q, want)
}

// trusts reports whether who may AssumeRole r.
func (r Role) trusts(who principal) bool {
	return slices.ContainsFunc(r.Principals, func(p string) bool {
		if p == who.arn || who.session != nil && p == who.session.RoleARN {
			return true
		}
		a := parseARN(p)
		return a.resource == "root" && a.account == who.account
	})
}

// inherit adds what a chain carries on: transitive tags and the source
// identity, neither of which the next link may change.
func (w *wish) inherit(parent Session) *refusal {
	for _, k := range parent.TransitiveTags {
		for asked := range w.tags {
			if strings.EqualFold(k, asked) {
				return invalid("One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from the calling session.")
			}
		}
		// Safe: no two inherited keys are equal but for case.
	}
	for _, k := range parent.TransitiveTags {
		w.tags[k] = parent.Tags[k]
		w.transitive = append(w.transitive, k)
	}
	if len(w.tags) > maxTags {
		return invalid(fmt.Sprintf("the session would have %d tags; at most %d are allowed", len(w.tags), maxTags))
	}
	if parent.SourceIdentity != "" {
		if w.sourceIdentity != "" && w.sourceIdentity != parent.SourceIdentity {
			return denied(fmt.Sprintf("User: %s is not authorized to perform: sts:SetSourceIdentity on resource: %s: the source identity of a chain cannot change", parent.ARN, cut(w.roleARN)))
		}
		w.sourceIdentity = parent.SourceIdentity
	}
	return nil
}

// issue makes the credentials of a session that is granted.
func (s *Server) issue(q *request, want wish) (*result, *refusal) {
	depth, longest := 1, want.role.MaxSession
	if parent := q.caller.session; parent != nil {
		depth = parent.Depth + 1
	}
	life := time.Duration(want.seconds) * time.Second
	switch {
	case life > longest:
		return nil, invalid("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	case depth > 1 && life > defaultSession:
		return nil, invalid("The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.")
	case life == 0:
		life = min(longest, defaultSession)
	}
	a := parseARN(want.role.ARN)
	slices.Sort(want.transitive)
	sess := Session{
		Generation:     s.generation.Add(1),
		RoleARN:        want.role.ARN,
		Name:           want.name,
		ARN:            fmt.Sprintf("arn:%s:sts::%s:assumed-role/%s/%s", a.partition, a.account, a.role(), want.name),
		Issued:         q.now,
		Expires:        q.now.Truncate(time.Second).Add(life),
		Tags:           maps.Clone(want.tags),
		TransitiveTags: slices.Compact(want.transitive),
		SourceIdentity: want.sourceIdentity,
		ExternalID:     want.externalID,
		Depth:          depth,
	}
	sess.AccessKeyID = s.keyID(sess.Generation)
	token := s.seal(sess, want.tokenSize)
	if len(token) > maxTokenSize {
		return nil, &refusal{400, "PackedPolicyTooLarge", fmt.Sprintf("the session token would have %d bytes; at most %d are allowed", len(token), maxTokenSize)}
	}
	return &result{
		AssumedRoleUser: &assumedRoleUser{sess.userID(), sess.ARN},
		Credentials:     &credentials{sess.AccessKeyID, s.secret(sess.Generation), token, instant(sess.Expires)},
		SourceIdentity:  sess.SourceIdentity,
		TokenSize:       len(token),
		TokenUse:        (len(token)*100 + maxTokenSize - 1) / maxTokenSize,
	}, nil
}

// getCallerIdentity answers GetCallerIdentity.
func (s *Server) getCallerIdentity(q *request) (*result, *refusal) {
	if refused := q.invalid(); refused != nil {
		return nil, refused
	}
	return &result{ARN: q.caller.arn, UserID: q.caller.userID, Account: q.caller.account}, nil
}
