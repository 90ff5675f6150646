package main

// event is one stored event: its place in the stream, and its number, which is
// the publisher's.
type event struct{ seq, n uint64 }

// record is what one client's app got, and what its cursor check kept away.
type record struct {
	got   []event  // places rise, by the cursor check
	again []uint64 // sequences
}

// verdict compares what clients got with what they should have.
type verdict struct {
	Expected   int `json:"expected"`
	Received   int `json:"received"`
	Lost       int `json:"lost"`
	Doubled    int `json:"doubled"`      // reached the app twice, in spite of the cursor check
	Disordered int `json:"out_of_order"` // came after a newer one, so the cursor check kept it away
	Foreign    int `json:"foreign"`      // not the client's, or not what is stored there
	Resent     int `json:"resent"`       // came again, and the cursor check kept it away
}

func (v *verdict) add(o verdict) {
	v.Expected += o.Expected
	v.Received += o.Received
	v.Lost += o.Lost
	v.Doubled += o.Doubled
	v.Disordered += o.Disordered
	v.Foreign += o.Foreign
	v.Resent += o.Resent
}

// clean says that everything came once and in order.
func (v *verdict) clean() bool { return v.Lost+v.Doubled+v.Disordered+v.Foreign == 0 }

// judge holds a client's record against what the stream has for it, in stream
// order.
func judge(want []event, r record) verdict {
	v := verdict{Expected: len(want), Received: len(r.got), Resent: len(r.again)}
	again := make(map[uint64]bool, len(r.again))
	for _, seq := range r.again {
		again[seq] = true
	}
	numbers := make(map[uint64]bool, len(r.got))
	var extra []event
	i := 0
	missed := func(e event) {
		if again[e.seq] {
			v.Disordered++
			v.Resent--
			return
		}
		v.Lost++
	}
	for _, e := range r.got {
		for ; i < len(want) && want[i].seq < e.seq; i++ {
			missed(want[i])
		}
		switch {
		case i < len(want) && want[i] == e:
			numbers[e.n] = true
			i++
		case i < len(want) && want[i].seq == e.seq:
			v.Lost++
			v.Foreign++
			i++
		default:
			extra = append(extra, e)
		}
	}
	for ; i < len(want); i++ {
		missed(want[i])
	}
	for _, e := range extra {
		if numbers[e.n] {
			v.Doubled++
		} else {
			v.Foreign++
		}
	}
	return v
}
