package setup

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
)

// hasService reports whether there is a service manager to ask.
func hasService() bool {
	_, err := exec.LookPath("systemctl")
	return err == nil
}

// enable starts the service, now and at each boot.
func enable(ctx context.Context) error {
	for _, args := range [][]string{{"daemon-reload"}, {"enable", "--now", "hostrole.service"}} {
		out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput() // #nosec G204 -- the two lines above
		if err != nil {
			return fmt.Errorf("starting the service: systemctl %s: %w: %s; the configuration is written, and `systemctl enable --now hostrole` tries it again", args[0], err, bytes.TrimSpace(out))
		}
	}
	return nil
}
