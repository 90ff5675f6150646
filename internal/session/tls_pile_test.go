//go:build linux && !portable

package session

import (
	"strings"
	"testing"
)

// TestKeyUpdatesThatNobodyReads: the answers to them do not pile
// up. (The portable twin's sockets take megabytes of them first.)
func TestKeyUpdatesThatNobodyReads(t *testing.T) {
	h := startTLSHub(t, nil)
	_, tcp, s := openSealed(t, h)
	frame := masked(0x81, strings.Repeat("x", 4000))
	for i := 0; h.Stats().Closes["lost"] == 0; i++ {
		if i == 100_000 {
			t.Fatal("800,000 answers wait, and nothing happens")
		}
		var b []byte
		for range 8 {
			b = append(b, s.update()...)
		}
		// TLS takes no more than 16 of them without a byte between.
		if _, err := tcp.Write(append(b, s.data(frame[i%len(frame):][:1])...)); err != nil {
			break
		}
	}
	eventually(t, "it is ended", func() bool { return h.Stats().Closes["lost"] == 1 && h.open.Load() == 0 })
}
