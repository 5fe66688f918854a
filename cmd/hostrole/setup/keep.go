package setup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// secretLimit bounds a secret from the standard input, in bytes.
const secretLimit = 64 << 10

// secretName is that of the credential and of its file.
func (s *session) secretName() string {
	return map[string]string{"static": "aws-secret", "roles-anywhere": "device-key", "vault": "vault-token"}[s.kind()]
}

// secretPath is where a secret that was typed is kept.
func (s *session) secretPath() string {
	dir, err := filepath.Abs(filepath.Dir(s.path))
	if err != nil {
		dir = filepath.Dir(s.path)
	}
	return filepath.Join(dir, "credentials", s.secretName())
}

// isService reports whether what is written is for the service, which runs as
// a user of its own and is given its secrets by systemd.
func (s *session) isService() bool { return s.path == s.service }

// settle reads a secret that comes by the standard input, and decides how the
// daemon gets to it.
func (s *session) settle(stdin io.Reader) error {
	answer := s.one("secret")
	if answer == "-" && s.secret == nil {
		text, err := io.ReadAll(io.LimitReader(stdin, secretLimit+1))
		switch {
		case err != nil:
			return fmt.Errorf("reading the secret from the standard input: %w", err)
		case len(strings.TrimSpace(string(text))) == 0:
			return errors.New("reading the secret from the standard input: it is empty")
		case len(text) > secretLimit:
			return errors.New("reading the secret from the standard input: it is too long to be one")
		}
		s.secret = text
	}
	name, isName := strings.CutPrefix(answer, "credential:")
	path, isFile := strings.CutPrefix(answer, "file:")
	switch {
	case answer == "":
	case isName:
		s.load = loaded{name: name}
	case s.isService() && isFile && s.kind() != "vault": // that file is another program's, which renews it
		s.load = loaded{s.secretName(), path}
	case s.isService() && !isFile:
		s.load = loaded{s.secretName(), s.secretPath()}
	}
	return nil
}

// keep writes the secret, what tells the unit of it, and the configuration, in
// this order: a configuration that is there is whole.
func (s *session) keep(text string) error {
	if s.secret != nil {
		dir := filepath.Dir(s.secretPath())
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("keeping the secret: %w", err)
		}
		if err := s.put(s.secretPath(), s.secret, 0o600); err != nil {
			return fmt.Errorf("keeping the secret: %w", err)
		}
		_, _ = fmt.Fprintf(s.out, "%s: the secret, for its owner alone\n", s.secretPath())
	}
	switch {
	case s.load.path != "":
		drop := filepath.Join(s.units, "hostrole.service.d", "credential-"+s.load.name+".conf")
		if err := os.MkdirAll(filepath.Dir(drop), 0o755); err != nil { // #nosec G301 -- as systemd's own
			return fmt.Errorf("telling the service of its secret: %w", err)
		}
		unit := fmt.Sprintf("# Written by hostrole init: the service has no right to the file itself.\n[Service]\nLoadCredential=%s:%s\n", s.load.name, s.load.path)
		if err := replace(drop, []byte(unit), 0o644); err != nil {
			return fmt.Errorf("telling the service of its secret: %w", err)
		}
		_, _ = fmt.Fprintf(s.out, "%s: the service loads it from there\n", drop)
	case s.load.name != "":
		_, _ = fmt.Fprintf(s.out, "The unit has to load the credential %s: LoadCredential=%[1]s:PATH, or encrypted with systemd-creds.\n", s.load.name)
	}
	if err := os.MkdirAll(filepath.Dir(s.path), 0o755); err != nil { // #nosec G301 -- there is no secret in it
		return fmt.Errorf("writing the configuration: %w", err)
	}
	write := s.put
	if s.replaces {
		write = replace
	}
	if err := write(s.path, []byte(text), 0o644); err != nil {
		return fmt.Errorf("writing the configuration: %w", err)
	}
	_, _ = fmt.Fprintf(s.out, "%s: written\n", s.path)
	return nil
}

// put writes a file whole or not at all, over another one only by force.
func (s *session) put(path string, text []byte, mode fs.FileMode) error {
	if s.force {
		return replace(path, text, mode)
	}
	part, err := beside(path, text, mode)
	if err != nil {
		return err
	}
	err = os.Link(part, path)
	if errors.Is(err, fs.ErrExist) {
		err = fmt.Errorf("%s is there, and is not overwritten without --force", path)
	}
	return errors.Join(err, os.Remove(part))
}

// replace puts a file in the place of another one, or of none.
func replace(path string, text []byte, mode fs.FileMode) error {
	part, err := beside(path, text, mode)
	if err != nil {
		return err
	}
	if err := os.Rename(part, path); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	return nil
}

// beside writes a file that takes the place of path next.
func beside(path string, text []byte, mode fs.FileMode) (part string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-") // mode 0600
	if err != nil {
		return "", err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), err
}

// start starts the service, if the operator wants that.
func (s *session) start(ctx context.Context) error {
	if !s.isService() {
		_, _ = fmt.Fprintf(s.out, "Next: hostrole run --config %s\n", s.path)
		return nil
	}
	if !s.enable && s.ask != nil && hasService() {
		yes, err := s.ask.Yes(ctx, "Start the service, now and at each boot?")
		if err != nil {
			return err
		}
		s.enable = yes
	}
	if !s.enable {
		_, _ = fmt.Fprintln(s.out, "Next: systemctl enable --now hostrole")
		return nil
	}
	if err := enable(ctx); err != nil {
		return err
	}
	_, err := fmt.Fprintln(s.out, "The service runs. Next: hostrole status")
	return err
}
