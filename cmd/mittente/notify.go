package main

import (
	"context"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// tellSystemd sends a state to the service manager; without one it does nothing.
func tellSystemd(state string) { _, _ = daemon.SdNotify(false, state) }

// watchdog tells the service manager that the process is well, twice as often as
// it wants to hear it. A process that is not well says nothing and is restarted.
func watchdog(well func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		every, err := daemon.SdWatchdogEnabled(false)
		if err != nil || every == 0 {
			<-ctx.Done()
			return nil
		}
		tick := time.NewTicker(every / 2)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
			if well(ctx) == nil {
				tellSystemd(daemon.SdNotifyWatchdog)
			}
		}
	}
}
