package bus

import (
	"fmt"
	"testing"
	"time"
)

func TestDevicesPut(t *testing.T) {
	const refresh = 100
	for _, tt := range []struct {
		name string
		p    place
		want bool
	}{
		{"forward", place{"a.6", 10}, true},
		{"back", place{"a.4", 1000}, false},
		{"the same", place{"a.5", 109}, false},
		{"the same, long after", place{"a.5", 110}, true},
		{"another stream, lower", place{"b.1", 10}, true},
	} {
		d := devices{"phone": {"a.5", 10}}
		want := d["phone"]
		if tt.want {
			want = tt.p
		}
		if got := d.put("phone", tt.p, refresh); got != tt.want || d["phone"] != want {
			t.Errorf("%s: %v, then %v", tt.name, got, d)
		}
	}
}

func TestNinthDevice(t *testing.T) {
	d := make(devices)
	for n := range maxDevices {
		d.put(fmt.Sprint("d", n), place{"a.1", int64(100 - n)}, 0)
	}
	d.put("new", place{"a.1", 1}, 0) // by a clock that is behind
	if _, ok := d["new"]; !ok || len(d) != maxDevices {
		t.Errorf("got %v", d)
	}
	if _, ok := d[fmt.Sprint("d", maxDevices-1)]; ok {
		t.Error("the oldest is still there")
	}
}

func TestDevicesOver(t *testing.T) {
	d := devices{"phone": {"a.5", 10}}
	const alone = `{"devices":{"phone":{"cursor":"a.5","at":10}}}`
	for old, want := range map[string]string{
		"":              alone,
		"junk":          alone,
		`{}`:            alone,
		`{"devices":1}`: alone,
		`{"devices":{"pad":{"cursor":"a","at":1}}}`:                                alone,
		`{"devices":{"pad":{"cursor":"a.1","at":1,"by":"a newer gateway"}},"v":2}`: `{"devices":{"pad":{"cursor":"a.1","at":1},"phone":{"cursor":"a.5","at":10}}}`,
		alone: "",
	} {
		got, changed := d.over([]byte(old), int64(time.Hour))
		if string(got) != want || changed != (want != "") {
			t.Errorf("over %s: %s, %v", old, got, changed)
		}
	}
}
