package config

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

// Files are what [Load] reads for path, as far as they are there now: the file,
// the folder of its drop-ins, and the drop-ins.
func Files(path string) []string {
	dir := dropIns(path)
	all := []string{path, dir}
	entries, _ := os.ReadDir(dir) // Load tells
	for _, e := range entries {
		if dropIn(e.Name()) {
			all = append(all, filepath.Join(dir, e.Name()))
		}
	}
	return all
}

func dropIns(path string) string { return filepath.Join(filepath.Dir(path), "hostrole.d") }

func dropIn(name string) bool {
	return strings.HasSuffix(name, ".toml") && !strings.HasPrefix(name, ".")
}

// A Reading is a file that a configuration names and the program reads.
type Reading struct {
	Path   string // absolute
	Source string // name of the source that it belongs to, or ""
	AtUse  bool   // read whenever it is needed, and not once for a configuration
}

// Readings are all files that c names, in the order of their keys. The field's
// tag says when it is read: at its use, by others than this program (never), or
// else when a configuration is put to work.
func (c *Config) Readings() (all []Reading) {
	var walk func(v reflect.Value, source string)
	walk = func(v reflect.Value, source string) {
		switch v.Kind() {
		case reflect.Pointer:
			if !v.IsNil() {
				walk(v.Elem(), source)
			}
		case reflect.Slice:
			for i := range v.Len() {
				walk(v.Index(i), source)
			}
		case reflect.Map:
			names := v.MapKeys() // texts, in every map of the file
			slices.SortFunc(names, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
			for _, name := range names {
				in := source
				if v.Type().Elem() == reflect.TypeFor[Source]() {
					in = name.String()
				}
				walk(v.MapIndex(name), in)
			}
		case reflect.Struct:
			for i := range v.NumField() {
				f := v.Type().Field(i)
				when := f.Tag.Get("read")
				switch {
				case !f.IsExported() || when == "never":
				case f.Tag.Get("form") != "path":
					walk(v.Field(i), source)
				case v.Field(i).String() != "":
					all = append(all, Reading{v.Field(i).String(), source, when == "use"})
				}
			}
		}
	}
	walk(reflect.ValueOf(c).Elem(), "")
	return all
}

// Beginnings are the sources that a role may come from, at the beginning of
// each of its chains.
func (c *Config) Beginnings(role string) (sources []string) {
	for _, from := range c.Roles[role].From.Each() {
		if name, is := from.Source(); is {
			sources = append(sources, name)
		} else if name, is := from.Role(); is { // the reader has found every cycle
			sources = append(sources, c.Beginnings(name)...)
		}
	}
	return sources
}
