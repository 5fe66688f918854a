//go:build race

package token_test

func init() { million = 100_000 }
