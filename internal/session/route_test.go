package session

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"pushgate/api"
	"pushgate/internal/auth"
)

func enrollWith(h *Hub, user string, subjects ...string) (*loop, uint32) {
	l := h.homeOf(user)
	id, _ := l.enroll(&admission{
		handshake: &handshake{fd: -1},
		identity:  auth.Identity{User: user, Subjects: subjects, Expires: time.Now().Add(time.Hour).Unix()},
	})
	h.open.Add(1)
	return l, id
}

// routed returns how often each loop is given an event.
func routed(h *Hub, subject string) []int {
	times := make([]int, len(h.loops))
	for _, l := range h.route(subject) {
		times[l.number]++
		h.shared[l.number] = false
	}
	return times
}

// noRoaming checks that nothing is counted of sessions that are gone.
func noRoaming(h *Hub) bool {
	if h.roamers.patterns.Load() != 0 || h.roamers.foreign.Load() != 0 {
		return false
	}
	for _, l := range h.loops {
		if l.roaming.anywhere.Load() != 0 {
			return false
		}
		for i := range l.roaming.literals {
			if l.roaming.literals[i].Load() != 0 || l.roaming.roots[i].Load() != 0 {
				return false
			}
		}
	}
	return true
}

// TestRouteReachesEveryTaker: whatever the templates and whatever sessions
// hold, a loop with a session that wants an event gets it, once.
func TestRouteReachesEveryTaker(t *testing.T) {
	h := newBareHub(t, 3)
	templates := []string{
		"user.{sub}", "user.{sub}.>", "user.{sub}.*", "{sub}.inbox", "{sub}.*", "user.*.{sub}", "*.{sub}",
		"team.{team}.{sub}", "{sub}.{sub}", "{sub}", "broadcast",
	}
	user := rapid.SampledFrom([]string{"a", "b", "c", "user", "broadcast"})
	token := rapid.OneOf(user, rapid.SampledFrom([]string{"user", "inbox", "x"}))
	subject := rapid.Map(rapid.SliceOfN(token, 1, 4), join)
	// near makes of a subject or pattern another that may meet it.
	near := func(t *rapid.T, from string) string {
		tokens := strings.Split(from, ".")
		for i := range tokens {
			if rapid.IntRange(0, 3).Draw(t, "change") == 0 {
				tokens[i] = rapid.OneOf(token, rapid.Just("*")).Draw(t, "token")
			}
		}
		if rapid.IntRange(0, 2).Draw(t, "tail") == 0 {
			tokens[len(tokens)-1] = ">"
		}
		return join(tokens)
	}
	// literal makes a subject that the pattern matches.
	literal := func(t *rapid.T, pattern string) string {
		var tokens []string
		for p := range strings.SplitSeq(pattern, ".") {
			switch p {
			case "*":
				p = token.Draw(t, "token")
			case ">":
				p = subject.Draw(t, "tail")
			}
			tokens = append(tokens, p)
		}
		return join(tokens)
	}
	rapid.Check(t, func(t *rapid.T) {
		used := rapid.SliceOfNDistinct(rapid.SampledFrom(templates), 1, 4, rapid.ID).Draw(t, "templates")
		h.homes = homesOf(map[string][]string{"": used})
		type session struct {
			l        *loop
			id       uint32
			subjects []string
		}
		var all []session
		defer func() {
			for _, s := range all {
				s.l.discard(s.id)
			}
			if !noRoaming(h) {
				t.Fatal("sessions that are gone are counted")
			}
		}()
		for range rapid.IntRange(1, 5).Draw(t, "sessions") {
			name := user.Draw(t, "user")
			var subjects []string
			for _, template := range used {
				filled := strings.NewReplacer("{sub}", name, "{team}", token.Draw(t, "team")).Replace(template)
				subjects = append(subjects, filled)
			}
			for range rapid.IntRange(0, 3).Draw(t, "more") {
				subjects = append(subjects, near(t, rapid.SampledFrom(append(subjects, subject.Draw(t, "any"))).Draw(t, "like")))
			}
			slices.Sort(subjects)
			subjects = slices.Compact(subjects)
			l, id := enrollWith(h, name, subjects...)
			all = append(all, session{l, id, subjects})
			if len(all) > 1 && rapid.IntRange(0, 3).Draw(t, "leave") == 0 {
				all[0].l.discard(all[0].id)
				all = all[1:]
			}
		}
		for range 10 {
			e := subject.Draw(t, "event")
			if len(all) > 0 && rapid.IntRange(0, 3).Draw(t, "wanted") > 0 {
				e = literal(t, rapid.SampledFrom(rapid.SampledFrom(all).Draw(t, "by").subjects).Draw(t, "pattern"))
			}
			times := routed(h, e)
			for _, s := range all {
				for _, p := range s.subjects {
					if api.Match(p, e) && times[s.l.number] != 1 {
						t.Fatalf("templates %q: %s is held on loop %d, and %s comes there %d times", used, p, s.l.number, e, times[s.l.number])
					}
				}
			}
			if slices.Max(times) > 1 {
				t.Fatalf("%s comes several times: %v", e, times)
			}
		}
	})
}

// TestRouteSparesOthers: what leads to one user by name reaches that loop
// alone, however many sessions the others have.
func TestRouteSparesOthers(t *testing.T) {
	h := newBareHub(t, 4)
	h.homes = homesOf(map[string][]string{"": {"user.{sub}", "{sub}.inbox.>", "broadcast"}})
	var users []string
	for _, l := range h.loops[:3] { // the last one has nobody
		for i := 0; ; i++ {
			if u := "u" + strings.Repeat("x", i); h.homeOf(u) == l {
				users = append(users, u)
				enrollWith(h, u, "user."+u, u+".inbox.>", "broadcast")
				break
			}
		}
	}
	for i, u := range users {
		for _, subject := range []string{"user." + u, u + ".inbox.a", u + ".inbox.a.b"} {
			want := make([]int, 4)
			want[i] = 1
			if got := routed(h, subject); !slices.Equal(got, want) {
				t.Errorf("%s comes to %v, want %v", subject, got, want)
			}
		}
	}
	if got := routed(h, "broadcast"); !slices.Equal(got, []int{1, 1, 1, 0}) {
		t.Errorf("broadcast comes to %v", got)
	}
	if got := routed(h, "nobody.wants.this"); slices.Max(got) != 0 {
		t.Errorf("what nobody wants comes to %v", got)
	}
}

// TestRouteBelowHome: a subscription that goes deeper than the template is not
// led by name, though it begins like it.
func TestRouteBelowHome(t *testing.T) {
	h := newBareHub(t, 3)
	for template, held := range map[string][2]string{
		"user.{sub}.*": {"user.alice.>", "user.alice.a.b"},
		"{sub}.*":      {"alice.>", "alice.a.b"},
		"*.{sub}":      {">", "a.alice.b"},
		"user.{sub}":   {"user.>", "user.alice.a"},
	} {
		h.homes = homesOf(map[string][]string{"": {template}})
		l, id := enrollWith(h, "alice", held[0])
		if got := routed(h, held[1]); got[l.number] != 1 {
			t.Errorf("template %s: %s is held and %s comes %d times", template, held[0], held[1], got[l.number])
		}
		l.discard(id)
	}
}
