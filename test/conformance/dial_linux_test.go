package conformance

import (
	"net"
	"syscall"
)

// dialer's connections have segments as on Ethernet. The loopback's are as
// large as a whole send buffer of the gateway, and each would wait for a
// delayed acknowledgement.
func dialer() *net.Dialer {
	return &net.Dialer{Timeout: patience, Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 1460)
		}); e != nil {
			return e
		}
		return err
	}}
}
