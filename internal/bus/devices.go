package bus

import (
	"encoding/json"
	"errors"

	"pushgate/api"
)

// maxDevices is how many devices of a user have a place.
const maxDevices = 8

// place is where a device is in the stream.
type place struct {
	Cursor string `json:"cursor"`
	At     int64  `json:"at"` // when it was kept, in Unix seconds
}

// devices are the places of a user's devices, by the devices' names.
type devices map[string]place

// stored is the value of a user's key.
type stored struct {
	Devices devices `json:"devices"`
}

// decodeDevices reads a stored value. Places that are malformed are left out.
func decodeDevices(data []byte) (devices, error) {
	var v stored
	if json.Unmarshal(data, &v) != nil || v.Devices == nil {
		return nil, errors.New("the value has no valid devices")
	}
	for device, p := range v.Devices {
		if _, ok := api.ParseCursor(p.Cursor); !ok {
			delete(v.Devices, device)
		}
	}
	return v.Devices, nil
}

// put takes a device's place and reports whether that changed anything. Within
// a stream a place never goes back. The same place again is taken only when it
// is older than refresh seconds, so that it does not expire. Of too many devices
// it forgets the one whose place was kept longest ago.
func (d devices) put(device string, p place, refresh int64) bool {
	if old, ok := d[device]; ok {
		was, _ := api.ParseCursor(old.Cursor)
		is, _ := api.ParseCursor(p.Cursor)
		same := was.Stream == is.Stream
		if same && (was.Seq > is.Seq || was.Seq == is.Seq && p.At-old.At < refresh) {
			return false
		}
	}
	d[device] = p
	for len(d) > maxDevices {
		delete(d, d.oldest(device))
	}
	return true
}

// oldest is whose place was kept longest ago, other than one device. Of several
// it is always the same.
func (d devices) oldest(but string) string {
	oldest, found := "", false
	for device, p := range d {
		if device == but {
			continue
		}
		if o := d[oldest]; !found || p.At < o.At || p.At == o.At && device < oldest {
			oldest, found = device, true
		}
	}
	return oldest
}

// putAll takes all places of others.
func (d devices) putAll(others devices, refresh int64) (changed bool) {
	for device, p := range others {
		changed = d.put(device, p, refresh) || changed
	}
	return changed
}

// over makes the value that is stored after d was added to an old one, and says
// whether it is another. What is malformed is replaced: nobody could use it.
func (d devices) over(old []byte, refresh int64) ([]byte, bool) {
	all, err := decodeDevices(old)
	if err != nil {
		all = make(devices)
	}
	if !all.putAll(d, refresh) {
		return nil, false
	}
	value, err := json.Marshal(stored{all})
	return value, err == nil
}
