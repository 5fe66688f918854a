// Package docs runs what the documentation tells people to type: each quick
// start from its first line to its last, on a Debian machine that was just
// booted, and compares what is shown with what the page says.
//
// The world of a page, its STS, identity provider, Vault and MinIO, is in the
// machine as well, under the names that the page has, with certificates of an
// authority that the machine trusts. So nothing of a page is replaced: what runs
// is what stands there. Blocks that cannot be run here are in a table with the
// reason, and a block that is neither fails.
//
// # Why not
//
// Not scripts beside the pages: they would be right when the pages are wrong.
// Not the binary alone: people get a package, and its units, users and folders
// are half of what goes wrong on a first day. That each hostrole command line of
// each page is one that the program takes is a test of cmd/hostrole, which has
// the command line.
package docs
