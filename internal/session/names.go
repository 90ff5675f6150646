package session

// nameRef is a name in the arena; 0 is none.
type nameRef uint32

const (
	nameUnit  = 4       // names are laid on multiples of it
	nameChunk = 1 << 18 // bytes
	maxName   = 255
)

// names stores user names and subjects as length-prefixed bytes in chunks of
// 256 KiB. What is dropped is reused by the next name of the same size class,
// so that endless coming and going does not grow it.
type names struct {
	chunks [][]byte
	used   uint32                       // units in use of the last chunk
	free   [maxName/nameUnit + 2]uint32 // by size in units: the first free block
}

const unitsPerChunk = nameChunk / nameUnit

// put stores s, at most maxName bytes.
func (n *names) put(s string) nameRef {
	units := uint32(len(s)/nameUnit + 1) // the length byte included
	ref := n.free[units]
	if ref != 0 {
		b := n.block(ref)
		n.free[units] = uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
	} else {
		ref = n.fresh(units)
	}
	b := n.block(ref)
	b[0] = byte(len(s))
	copy(b[1:], s)
	return nameRef(ref)
}

func (n *names) fresh(units uint32) uint32 {
	if len(n.chunks) == 0 || n.used+units > unitsPerChunk {
		n.chunks = append(n.chunks, make([]byte, nameChunk))
		n.used = 0
		if len(n.chunks) == 1 {
			n.used = 1 // unit 0 stays unused: 0 is no name
		}
	}
	ref := uint32(len(n.chunks)-1)*unitsPerChunk + n.used
	n.used += units
	return ref
}

func (n *names) block(ref uint32) []byte {
	return n.chunks[ref/unitsPerChunk][ref%unitsPerChunk*nameUnit:]
}

// get returns the name's bytes where they lie: valid until drop, never to
// leave the loop.
func (n *names) get(ref nameRef) []byte {
	b := n.block(uint32(ref))
	return b[1 : 1+int(b[0])]
}

// drop frees the name.
func (n *names) drop(ref nameRef) {
	b := n.block(uint32(ref))
	units := uint32(b[0])/nameUnit + 1
	next := n.free[units]
	b[0], b[1], b[2], b[3] = byte(next), byte(next>>8), byte(next>>16), byte(next>>24)
	n.free[units] = uint32(ref)
}
