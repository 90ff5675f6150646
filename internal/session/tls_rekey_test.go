package session

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"strings"
	"testing"
)

// sealer writes a client's records itself (RFC 8446 §5.2), because Go's client
// never changes its key.
type sealer struct {
	t      *testing.T
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

func newSealer(t *testing.T, secret []byte) *sealer {
	s := &sealer{t: t, secret: secret}
	s.derive()
	return s
}

// derive makes key and nonce of the secret (RFC 8446 §7.3).
func (s *sealer) derive() {
	block, err := aes.NewCipher(s.expand("key", 16))
	if err != nil {
		s.t.Fatal(err)
	}
	if s.aead, err = cipher.NewGCM(block); err != nil {
		s.t.Fatal(err)
	}
	s.iv, s.seq = s.expand("iv", 12), 0
}

// expand is HKDF-Expand-Label with an empty context (RFC 8446 §7.1).
func (s *sealer) expand(label string, size int) []byte {
	label = "tls13 " + label
	info := string([]byte{byte(size >> 8), byte(size), byte(len(label))}) + label + "\x00"
	b, err := hkdf.Expand(sha256.New, s.secret, info, size)
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

func (s *sealer) record(kind byte, content string) []byte {
	header := []byte{23, 3, 3, 0, 0}
	binary.BigEndian.PutUint16(header[3:], uint16(len(content)+1+s.aead.Overhead()))
	nonce := binary.BigEndian.AppendUint64(make([]byte, 4), s.seq)
	for i := range nonce {
		nonce[i] ^= s.iv[i]
	}
	s.seq++
	return s.aead.Seal(header, nonce, append([]byte(content), kind), header)
}

func (s *sealer) data(content string) []byte { return s.record(23, content) }

// update changes the key, and asks for the server's to be changed too
// (RFC 8446 §4.6.3).
func (s *sealer) update() []byte {
	b := s.record(22, "\x18\x00\x00\x01\x01")
	s.secret = s.expand("traffic upd", sha256.Size)
	s.derive()
	return b
}

// openSealed connects; what the client reads goes through Go's client, what it
// writes through the sealer.
func openSealed(t *testing.T, h *testHub) (*rawClient, *net.TCPConn, *sealer) {
	t.Helper()
	var keys strings.Builder
	config := clientTLS(tls.VersionTLS13)
	config.KeyLogWriter = &keys
	tcp := h.connect(t).Conn.(*net.TCPConn)
	conn := tls.Client(tcp, withName(config))
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	if suite := conn.ConnectionState().CipherSuite; suite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skipf("without AES in hardware %s is agreed on, which this test cannot write", tls.CipherSuiteName(suite))
	}
	var random, secret string
	_, line, _ := strings.Cut(keys.String(), "CLIENT_TRAFFIC_SECRET_0 ")
	if _, err := fmt.Sscan(line, &random, &secret); err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(secret)
	if err != nil {
		t.Fatal(err)
	}
	s := newSealer(t, b)
	c := &rawClient{conn, bufio.NewReader(conn), t}
	if _, err := tcp.Write(s.data(upgradeHead("alice"))); err != nil {
		t.Fatal(err)
	}
	c.upgraded()
	if got := c.object(t); got["type"] != "welcome" {
		t.Fatalf("the first frame is %v", got)
	}
	return c, tcp, s
}

// TestKeyUpdate has the client change keys in the middle of a frame.
func TestKeyUpdate(t *testing.T) {
	h := startTLSHub(t, nil)
	c, tcp, s := openSealed(t, h)
	ping := masked(0x81, `{"type":"ping"}`)
	for i := range 20 {
		b := s.data(ping[:i+1])
		b = append(b, s.update()...)
		b = append(b, s.update()...)
		b = append(b, s.data(ping[i+1:]+ping)...)
		if _, err := tcp.Write(b); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if got := c.object(t); got["type"] != "pong" {
				t.Fatalf("round %d: %v", i, got)
			}
		}
	}
}
