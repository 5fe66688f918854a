// Package setup writes a first configuration from answers, on a terminal or
// from flags.
//
// # Why not
//
// Not a copy of the packaged configuration with holes: what was not asked about
// is in hostrole.toml(5), and a short file is read. Not checks of its own on
// answers: the reader of the configuration is asked after each of them, and its
// words are shown. Not a secret in a flag, which every user of the host can
// read in the list of processes, nor in the configuration, which many may read.
package setup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/cmd/hostrole/live"
	"github.com/hostrole/hostrole/cmd/hostrole/operator"
	"github.com/hostrole/hostrole/cmd/hostrole/prompt"
)

// serviceConfig is the configuration of the service.
const serviceConfig = "/etc/hostrole/hostrole.toml"

// packagedConfig is the configuration that packages bring, as an example.
const packagedConfig = "/usr/share/doc/hostrole/examples/hostrole.toml"

// A session is one run of the command.
type session struct {
	path    string // of the configuration
	units   string // folder of systemd's units
	service string // the configuration that the service reads
	example string // the configuration as the package brought it
	force   bool
	// replaces is whether the configuration that is there may go, and nothing
	// else.
	replaces bool
	offline  bool
	enable   bool

	given  map[string][]string // by flag
	ask    *prompt.Prompt      // nil without a terminal
	out    io.Writer
	secret []byte // what is to be written; nil for nothing
	load   loaded
}

// loaded is a systemd credential that the unit is to load.
type loaded struct{ name, path string }

// Command returns the command.
func Command() *cobra.Command {
	s := &session{given: map[string][]string{}}
	c := &cobra.Command{
		Use: "init", Short: "Write a first configuration, from questions or flags", Args: cobra.NoArgs,
		Long: `Init asks where this host's identity comes from, which roles it has and who may
use them, writes a configuration that says so, asks the upstream for each role
once, as check --live does, and offers to start the service. What a flag says is
not asked. Without a terminal nothing is, and a flag that is missing is an error.

` + kindsHelp() + `
A secret is never a flag. --secret says where it is: file:PATH, credential:NAME
for a systemd credential, or - to read it from the standard input; on a terminal
it can be typed, and is not shown. It is kept in a file that only root can read,
from which the unit loads it.

  hostrole init --region eu-central-1 --source web-identity --token file:/run/corp/token \
    --role arn:aws:iam::111122223333:role/app --allow user:app --enable

A configuration that is there is not overwritten without --force, unless it is as
the package brought it; on a terminal you are asked then.

Exit status: 2 when an answer is missing or cannot be right, 78 when they do not
go together, 69 when an upstream does not answer and 1 when one refuses; with
these two the configuration is there, and the service is not started.`,
	}
	c.Flags().StringVarP(&s.path, "config", "c", serviceConfig, "the configuration `file` to write")
	c.Flags().StringVar(&s.units, "units", "/etc/systemd/system", "the `folder` of systemd's units, to tell the service where its secret is")
	c.Flags().StringVar(&s.service, "service-config", serviceConfig, "")
	c.Flags().StringVar(&s.example, "packaged-config", packagedConfig, "")
	_, _ = c.Flags().MarkHidden("service-config"), c.Flags().MarkHidden("packaged-config")
	c.Flags().BoolVar(&s.force, "force", false, "overwrite a configuration and a secret that are there")
	c.Flags().BoolVar(&s.offline, "offline", false, "do not ask the upstreams")
	c.Flags().BoolVar(&s.enable, "enable", false, "start the service, now and at each boot, without a question")
	lists := map[string]*[]string{}
	for _, q := range questions {
		lists[q.flag] = c.Flags().StringArray(q.flag, nil, q.usage)
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		for flag, list := range lists {
			if c.Flags().Changed(flag) {
				s.given[flag] = *list
			}
		}
		s.out = c.OutOrStdout()
		s.ask = prompt.New(c.InOrStdin(), c.ErrOrStderr())
		return s.run(c.Context(), c.InOrStdin())
	}
	c.Args = func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("%w: %q is one word too many", operator.ErrUsage, args[0])
		}
		return nil
	}
	_ = c.RegisterFlagCompletionFunc("source", cobra.FixedCompletions(kindNames(), cobra.ShellCompDirectiveNoFileComp))
	return c
}

