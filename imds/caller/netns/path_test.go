package netns_test

import (
	"encoding/hex"
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/hostrole/hostrole/imds/caller/kernel"
	"github.com/hostrole/hostrole/imds/caller/netns"
)

// What the kernel said, on a little-endian machine: a neighbour, an entry of a
// bridge, the number of a namespace, a refusal.
var said = map[string]string{
	"neighbour": "4c0000001c0000000100000000668a6b" + "020000000200000002000001" + "08000100ac1e0002" + "0a00020002f585a796520000" + "0800040000000000" + "14000300df1700006f0000006f00000002000000",
	"entry":     "4c0000001c0000000100000000668a6b" + "070000000300000002000000" + "0a00020002f585a796520000" + "0800090002000000" + "08000f0000000000" + "1400030000000000ec0000003c00000000000000",
	"link":      "28000000100000000100000000668a6b" + "00000100030000004310010000000000" + "0800250005000000",
	"number":    "1c000000580000000100000000668a6b" + "00000000" + "0800010005000000",
	"refusal":   "24000000020000000100000000668a6b" + "feffffff" + "00000000000000000000000000000000",
}

func message(t testing.TB, name string) []byte {
	t.Helper()
	b, err := hex.DecodeString(said[name])
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAnswersAreRead(t *testing.T) {
	t.Parallel()
	if kernel.Sockets == kernel.Links {
		t.Skip("SKIPPED, missing: a kernel that says such things")
	}
	got, errs := netns.Read(message(t, "neighbour"), 1)
	if errs[0] != nil || got.Index != 2 || got.At.String() != "172.30.0.2" || errs[1] == nil || errs[2] == nil {
		t.Errorf("a neighbour is read as %+v, %v", got, errs)
	}
	got, errs = netns.Read(message(t, "entry"), 1)
	if errs[0] != nil || got.Index != 3 || got.Master != 2 || got.At.IsValid() {
		t.Errorf("an entry is read as %+v, %v", got, errs)
	}
	got, errs = netns.Read(message(t, "link"), 1)
	if errs[1] != nil || got.Link != 3 || got.Number != 5 || errs[0] == nil || errs[2] == nil {
		t.Errorf("a link is read as %+v, %v", got, errs)
	}
	got, errs = netns.Read(message(t, "number"), 1)
	if errs[2] != nil || got.Named != 5 {
		t.Errorf("a number is read as %+v, %v", got, errs)
	}
	if _, errs = netns.Read(message(t, "refusal"), 1); !errors.Is(errs[0], syscall.ENOENT) || !errors.Is(errs[1], syscall.ENOENT) || !errors.Is(errs[2], syscall.ENOENT) {
		t.Errorf("a refusal is read as %v", errs)
	}
	// A number that is none would be the namespace of number 0.
	for _, name := range []string{"link", "number"} {
		short := []byte(strings.Replace(string(message(t, name)), "\x05\x00\x00\x00", "", 1))
		at := len(short) - 4
		short[0], short[at] = byte(len(short)), 4
		if got, errs := netns.Read(short, 1); !errors.Is(errs[1], kernel.ErrMalformed) || !errors.Is(errs[2], kernel.ErrMalformed) {
			t.Errorf("%s without its number is read as %+v, %v", name, got, errs)
		}
	}
}

// Whatever the bytes are, they are an answer to this question or an error, and
// a namespace has a number only if the kernel said so.
func FuzzAnswers(f *testing.F) {
	for name := range said {
		f.Add(message(f, name))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, errs := netns.Read(b, 1)
		for _, err := range errs {
			var errno syscall.Errno
			if err != nil && !errors.Is(err, kernel.ErrMalformed) && !errors.As(err, &errno) {
				t.Errorf("an error that nobody knows: %v", err)
			}
		}
		if errs[0] == nil && errs[1] == nil || errs[1] == nil && errs[2] == nil {
			t.Errorf("it is read in two ways: %+v", got)
		}
	})
}
