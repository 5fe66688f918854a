package roles

import (
	"fmt"
	"maps"
	"slices"

	"github.com/hostrole/hostrole/agent/facts"
	"github.com/hostrole/hostrole/agent/template"
	"github.com/hostrole/hostrole/rotation"
	"github.com/hostrole/hostrole/rotation/sts"
)

// A Rendering is what an upstream is told of the caller whose session it makes.
type Rendering struct {
	SessionName    string
	SourceIdentity string            // "" without one
	Tags           map[string]string // nil without any
}

// sample is the caller for whom a role is tried that has no session of its own.
var sample = map[string]string{"unit": "hostrole-check.service", "user": "hostrole-check", "uid": "0", "container": "hostrole-check"}

// Render says what the upstream would be told of a caller with these facts, of
// which all of r.Facts must be known.
func (r *Role) Render(who map[string]string) Rendering {
	s := r.builder.filled(r.session, r.ID, who)
	said := Rendering{SessionName: s.Name, SourceIdentity: s.SourceIdentity}
	for _, t := range s.Tags {
		if said.Tags == nil {
			said.Tags = map[string]string{}
		}
		said.Tags[t.Key] = t.Value
	}
	return said
}

// For returns the job of the session of a caller with these facts, of which all
// of r.Facts must be known: callers who differ in one of these have two keys.
// It may be called concurrently.
func (r *Role) For(who map[string]string) (rotation.Job, error) {
	b := r.builder
	b.mu.Lock()
	defer b.mu.Unlock()
	job, _, _ := b.made(r.ID, b.filled(r.session, r.ID, who))
	job.OfMany = true
	if len(b.faults) > 0 { // none is known that would not have been one of Build
		err := fmt.Errorf("a session of role %s: %w", r.ID, b.faults)
		b.faults = nil
		return rotation.Job{}, err
	}
	return job, nil
}

// filled is s with the templates of a role filled with facts of a caller; nil
// leaves the placeholders for those where they are.
func (b *builder) filled(s sts.Session, role string, who map[string]string) sts.Session {
	cfg := b.Config.Roles[role]
	s.Name, s.SourceIdentity, s.Tags = b.name(cfg.SessionName, role, who), "", nil
	if cfg.SourceIdentity != "" {
		s.SourceIdentity = b.name(cfg.SourceIdentity, role, who)
	}
	for _, k := range slices.Sorted(maps.Keys(cfg.Tags)) {
		value := b.Host.Render(cfg.Tags[k], role)
		if t := template.New(value, template.Tag); who != nil && len(t.Facts()) > 0 {
			value = t.Fill(who)
		}
		s.Tags = append(s.Tags, sts.Tag{Key: k, Value: value})
	}
	return s
}

// name fills the template of a session's name, or of a source identity.
func (b *builder) name(text, role string, who map[string]string) string {
	text = b.Host.Render(text, role)
	switch t := template.New(text, template.Name); {
	case len(t.Facts()) == 0:
		return facts.SessionName(text)
	case who != nil:
		return t.Fill(who)
	}
	return text
}
