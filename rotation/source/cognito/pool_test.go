package cognito_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/devsts"
	"github.com/hostrole/hostrole/rotation/source/sourcetest"
)

const (
	account   = "111122223333"
	poolID    = "eu-central-1:11111111-2222-3333-4444-555555555555"
	provider  = "issuer.example.com"
	issuerURL = "https://cognito-identity.amazonaws.com"
	canary    = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	custom    = "arn:aws:iam::111122223333:role/custom"
)

// A pool is a Cognito identity pool as its API reference has it: identities
// with and without a login, both flows, strict parameters, and errors that all
// come as a 400.
type pool struct {
	token     string               // what the provider's token must be now
	noGuests  bool                 // no identities without a login
	behaviour sourcetest.Behaviour // of whatever gives credentials; "" works
	instead   map[string]http.HandlerFunc
	issuer    *devsts.Issuer

	sync.Mutex // guards what follows
	calls      []string
	identities map[string]string // id to provider and token's owner, or ""
	merge      string            // what the next answer calls the identity; "" leaves it
	made       int
}

func (p *pool) start(t *testing.T) string {
	p.identities = map[string]string{}
	srv := httptest.NewServer(p)
	t.Cleanup(srv.Close)
	return srv.URL
}

func refuse(w http.ResponseWriter, code, message string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("X-Amzn-Errortype", code+":")
	w.WriteHeader(400)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": message})
}

func (p *pool) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	p.Lock()
	defer p.Unlock()
	action := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "AWSCognitoIdentityService.")
	p.calls = append(p.calls, action)
	w.Header().Set("X-Amzn-Requestid", fmt.Sprintf("request-%d", len(p.calls)))
	if p.instead[action] != nil {
		p.instead[action](w, r)
		return
	}
	var in struct {
		AccountID      string `json:"AccountId"`
		IdentityPoolID string `json:"IdentityPoolId"`
		IdentityID     string `json:"IdentityId"`
		CustomRoleARN  string `json:"CustomRoleArn"`
		Logins         map[string]string
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	switch {
	case r.Method != "POST" || r.URL.Path != "/" || r.URL.RawQuery != "" || r.Header.Get("Content-Type") != "application/x-amz-json-1.1":
		refuse(w, "UnknownOperationException", "")
		return
	case r.Header.Get("Authorization") != "":
		refuse(w, "InvalidSignatureException", "these calls are not signed")
		return
	case d.Decode(&in) != nil:
		refuse(w, "SerializationException", "")
		return
	}
	owner := ""
	switch {
	case len(in.Logins) == 0:
		if p.noGuests {
			refuse(w, "NotAuthorizedException", "Unauthenticated access is not supported for this identity pool.")
			return
		}
	case len(in.Logins) > 1 || in.Logins[provider] == "":
		refuse(w, "NotAuthorizedException", "Invalid login token. Issuer doesn't match providerName")
		return
	case in.Logins[provider] != p.token:
		refuse(w, "NotAuthorizedException", "Invalid login token. Token expired: "+in.Logins[provider])
		return
	default:
		owner = provider
	}
	if action == "GetId" {
		switch {
		case in.IdentityPoolID != poolID || in.IdentityID != "" || in.CustomRoleARN != "":
			refuse(w, "ResourceNotFoundException", "IdentityPool '"+in.IdentityPoolID+"' not found.")
		case in.AccountID != "" && in.AccountID != account:
			refuse(w, "InvalidParameterException", "accountId")
		default:
			p.say(w, map[string]any{"IdentityId": p.identity(owner)})
		}
		return
	}
	have, known := p.identities[in.IdentityID]
	switch {
	case !known:
		refuse(w, "ResourceNotFoundException", "Identity '"+in.IdentityID+"' not found.")
		return
	case have != owner:
		refuse(w, "NotAuthorizedException", "Access to Identity '"+in.IdentityID+"' is forbidden.")
		return
	case in.AccountID != "" || in.IdentityPoolID != "":
		refuse(w, "SerializationException", "")
		return
	case in.CustomRoleARN != "" && (action != "GetCredentialsForIdentity" || in.CustomRoleARN != custom || owner == ""):
		refuse(w, "InvalidParameterException", "customRoleArn")
		return
	}
	if p.merge != "" {
		p.identities[p.merge] = owner
		in.IdentityID, p.merge = p.merge, ""
	}
	switch action {
	case "GetOpenIdToken":
		p.say(w, map[string]any{"IdentityId": in.IdentityID, "Token": p.issuer.Mint(map[string]any{"sub": in.IdentityID, "aud": poolID, "amr": []string{"unauthenticated"}})})
	case "GetCredentialsForIdentity":
		p.credentials(w, r, in.IdentityID)
	default:
		refuse(w, "UnknownOperationException", "")
	}
}

// identity finds that of a login, and makes one for each guest.
func (p *pool) identity(owner string) string {
	for id, o := range p.identities {
		if o == owner && owner != "" {
			return id
		}
	}
	p.made++
	id := fmt.Sprintf("eu-central-1:00000000-0000-0000-0000-%012d", p.made)
	p.identities[id] = owner
	return id
}

func (p *pool) say(w http.ResponseWriter, doc map[string]any) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	_ = json.NewEncoder(w).Encode(doc)
}

func (p *pool) credentials(w http.ResponseWriter, r *http.Request, id string) {
	secret, life := canary, time.Hour
	switch p.behaviour {
	case sourcetest.Refuses:
		refuse(w, "InvalidIdentityPoolConfigurationException", "Invalid identity pool configuration. Check assigned IAM roles for this pool.")
		return
	case sourcetest.Garbage:
		_, _ = io.WriteString(w, `{"Credentials":{"SecretKey":"`+canary+`"`)
		return
	case sourcetest.Silent:
		p.Unlock()
		<-r.Context().Done()
		p.Lock()
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
		secret = ""
	case sourcetest.Expired:
		life = -time.Hour
	}
	// AWS writes the seconds with an exponent, such as 1.480370001E9.
	end := json.RawMessage(fmt.Sprintf("%.9E", float64(now().Add(life).Unix())))
	p.say(w, map[string]any{"IdentityId": id, "Credentials": map[string]any{
		"AccessKeyId": fmt.Sprintf("ASIA%016d", len(p.calls)), "SecretKey": secret, "SessionToken": "session-" + canary, "Expiration": end,
	}})
}

func now() time.Time { return time.Now().Round(0).UTC() }
