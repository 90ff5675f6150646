//go:build !windows

package session

import "syscall"

// smallReceiveBuffer leaves a client little room that it does not read.
func smallReceiveBuffer(_, _ string, c syscall.RawConn) error {
	var failed error
	if err := c.Control(func(fd uintptr) {
		failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10)
	}); err != nil {
		return err
	}
	return failed
}
