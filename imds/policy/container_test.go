package policy_test

import (
	"errors"
	"path"
	"strings"
	"testing"

	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/policy"
)

func TestLabelsAndImages(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		label string
		has   map[string]string
		want  bool
	}{
		{"app=web", map[string]string{"app": "web"}, true}, {"app=web", map[string]string{"app": "api"}, false}, {"app=web", nil, false},
		{"app=*", map[string]string{"app": ""}, false}, {"app", map[string]string{"app": ""}, true}, {"app", map[string]string{"App": "x"}, false},
		{"a.b/c=x=y", map[string]string{"a.b/c": "x=y"}, true}, {"app*", map[string]string{"apple": "x"}, false},
	} {
		l, err := policy.NewLabel(c.label)
		if err != nil || l.Match(c.has) != c.want || l.String() != c.label {
			t.Errorf("%s of %v: %v, %v", l, c.has, l.Match(c.has), err)
		}
	}
	if (policy.Label{}).Match(map[string]string{"": ""}) || (policy.Image{}).Match(&caller.Caller{Image: "x", ImageDigest: "x"}) {
		t.Error("what is empty matches something")
	}
	for _, bad := range []string{"", "=x", "app=", "app=["} {
		if l, err := policy.NewLabel(bad); !errors.Is(err, policy.ErrPattern) || l != (policy.Label{}) {
			t.Errorf("%q is the label %v, %v", bad, l, err)
		}
	}
	if i, err := policy.NewImage("[a"); !errors.Is(err, policy.ErrPattern) || i != (policy.Image{}) {
		t.Errorf("an image: %v, %v", i, err)
	}
}

func FuzzNewLabel(f *testing.F) {
	for _, text := range []string{"app=web", "app", "=", "a=b=c", "a=[", "a=*", "\xff=\x00"} {
		f.Add(text, "app", "web")
	}
	f.Fuzz(func(t *testing.T, text, key, value string) {
		l, err := policy.NewLabel(text)
		got := l.Match(map[string]string{key: value})
		asked, pattern, valued := strings.Cut(text, "=")
		if err != nil {
			if got || l != (policy.Label{}) {
				t.Errorf("%q is no label and matches", text)
			}
			return
		}
		want := asked == key
		if valued {
			like, err := path.Match(pattern, value)
			if err != nil {
				t.Errorf("%q has a pattern that is none: %v", text, err)
			}
			want = want && value != "" && (like || pattern == value)
		}
		if got != want || l.String() != text {
			t.Errorf("%q is %v, and of %q=%q: %v", text, l, key, value, got)
		}
	})
}
