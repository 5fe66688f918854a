package token_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/token"
)

const (
	listener = "host"
	bootID   = "2f4b8f0e-0000-4000-8000-000000000000"
)

var key = bytes.Repeat([]byte{7}, token.KeySize)

// A clock is the time since boot, set by hand.
type clock time.Duration

func (c *clock) now() time.Duration { return time.Duration(*c) }

// sealer is the one of the listener and boot above.
func sealer(c *clock) *token.Sealer { return token.New(key, listener, bootID, c.now) }

// seal makes a token as the package's comment describes it, of any head: the
// version, the expiry in seconds of boot time, a nonce. Tokens live over an
// upgrade, so what they are made of must not change by accident.
func seal(key, head []byte, listener, bootID string) string {
	bind := sha256.Sum256([]byte(listener + "\x00" + bootID))
	mac := hmac.New(sha256.New, key)
	mac.Write(bind[:])
	mac.Write(head)
	return base64.URLEncoding.EncodeToString(append(bytes.Clone(head), mac.Sum(nil)[:24]...))
}

func head(version byte, expiry uint32, nonce string) []byte {
	h := make([]byte, 16)
	h[0] = version
	binary.BigEndian.PutUint32(h[1:], expiry)
	copy(h[5:], nonce)
	return h
}

// refused reports whether tok gets ErrInvalid itself, and no life.
func refused(s *token.Sealer, tok string) bool {
	left, err := s.Check(tok)
	return left == 0 && err == token.ErrInvalid //nolint:errorlint // itself: nothing may be added to it
}

var shape = regexp.MustCompile(`^[A-Za-z0-9_-]{54}==$`)

func TestShape(t *testing.T) {
	t.Parallel()
	now := clock(time.Hour)
	s := sealer(&now)
	for _, ttl := range []time.Duration{token.MinTTL, time.Minute, token.MaxTTL} {
		for range 1000 {
			if tok := s.Issue(ttl); !shape.MatchString(tok) || len(tok) != token.Length {
				t.Fatalf("a token of %v is %q", ttl, tok)
			}
		}
	}
	if token.Length != 56 || token.MinTTL != time.Second || token.MaxTTL != 21600*time.Second {
		t.Errorf("tokens have %d characters and live %v to %v, EC2's have 56 and live 1s to 6h", token.Length, token.MinTTL, token.MaxTTL)
	}
}

func TestTokensAreDistinct(t *testing.T) {
	t.Parallel()
	now := clock(time.Hour)
	s := sealer(&now)
	const n = 20_000
	seen, nonces := make(map[string]bool, n), make(map[string]bool, n)
	for range n {
		tok := s.Issue(time.Hour)
		seen[tok] = true
		nonces[string(decode(t, tok)[5:16])] = true
	}
	if len(seen) != n || len(nonces) != n {
		t.Errorf("%d tokens of one instant are %d different ones, with %d nonces", n, len(seen), len(nonces))
	}
}

func decode(t *testing.T, tok string) []byte {
	t.Helper()
	raw, err := base64.URLEncoding.DecodeString(tok)
	if err != nil || len(raw) != 40 {
		t.Fatalf("%q is %d bytes and %v, want 40", tok, len(raw), err)
	}
	return raw
}

