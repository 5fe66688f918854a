package cognito

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// stateLimit bounds a state file.
const stateLimit = 4 << 10

// A state is the content of the state file. It counts for this pool and
// provider alone, so that a changed configuration asks anew.
type state struct {
	Pool     string `json:"identity_pool_id"`
	Provider string `json:"provider"`
	Identity string `json:"identity_id"`
}

// remembered returns the identity from memory, or from the state file.
func (s *Source) remembered() (id string, known bool) {
	s.mu.Lock()
	var err error
	if s.id == "" && s.StateFile != "" {
		s.id, err = s.load()
	}
	id = s.id
	s.mu.Unlock()
	if err != nil {
		s.warn(fmt.Errorf("reading the identity that was kept: %w; a new one is asked for", err))
	}
	return id, id != ""
}

// remember keeps an identity in memory and in the state file.
func (s *Source) remember(id string) {
	s.mu.Lock()
	s.id = id
	var err error
	if s.StateFile != "" {
		err = s.save(id)
	}
	s.mu.Unlock()
	if err != nil {
		s.warn(fmt.Errorf("keeping the identity: %w; after a restart the pool may make a new one", err))
	}
}

func (s *Source) warn(err error) {
	if s.Warn != nil {
		s.Warn(err)
	}
}

func (s *Source) load() (string, error) {
	f, err := os.Open(s.StateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil // the first start
	}
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, stateLimit))
	if err != nil {
		return "", err
	}
	kept, err := parseState(text)
	if err != nil {
		return "", fmt.Errorf("%s %w", s.StateFile, err)
	}
	if kept.Pool != s.PoolID || kept.Provider != s.Provider {
		return "", nil
	}
	return kept.Identity, nil
}

// parseState reads a state file. Its error quotes nothing of it.
func parseState(text []byte) (state, error) {
	var kept state
	if json.Unmarshal(text, &kept) != nil || !strings.Contains(kept.Identity, ":") {
		return state{}, errors.New("holds no identity")
	}
	return kept, nil
}

// save replaces the state file whole: a reader, or a start after a crash,
// finds the old one or the new one.
func (s *Source) save(id string) error {
	text, err := json.Marshal(state{s.PoolID, s.Provider, id})
	if err != nil {
		return err
	}
	folder := filepath.Dir(s.StateFile)
	f, err := os.CreateTemp(folder, ".identity-*") // mode 0600
	if err != nil {
		return err
	}
	if err = fill(f, append(text, '\n')); err == nil {
		err = os.Rename(f.Name(), s.StateFile)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	return synced(folder)
}

func fill(f *os.File, text []byte) error {
	_, err := f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// synced makes a new name in a folder last.
func synced(folder string) error {
	dir, err := os.Open(folder)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	return dir.Sync()
}
