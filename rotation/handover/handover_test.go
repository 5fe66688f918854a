package handover_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/handover"
)

const (
	keyID  = "AKIAIOSFODNN7EXAMPLE"
	secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	bootID = "5b0d9a2e-0f3c-4d0e-9a3c-6f1f1c0e7a11"
)

var (
	noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	now  = handover.Moment{BootID: bootID, Wall: noon, Boot: time.Hour}
)

func live() credential.Credential {
	return credential.Credential{
		AccessKeyID: keyID, SecretKey: credential.NewSecret(secret), Token: credential.NewSecret("a-session-token"),
		AccountID: "111122223333", RoleARN: "arn:aws:iam::111122223333:role/app", RequestID: "c6104cbe",
		Issued: noon.Add(-10 * time.Minute), Expires: noon.Add(50 * time.Minute), Received: 50 * time.Minute,
	}
}

func contents() handover.Contents {
	return handover.Contents{
		TokenKey: bytes.Repeat([]byte{7}, 32), Written: 55 * time.Minute,
		Credentials: map[credential.Key]credential.Credential{credential.NewKey("a"): live()},
	}
}

func encoded(t testing.TB, c handover.Contents) []byte {
	t.Helper()
	b, err := handover.Encode(c, bootID)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// plain is a credential with its secrets shown.
func plain(c credential.Credential) string {
	return fmt.Sprintf("%+v %s %s", c, c.SecretKey.Reveal(), c.Token.Reveal())
}

func TestContentsComeBackWhole(t *testing.T) {
	want := contents()
	got, err := handover.Decode(encoded(t, want), now)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.TokenKey, want.TokenKey) || got.Written != want.Written {
		t.Errorf("key or time differ: %v, %v", got.TokenKey, got.Written)
	}
	if diff := cmp.Diff(want.Credentials, got.Credentials, cmp.Transformer("plain", plain)); diff != "" {
		t.Error(diff)
	}
}

func TestOnlyLiveCredentialsComeBack(t *testing.T) {
	c := contents()
	old := live()
	old.Expires = noon.Add(-time.Minute)
	c.Credentials[credential.NewKey("expired by the wall")] = old
	slept := live()
	slept.Received, slept.Expires = 0, noon.Add(30*time.Minute) // 40 minutes of life, an hour ago
	c.Credentials[credential.NewKey("expired by the boot clock")] = slept
	always := live()
	always.Expires = time.Time{}
	c.Credentials[credential.NewKey("never expires")] = always
	got, err := handover.Decode(encoded(t, c), now)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "never expires"} {
		if _, ok := got.Credentials[credential.NewKey(name)]; !ok {
			t.Errorf("the credential %q is lost", name)
		}
	}
	if len(got.Credentials) != 2 {
		t.Errorf("%d credentials came back, want 2", len(got.Credentials))
	}
}

func TestEncodeRefuses(t *testing.T) {
	for name, edit := range map[string]func(c *handover.Contents, boot *string){
		"a boot without a name":    func(_ *handover.Contents, boot *string) { *boot = "" },
		"no token key":             func(c *handover.Contents, _ *string) { c.TokenKey = nil },
		"an incomplete credential": func(c *handover.Contents, _ *string) { c.Credentials[credential.NewKey("b")] = credential.Credential{} },
		"more than fits": func(c *handover.Contents, _ *string) {
			big := live()
			big.Token = credential.NewSecret(strings.Repeat("t", 32<<10))
			for i := range 200 {
				c.Credentials[credential.NewKey(fmt.Sprint(i))] = big
			}
		},
	} {
		c, boot := contents(), bootID
		edit(&c, &boot)
		if b, err := handover.Encode(c, boot); err == nil || b != nil {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error shows a secret", name)
		}
	}
}

// framed puts text into a frame that is right.
func framed(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	b := binary.BigEndian.AppendUint32([]byte("hostrole"), 1)
	b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
	return append(append(b, sum[:]...), text...)
}

