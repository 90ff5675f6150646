package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// version and commit are set by the release build: -ldflags "-X main.version=v1.2.3".
// An image is built without the checkout, and so has no other way to know its
// commit.
var version, commit string

type versionCommand struct{}

func (*versionCommand) Run(s *invocation) error {
	_, err := fmt.Fprintln(s.stdout, "gateway "+versionString())
	return err
}

// versionString is version, commit and Go version, in one line.
func versionString() string {
	v, revision := buildVersion()
	return fmt.Sprintf("%s, commit %s, %s", v, revision, runtime.Version())
}

// buildVersion is what the linker, else the module system, knows; commit is
// "unknown" outside a checkout.
func buildVersion() (v, revision string) {
	v, revision = version, "unknown"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	if v == "" {
		v = info.Main.Version
	}
	if v == "" {
		v = "(devel)"
	}
	changed := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = " with changes"
		}
	}
	if commit != "" {
		return v, commit
	}
	return v, revision + changed
}
