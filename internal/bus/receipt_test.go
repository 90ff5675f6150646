package bus

import "testing"

func TestReceipts(t *testing.T) {
	s := startNATS(t, 0)
	g := openGateway(t, s.ClientURL(), "a", nil)
	nc := connect(t, s.ClientURL())
	inbox := nc.NewInbox()
	sub, other := listen(t, nc, inbox), listen(t, nc, "$JS.API.STREAM.PURGE.>")
	got := g.sink.(*sink)
	for _, m := range [][2]string{
		{"flash.user.alice", inbox},
		{"push.user.alice", inbox},                     // JetStream's to answer
		{"flash.user.alice", "$JS.API.STREAM.PURGE.X"}, // not for us to publish to
	} {
		if err := nc.PublishRequest(m[0], m[1], []byte("1")); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Publish("flash.user.alice", []byte("1")); err != nil {
		t.Fatal(err)
	}
	replies := 0
	for _, e := range got.await(t, 4) {
		if e.Reply != "" {
			replies++
			g.Receipt(e.Reply, 3)
		}
	}
	if replies != 1 {
		t.Errorf("%d events want a receipt", replies)
	}
	if _, data := next(t, sub); data != `{"gateway":"a","delivered":3}` {
		t.Errorf("got %s", data)
	}
	// It is counted a moment after it was sent; then nothing more is under way.
	eventually(t, "it is counted", func() bool { return g.Stats().ReceiptsSent > 0 })
	if err := g.Flush(patience); err != nil {
		t.Fatal(err)
	}
	if err := nc.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	if n, _, err := sub.Pending(); n != 0 || err != nil {
		t.Errorf("%d more receipts, %v", n, err)
	}
	if n, _, err := other.Pending(); n != 0 || err != nil {
		t.Errorf("%d receipts where none may go, %v", n, err)
	}
	if st := g.Stats(); st.ReceiptsSent != 1 || st.ReceiptsDropped != 0 {
		t.Errorf("got %+v", st)
	}
}
