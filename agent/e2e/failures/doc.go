// Package failures makes the failures that people meet, each for real, and
// looks whether the command that one would ask names the cause and the remedy.
//
// The table in table_test.go and packaging/docs/troubleshooting.md are checked
// against each other, so that no entry of the page was never seen, and none
// that was seen is missing.
//
// # Why not
//
// Not the errors of the parts, which their own tests look at: what counts is
// what is on the screen of whoever asks. Not a copy of the page: a symptom is
// what people search for, and stands in one place.
package failures
