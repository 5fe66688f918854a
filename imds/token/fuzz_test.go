package token_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hostrole/hostrole/imds/token"
)

// holds is what Check should say, found the other way round: from the bytes
// that the text could mean to the only text that may stand for them.
func holds(tok string, now time.Duration) (left time.Duration, ok bool) {
	raw, err := base64.URLEncoding.DecodeString(tok)
	if err != nil || len(raw) < 16 || raw[0] != 1 || tok != seal(key, raw[:16], listener, bootID) {
		return 0, false
	}
	left = time.Duration(binary.BigEndian.Uint32(raw[1:5]))*time.Second - now
	return left, left > 0 && left <= 6*time.Hour+time.Second
}

func agree(t interface{ Errorf(string, ...any) }, tok string, boot time.Duration) (held bool) {
	now := clock(boot)
	left, err := sealer(&now).Check(tok)
	want, ok := holds(tok, boot)
	if !ok {
		want = 0
	}
	if left != want || (err == nil) != ok {
		t.Errorf("%q at %v: got %v and %v, want %v, %v", tok, boot, left, err, want, ok)
	}
	return err == nil
}

func TestSealedHeads(t *testing.T) {
	t.Parallel()
	held, refused := 0, 0
	for held+refused < 5000 {
		rapid.Check(t, func(t *rapid.T) {
			boot := time.Duration(rapid.Int64Range(0, int64(200*time.Hour)).Draw(t, "boot"))
			second := uint32(boot / time.Second)
			expiry := rapid.OneOf(rapid.Uint32Range(second, second+22_000), rapid.Uint32Range(0, second), rapid.Uint32()).Draw(t, "expiry")
			version := rapid.SampledFrom([]byte{1, 1, 1, 1, 0, 2, 255}).Draw(t, "version")
			nonce := rapid.SliceOfN(rapid.Byte(), 11, 11).Draw(t, "nonce")
			tok := seal(key, head(version, expiry, string(nonce)), listener, bootID)
			if rapid.IntRange(0, 9).Draw(t, "alter") == 0 {
				i := rapid.IntRange(0, len(tok)-1).Draw(t, "at")
				tok = tok[:i] + string([]byte{rapid.Byte().Draw(t, "byte")}) + tok[i+1:]
			}
			if agree(t, tok, boot) {
				held++
			} else {
				refused++
			}
		})
	}
	if min(held, refused) < 500 {
		t.Errorf("%d tokens held and %d did not: one kind is hardly tried", held, refused)
	}
}

// FuzzCheck checks any text at all, and any bytes under a good seal, at any
// time.
func FuzzCheck(f *testing.F) {
	const hour = int64(time.Hour)
	good := head(1, 3660, "nonce")
	tok := seal(key, good, listener, bootID)
	f.Add(tok, good, hour)
	f.Add(tok, head(1, 3660+21600, "nonce"), hour)
	f.Add(tok[:53]+"B==", head(1, 3600, "nonce"), hour)
	f.Add(tok[:54], head(2, 3660, "nonce"), hour)
	f.Add(tok[:54]+"\r\n", head(0, 3660, "nonce"), hour)
	f.Add(tok[:20]+"\n"+tok[20:55], good[:15], hour)
	f.Add(seal(key, good, "docker", bootID), append(bytes.Clone(good), 0), hour)
	f.Add(seal(make([]byte, token.KeySize), good, listener, bootID), []byte{}, hour)
	f.Add("", head(1, 1<<32-1, ""), int64(0))
	f.Add("AQAEAIXkhdOR3sIqAVRdg0mVAdHYRr_fkfFDU7SDzH9whlWZJwANKg==", head(1, 0, ""), int64(1)) // EC2's own
	f.Add(strings.Repeat("=", 56), head(1, 10, ""), 10*int64(time.Second))
	f.Add(strings.Repeat("_", 56), head(1, 10, ""), 10*int64(time.Second)-1)
	f.Fuzz(func(t *testing.T, tok string, head []byte, boot int64) {
		now := time.Duration(boot & (1<<62 - 1))
		agree(t, tok, now)
		agree(t, seal(key, head, listener, bootID), now)
	})
}
