//go:build !linux

package prompt

import (
	"context"
	"errors"
	"os"
)

func isTerminal(*os.File) bool { return false }

func silence(*os.File) (func(), error) { return nil, errors.ErrUnsupported }

func readable(context.Context, *os.File) bool { return true }
