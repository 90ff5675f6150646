//go:build linux

package faults

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/coder/websocket"
)

// crowdAddr tells the test's own binary, by the environment, to be a crowd of
// clients of the gateway there: a process, so that it can be stopped as a whole.
const (
	crowdAddr = "FAULTS_CROWD_ADDR"
	crowdSize = 30
)

// What a crowd says, and the data of an event that is broadcast once: it says
// when that has reached all of them, and with it what came before.
const (
	standing = "ready"
	caughtUp = "caught up"
	lastData = `{"last":true}`
)

// crowd opens its sessions, says that they stand, and reads until the gateway
// has ended them all. Then it says how.
func crowd(addr string) int {
	codes := map[int]int{}
	var mu sync.Mutex
	var all, behind sync.WaitGroup
	behind.Add(crowdSize)
	go func() {
		behind.Wait()
		fmt.Println(caughtUp)
	}()
	for i := range crowdSize {
		conn, err := dial(context.Background(), "ws://"+addr+"/v1/ws", fmt.Sprint("crowd", i))
		if err != nil {
			return fail(err)
		}
		conn.SetReadLimit(1 << 20)
		all.Go(func() {
			for {
				_, b, err := conn.Read(context.Background())
				if err != nil {
					mu.Lock()
					codes[int(websocket.CloseStatus(err))]++
					mu.Unlock()
					return
				}
				if bytes.Contains(b, []byte(lastData)) {
					behind.Done()
				}
			}
		})
	}
	fmt.Println(standing)
	all.Wait()
	if err := json.NewEncoder(os.Stdout).Encode(codes); err != nil {
		return fail(err)
	}
	return 0
}

// frozen is a crowd that can be stopped.
type frozen struct {
	cmd *exec.Cmd
	out *bufio.Reader
}

func startCrowd(t *testing.T, addr string) *frozen {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f := &frozen{cmd: exec.Command(self)}
	f.cmd.Env = append(os.Environ(), crowdAddr+"="+addr)
	f.cmd.Stderr = os.Stderr
	out, err := f.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = f.cmd.Process.Kill()
		_ = f.cmd.Wait()
	})
	f.out = bufio.NewReader(out)
	f.says(t, standing)
	return f
}

// says waits for what the crowd says next.
func (f *frozen) says(t *testing.T, what string) {
	t.Helper()
	if line, err := f.out.ReadString('\n'); err != nil || strings.TrimSpace(line) != what {
		t.Fatalf("the crowd said %q, not %q, %v", line, what, err)
	}
}

func (f *frozen) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := f.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// thaw has it go on, and returns how its connections ended, by code.
func (f *frozen) thaw(t *testing.T) (codes map[int]int) {
	t.Helper()
	f.signal(t, syscall.SIGCONT)
	b, err := io.ReadAll(f.out)
	if err == nil {
		err = json.Unmarshal(b, &codes)
	}
	if err != nil {
		t.Fatalf("the crowd said %q: %v", b, err)
	}
	return codes
}
