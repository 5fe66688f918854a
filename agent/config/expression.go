package config

import (
	"regexp"
	"sync"
)

// An expression is compiled when it is first asked: a daemon's configuration
// needs a few of them, and all of them would be half a megabyte for good.
type expression struct{ compiled func() *regexp.Regexp }

func expr(text string) *expression {
	return &expression{sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })}
}

func (e *expression) MatchString(s string) bool              { return e.compiled().MatchString(s) }
func (e *expression) FindStringSubmatch(s string) []string   { return e.compiled().FindStringSubmatch(s) }
func (e *expression) FindAllString(s string, n int) []string { return e.compiled().FindAllString(s, n) }
func (e *expression) ReplaceAllString(s, instead string) string {
	return e.compiled().ReplaceAllString(s, instead)
}
