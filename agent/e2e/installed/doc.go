// Package installed holds the tests of hostrole as an operator has it: from its
// Debian package, under a real systemd, from installation to purge; in the
// sandbox of its unit, where a denied system call ends it; and on Debian's own
// kernel in a virtual machine, for what this machine's kernel may lack.
//
// # Why not
//
// Not in agent/e2e: those tests start the program by hand, or copy it and its
// units to where they belong, and so cannot see what a package does. Not in
// packaging: its tests look at what the packages hold and at their scripts, and
// know neither SDKs nor an STS. Not a virtual machine for all: it is ten times
// slower, and counts nothing that depends on time.
package installed
