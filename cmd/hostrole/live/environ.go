package live

import "os"

// serviceSecrets is where systemd shows the secrets of the service while it
// runs, to the service and to root.
const serviceSecrets = "/run/credentials/hostrole.service"

// Environ returns the environment, in the form of os.Environ, by which
// references to secrets are followed: of the process, and where it does not say
// where systemd has put its credentials, those of the service that runs.
func Environ() []string {
	env := os.Environ()
	if _, named := os.LookupEnv("CREDENTIALS_DIRECTORY"); named {
		return env
	}
	if _, err := os.Stat(serviceSecrets); err != nil {
		return env
	}
	return append(env, "CREDENTIALS_DIRECTORY="+serviceSecrets)
}
