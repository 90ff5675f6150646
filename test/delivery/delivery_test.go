package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"pushgate/test/servers"
)

// binaries builds what all these tests start, once.
var binaries = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "delivery"); err == nil {
		built, err = servers.Build(context.Background(), dir)
	}
	return dir, err
})

func TestMain(m *testing.M) {
	code := m.Run()
	if built != nil {
		dir, _ := binaries()
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// TestGateways, TestRoll, TestNodes and TestHistory are the short forms of what make soak
// runs for long. What they start are built binaries, without the race detector.
func TestGateways(t *testing.T) {
	c := &gatewaysCommand{Kills: 6, Rate: 500, Clients: 60, Every: 500 * time.Millisecond, Ring: "64KiB"}
	play(t, func(ctx context.Context, w io.Writer) error { c.Limit = limitOf(ctx); return c.run(ctx, w) })
}

func TestRoll(t *testing.T) {
	c := &rollCommand{Rolls: 2, Rate: 300, Clients: 60, Delay: time.Second, Window: time.Second}
	play(t, func(ctx context.Context, w io.Writer) error { c.Limit = limitOf(ctx); return c.run(ctx, w) })
}

func TestNodes(t *testing.T) {
	c := &nodesCommand{Kills: 4, Rate: 100, Clients: 20, Every: 200 * time.Millisecond, Away: 500 * time.Millisecond}
	play(t, func(ctx context.Context, w io.Writer) error { c.Limit = limitOf(ctx); return c.run(ctx, w) })
}

func TestHistory(t *testing.T) {
	c := &historyCommand{Events: 200}
	play(t, func(ctx context.Context, w io.Writer) error { c.Limit = limitOf(ctx); return c.run(ctx, w) })
}

func play(t *testing.T, run func(context.Context, io.Writer) error) {
	t.Helper()
	if _, err := binaries(); err != nil {
		t.Fatal(err)
	}
	// All that waits in there has bounds of its own; what is due together may
	// take minutes on a machine that is busy.
	end := time.Now().Add(5 * time.Minute)
	if last, ok := t.Deadline(); ok && last.Add(-20*time.Second).Before(end) {
		end = last.Add(-20 * time.Second) // so that the report is still written
	}
	ctx, cancel := context.WithDeadline(t.Context(), end)
	defer cancel()
	var out bytes.Buffer
	err := run(ctx, &out)
	t.Logf("%s", &out)
	if err != nil {
		t.Error(err)
	}
}

func limitOf(ctx context.Context) time.Duration {
	end, _ := ctx.Deadline()
	return time.Until(end)
}

// TestJudge holds the judgement against records that were spoilt on purpose.
func TestJudge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var want []event
		seq := uint64(0)
		for n := range rapid.IntRange(0, 50).Draw(t, "events") {
			seq += uint64(rapid.IntRange(1, 3).Draw(t, "step"))
			want = append(want, event{seq, uint64(n + 1)})
		}
		expect := verdict{Expected: len(want)}
		var r record
		for _, e := range want {
			switch rapid.IntRange(0, 9).Draw(t, "fate") {
			case 0:
				expect.Lost++
			case 1:
				r.again = append(r.again, e.seq)
				expect.Disordered++
			case 2:
				r.got = append(r.got, event{e.seq, e.n + 1000})
				expect.Lost++
				expect.Foreign++
			case 3:
				r.got, r.again = append(r.got, e), append(r.again, e.seq)
				expect.Resent++
			default:
				r.got = append(r.got, e)
			}
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "foreign") {
			seq++
			r.got = append(r.got, event{seq, uint64(2000 + i)})
			expect.Foreign++
		}
		if len(r.got) > 0 && r.got[0].n < 1000 && rapid.Bool().Draw(t, "twice") {
			seq++
			r.got = append(r.got, event{seq, r.got[0].n})
			expect.Doubled++
		}
		expect.Received = len(r.got)
		got := judge(want, r)
		if got != expect {
			t.Fatalf("judged %+v, not %+v", got, expect)
		}
		if got.clean() != (expect.Lost+expect.Doubled+expect.Disordered+expect.Foreign == 0) {
			t.Fatal("clean or not")
		}
	})
}
