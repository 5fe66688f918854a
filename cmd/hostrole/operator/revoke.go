package operator

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hostrole/hostrole/agent/admin"
)

func revokeCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "revoke ROLE", Short: "Stop serving a role at once, and say how to kill its sessions", Args: atMost(1, 1, "role"),
		Long: `Revoke stops the daemon from serving a role at once, until the next reload or
restart, and forgets its credential. Credentials that were handed out before are
good until they expire: only AWS can take them back. Revoke prints the policy
that does so, for you to attach to the role. It needs root, or the daemon's own
user.`,
	}
	client := socket(c)
	c.ValidArgsFunction = complete(client)
	c.RunE = func(c *cobra.Command, args []string) error {
		done, err := client().Revoke(c.Context(), args[0])
		if err != nil {
			return told(err)
		}
		// What is for a person goes beside the policy, so that a file gets that alone.
		_, _ = fmt.Fprint(c.ErrOrStderr(), revoked(done))
		if done.ARN == "" {
			return nil
		}
		_, err = fmt.Fprint(c.OutOrStdout(), killer(done.Time))
		return err
	}
	return c
}

// revoked says what came of it, and what is left to do.
func revoked(r admin.Revocation) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Not served until the next reload or restart: %s.\n", strings.Join(r.Roles, ", "))
	if len(r.Children) > 0 {
		fmt.Fprintf(&b, "Served on, until they expire: the sessions of %s, which were assumed from it.\nRevoke these as well if it was stolen.\n", strings.Join(r.Children, ", "))
	}
	if r.ARN == "" {
		fmt.Fprintf(&b, "It has no ARN here: revoke its sessions where they come from.\n")
		return b.String()
	}
	name := r.ARN[strings.LastIndexByte(r.ARN, '/')+1:]
	fmt.Fprintf(&b, `To kill the sessions issued before now, attach this policy to
%s:
  aws iam put-role-policy --role-name %s --policy-name HostroleRevokeOlderSessions \
    --policy-document file://policy.json
`, r.ARN, name)
	return b.String()
}

// killer is the policy that denies everything to sessions issued before t.
func killer(t time.Time) string {
	return fmt.Sprintf(`{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Effect": "Deny",
      "Action": "*",
      "Resource": "*",
      "Condition": { "DateLessThan": { "aws:TokenIssueTime": %q } }
    }
  ]
}
`, t.UTC().Format("2006-01-02T15:04:05Z"))
}
