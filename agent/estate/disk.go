package estate

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/handover"
	"github.com/hostrole/hostrole/systemd"
)

// runtimeFile is the state of a process that no service manager keeps
// descriptors for, where the runtime directory is memory: an early end then
// loses nothing, and a disk never has it.
func (o Options) runtimeFile() string {
	if o.RuntimeDir == "" || systemd.Held() || !volatile(o.RuntimeDir) {
		return ""
	}
	return filepath.Join(o.RuntimeDir, "state")
}

// readRuntime takes the state from the runtime directory, if there is one.
func (e *Estate) readRuntime() {
	path := e.o.runtimeFile()
	if path == "" {
		return
	}
	b, err := handover.ReadFile(path)
	defer clear(b)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		e.o.Log.Warn("a state of the process before cannot be used", "error", err.Error())
	default:
		e.use(b)
	}
}

// A Reboot is where live credentials outlast a reboot.
type Reboot struct {
	Path    string                            // "" for nowhere
	Secret  func() (credential.Secret, error) // followed at each use
	Machine string                            // what no other machine is called
}

func (r Reboot) lock() (handover.Lock, error) {
	secret, err := r.Secret()
	if err != nil {
		return handover.Lock{}, fmt.Errorf("rotation.reboot_file.key: %w", err)
	}
	return handover.Lock{Secret: secret, Machine: r.Machine}, nil
}

// readReboot has what the boot before has left, where the process before has
// left nothing.
func (e *Estate) readReboot() {
	r := e.o.Reboot
	if r.Path == "" || len(e.state.Credentials) > 0 {
		return
	}
	b, err := handover.ReadFile(r.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var lock handover.Lock
	if err == nil {
		lock, err = r.lock()
	}
	var live map[credential.Key]credential.Credential
	if err == nil {
		live, err = lock.Open(b, handover.Moment{Wall: e.o.Now(), Boot: e.o.Boot()})
	}
	if err != nil {
		e.o.Log.Warn("what outlasted the reboot cannot be used: this boot begins without credentials", "file", r.Path, "error", err.Error())
		return
	}
	e.state.Credentials = live
	e.o.Log.Info("credentials have outlasted the reboot", "file", r.Path, "credentials", len(live))
}

// writeReboot leaves the credentials for the next boot.
func (e *Estate) writeReboot(live map[credential.Key]credential.Credential) error {
	r := e.o.Reboot
	if r.Path == "" {
		return nil
	}
	lock, err := r.lock()
	if err != nil {
		return err
	}
	b, err := lock.Close(live, handover.Moment{Wall: e.o.Now(), Boot: e.o.Boot()})
	if err != nil {
		return fmt.Errorf("the file for a reboot: %w", err)
	}
	if err := handover.WriteFile(r.Path, b); err != nil {
		return fmt.Errorf("the file for a reboot: %w", err)
	}
	return nil
}
