package picture_test

import (
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Every text has the contrast that WCAG asks of small ones, bright and dark,
// and every mark that of graphics.
func TestContrast(t *testing.T) {
	t.Parallel()
	sheet, err := os.ReadFile("style.css")
	if err != nil {
		t.Fatal(err)
	}
	bright, dark, found := strings.Cut(string(sheet), "prefers-color-scheme:dark")
	if !found {
		t.Fatal("there is no dark sheet")
	}
	for _, text := range []string{bright, dark} {
		colour := map[string]float64{}
		for _, m := range regexp.MustCompile(`--([a-z-]+):#([0-9a-f]{3,6})`).FindAllStringSubmatch(text, -1) {
			colour[m[1]] = luminance(t, m[2])
		}
		for pair, least := range map[[2]string]float64{
			{"ink", "paper"}: 4.5, {"ink", "card"}: 4.5, {"soft", "paper"}: 4.5, {"soft", "card"}: 4.5, {"life", "card"}: 4.5, {"life", "paper"}: 4.5,
			{"ink", "rail"}: 4.5, {"ink", "left"}: 4.5, {"ink", "warn-left"}: 4.5, {"ink", "warn-soft"}: 4.5, {"ink", "bad-soft"}: 4.5,
			{"good", "good-soft"}: 4.5, {"warn", "warn-soft"}: 4.5, {"bad", "bad-soft"}: 4.5, {"good", "card"}: 4.5, {"warn", "card"}: 4.5, {"bad", "card"}: 4.5,
			{"life", "rail"}: 3, {"bad-mark", "card"}: 3,
		} {
			a, b := colour[pair[0]], colour[pair[1]]
			if a == b {
				t.Fatalf("%v is not in the sheet", pair)
			}
			if got := (max(a, b) + 0.05) / (min(a, b) + 0.05); got < least {
				t.Errorf("%s on %s has a contrast of %.2f, want %.1f", pair[0], pair[1], got, least)
			}
		}
	}
}

// luminance is that of WCAG 2.
func luminance(t *testing.T, hex string) (l float64) {
	t.Helper()
	if len(hex) == 3 {
		hex = hex[:1] + hex[:1] + hex[1:2] + hex[1:2] + hex[2:] + hex[2:]
	}
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, err := strconv.ParseUint(hex[2*i:2*i+2], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		c := float64(n) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		l += weight * c
	}
	return l
}