func (s *session) run(ctx context.Context, stdin io.Reader) error {
	if err := s.mayWrite(ctx); err != nil {
		return err
	}
	if s.ask != nil {
		s.ask.Say("This writes %s. Enter takes what stands in brackets, Ctrl-C ends it and changes nothing.", s.path)
	}
	if err := s.answers(ctx); err != nil {
		return err
	}
	if err := s.settle(stdin); err != nil {
		return err
	}
	text := s.text(true)
	cfg, err := config.Parse(s.path, []byte(text))
	if err != nil {
		return s.blame(err)
	}
	if err := s.keep(text); err != nil {
		return err
	}
	for _, w := range cfg.Warnings {
		_, _ = fmt.Fprintf(s.out, "warning: %v\n", w)
	}
	if err := s.try(ctx, cfg); err != nil {
		return err
	}
	return s.start(ctx)
}

// mayWrite is nil when there is no configuration, or it may be replaced.
func (s *session) mayWrite(ctx context.Context) error {
	if _, err := os.Lstat(s.path); err != nil || s.force {
		return nil //nolint:nilerr // what keeps it from being seen keeps it from being written
	}
	there, err := os.ReadFile(s.path)
	example, exerr := os.ReadFile(s.example)
	if err != nil || exerr != nil || !bytes.Equal(there, example) {
		return fmt.Errorf("%s is there, and is not overwritten: `hostrole check` says whether it is good; --force writes another one in its place", s.path)
	}
	s.replaces = true
	if s.ask == nil {
		return nil // nobody has written anything into it, and the flags say what should be there
	}
	yes, err := s.ask.Yes(ctx, s.path+" is as the package brought it. Replace it?")
	if err == nil && !yes {
		err = errors.New("nothing was written")
	}
	return err
}

