//go:build !linux || portable

package poll

import "net"

// Blocking returns the connection as it is: only on Linux is there something
// to be gained.
func Blocking(conn *net.TCPConn) (net.Conn, error) { return conn, nil }
