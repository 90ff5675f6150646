//go:build !linux

// Command loadgen needs Linux: its clients are driven by epoll.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "loadgen runs on Linux only: its clients are driven by epoll")
	os.Exit(2)
}
