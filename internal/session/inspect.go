package session

import (
	"time"

	"pushgate/api"
)

// inspectSlice is how many sessions a loop describes before others get a turn.
const inspectSlice = 64

// SessionsOf describes a user's sessions, at most so many of them; more says
// that there are others.
func (h *Hub) SessionsOf(user string, most int) (list []api.SessionInfo, more bool) {
	home := h.homeOf(user)
	var tags []uint64
	h.call(home, func(l *loop) {
		key := []byte(user)
		for id := l.users.find(h.hash(key), key); id != 0; id = l.slots.at(id).next {
			if more = len(tags) == most; more {
				return
			}
			tags = append(tags, tagSession(id, l.slots.at(id).gen))
		}
	})
	list = make([]api.SessionInfo, 0, len(tags))
	for len(tags) > 0 {
		n := min(len(tags), inspectSlice)
		h.call(home, func(l *loop) { list = append(list, l.describe(tags[:n])...) })
		tags = tags[n:]
	}
	return list, more
}

// describe is what can be said of sessions that are still there.
func (l *loop) describe(tags []uint64) []api.SessionInfo {
	list := make([]api.SessionInfo, 0, len(tags))
	for _, tag := range tags {
		id, gen := uint32(tag), uint32(tag>>32)
		s := l.slots.at(id)
		if s.gen != gen || s.state != stateOpen {
			continue
		}
		info := api.SessionInfo{
			Session: l.hub.ids.id(l.number, id, gen), User: string(l.names.get(s.user)),
			Transport: transportLabels[s.transport()], Subjects: l.subjectsOf(s),
			Expires: time.Unix(int64(s.expires), 0).UTC(), Connected: l.connectedAt(s),
			Behind: s.flags&(flagBehind|flagReplays) != 0,
		}
		if s.active != 0 {
			info.Waiting = l.active[s.active].outBytes
		}
		list = append(list, info)
	}
	return list
}
