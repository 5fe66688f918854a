package template_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/hostrole/hostrole/agent/template"
)

type values = map[string]string

var (
	id = strings.Repeat("4f2b", 16)

	// What STS's documentation takes, written down apart from the code.
	nameForm = regexp.MustCompile(`^[A-Za-z0-9_+=,.@-]{2,64}$`)
	tagForm  = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+@-]{0,256}$`)
)

func TestFill(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, template string
		form           template.Form
		who            values
		want           string // with * for a digest
	}{
		{"a text without facts", "db-7.app", template.Name, nil, "db-7.app"},
		{"a unit", "{unit}", template.Name, values{"unit": "app-1.service"}, "app-1.service"},
		{"a user", "db-7.{user}", template.Name, values{"user": "app"}, "db-7.app"},
		{"a uid", "{uid}@db-7", template.Name, values{"uid": "1000"}, "1000@db-7"},
		{"an id that just fits", "{container}", template.Name, values{"container": id}, id},
		{"two facts that cannot be mistaken", "{uid}-{unit}", template.Name, values{"uid": "1000", "unit": "app-1.service"}, "1000-app-1.service"},
		{"a user and a unit that can be told apart", "{user}.{unit}", template.Name, values{"user": "app", "unit": "app-1.service"}, "app.app-1.service"},
		{"a user and a unit that cannot", "{user}.{unit}", template.Name, values{"user": "app", "unit": "a.b.service"}, "app.a.b.service=*"},
		{"a name of one letter", "{user}", template.Name, values{"user": "a"}, "a=*"},
		{"an instance with an escape", "{unit}", template.Name, values{"unit": `a\x2db.service`}, "a-x2db.service=*"},
		{"a container within a user's", "{container}", template.Name, values{"container": "user@1000.service/" + id[:12]}, "user@1000.service-4f2b4f2b4f2b=*"},
		{"the same for a tag, which takes a slash", "{container}", template.Tag, values{"container": "user@1000.service/" + id[:12]}, "user@1000.service/4f2b4f2b4f2b"},
		{"an id that does not fit", "{unit}-{container}", template.Name, values{"unit": "docker.service", "container": id}, "docker.service-" + id[:28] + "=*"},
		{"a user with a space", "{user}", template.Name, values{"user": "CORP user"}, "CORP-user=*"},
		{"the same for a tag", "{user}", template.Tag, values{"user": "CORP user"}, "CORP user"},
		{"letters of another script", "{user}", template.Tag, values{"user": "jürgen"}, "jürgen"},
		{"letters of another script in a name", "{user}", template.Name, values{"user": "jürgen"}, "j-rgen=*"},
		{"a user with an end like a digest", "{user}", template.Name, values{"user": "app=0123456789abcdef0123"}, "app=0123456789abcdef0123=*"},
		{"a digest that the template has begun", "x={container}", template.Name, values{"container": "0123456789abcdef0123"}, "x=0123456789abcdef0123=*"},
		{"a number that is none", "{uid}", template.Name, values{"uid": "007"}, "007=*"},
		{"no UTF-8", "{user}", template.Tag, values{"user": "a\xff"}, "a-=*"},
		{"a fact that is not known", "{unit}", template.Name, values{"user": "app"}, "=*"},
		{"braces that are no placeholder", "{unit}{x}{", template.Tag, values{"unit": "a.service"}, "a.service-x--"},
		{"what stands in it and STS does not take", "db 7.{user}", template.Name, values{"user": "app"}, "db-7.app"},
	} {
		got := template.New(c.template, c.form).Fill(c.who)
		form := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(c.want), `=\*`, "=[0-9a-f]{20}") + "$")
		if !form.MatchString(got) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// The digest is of the facts one by one, wherever a line ends in them.
func TestDigestsOfFactsThatRunTogether(t *testing.T) {
	t.Parallel()
	tmpl := template.New("{container}{uid}", template.Name)
	if a, b := tmpl.Fill(values{"container": "é\nuid=1", "uid": "1"}), tmpl.Fill(values{"container": "é", "uid": "1\nuid=1"}); a[len(a)-20:] == b[len(b)-20:] {
		t.Errorf("%q and %q have one digest", a, b)
	}
}

func TestFacts(t *testing.T) {
	t.Parallel()
	got := template.New("{user}-{hostname}-{unit}{user}{uid}.{container", template.Name).Facts()
	if want := []string{"uid", "unit", "user"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Two callers who differ in a fact that is asked for never read alike, and what
// they read is what STS takes. The facts are of few letters, and of those that
// templates have between them, so that they meet often.
func TestNoTwoReadAlike(t *testing.T) {
	t.Parallel()
	var compared, same, plain int
	rapid.Check(t, func(t *rapid.T) {
		form, takes := template.Name, nameForm
		if rapid.Bool().Draw(t, "tag") {
			form, takes = template.Tag, tagForm
		}
		text := rapid.StringOfN(rapid.RuneFrom([]rune("a.-=/")), 0, 3, -1)
		fact := rapid.SampledFrom([]string{"{unit}", "{user}", "{uid}", "{container}"})
		written := ""
		for range rapid.IntRange(1, 4).Draw(t, "facts") {
			written += text.Draw(t, "text") + fact.Draw(t, "fact")
		}
		tmpl := template.New(written+text.Draw(t, "end"), form)
		value := rapid.OneOf(rapid.StringOfN(rapid.RuneFrom([]rune("a1.-=/\\ é")), 1, 4, -1), rapid.SampledFrom([]string{
			"a.service", "a-a.service", "a.a.service", "service", "1", "11", "0", "1000", id, id[:63] + "1", strings.Repeat("a", 300),
			"a=" + strings.Repeat("0", 20), strings.Repeat("0", 20), strings.Repeat("1", 20)}))
		who := func() values {
			return values{"unit": value.Draw(t, "unit"), "user": value.Draw(t, "user"), "uid": value.Draw(t, "uid"), "container": value.Draw(t, "container")}
		}
		read := map[string]string{}
		for range 8 {
			w := who()
			got := tmpl.Fill(w)
			if !takes.MatchString(got) {
				t.Fatalf("%q of %v is %q, which STS does not take", written, w, got)
			}
			var told []string
			for _, f := range tmpl.Facts() {
				told = append(told, fmt.Sprintf("%s=%q", f, w[f]))
			}
			facts := strings.Join(told, " ")
			if other, is := read[got]; is && other != facts {
				t.Fatalf("%q is %q of %s and of %s", written, got, facts, other)
			}
			if again := tmpl.Fill(w); again != got {
				t.Fatalf("%q is %q, and then %q", written, got, again)
			}
			if _, is := read[got]; is {
				same++
			}
			compared++
			if !regexp.MustCompile(`=[0-9a-f]{20}$`).MatchString(got) {
				plain++
			}
			read[got] = facts
		}
	})
	if plain < compared/50 || plain == compared {
		t.Errorf("%d of %d are without a digest: one kind is hardly tried", plain, compared)
	}
	t.Logf("%d texts, %d of them without a digest, %d alike for callers who are alike", compared, plain, same)
}

func FuzzFill(f *testing.F) {
	f.Add("{unit}-{container}", "app.service", "app", "1000", id, false)
	f.Add("{user}.{unit}", "a.b.service", "a", "0", "", true)
	f.Add("{{unit}}{", "\xff", "=", "00", "/", false)
	f.Add("x={uid}", "", "", "01234567890123456789", "", false)
	f.Fuzz(func(t *testing.T, text, unit, user, uid, container string, tag bool) {
		form, takes := template.Name, nameForm
		if tag {
			form, takes = template.Tag, tagForm
		}
		if len(text) > 100 || len(unit)+len(user)+len(uid)+len(container) > 400 {
			return
		}
		tmpl := template.New(text, form)
		got := tmpl.Fill(values{"unit": unit, "user": user, "uid": uid, "container": container})
		if !takes.MatchString(got) || !utf8.ValidString(got) {
			t.Errorf("%q is %q", text, got)
		}
	})
}
