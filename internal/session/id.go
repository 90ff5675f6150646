package session

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
)

// sessionIDs makes the ids that sessions are known by outside. An id is the
// session's place, encrypted under a key of this process: it takes no memory,
// tells nobody anything, and leads back to the session. (One AES block, used
// as a permutation of distinct places.)
type sessionIDs struct{ block cipher.Block }

func newSessionIDs() (sessionIDs, error) {
	key := make([]byte, 16)
	if _, err := rand.Read(key); err != nil {
		return sessionIDs{}, fmt.Errorf("session ids: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return sessionIDs{}, fmt.Errorf("session ids: %w", err)
	}
	return sessionIDs{block}, nil
}

// id returns 22 base64url characters.
func (k sessionIDs) id(loop int, index, gen uint32) string {
	var b [aes.BlockSize]byte
	binary.BigEndian.PutUint32(b[0:], uint32(loop))
	binary.BigEndian.PutUint32(b[4:], index)
	binary.BigEndian.PutUint32(b[8:], gen)
	k.block.Encrypt(b[:], b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// place leads back from an id to the session's place. It is false for what no
// key of this process has made; the session may be gone by now.
func (k sessionIDs) place(id string) (loop int, index, gen uint32, ok bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(id)
	if err != nil || len(b) != aes.BlockSize {
		return 0, 0, 0, false
	}
	k.block.Decrypt(b, b)
	if binary.BigEndian.Uint32(b[12:]) != 0 {
		return 0, 0, 0, false
	}
	return int(binary.BigEndian.Uint32(b[0:])), binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:]), true
}
