package upstream_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/hostrole/hostrole/rotation/upstream"
)

func TestRetryAfter(t *testing.T) {
	const date = "Fri, 02 Jan 2026 03:04:05 GMT"
	for name, c := range map[string]struct {
		text, date string
		want       time.Duration
	}{
		"none":                  {"", date, 0},
		"seconds":               {"120", "", 2 * time.Minute},
		"a year of seconds":     {"31536000", "", time.Hour},
		"more than a number is": {"99999999999999999999", "", 0},
		"less than nothing":     {"-5", "", 0},
		"a date":                {"Fri, 02 Jan 2026 03:05:05 GMT", date, time.Minute},
		"a date of next year":   {"Sat, 02 Jan 2027 03:05:05 GMT", date, time.Hour},
		"a date that is over":   {"Fri, 02 Jan 2026 03:03:05 GMT", date, 0},
		"a date and no Date":    {"Fri, 02 Jan 2026 03:05:05 GMT", "", 0},
		"words":                 {"soon", date, 0},
	} {
		h := http.Header{}
		h.Set("Retry-After", c.text)
		h.Set("Date", c.date)
		if got := upstream.RetryAfter(h); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		err := errors.New("busy")
		var later *upstream.Later
		if got := upstream.After(h, err); !errors.Is(got, err) || got.Error() != "busy" || errors.As(got, &later) != (c.want > 0) {
			t.Errorf("%s: the error is %#v", name, got)
		}
		if upstream.After(h, nil) != nil {
			t.Errorf("%s: no error became one", name)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("120", "")
	f.Add("Fri, 02 Jan 2026 03:05:05 GMT", "Fri, 02 Jan 2026 03:04:05 GMT")
	f.Add("99999999999999999999", "")
	f.Fuzz(func(t *testing.T, text, date string) {
		if d := upstream.RetryAfter(http.Header{"Retry-After": {text}, "Date": {date}}); d < 0 || d > time.Hour {
			t.Errorf("%q at %q: %v", text, date, d)
		}
	})
}
