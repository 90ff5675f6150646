//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"
)

// publisher brings events to the server under test.
type publisher interface {
	// publish sends one event; subject is without its root.
	publish(subject string, payload []byte) error
	close()
}

// publisher connects to NATS, or to a floor's control address.
func (t *target) publisher() (publisher, error) {
	if t.Control != "" {
		conn, err := net.Dial("tcp", t.Control)
		if err != nil {
			return nil, fmt.Errorf("--control=%s: %w", t.Control, err)
		}
		return &floorPublisher{conn: conn}, nil
	}
	nc, err := nats.Connect(t.NATS, nats.Name("loadgen"))
	if err != nil {
		return nil, fmt.Errorf("--nats=%s: %w", t.NATS, err)
	}
	root := t.root
	if root == "" {
		root = "push"
	}
	return natsPublisher{nc, root}, nil
}

// stage opens sessions and connects what publishes to them; done ends both.
func (t *target) stage(ctx context.Context, sessions int) (f *fleet, p publisher, done func(), err error) {
	if f, err = t.dial(ctx, 0, sessions); err != nil {
		return nil, nil, nil, err
	}
	if p, err = t.publisher(); err != nil {
		f.close()
		return nil, nil, nil, err
	}
	return f, p, func() { p.close(); f.close() }, nil
}

type natsPublisher struct {
	conn *nats.Conn
	root string
}

func (p natsPublisher) publish(subject string, payload []byte) error {
	return p.conn.Publish(p.root+"."+subject, payload)
}

func (p natsPublisher) close() { p.conn.Close() }

// floorPublisher tells a floor what to write to everybody.
type floorPublisher struct {
	conn net.Conn
	buf  []byte
}

func (p *floorPublisher) publish(_ string, payload []byte) error {
	p.buf = fmt.Appendf(p.buf[:0], "%d\n", len(payload))
	p.buf = append(p.buf, payload...)
	_, err := p.conn.Write(p.buf)
	return err
}

func (p *floorPublisher) close() { _ = p.conn.Close() }

// metronome calls beat(i, due) at a steady rate until end, from a thread of
// its own: the runtime's timers are a millisecond coarse when idle. What is
// late is done at once, and due says when it should have been.
func metronome(rate int, length time.Duration, beat func(i int, due time.Time) error) (int, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began := time.Now()
	gap := time.Second / time.Duration(rate)
	for i := 0; ; i++ {
		at := time.Duration(i) * gap
		if at >= length {
			return i, nil
		}
		if early := at - time.Since(began); early > 0 {
			ts := unix.NsecToTimespec(int64(early))
			_ = unix.Nanosleep(&ts, nil)
		}
		if err := beat(i, began.Add(at)); err != nil {
			return i, err
		}
	}
}
