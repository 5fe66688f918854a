package config

import (
	"fmt"
	"reflect"
)

// SetDefault sets v from the text of a tag.
func SetDefault(v reflect.Value, text string) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	setDefault(v, text)
	return nil
}

// KnownForm tells whether there is a form of that name.
func KnownForm(name string) bool {
	switch name {
	case "path", "socket", "endpoint", "service", "server", "proxy", "session_name", "source_identity", "argv":
		return true
	}
	_, is := shapes[name]
	return is
}

// Form checks a text.
func Form(name, text string) (problem string) {
	_, problem, _ = form(name, text, "hostrole.toml")
	return problem
}
