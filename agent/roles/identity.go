package roles

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// parameters are all that a table has, a line for each key that is not zero.
// They go into the key of a session, so that no key of a table can be
// forgotten, and one that is new changes no key of those who do not use it.
func parameters(table any) []string {
	var lines []string
	walk(reflect.ValueOf(table), "", &lines)
	return lines
}

func walk(v reflect.Value, path string, lines *[]string) {
	switch {
	case v.IsZero():
	case v.Kind() == reflect.Pointer:
		// A table that is there may mean something although it is empty.
		*lines = append(*lines, path)
		walk(v.Elem(), path, lines)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			walk(v.Field(i), path+"."+v.Type().Field(i).Name, lines)
		}
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			*lines = append(*lines, fmt.Sprintf("%s[%d]=%v", path, i, v.Index(i)))
		}
	case v.Kind() == reflect.Map:
		all := v.Interface().(map[string]string) // no table has another
		for _, name := range slices.Sorted(maps.Keys(all)) {
			*lines = append(*lines, fmt.Sprintf("%s.%q=%s", path, name, all[name]))
		}
	default:
		*lines = append(*lines, fmt.Sprintf("%s=%v", path, v))
	}
}