// answers asks for what no flag says, one question after the other.
func (s *session) answers(ctx context.Context) error {
	for _, q := range questions {
		if !slices.Contains(s.kindsOf(q), s.kind()) && len(q.kinds) > 0 {
			if len(s.given[q.flag]) > 0 {
				return fmt.Errorf("%w: --%s has no meaning for --source %s", operator.ErrUsage, q.flag, s.kind())
			}
			continue
		}
		if err := ctx.Err(); err != nil {
			return errors.New("interrupted; nothing was written")
		}
		switch {
		case len(s.given[q.flag]) > 0:
			if problem := s.problem(q); problem != "" {
				return fmt.Errorf("%w: --%s %s", operator.ErrUsage, q.flag, problem)
			}
		case s.ask == nil && q.optional:
		case s.ask == nil:
			return fmt.Errorf("%w: there is no terminal to ask on, and no --%s: %s", operator.ErrUsage, q.flag, strings.ReplaceAll(q.usage, "`", ""))
		default:
			if err := s.question(ctx, q); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *session) kindsOf(q question) []string { return strings.Fields(q.kinds) }

func (s *session) kind() string { return s.one("source") }

// one is the only answer to a question, or "".
func (s *session) one(flag string) string {
	if all := s.given[flag]; len(all) > 0 {
		return all[len(all)-1]
	}
	return ""
}

// question asks until the answer is one that the configuration takes.
func (s *session) question(ctx context.Context, q question) error {
	if q.flag == "secret" {
		return s.askSecret(ctx, q)
	}
	for {
		answer, err := s.ask.Line(ctx, q.prompt, q.preset())
		if err != nil {
			return err
		}
		if answer == "" {
			if q.optional {
				return nil
			}
			s.ask.Say("An answer is needed: %s.", strings.ReplaceAll(q.usage, "`", ""))
			continue
		}
		s.given[q.flag] = []string{answer}
		if q.many {
			s.given[q.flag] = strings.FieldsFunc(answer, func(r rune) bool { return r == ',' || r == ' ' })
		}
		problem := s.problem(q)
		if problem == "" {
			return nil
		}
		delete(s.given, q.flag)
		s.ask.Say("That %s.", problem)
	}
}

// askSecret takes a secret that is typed, and shows nothing of it.
func (s *session) askSecret(ctx context.Context, q question) error {
	for {
		text, err := s.ask.Hidden(ctx, secretPrompt[s.kind()])
		if err != nil {
			return err
		}
		text = strings.TrimSpace(text)
		switch s.given["secret"] = []string{text}; {
		case text != "" && !strings.HasPrefix(text, "file:") && !strings.HasPrefix(text, "credential:"):
			s.secret, s.given["secret"] = []byte(text+"\n"), []string{"-"}
			return nil
		case text != "" && s.problem(q) == "":
			return nil
		}
		delete(s.given, "secret")
		s.ask.Say("An answer is needed: the secret itself, file:PATH, or credential:NAME.")
	}
}

// problem is what the reader of the configuration says to an answer; "" when
// it takes it.
func (s *session) problem(q question) string {
	if q.flag == "source" && !slices.Contains(kindNames(), s.kind()) {
		return "is none of " + strings.Join(kindNames(), ", ")
	}
	if q.form != nil {
		for _, one := range s.given[q.flag] {
			if problem := q.form(one); problem != "" {
				return problem
			}
		}
	}
	_, err := config.Parse(s.path, []byte(s.text(false)))
	var faults config.Faults
	if !errors.As(err, &faults) {
		return ""
	}
	for _, f := range faults {
		if f.Line > 0 && slices.ContainsFunc(strings.Fields(q.keys), func(key string) bool { return under(f.Key, key) }) && !later(f) {
			return f.Problem + "; " + f.Hint
		}
	}
	return ""
}

// later reports whether a fault may be one of an answer that is yet to come.
func later(f config.Fault) bool {
	return strings.Contains(f.Problem, "missing") || strings.Contains(f.Problem, "beside it")
}

// under reports whether a key is another one, or within it. A number in the key
// of a list counts as all of them.
func under(key, whole string) bool {
	for i := range 10 {
		key = strings.ReplaceAll(key, fmt.Sprintf("[%d]", i), "")
	}
	return key == whole || strings.HasPrefix(key, whole+".")
}

// blame puts the flags behind the faults of the whole.
func (s *session) blame(err error) error {
	var faults config.Faults
	if !errors.As(err, &faults) {
		return err
	}
	for i, f := range faults {
		for _, q := range questions {
			if slices.ContainsFunc(strings.Fields(q.keys), func(key string) bool { return under(f.Key, key) }) {
				faults[i].Hint += " (--" + q.flag + ")"
				break
			}
		}
	}
	return faults
}

// try asks the upstreams.
func (s *session) try(ctx context.Context, cfg *config.Config) error {
	if s.offline {
		return nil
	}
	if s.load.name != "" && s.load.path == "" {
		_, _ = fmt.Fprintf(s.out, "The upstreams are not asked: only the service has the credential %s. Once it runs: hostrole status\n", s.load.name)
		return nil
	}
	environ := os.Environ()
	if s.load.name != "" { // as systemd will show it to the service
		dir, err := os.MkdirTemp("", "hostrole-init-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		if err := os.Symlink(s.load.path, filepath.Join(dir, s.load.name)); err != nil {
			return err
		}
		environ = append(environ, "CREDENTIALS_DIRECTORY="+dir)
	}
	if err := live.Try(ctx, cfg, environ, s.out); err != nil {
		_, _ = fmt.Fprintf(s.out, "The configuration is written, and the service was not started. When that is mended:\n  hostrole check --live --config %s\n  systemctl enable --now hostrole\n", s.path)
		return err
	}
	return nil
}
