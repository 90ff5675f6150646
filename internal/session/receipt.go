package session

import "sync/atomic"

// receipt counts the sessions that an event was given to, over all loops that
// had it. The last loop has it sent.
type receipt struct {
	send    func(reply string, delivered int)
	reply   string
	loops   atomic.Int32 // that have not said yet
	written atomic.Int64
}

func newReceipt(send func(string, int), reply string, loops int) *receipt {
	if send == nil {
		return nil
	}
	r := &receipt{send: send, reply: reply}
	r.loops.Store(int32(loops))
	return r
}

// give says that one loop is done and how many sessions took it. Nobody is told
// when nobody did.
func (r *receipt) give(sessions int) {
	if r == nil {
		return
	}
	n := r.written.Add(int64(sessions))
	if r.loops.Add(-1) == 0 && n > 0 {
		r.send(r.reply, int(n))
	}
}
