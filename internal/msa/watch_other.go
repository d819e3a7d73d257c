//go:build !linux

package msa

import (
	"context"
	"errors"
	"sync"
)

// watcher is for Linux only; elsewhere every listener has a goroutine.
type watcher struct{}

func watch(*Door) (*watcher, error) { return nil, errors.ErrUnsupported }

func (*watcher) run(context.Context, *sync.WaitGroup, *sync.WaitGroup) {}

func (*watcher) stop() {}
