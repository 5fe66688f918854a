// Package ownnet runs the tests of a package in a network namespace of their
// own, so that no packet of theirs to a metadata address can leave the machine
// or reach its real one.
//
// A test binary starts itself again in a new namespace, and goes on only where
// it is sure to have arrived: in another namespace than it left, with nothing
// up but lo and no way out. Who is not root gets a user namespace around it.
// In that way the tests need no preparation, and nothing is left behind by
// them: the kernel takes the namespace away with its last process.
//
// # Why not
//
//   - A namespace that the test enters with setns or unshare: that is a matter
//     of one thread, and tests have many.
//   - ip netns: it needs root and leaves a mount behind whoever is killed.
package ownnet
