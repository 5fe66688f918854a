package handover_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hostrole/hostrole/rotation/handover"
)

func TestSealedMemoryIsReadTwiceAndNeverWritten(t *testing.T) {
	want := []byte("some text")
	f, err := handover.Seal(want)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 2 {
		if got, err := handover.Unseal(f); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("writing: %v", err)
	}
	if err := f.Truncate(0); !errors.Is(err, unix.EPERM) {
		t.Errorf("cutting: %v", err)
	}
	if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("programs that the daemon starts inherit it: %x, %v", flags, err)
	}
}

func TestUnsealRefusesWhatCanChange(t *testing.T) {
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	loose := os.NewFile(uintptr(fd), "loose")
	defer loose.Close()
	onDisk, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer onDisk.Close()
	for _, f := range []*os.File{loose, onDisk} {
		if b, err := handover.Unseal(f); !errors.Is(err, handover.ErrForm) || b != nil {
			t.Errorf("%s: %q, %v", f.Name(), b, err)
		}
	}
}

func TestUnsealRefusesWhatIsTooLarge(t *testing.T) {
	f, err := handover.Seal(make([]byte, handover.Limit+1))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if b, err := handover.Unseal(f); !errors.Is(err, handover.ErrForm) || b != nil {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}
