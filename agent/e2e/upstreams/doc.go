// Package upstreams holds the whole-program tests of the sources: the built
// hostrole, the strictest real server of each kind that runs here, and an SDK
// that uses what hostrole got.
//
// TestMain runs everything again in a network namespace of its own, so that
// ports and addresses are free. The servers come from setup.sh beside this
// file, which agent/e2e/setup.sh calls; a test whose server is missing says so
// and is skipped, or fails where HOSTROLE_E2E=require, as in CI. Kubernetes and
// Vault take minutes to build: they are tested where HOSTROLE_E2E_UPSTREAMS=all,
// as make upstreams does.
//
// # Why not
//
// Not part of agent/e2e: what callers see, and whom hostrole asks, are two
// questions, and each of these tests starts a server of its own. Not hand-made
// answers of the servers: the packages of the sources have those, and what a
// release really answers is the question here. Not a test with AWS: nothing
// here leaves the machine.
package upstreams
