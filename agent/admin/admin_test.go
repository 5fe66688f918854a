package admin_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/admin"
	"github.com/hostrole/hostrole/rotation/credential"
)

// What goes over the socket is made of texts, numbers, truths and times. There
// is no place in it that could hold a secret, or whatever else somebody puts
// into an interface.
func TestTypesHoldNoSecret(t *testing.T) {
	for _, v := range []any{admin.Status{}, admin.History{}, admin.Explanation{}, admin.Renewal{}, admin.Reload{}, admin.Revocation{}} {
		plain(t, reflect.TypeOf(v), reflect.TypeOf(v).Name())
	}
	if found := (holder{}); kinds(reflect.TypeOf(found)) {
		t.Error("this test does not see a secret")
	}
}

type holder struct {
	Inner []struct{ S credential.Secret }
}

func plain(t *testing.T, is reflect.Type, at string) {
	t.Helper()
	if !kinds(is) {
		t.Errorf("%s is a %v, or holds one", at, is)
	}
}

// kinds reports whether a type is made of harmless parts.
func kinds(is reflect.Type) bool {
	switch is.Kind() {
	case reflect.Pointer, reflect.Slice:
		return is.Elem().Kind() != reflect.Uint8 && kinds(is.Elem())
	case reflect.Map:
		return kinds(is.Key()) && kinds(is.Elem())
	case reflect.Struct:
		if is == reflect.TypeFor[time.Time]() {
			return true
		}
		for f := range is.Fields() {
			if !f.IsExported() || !kinds(f.Type) {
				return false
			}
		}
		return is != reflect.TypeFor[credential.Secret]()
	case reflect.String, reflect.Bool, reflect.Int, reflect.Uint32, reflect.Float64:
		return true
	}
	return false
}

// The schema and the types say the same.
func TestSchemaIsThatOfTheTypes(t *testing.T) {
	var schema map[string]any
	if err := json.Unmarshal(admin.StatusSchema, &schema); err != nil {
		t.Fatal(err)
	}
	agree(t, "status", schema, reflect.TypeFor[admin.Status]())
	schema = nil
	if err := json.Unmarshal(admin.HistorySchema, &schema); err != nil {
		t.Fatal(err)
	}
	agree(t, "history", schema, reflect.TypeFor[admin.History]())
}

func agree(t *testing.T, at string, schema map[string]any, is reflect.Type) {
	t.Helper()
	for is.Kind() == reflect.Pointer {
		is = is.Elem()
	}
	switch {
	case is == reflect.TypeFor[time.Time]():
		if schema["format"] != "date-time" {
			t.Errorf("%s is a time, and no date-time", at)
		}
	case is.Kind() == reflect.Slice:
		items, ok := schema["items"].(map[string]any)
		if !ok {
			t.Fatalf("%s has no items", at)
		}
		agree(t, at+"[]", items, is.Elem())
	case is.Kind() == reflect.Struct:
		props, _ := schema["properties"].(map[string]any)
		var required []string
		for _, r := range schema["required"].([]any) {
			required = append(required, r.(string))
		}
		var all, always []string
		for f := range is.Fields() {
			name, option, _ := strings.Cut(f.Tag.Get("json"), ",")
			all = append(all, name)
			if option != "omitempty" {
				always = append(always, name)
			}
			if p, ok := props[name].(map[string]any); ok {
				agree(t, at+"."+name, p, f.Type)
			}
		}
		if got := slices.Sorted(maps.Keys(props)); !slices.Equal(got, slices.Sorted(slices.Values(all))) {
			t.Errorf("%s has %v in the schema and %v in Go", at, got, all)
		}
		if slices.Sort(required); !slices.Equal(required, slices.Sorted(slices.Values(always))) {
			t.Errorf("%s requires %v, and Go always writes %v", at, required, always)
		}
	}
}

func TestStatesAreThoseOfTheSchema(t *testing.T) {
	for _, s := range []admin.State{admin.Live, admin.Failing, admin.Starting, admin.Down, admin.Refused, admin.Revoked, admin.OnDemand} {
		if !strings.Contains(string(admin.StatusSchema), `"`+string(s)+`"`) {
			t.Errorf("the schema does not know %q", s)
		}
	}
}

func TestAFailureKeepsItsKind(t *testing.T) {
	err := admin.Fail(admin.ErrDenied, "uid %d may not", 7)
	if err.Error() != "uid 7 may not" || !errors.Is(err, admin.ErrDenied) || !errors.Is(err, fs.ErrPermission) || errors.Is(err, admin.ErrUnknown) {
		t.Errorf("%v is not what it was made as", err)
	}
}
