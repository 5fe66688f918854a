package ownnet

import (
	"os"
	"strings"
	"testing"
)

// NotRoot is the [Plan.Missing] of tests that need root, and why they do.
func NotRoot(why string) string {
	if os.Getuid() == 0 {
		return ""
	}
	return "root, " + why
}

// Need skips t where the tests have no network of their own, or fails it as
// [Missing] does.
func Need(t testing.TB) {
	t.Helper()
	if refused != "" {
		Missing(t, "%s", refused)
	}
}

// Missing skips t for the want of something, or fails it where nothing may be
// skipped: with HOSTROLE_E2E=require, as in CI.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	const env = "HOSTROLE_E2E"
	if os.Getenv(env) == "require" {
		t.Fatalf("missing, and "+env+"=require: "+format, args...)
	}
	t.Skipf("SKIPPED, missing: "+format, args...)
}

// RealRoot reports whether root here is root on the machine.
func RealRoot() bool { return os.Getuid() == 0 && WholeUIDs() }

// WholeUIDs reports whether each uid here is that of the machine, as it is in
// no user namespace that another made: see user_namespaces(7).
func WholeUIDs() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(text)), " ") == "0 0 4294967295"
}