// The expiry is rounded up to a whole second of boot time: a token never dies
// early, and its life in whole seconds begins with what was asked for.
func TestLife(t *testing.T) {
	t.Parallel()
	for _, ttl := range []time.Duration{token.MinTTL, 2 * time.Second, time.Minute, token.MaxTTL - time.Second, token.MaxTTL} {
		for _, boot := range []time.Duration{0, 1, time.Second - 1, time.Second, time.Hour, time.Hour + 1, time.Hour + 300*time.Millisecond, time.Hour + time.Second - 1, 100 * 365 * 24 * time.Hour} {
			now := clock(boot)
			s := sealer(&now)
			tok := s.Issue(ttl)
			end := (boot + ttl).Truncate(time.Second)
			if end < boot+ttl {
				end += time.Second
			}
			for _, at := range []time.Duration{boot, boot + 1, boot + ttl/2, boot + ttl - 1, end - 1} {
				now = clock(at)
				left, err := s.Check(tok)
				if left != end-at || err != nil {
					t.Errorf("boot %v, TTL %v, at %v: %v and %v are left, want %v", boot, ttl, at, left, err, end-at)
				}
				if at == boot && left.Truncate(time.Second) != ttl {
					t.Errorf("boot %v: a token of %v shows %v at first", boot, ttl, left.Truncate(time.Second))
				}
			}
			for _, at := range []time.Duration{end, end + 1, end + time.Second, end + token.MaxTTL, end + 1000*time.Hour} {
				if now = clock(at); !refused(s, tok) {
					t.Errorf("boot %v, TTL %v: alive at %v, %v after its end", boot, ttl, at, at-end)
				}
			}
		}
	}
}

// A token that lives longer than any that is given was not made here, or was
// made in what this clock calls the future.
func TestNoTokenOutlivesTheLongestTTL(t *testing.T) {
	t.Parallel()
	now := clock(10 * time.Hour)
	s := sealer(&now)
	begin := uint32(now.now() / time.Second)
	longest := begin + uint32(token.MaxTTL/time.Second)
	for _, c := range []struct {
		name   string
		expiry uint32
		want   bool
	}{
		{"a second ago", begin - 1, false}, {"now", begin, false}, {"in a second", begin + 1, true}, {"after the longest TTL", longest, true},
		{"after the longest TTL, rounded up", longest + 1, true}, {"a second later", longest + 2, false}, {"a day later", longest + 86400, false},
		{"at the end of all time", 1<<32 - 1, false}, {"at boot", 0, false},
	} {
		tok := seal(key, head(1, c.expiry, "nonce"), listener, bootID)
		if got := !refused(s, tok); got != c.want {
			t.Errorf("a token that ends %s holds: %v, want %v", c.name, got, c.want)
		}
	}
	tok := s.Issue(token.MaxTTL)
	if now -= clock(2 * time.Second); !refused(s, tok) {
		t.Error("a token of the future holds")
	}
}

// What this package said of itself yesterday holds today, in both directions.
func TestFormStaysTheSame(t *testing.T) {
	t.Parallel()
	now := clock(time.Hour)
	s := sealer(&now)
	if left, err := s.Check(seal(key, head(1, 3660, "any nonce"), listener, bootID)); left != time.Minute || err != nil {
		t.Errorf("a token of the described form: %v and %v, want 1m0s", left, err)
	}
	tok := s.Issue(time.Minute)
	raw := decode(t, tok)
	if want := seal(key, raw[:16], listener, bootID); tok != want || !bytes.Equal(raw[:5], head(1, 3660, "")[:5]) {
		t.Errorf("%x was issued, want version 1, expiry 3660, a nonce, and the tag of %s", raw, want)
	}
	for version := range 256 {
		tok := seal(key, head(byte(version), 3660, "any nonce"), listener, bootID)
		if got := !refused(s, tok); got != (version == 1) {
			t.Errorf("version %d holds: %v", version, got)
		}
	}
}

func TestAlteredTokens(t *testing.T) {
	t.Parallel()
	now := clock(time.Hour)
	s := sealer(&now)
	for _, ttl := range []time.Duration{token.MinTTL, token.MaxTTL} {
		tok := s.Issue(ttl)
		raw := decode(t, tok)
		for bit := range 8 * len(raw) {
			bad := bytes.Clone(raw)
			bad[bit/8] ^= 0x80 >> (bit % 8)
			if !refused(s, base64.URLEncoding.EncodeToString(bad)) {
				t.Errorf("TTL %v: holds with bit %d altered", ttl, bit)
			}
		}
		// All bytes there are at every place, those outside of the alphabet included.
		for i := range tok {
			for c := range 256 {
				if bad := tok[:i] + string([]byte{byte(c)}) + tok[i+1:]; bad != tok && !refused(s, bad) {
					t.Errorf("TTL %v: holds with byte %#x at character %d", ttl, c, i)
				}
			}
		}
		if _, err := s.Check(tok); err != nil {
			t.Errorf("TTL %v: the token itself: %v", ttl, err)
		}
	}
}

