// Package e2e holds the whole-program tests: the built hostrole on the real
// 169.254.169.254 of a network namespace, real upstreams, and the programs in
// the field as its callers.
//
// TestMain runs everything again in a new network namespace. MinIO, Ceph and
// the clients come from setup.sh; a test whose tool is missing says so and is
// skipped, or fails where HOSTROLE_E2E=require, as in CI. Clients that take
// minutes to install are tested where HOSTROLE_E2E_CLIENTS=all, and come from
// setup.sh --clients. The files of testdata/sdk hold what each client asks for,
// written with -update.
//
// # Why not
//
// Not the machine's own network: in a cloud the address answers there, with
// real credentials. Not mocks of SDKs or servers: what they do is the question.
// Not containers: a namespace is what they are made of, and starts in a
// millisecond. Not a proxy that records: the kernel would name the proxy as
// the caller.
package e2e
