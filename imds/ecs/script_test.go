package ecs_test

import (
	"testing"
	"testing/synctest"
)

func TestScripts(t *testing.T) {
	for _, c := range load(t) {
		t.Run(c.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if err := c.Run(t.Context(), newMemory(t)); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestScriptsCanFail changes one byte of every expectation there is, and one
// expectation at a time.
func TestScriptsCanFail(t *testing.T) {
	n := 0
	for _, c := range load(t) {
		for _, bad := range c.Spoiled() {
			n++
			synctest.Test(t, func(t *testing.T) {
				if bad.Run(t.Context(), newMemory(t)) == nil {
					t.Errorf("%s:%d: %s passes", bad.File, bad.Line, bad)
				}
			})
		}
	}
	if n < 100 {
		t.Errorf("only %d expectations were spoiled", n)
	}
}