// One token has one spelling.
func TestOtherSpellings(t *testing.T) {
	t.Parallel()
	now := clock(time.Hour)
	s := sealer(&now)
	alphabet := "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	tok := seal(key, head(1, 7200, "\xff\xff\xff\xff"), listener, bootID) // one that the two alphabets write differently
	if _, err := s.Check(tok); err != nil {
		t.Fatal(err)
	}
	raw := decode(t, tok)
	// The last character has two bits of the token and four that must be zero.
	last := strings.IndexByte(alphabet, tok[53])
	for spare := 1; spare < 16; spare++ {
		bad := tok[:53] + string(alphabet[last+spare]) + "=="
		if lax, err := base64.URLEncoding.DecodeString(bad); err != nil || !bytes.Equal(lax, raw) {
			t.Fatalf("%q does not spell the same bytes", bad)
		}
		if !refused(s, bad) {
			t.Errorf("holds with spare bits %04b", spare)
		}
	}
	for name, bad := range map[string]string{
		"nothing":                              "",
		"the other alphabet":                   base64.StdEncoding.EncodeToString(raw),
		"no padding":                           tok[:54],
		"half of the padding":                  tok[:55],
		"more padding":                         tok + "==",
		"line ends for the padding":            tok[:54] + "\r\n",
		"a line end at the end":                tok + "\n",
		"a line end within":                    tok[:20] + "\n" + tok[20:],
		"a line end within, at the same size":  tok[:20] + "\n" + tok[20:55],
		"line ends within, at the same size":   tok[:20] + "\n\n" + tok[20:54],
		"a space before":                       " " + tok,
		"a space for the padding":              tok[:54] + "= ",
		"quotes":                               `"` + tok + `"`,
		"hexadecimal":                          fmt.Sprintf("%x", raw),
		"the bytes themselves":                 string(raw),
		"42 bytes, which need no padding":      base64.RawURLEncoding.EncodeToString(append(bytes.Clone(raw), 0, 0)),
		"41 bytes":                             base64.URLEncoding.EncodeToString(append(bytes.Clone(raw), 0)),
		"39 bytes":                             base64.URLEncoding.EncodeToString(raw[:39]),
		"twice":                                tok + tok,
		"small letters":                        strings.ToLower(tok),
		"as many characters as a token, none":  strings.Repeat("=", token.Length),
		"as many characters as a token, zeros": strings.Repeat("A", token.Length),
		"as many bytes as a token, not ASCII":  strings.Repeat("ä", token.Length/2),
		"a megabyte":                           strings.Repeat("A", 1<<20),
	} {
		if !refused(s, bad) {
			t.Errorf("%s: holds", name)
		}
	}
}

// A long token costs nothing: it is refused before anything is done with it.
func TestLongTokensAreNotDecoded(t *testing.T) {
	now := clock(time.Hour)
	s := sealer(&now)
	long := strings.Repeat("A", 1<<20)
	if n := testing.AllocsPerRun(100, func() { _, _ = s.Check(long) }); n != 0 {
		t.Errorf("a token of a megabyte makes %v allocations, want none", n)
	}
}

