package main

import (
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/zap"
)

type strainer struct {
	on       bool
	relieved []int64
}

func (s *strainer) Strain(on bool)      { s.on = on }
func (s *strainer) Relieve(bytes int64) { s.relieved = append(s.relieved, bytes) }

// TestMemoryWatch walks through a bad day.
func TestMemoryWatch(t *testing.T) {
	var used, own, limit int64
	s := &strainer{}
	w := memoryWatch{
		limit: 1000, used: func() (int64, bool) { return used, true }, resident: func() (int64, bool) { return own, true },
		sessions: s, setLimit: func(n int64) { limit = n }, log: zap.NewNop(),
	}
	for _, step := range []struct {
		used, own int64
		strained  bool
		relieved  int64 // 0: nobody is asked to go
		limit     int64 // of the Go heap
	}{
		{500, 400, false, 0, 800},
		{850, 600, false, 0, 650},
		{950, 600, true, 150, 550},
		{890, 600, true, 0, 610}, // not enough yet to let somebody in
		{910, 600, true, 110, 590},
		{810, 600, false, 0, 690},
		{700, 750, false, 0, 900}, // the two are not read at the same moment
		{1000, 100, true, 200, 250},
	} {
		used, own, s.relieved = step.used, step.own, nil
		w.look()
		relieved := int64(0)
		for _, n := range s.relieved {
			relieved += n
		}
		if s.on != step.strained || relieved != step.relieved || limit != step.limit {
			t.Errorf("%d used, %d own: strained %v, relieved %d, heap limit %d", used, own, s.on, relieved, limit)
		}
	}
}

func TestGroupUse(t *testing.T) {
	mount := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(mount, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(mount, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("memory.current", "1000\n")
	write("memory.stat", "anon 5\ninactive_file 300\n")
	write("pod/memory.current", "500\n")
	write("bad/memory.current", "many\n")
	for group, want := range map[string]int64{"/": 700, "/pod": 500, "/of/the/host": 700} {
		if n, ok := groupUse(mount, group, "memory.current", "inactive_file"); !ok || n != want {
			t.Errorf("%s: %d, %v, want %d", group, n, ok, want)
		}
	}
	if _, ok := groupUse(mount, "/bad", "memory.current", ""); ok {
		t.Error("a word is a number")
	}
	if _, ok := groupUse(mount, "/", "memory.usage_in_bytes", ""); ok {
		t.Error("there is no such file")
	}
}
