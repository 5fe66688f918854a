//go:build !linux

package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
)

const exitNoNamespace = 125

func enterNamespace(context.Context, io.Reader, io.Writer, io.Writer) error {
	return fmt.Errorf("%w: %s has none", errNoNamespace, runtime.GOOS)
}

func inside() (bool, error) { return false, nil }

func namespaceHint() string { return "run it on Linux" }