func TestDecodeRefuses(t *testing.T) {
	good := encoded(t, contents())
	text := string(good[48:])
	replaced := func(old, with string) []byte {
		if !strings.Contains(text, old) {
			t.Fatalf("the text has no %q", old)
		}
		return framed(strings.ReplaceAll(text, old, with))
	}
	if _, err := handover.Decode(framed(text), now); err != nil {
		t.Fatalf("the frame of this test: %v", err)
	}
	for name, c := range map[string]struct {
		input []byte
		at    handover.Moment
		want  error
	}{
		"nothing":                       {nil, now, handover.ErrForm},
		"something else":                {[]byte(strings.Repeat("x", 200)), now, handover.ErrForm},
		"another version":               {append(append([]byte("hostrole"), 0, 0, 0, 3), good[12:]...), now, handover.ErrVersion},
		"more after the end":            {append(bytes.Clone(good), 0), now, handover.ErrForm},
		"more than the limit":           {make([]byte, handover.Limit+1), now, handover.ErrForm},
		"another boot":                  {good, handover.Moment{BootID: "other", Wall: noon, Boot: time.Hour}, handover.ErrBoot},
		"a boot without a name":         {good, handover.Moment{Wall: noon, Boot: time.Hour}, handover.ErrBoot},
		"written later than now":        {good, handover.Moment{BootID: bootID, Wall: noon, Boot: 52 * time.Minute}, handover.ErrForm},
		"text that is no JSON":          {framed("{" + secret), now, handover.ErrForm},
		"two texts":                     {framed(text + text), now, handover.ErrForm},
		"an unknown field":              {replaced(`"account_id"`, `"another"`), now, handover.ErrForm},
		"a date that is none":           {replaced(`"2026-03-01T12:50:00Z"`, `"`+secret+`"`), now, handover.ErrForm},
		"no token key":                  {replaced(`"token_key":"`, `"token_key":"","x":"`), now, handover.ErrForm},
		"a short token key":             {framed(strings.Replace(text, text[strings.Index(text, `"token_key":"`)+13:strings.Index(text, `","credentials"`)], "Bwc=", 1)), now, handover.ErrForm},
		"a key that is too short":       {replaced(`"key":"`, `"key":"aa","xey":"`), now, handover.ErrForm},
		"a credential without a secret": {replaced(secret, ""), now, handover.ErrForm},
		"a credential of the future":    {replaced(`"received":3000000000000`, `"received":3700000000000`), now, handover.ErrForm},
		"one key twice":                 {framed(strings.Replace(text, `"credentials":[`, `"credentials":[`+text[strings.Index(text, `[`)+1:strings.LastIndex(text, `]`)]+",", 1)), now, handover.ErrForm},
	} {
		got, err := handover.Decode(c.input, c.at)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
			continue
		}
		if got.TokenKey != nil || got.Credentials != nil {
			t.Errorf("%s: it was used by half: %v", name, got)
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error shows a secret", name)
		}
	}
}

func TestEveryCutAndEveryFlippedBitIsSeen(t *testing.T) {
	good := encoded(t, contents())
	for n := range good {
		if _, err := handover.Decode(good[:n], now); err == nil {
			t.Fatalf("%d bytes of %d pass", n, len(good))
		}
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[n] ^= 1 << bit
			if _, err := handover.Decode(bad, now); err == nil {
				t.Fatalf("bit %d of byte %d may be flipped", bit, n)
			}
		}
	}
}

// FuzzDecode feeds text behind a right frame, and frames. What is accepted has
// nothing in it that may not be served, and can be handed on.
func FuzzDecode(f *testing.F) {
	good := encoded(f, contents())
	f.Add(good, false)
	f.Add(good[48:], true)
	f.Add([]byte(`{"boot_id":"`+bootID+`","written":1,"token_key":"AAAAAAAAAAAAAAAAAAAAAAAAAAA=","credentials":null}`), true)
	f.Add(good[:40], false)
	f.Fuzz(func(t *testing.T, b []byte, frame bool) {
		if frame {
			b = framed(string(b))
		}
		c, err := handover.Decode(b, now)
		if err != nil {
			if c.TokenKey != nil || c.Credentials != nil {
				t.Fatal("used by half")
			}
			return
		}
		for _, one := range c.Credentials {
			if !one.Live(now.Wall, now.Boot) || credential.Check(one) != nil {
				t.Fatal("a credential that may not be served")
			}
		}
		again, err := handover.Encode(c, bootID)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := handover.Decode(again, now); err != nil {
			t.Fatal(err)
		}
	})
}
