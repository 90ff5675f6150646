//go:build !linux || portable

package poll

import "net"

// Adopt is the way back from [Detach]: it gives conn a number again. conn is
// the FD's from then on, whose caller owns it. Nobody may be reading or
// writing.
func Adopt(conn net.Conn) (FD, error) {
	if d, ok := conn.(*detached); ok {
		return adoptWith(d.Conn, d.rest), nil
	}
	return adopt(conn), nil
}
