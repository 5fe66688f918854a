//go:build !linux

package netns

import "errors"

type space struct{}

type spaces []space

func (spaces) close() {}

func (space) enter(func() error) error { return errors.ErrUnsupported }

func candidates(string) (spaces, error) { return nil, errors.ErrUnsupported }

func privileged() error { return errors.ErrUnsupported }
