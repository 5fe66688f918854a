package profile

import (
	"strings"
)

// A Section is the keys of one profile, in lower case.
type Section map[string]string

// Files are the profiles of an AWS configuration, by name.
type Files struct {
	profiles map[string]Section
}

// Parse reads the text of ~/.aws/config and that of ~/.aws/credentials; either
// may be empty. What stands in the second counts more. Lines that are none of
// the format's are passed over, as the SDKs do; so are keys below other keys.
func Parse(config, credentials string) Files {
	f := Files{profiles: map[string]Section{}}
	f.add(config, true)
	f.add(credentials, false)
	return f
}

// add reads one file. In config all profiles but the default have a prefix.
func (f Files) add(text string, prefixed bool) {
	var now Section // nil where keys belong to no profile
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		body := strings.TrimSpace(line)
		switch {
		case body == "" || body[0] == '#' || body[0] == ';':
		case body[0] == '[':
			now = f.section(body, prefixed)
		case line[0] == ' ' || line[0] == '\t': // belongs to the key above
		default:
			key, value, ok := strings.Cut(body, "=")
			if ok && now != nil {
				now[strings.ToLower(strings.TrimSpace(key))] = strings.TrimSpace(uncommented(value))
			}
		}
	}
}

// section is the profile that a heading names, or nil.
func (f Files) section(heading string, prefixed bool) Section {
	name, _, ok := strings.Cut(heading[1:], "]")
	if !ok {
		return nil
	}
	name = strings.TrimSpace(name)
	if prefixed && name != "default" {
		rest, is := strings.CutPrefix(name, "profile")
		if !is || rest == "" || rest[0] != ' ' && rest[0] != '\t' {
			return nil // a section of another kind, such as sso-session
		}
		name = strings.TrimSpace(rest)
	}
	if len(name) > 1 && (name[0] == '"' || name[0] == '\'') && name[len(name)-1] == name[0] {
		name = name[1 : len(name)-1]
	}
	if f.profiles[name] == nil {
		f.profiles[name] = Section{}
	}
	return f.profiles[name]
}

// uncommented takes off a comment, which begins with white space.
func uncommented(value string) string {
	for i := 1; i < len(value); i++ {
		if (value[i] == '#' || value[i] == ';') && (value[i-1] == ' ' || value[i-1] == '\t') {
			return value[:i-1]
		}
	}
	return value
}
