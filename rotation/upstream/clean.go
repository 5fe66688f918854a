package upstream

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hostrole/hostrole/rotation/credential"
)

// textLimit bounds what is repeated of an upstream's words.
const textLimit = 200

// Clean makes an upstream's text fit for a log: control characters and
// invalid UTF-8 become spaces, runs of white space one space, the secrets are
// blotted out, and the rest is cut to 200 bytes.
func Clean(text string, secrets ...credential.Secret) string {
	for _, s := range secrets {
		if !s.Empty() {
			text = strings.ReplaceAll(text, s.Reveal(), "[secret]")
		}
	}
	text = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > textLimit {
		cut := textLimit
		for !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + "…"
	}
	return text
}
