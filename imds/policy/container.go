package policy

import (
	"fmt"
	"strings"

	"github.com/hostrole/hostrole/imds/caller"
)

// digests is how a pattern begins that is for the contents of an image. It is
// never compared with a name, which whoever builds an image makes up.
const digests = "sha256:"

// An Image is a pattern for the image of a container: for its digest where it
// begins with "sha256:", else for its name. The zero Image matches nothing.
type Image struct{ of Glob }

// NewImage returns the Image of a pattern. Its error matches ErrPattern.
func NewImage(pattern string) (Image, error) {
	g, err := NewGlob(pattern)
	return Image{g}, err
}

// String is the pattern.
func (i Image) String() string { return i.of.String() }

// Match reports whether i is for the image of who.
func (i Image) Match(who *caller.Caller) bool {
	if strings.HasPrefix(i.of.pattern, digests) {
		return i.of.Match(who.ImageDigest)
	}
	return i.of.Match(who.Image)
}

func matchesImage(all []Image, who *caller.Caller) bool {
	for _, i := range all {
		if i.Match(who) {
			return true
		}
	}
	return false
}

// A Label is a key that a container must have a label of, and a pattern for the
// label's value. The zero Label matches nothing.
type Label struct {
	key   string
	value Glob // the zero Glob: any, the empty one too
}

// NewLabel returns the Label that "key=pattern" is, or "key" for any value. Its
// error matches ErrPattern.
func NewLabel(text string) (Label, error) {
	key, pattern, valued := strings.Cut(text, "=")
	if key == "" {
		return Label{}, fmt.Errorf("%q %w: write key=value, or key for any value", text, ErrPattern)
	}
	if !valued {
		return Label{key: key}, nil
	}
	g, err := NewGlob(pattern)
	if err != nil {
		return Label{}, fmt.Errorf("the value in %q: %w", text, err)
	}
	return Label{key, g}, nil
}

// Key is that of the label.
func (l Label) Key() string { return l.key }

// String is the text that NewLabel takes.
func (l Label) String() string {
	if l.value == (Glob{}) {
		return l.key
	}
	return l.key + "=" + l.value.pattern
}

// Match reports whether one of labels is what l asks for.
func (l Label) Match(labels map[string]string) bool {
	value, is := labels[l.key]
	return is && l.key != "" && (l.value == (Glob{}) || l.value.Match(value))
}

// matchesLabels reports whether labels have one that was asked for of each key:
// the values of one key are alternatives, and every key is a fact of its own.
func matchesLabels(asked []Label, labels map[string]string) bool {
	for _, l := range asked {
		met := false
		for _, other := range asked {
			met = met || other.key == l.key && other.Match(labels)
		}
		if !met {
			return false
		}
	}
	return true
}