func TestWhereATokenHolds(t *testing.T) {
	t.Parallel()
	now := clock(time.Hour)
	other := bytes.Clone(key)
	other[token.KeySize-1] ^= 1
	tok := sealer(&now).Issue(time.Hour)
	for _, c := range []struct {
		name             string
		key              []byte
		listener, bootID string
		want             bool
	}{
		{"after a restart", bytes.Clone(key), listener, bootID, true},
		{"at another listener", key, "docker", bootID, false},
		{"at a listener of a longer name", key, listener + "2", bootID, false},
		{"at a listener of another case", key, "Host", bootID, false},
		{"at a listener without a name", key, "", bootID, false},
		{"after a reboot", key, listener, "2f4b8f0e-0000-4000-8000-000000000001", false},
		{"after a reboot to nowhere", key, listener, "", false},
		{"where the two run together", key, listener + bootID, "", false},
		{"where the two run together otherwise", key, listener + bootID[:1], bootID[1:], false},
		{"where the two are exchanged", key, bootID, listener, false},
		{"at another host", other, listener, bootID, false},
	} {
		if got := !refused(token.New(c.key, c.listener, c.bootID, now.now), tok); got != c.want {
			t.Errorf("%s: holds: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	a, b := token.NewKey(), token.NewKey()
	if len(a) != token.KeySize || len(b) != token.KeySize || bytes.Equal(a, b) || bytes.Equal(a, make([]byte, token.KeySize)) {
		t.Errorf("two keys have %d and %d bytes; the same: %v", len(a), len(b), bytes.Equal(a, b))
	}
	for _, size := range []int{0, 1, token.KeySize - 1, token.KeySize + 1} {
		func() {
			defer func() {
				switch text := fmt.Sprint(recover()); {
				case text == "<nil>":
					t.Errorf("a key of %d bytes is taken", size)
				case strings.Contains(text, "7"):
					t.Errorf("a key of %d bytes ends up in the panic %q", size, text)
				}
			}()
			token.New(bytes.Repeat([]byte{'7'}, size), listener, bootID, new(clock).now)
		}()
	}
}

func TestErrInvalidTellsNothing(t *testing.T) {
	t.Parallel()
	now := clock(time.Hour)
	s := sealer(&now)
	tok := s.Issue(token.MinTTL)
	now += clock(time.Minute)
	_, expired := s.Check(tok)
	_, altered := s.Check(strings.Repeat("A", token.Length))
	_, missing := s.Check("")
	if !errors.Is(expired, token.ErrInvalid) || expired.Error() != altered.Error() || altered.Error() != missing.Error() {
		t.Errorf("expired is %v, altered is %v, missing is %v", expired, altered, missing)
	}
}

// One Sealer serves all connections of a listener.
func TestManyClientsAtOnce(t *testing.T) {
	t.Parallel()
	now := clock(time.Hour)
	s, elsewhere := sealer(&now), token.New(key, "docker", bootID, now.now)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 200 {
				tok := s.Issue(time.Hour)
				if left, err := s.Check(tok); left != time.Hour || err != nil {
					t.Errorf("%v and %v, want 1h0m0s", left, err)
				}
				if !refused(elsewhere, tok) {
					t.Error("holds at another listener")
				}
			}
		})
	}
	all.Wait()
}

// million is how many tokens cost no memory. The race detector makes each of
// them many times as slow; see race_test.go.
var million = 1_000_000

func TestTokensCostNoMemory(t *testing.T) {
	const bound = 256 << 10 // bytes; a quarter of one a token
	now := clock(time.Hour)
	s := sealer(&now)
	run := func(n int) {
		for range n {
			now += clock(time.Millisecond)
			if _, err := s.Check(s.Issue(token.MaxTTL)); err != nil {
				t.Fatal(err)
			}
		}
	}
	run(1000) // what is allocated once
	before := live()
	run(million)
	if after := live(); after > before+bound {
		t.Errorf("%d live tokens keep %d bytes, the bound is %d", million, after-before, bound)
	}
	runtime.KeepAlive(s)
}

// live is the size of what can be reached, in bytes. It takes a second
// collection to empty a pool.
func live() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
