//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// The layout of NETLINK_INET_DIAG (linux/inet_diag.h, linux/sock_diag.h).
const (
	diagByFamily    = 20 // SOCK_DIAG_BY_FAMILY
	diagRequestSize = 56
	diagAnswerSize  = 72
	diagMemory      = 7 // INET_DIAG_SKMEMINFO
	memoryReceived  = 0 // SK_MEMINFO_RMEM_ALLOC
	memoryForward   = 4 // SK_MEMINFO_FWD_ALLOC
	memoryQueued    = 5 // SK_MEMINFO_WMEM_QUEUED
)

// socketMemory is what the kernel holds in the queues of a server's
// connections, at the server's end.
func (t *target) socketMemory() (sum int64, err error) {
	addr, err := netip.ParseAddrPort(t.Addr)
	if err != nil {
		return 0, err
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
	if err != nil {
		return 0, fmt.Errorf("NETLINK_INET_DIAG: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	request := make([]byte, unix.SizeofNlMsghdr+diagRequestSize)
	binary.NativeEndian.PutUint32(request[0:], uint32(len(request)))
	binary.NativeEndian.PutUint16(request[4:], diagByFamily)
	binary.NativeEndian.PutUint16(request[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	body := request[unix.SizeofNlMsghdr:]
	body[0], body[1], body[2] = unix.AF_INET, unix.IPPROTO_TCP, 1<<(diagMemory-1)
	binary.NativeEndian.PutUint32(body[4:], ^uint32(0)) // every state
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, fmt.Errorf("asking for sockets: %w", err)
	}
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return 0, fmt.Errorf("reading sockets: %w", err)
		}
		messages, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return 0, fmt.Errorf("reading sockets: %w", err)
		}
		for _, m := range messages {
			switch m.Header.Type {
			case unix.NLMSG_DONE:
				return sum, nil
			case unix.NLMSG_ERROR:
				return 0, fmt.Errorf("the kernel does not list sockets")
			}
			if len(m.Data) >= diagAnswerSize && binary.BigEndian.Uint16(m.Data[4:]) == addr.Port() {
				sum += memoryOf(m.Data[diagAnswerSize:])
			}
		}
	}
}

// memoryOf reads one socket's attributes.
func memoryOf(b []byte) int64 {
	for len(b) >= unix.SizeofRtAttr {
		size, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
		if size < unix.SizeofRtAttr || size > len(b) {
			return 0
		}
		if v := b[unix.SizeofRtAttr:size]; kind == diagMemory && len(v) >= 4*(memoryQueued+1) {
			at := func(i int) int64 { return int64(binary.NativeEndian.Uint32(v[4*i:])) }
			return at(memoryReceived) + at(memoryForward) + at(memoryQueued)
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return 0
}
