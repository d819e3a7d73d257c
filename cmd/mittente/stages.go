package main

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"
)

// stage is what runs together and ends together.
type stage []func(context.Context) error

// runStages runs all stages until ctx ends or one of them does, and then ends
// them one after another in the order given: each is waited for before the next
// is told. Their errors are joined.
func runStages(ctx context.Context, stages ...stage) error {
	type running struct {
		cancel context.CancelFunc
		group  *errgroup.Group
	}
	all := make([]running, len(stages))
	first, stop := context.WithCancel(ctx)
	defer stop()
	for i, s := range stages {
		own, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		group, groupCtx := errgroup.WithContext(own)
		all[i] = running{cancel, group}
		for _, run := range s {
			group.Go(func() error {
				defer stop() // a room that ends, ends the house
				return run(groupCtx)
			})
		}
	}
	<-first.Done()
	var errs []error
	for _, r := range all {
		r.cancel()
		errs = append(errs, r.group.Wait())
	}
	return errors.Join(errs...)
}
