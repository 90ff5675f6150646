//go:build nodev

package main

import (
	"context"
	"io"
)

// runDev says that this binary leaves the dev command out, and the NATS
// server that it would bring along.
func runDev(context.Context, <-chan struct{}, *Config, string, io.Writer) error {
	return &configError{"this binary was built for production, without the dev command (build tag nodev)"}
}
