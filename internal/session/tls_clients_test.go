package session

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"testing"
)

// envClients makes the test binary a process of TLS clients: what they take
// is none of the hub's memory. It holds the address to connect to, and the
// newest version of TLS to offer.
const envClients = "PUSHGATE_TEST_TLS_CLIENTS"

// runClients opens as many sessions more as each line of standard input says,
// answers with a line, and ends with its input.
func runClients(setting string) error {
	var addr string
	var version uint16
	if _, err := fmt.Sscan(setting, &addr, &version); err != nil {
		return err
	}
	var open []*tls.Conn
	for {
		var n int
		if _, err := fmt.Scanln(&n); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		for range n {
			// Whom it talks to is no question here.
			conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, MaxVersion: version})
			if err != nil {
				return err
			}
			open = append(open, conn)
			if _, err := fmt.Fprintf(conn, churnHead, fmt.Sprint("u", len(open))); err != nil {
				return err
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
				return fmt.Errorf("the handshake gave %v, %w", resp, err)
			}
		}
		fmt.Println(len(open))
	}
}

// clients is such a process.
type clients struct {
	tb  testing.TB
	in  io.WriteCloser
	out *bufio.Reader
}

func startClients(tb testing.TB, addr string, version uint16) *clients {
	tb.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprint(envClients, "=", addr, " ", version))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			tb.Error(err)
		}
	})
	return &clients{tb, in, bufio.NewReader(out)}
}

func (c *clients) open(n int) {
	c.tb.Helper()
	if _, err := fmt.Fprintln(c.in, n); err != nil {
		c.tb.Fatal(err)
	}
	if _, err := c.out.ReadString('\n'); err != nil {
		c.tb.Fatal(err)
	}
}
