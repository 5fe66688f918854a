//go:build !linux

package cgroup

import "errors"

func isTree(string) error { return errors.ErrUnsupported }

func idOf(string) (uint64, error) { return 0, errors.ErrUnsupported }

func walk(string) (map[uint64]place, error) { return nil, errors.ErrUnsupported }
