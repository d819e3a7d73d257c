//go:build !linux

package smtpserver

import (
	"context"
	"errors"
	"sync"
)

// watcher is for Linux only; elsewhere every listener has a goroutine.
type watcher struct{}

func watch(*Server) (*watcher, error) { return nil, errors.ErrUnsupported }

func (*watcher) run(context.Context, *sync.WaitGroup, *sync.WaitGroup) {}

func (*watcher) stop() {}
