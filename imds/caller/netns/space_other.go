//go:build !linux

package netns

import "errors"

type spaces []struct{}

func (spaces) close() {}

func (spaces) enter(func() error) error { return errors.ErrUnsupported }

func candidates(string) (spaces, error) { return nil, errors.ErrUnsupported }

func privileged() error { return errors.ErrUnsupported }
