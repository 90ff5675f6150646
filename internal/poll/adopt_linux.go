//go:build linux && !portable

package poll

import (
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// Adopt is the way back from [Detach]: it takes conn out of the runtime's
// poller and gives it a number of ours. conn is closed, also on an error; the
// caller owns the FD. Nobody may be reading or writing.
func Adopt(conn net.Conn) (FD, error) {
	fd, err := duplicate(conn)
	_ = conn.Close()
	if err != nil {
		return -1, fmt.Errorf("poll: adopting a connection: %w", err)
	}
	// The net package has set keepalive as it likes it, to probes each 15 s.
	err = setOptions(fd)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("poll: adopting a connection: %w", err)
	}
	return FD(fd), nil
}

// duplicate returns a second descriptor of the connection, which the runtime
// does not know. (conn.File would leave one in the runtime's poller: woken for
// each packet, for nothing.)
func duplicate(conn net.Conn) (fd int, err error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return 0, fmt.Errorf("%T has no descriptor", conn)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, err
	}
	controlErr := raw.Control(func(of uintptr) { fd, err = unix.FcntlInt(of, unix.F_DUPFD_CLOEXEC, 0) })
	if controlErr != nil {
		return 0, controlErr
	}
	return fd, err
}
