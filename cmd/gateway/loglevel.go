package main

import (
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// logLevel sets the log's level for a time, and gives back what was there.
type logLevel struct {
	level *zap.AtomicLevel

	mu    sync.Mutex
	until *time.Timer   // nil: it holds until it is set again
	home  zapcore.Level // where until leads
	turn  int           // counts settings: a timer that fired as it was stopped is known
}

// set returns the level before and the one that holds now. An empty level, or
// one that there is not, changes nothing.
func (l *logLevel) set(level string, hold time.Duration) (was, now string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.level.Level()
	to, err := zapcore.ParseLevel(level)
	if level == "" || err != nil {
		return before.String(), before.String()
	}
	home := before
	if l.until != nil {
		l.until.Stop()
		home, l.until = l.home, nil
	}
	l.level.SetLevel(to)
	l.turn++
	if hold > 0 {
		l.home = home
		turn := l.turn
		l.until = time.AfterFunc(hold, func() { l.over(turn) })
	}
	return before.String(), to.String()
}

// over ends a time, unless another one began meanwhile.
func (l *logLevel) over(turn int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.turn == turn {
		l.level.SetLevel(l.home)
		l.until = nil
	}
}

func (l *logLevel) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.until != nil {
		l.until.Stop()
	}
}
