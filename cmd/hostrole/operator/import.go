package operator

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/hostrole/hostrole/cmd/hostrole/profile"
)

func importCommand() *cobra.Command {
	return &cobra.Command{
		Use: "import-profile NAME", Short: "Print a profile of the AWS CLI as a configuration", Args: atMost(1, 1, "profile"),
		Long: `Import-profile reads a profile of ~/.aws/config and ~/.aws/credentials, or of the
files that AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE name, and prints a
configuration of hostrole that gives its role to you: the chain of its
source_profiles, its keys, its web identity, its credential_process.

No secret is printed. Where the profile has one, the configuration refers to a
file that you make:

  hostrole import-profile app > hostrole.toml
  hostrole check --config hostrole.toml`,
		RunE: func(c *cobra.Command, args []string) error {
			config, err := awsFile("AWS_CONFIG_FILE", "config")
			if err != nil {
				return err
			}
			credentials, err := awsFile("AWS_SHARED_CREDENTIALS_FILE", "credentials")
			if err != nil {
				return err
			}
			allowed := fmt.Sprintf("uid = [%d]", os.Geteuid())
			if u, err := user.LookupId(strconv.Itoa(os.Geteuid())); err == nil {
				allowed = fmt.Sprintf("user = [%q]", u.Username)
			}
			text, err := profile.TOML(profile.Options{Files: profile.Parse(config, credentials), Name: args[0], Allowed: allowed, Secrets: "/etc/hostrole"})
			if err != nil {
				return fmt.Errorf("reading the AWS profile: %w", err)
			}
			_, err = fmt.Fprint(c.OutOrStdout(), text)
			return err
		},
	}
}

// awsFile reads a file of the AWS configuration; one that is not there is
// empty.
func awsFile(variable, name string) (string, error) {
	path := os.Getenv(variable)
	if path == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		path = filepath.Join(home, ".aws", name)
	}
	text, err := os.ReadFile(path) // #nosec G703 -- the files of the user who asks
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return string(text), err
}
