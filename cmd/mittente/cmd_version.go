package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

// version is set by the build: -ldflags "-X main.version=…".
var version string

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run(a *app) error {
	v := buildInfo()
	return emitOne(a, v, func(w io.Writer) { fmt.Fprintln(w, v) })
}

// built is what is known of this binary.
type built struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func buildInfo() built {
	return built{buildVersion(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
}

// String returns one line.
func (b built) String() string {
	return fmt.Sprintf("mittente %s (%s, %s)", b.Version, b.Go, b.Platform)
}

// buildVersion is what the linker was told, else what Go knows of the build.
func buildVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return s.Value[:12]
		}
	}
	return "devel"
}
