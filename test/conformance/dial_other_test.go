//go:build !linux

package conformance

import "net"

func dialer() *net.Dialer { return &net.Dialer{Timeout: patience} }
