//go:build linux && !portable

package poll

import (
	"io"
	"net"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Raw calls spare the scheduler's bookkeeping, up to a fifth of a short write.
// They are right only because these descriptors never block.
func rawRead(fd FD, b []byte) (int, unix.Errno) {
	n, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return int(n), e
}

func rawWrite(fd FD, b []byte) (int, unix.Errno) {
	n, _, e := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return int(n), e
}

// Read reads what is there, at most len(b) bytes, which must not be 0. It
// returns [ErrAgain] when nothing is there and io.EOF at the peer's end.
func Read(fd FD, b []byte) (int, error) {
	for {
		n, e := rawRead(fd, b)
		switch {
		case e == unix.EINTR:
		case e == unix.EAGAIN:
			return 0, ErrAgain
		case e != 0:
			return 0, e
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// Write writes as much of b as there is room for. A full socket takes 0 bytes
// and returns [ErrAgain].
func Write(fd FD, b []byte) (int, error) {
	for {
		n, e := rawWrite(fd, b)
		switch e {
		case 0:
			return n, nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, ErrAgain
		default:
			return 0, e
		}
	}
}

// CloseWrite ends our side of the connection behind all that was written.
func CloseWrite(fd FD) {
	_, _, _ = unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
}

// Close ends the connection and frees fd, which may be reused at once.
func Close(fd FD) {
	_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
}

// Detach gives up fd for an ordinary connection, which its caller closes. fd
// is closed, also on an error.
func Detach(fd FD) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "tcp")
	defer func() { _ = f.Close() }()
	return net.FileConn(f)
}

// MaxFiles is how many descriptors this process may open.
func MaxFiles() int {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 1024
	}
	return int(min(r.Cur, 1<<30))
}
