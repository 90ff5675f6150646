package conformance

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"mime"
	"strconv"
	"strings"
)

// deflater is permessage-deflate (RFC 7692) as a client of the gateway has it:
// each message by itself, in both directions.
type deflater struct {
	w *flate.Writer
	r io.ReadCloser

	unpacked int // messages that came compressed
}

// syncTail ends what a flush writes; RFC 7692 §7.2.1 leaves it out.
const syncTail = "\x00\x00\xff\xff"

func newDeflater() *deflater {
	w, _ := flate.NewWriter(nil, flate.BestSpeed) // the level is valid
	return &deflater{w: w, r: flate.NewReader(strings.NewReader(""))}
}

// pack compresses a message as RFC 7692 §7.2.1 says.
func (d *deflater) pack(message string) string {
	return strings.TrimSuffix(d.flushed(message), syncTail)
}

func (d *deflater) flushed(message string) string {
	var b bytes.Buffer
	d.w.Reset(&b)
	_, _ = io.WriteString(d.w, message) // a buffer takes everything
	_ = d.w.Flush()
	return b.String()
}

// unpack is the reverse. The second block, an empty last one, is what tells the
// reader that the message is at its end.
func (d *deflater) unpack(b []byte) ([]byte, error) {
	in := io.MultiReader(bytes.NewReader(b), strings.NewReader(syncTail+"\x01\x00\x00\xff\xff"))
	if err := d.r.(flate.Resetter).Reset(in, nil); err != nil {
		return nil, err
	}
	message, err := io.ReadAll(io.LimitReader(d.r, maxServerFrame))
	if err != nil {
		return nil, fmt.Errorf("a message of %d bytes that does not inflate: %w", len(b), err)
	}
	d.unpacked++
	return message, nil
}

// negotiated holds the server's answer against what was offered, and returns
// nil when it took no extension.
func negotiated(offers string, answers []string) (*deflater, error) {
	if len(answers) == 0 {
		return nil, nil
	}
	if len(answers) > 1 || strings.Contains(answers[0], ",") {
		return nil, fmt.Errorf("extensions %q", answers)
	}
	answer, err := extension(answers[0])
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"server_no_context_takeover", "client_no_context_takeover"} {
		if v, ok := answer[name]; !ok || v != "" {
			return nil, fmt.Errorf("extension %q keeps a context", answers[0])
		}
	}
	if _, ok := answer["client_max_window_bits"]; ok {
		return nil, fmt.Errorf("extension %q limits a window that need not be", answers[0])
	}
	for offer := range strings.SplitSeq(offers, ",") {
		if wanted, err := extension(offer); err == nil && fits(wanted, answer) {
			return newDeflater(), nil
		}
	}
	return nil, fmt.Errorf("extension %q fits none of the offers %q", answers[0], offers)
}

// extension parses one, with its parameters.
func extension(s string) (map[string]string, error) {
	// A parameter without a value is no media type's: it is given an empty one.
	parts := strings.Split(s, ";")
	for i, p := range parts[1:] {
		if !strings.Contains(p, "=") {
			parts[i+1] = p + `=""`
		}
	}
	name, params, err := mime.ParseMediaType(strings.Join(parts, ";"))
	if err == nil && name != "permessage-deflate" {
		err = fmt.Errorf("extension %q is not known", name)
	}
	return params, err
}

// fits reports whether an answer takes an offer (RFC 7692 §7.1).
func fits(offer, answer map[string]string) bool {
	for name := range answer {
		switch name {
		case "server_no_context_takeover", "client_no_context_takeover", "server_max_window_bits":
		default:
			return false
		}
	}
	got, err := windowBits(answer)
	if err != nil {
		return false
	}
	if _, asked := offer["server_max_window_bits"]; !asked {
		return true
	}
	want, err := windowBits(offer)
	_, has := answer["server_max_window_bits"]
	return err == nil && has && got <= want
}

func windowBits(params map[string]string) (int, error) {
	v, ok := params["server_max_window_bits"]
	if !ok {
		return 15, nil
	}
	n, err := strconv.Atoi(v)
	if err == nil && (n < 8 || n > 15) {
		err = errors.New("a window of " + v + " bits")
	}
	return n, err
}
