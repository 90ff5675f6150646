package main

import (
	"net/http"
	"strings"
	"testing"
)

// leaks finds tokens in text, whole or in pieces of at least window bytes.
type leaks struct{ pieces map[string]string }

const window = 20

func (l *leaks) add(name, text string) {
	if l.pieces == nil {
		l.pieces = map[string]string{}
	}
	for i := 0; i+window <= len(text); i++ {
		l.pieces[text[i:i+window]] = name
	}
}

// in says whose piece stands in the text, and where; "" is nobody's.
func (l *leaks) in(text string) (whose, around string) {
	for i := 0; i+window <= len(text); i++ {
		if whose, ok := l.pieces[text[i:i+window]]; ok {
			return whose, text[max(0, i-80):min(len(text), i+window+80)]
		}
	}
	return "", ""
}

// searchLeaks looks for every token of the run, the canary in it, and the
// secrets in everything that the gateways said.
func (s *siege) searchLeaks(t *testing.T, all []attempt) {
	var l leaks
	for _, secret := range []string{testSecret, redSecret, greenSecret} {
		l.add("a secret", secret)
	}
	l.add("the canary", canary)
	tokens := 0
	for _, a := range all {
		for _, token := range tokensIn(a.request()) {
			if strings.Contains(token, canary) || len(token) > 100 {
				tokens++
			}
			for part := range strings.SplitSeq(token, ".") {
				l.add("the token of "+a.name, part)
			}
		}
	}
	if tokens < 250 {
		t.Errorf("only %d tokens are looked for", tokens)
	}

	// Endings are logged by a goroutine of its own.
	eventually(t, "the log is written", func() bool {
		log := s.log.String()
		return strings.Contains(log, "token refused") && strings.Contains(log, "session ended")
	})
	places := map[string]string{"the log": s.log.String(), "the answers": s.heard.String()}
	for name, g := range s.gates {
		places["the goroutines of "+name] = g.page(g.admin.debug, "/debug/pprof/goroutine?debug=2")
		places["the metrics of "+name] = g.page(g.admin.addr, "/metrics")
		places["the command line of "+name] = g.page(g.admin.debug, "/debug/pprof/cmdline")
	}
	for where, text := range places {
		if whose, around := l.in(text); whose != "" {
			t.Errorf("%s holds a piece of %s: %q", where, whose, around)
		}
	}
	// The search finds what is there: pieces of tokens, and these places are
	// not empty.
	for _, a := range all[:3] {
		token := tokensIn(a.request())[0]
		if whose, _ := l.in("said: " + token[len(token)/2:len(token)/2+2*window] + "…"); whose == "" {
			t.Errorf("half of %s would not be found", a.name)
		}
	}
	for what, text := range map[string]string{
		"token refused": places["the log"], "session ended": places["the log"],
		`{"type":"welcome"`: places["the answers"], "HTTP/1.1 401 " + http.StatusText(http.StatusUnauthorized): places["the answers"],
		"pushgate_token_refusals_total": places["the metrics of one"], "session.(*loop).run": places["the goroutines of one"],
	} {
		if !strings.Contains(text, what) {
			t.Errorf("%q is not where it should be", what)
		}
	}
}

// tokensIn are the tokens of a request, wherever they stand, and everything else
// in it that is as long.
func tokensIn(request string) []string {
	var all []string
	for _, word := range strings.FieldsFunc(request, func(r rune) bool { return strings.ContainsRune(" \r\n=&;,", r) }) {
		word = strings.TrimPrefix(word, "bearer.")
		if len(word) >= 2*window && strings.Contains(word, ".") || strings.Contains(word, canary) {
			all = append(all, word)
		}
	}
	return all
}
