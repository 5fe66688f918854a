// Package runtimes holds the test of many callers on one machine: users, units
// of a real systemd, and containers of the runtimes in the field, each with a
// role of its own from 169.254.169.254.
//
// # Why not
//
// Not doubles of the runtimes: which cgroup they make, which bridge they use
// and what their sockets say is the question. Not the machine's own engines: a
// test may not touch what somebody works with. Not one machine for each
// runtime: that they are told apart is the question as well.
package runtimes
