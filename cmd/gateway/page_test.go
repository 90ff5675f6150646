//go:build !nodev

package main

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/nats-io/nats.go"
)

func TestConsoleInBrowser(t *testing.T) {
	browser := newBrowser(t)
	d := startDev(t)

	t.Run("an event arrives", func(t *testing.T) {
		p := openTab(t, browser, d.console())
		p.awaitStatus("Connected as alice")
		p.awaitLog("user=alice subjects=[\"user.alice\",\"broadcast\"]")
		if !value[bool](p, `document.querySelector("#status").closest("[aria-live]") !== null`) {
			t.Error("the status is not announced")
		}
		p.press("#publish button")
		p.awaitEvent(`{"hello":"world"}`)
		p.await(`document.querySelector("#told").textContent.startsWith("Published to push.user.alice at ")`)
		if s := value[string](p, `document.querySelector("#events .subject").textContent`); s != "user.alice" {
			t.Errorf("its subject is %q", s)
		}
		if s := value[string](p, `document.querySelector("#events time").textContent`); !regexp.MustCompile(`^\d\d:\d\d:\d\d\.\d{3}$`).MatchString(s) {
			t.Errorf("its time is %q", s)
		}
		// What the form does not touch: large numbers, an id, bytes.
		p.write("data", `90071992547409931`)
		p.press("#publish button")
		binary := message("push.user.alice", "\xff\x00")
		binary.Header.Set("Nats-Msg-Id", "m-7")
		d.publish(binary)
		p.awaitEvent("base64 /wA=")
		p.awaitEvent("id m-7")
		p.await(`document.querySelectorAll("#events li").length === 3 && document.querySelector("#count").textContent === "3"`)

		p.press("#toggle")
		p.awaitStatus("Disconnected")
		p.press("#toggle")
		p.awaitStatus("Connected as alice")
		p.press("#clear")
		p.await(`document.querySelectorAll("#events li").length === 0`)
	})

	t.Run("lines to copy", func(t *testing.T) {
		p := openTab(t, browser, d.console())
		line := func() string { return value[string](p, `document.querySelector("#line-user").textContent`) }
		if got, want := line(), `gateway pub push.user.alice '{"hello":"world"}'`; got != want {
			t.Errorf("got %s", got)
		}
		p.write("user", "zoë")
		p.write("data", `"it's"`)
		if got, want := line(), `gateway pub 'push.user.zoë' '"it'\''s"'`; got != want {
			t.Errorf("got %s", got)
		}
		p.write("subject", "push.broadcast")
		p.write("user", "carol")
		if got, want := line(), `gateway pub push.broadcast '"it'\''s"'`; got != want {
			t.Errorf("got %s", got)
		}
	})

	t.Run("a hostile payload stays text", func(t *testing.T) {
		p := openTab(t, browser, d.console())
		p.awaitStatus("Connected as alice")
		const image = `<img src=x onerror=window.hacked=1>`
		first := message("push.user.alice", fmt.Sprintf(`{%q:%q}`, image, image))
		first.Header.Set("Nats-Msg-Id", image)
		d.publish(first,
			message("push.user.alice", image),
			message("push.user.alice", `"<script>window.hacked=2</script>"`),
			message("push.user.alice", `{"__proto__":{"type":"x"},"toString":1}`),
			message("push.user.alice", "last"))
		p.awaitEvent(`"last"`)
		p.awaitEvent(`"` + image + `"`)
		p.awaitEvent("id " + image)
		p.awaitEvent(`"<script>window.hacked=2</script>"`)
		if n := value[int](p, `document.querySelectorAll("img, #events script, #log script").length`); n != 0 {
			t.Errorf("%d elements came out of payloads", n)
		}
		if value[bool](p, `"hacked" in window`) {
			t.Error("a payload was executed")
		}
	})

	t.Run("no mistake could make it more than text", func(t *testing.T) {
		p := openTab(t, browser, d.console())
		p.meant = []string{"security"}
		if !value[bool](p, `(() => { try { document.createElement("p").innerHTML = "<b>x</b>" } catch { return true } })()`) {
			t.Error("text can become HTML")
		}
	})

	t.Run("users are apart", func(t *testing.T) {
		alice, bob := openTab(t, browser, d.console()), openTab(t, browser, d.console())
		bob.awaitStatus("Connected as alice")
		bob.write("user", "bob")
		bob.await(`document.querySelector("#toggle").textContent === "Connect"`)
		bob.do(chromedp.KeyEvent(kb.Enter))
		bob.awaitStatus("Connected as bob")
		alice.awaitStatus("Connected as alice")
		alice.write("subject", "push.user.bob")
		alice.write("data", `"for bob"`)
		alice.press("#publish button")
		bob.awaitEvent(`"for bob"`)
		alice.write("subject", "push.broadcast")
		alice.write("data", `"for all"`)
		alice.press("#publish button")
		bob.awaitEvent(`"for all"`)
		alice.awaitEvent(`"for all"`)
		if n := value[int](alice, `document.querySelectorAll("#events li").length`); n != 1 {
			t.Errorf("alice got %d events", n)
		}
		third := openTab(t, browser, d.console()+"?user=bob")
		third.awaitStatus("Connected as bob")
	})

	t.Run("the list is bounded", func(t *testing.T) {
		p := openTab(t, browser, d.console())
		p.awaitStatus("Connected as alice")
		many := make([]*nats.Msg, 450)
		for i := range many {
			many[i] = message("push.user.alice", fmt.Sprint(i))
		}
		d.publish(many...)
		p.await(`document.querySelector("#events pre")?.textContent === "449"`)
		if got := value[string](p, `[...document.querySelectorAll("#events pre")].map((e) => e.textContent).join()`); got != countdown(449, 200) {
			t.Errorf("it shows %s", got)
		}
		p.await(`document.querySelector("#count").textContent.startsWith("450, ")`)
	})

	t.Run("errors are shown", func(t *testing.T) {
		p := openTab(t, browser, d.console())
		p.meant = failedRequests
		p.awaitStatus("Connected as alice")
		p.write("data", `{`)
		p.press("#publish button")
		p.await(`document.querySelector("#told").textContent.includes("not JSON")`)
		p.await(`document.activeElement.id === "data" && document.activeElement.getAttribute("aria-invalid") === "true"`)
		p.write("data", `1`)
		p.write("subject", "push.*")
		p.press("#publish button")
		p.await(`document.querySelector("#told").textContent.includes("subject is not a valid NATS subject")`)
		p.write("user", "a.b")
		p.press("#toggle")
		p.awaitStatus("Stopped: no token: sub must be one NATS token")
		p.await(`document.querySelector("#toggle").textContent === "Connect"`)
	})

	t.Run("a narrow screen", func(t *testing.T) {
		p := openTab(t, browser, d.console(), chromedp.EmulateViewport(360, 740))
		p.awaitStatus("Connected as alice")
		long := strings.Repeat("unbroken", 500)
		m := message("push.user.alice", quoted(long))
		m.Header.Set("Nats-Msg-Id", long[:300])
		d.publish(m)
		p.awaitEvent("more characters")
		p.write("data", quoted(long[:300]))
		for _, scheme := range []string{"light", "dark"} {
			p.do(prefers(scheme))
			if width := value[[]int](p, `[document.documentElement.scrollWidth, document.documentElement.clientWidth]`); width[0] > width[1] || width[1] != 360 {
				t.Errorf("%s: it is %d wide in %d", scheme, width[0], width[1])
			}
		}
	})

	t.Run("light and dark", func(t *testing.T) {
		p := openTab(t, browser, d.console())
		const colors = `getComputedStyle(document.body).color + " on " + getComputedStyle(document.body).backgroundColor`
		p.do(prefers("light"))
		light := value[string](p, colors)
		p.do(prefers("dark"))
		if dark := value[string](p, colors); dark == light {
			t.Errorf("both are %s", light)
		}
	})

	t.Run("the keyboard is enough", func(t *testing.T) {
		p := openTab(t, browser, d.console())
		p.awaitStatus("Connected as alice")
		const focused = `(() => { const e = document.activeElement; return [
			e.labels?.[0]?.textContent ?? e.getAttribute("aria-label") ??
				document.getElementById(e.getAttribute("aria-labelledby"))?.textContent ?? e.textContent,
			getComputedStyle(e).outlineStyle] })()`
		var stops []string
		for range 20 {
			p.do(chromedp.KeyEvent(kb.Tab))
			if value[bool](p, `document.activeElement === document.body`) {
				break
			}
			at := value[[]string](p, focused)
			if at[0] == "" || at[1] == "none" {
				t.Errorf("a stop without a name or a mark: %q", at)
			}
			stops = append(stops, at[0])
			if at[0] == "Publish" {
				p.do(chromedp.KeyEvent(kb.Enter))
			}
		}
		want := "four lanes and a canvas, User, Disconnect, open a second page as bob, Subject, Data, as JSON, Publish, " +
			"Copy the line that publishes the same, Copy the line that publishes to everybody, Log, Clear"
		if got := strings.Join(stops, ", "); got != want {
			t.Errorf("the stops are %s", got)
		}
		p.awaitEvent(`{"hello":"world"}`)
	})

	t.Run("the table of close codes", func(t *testing.T) {
		p := openTab(t, browser, d.console())
		for want, codes := range map[string]string{
			"return":    "1000, 1001",
			"stop":      "1002, 1003, 1007, 1008, 1009, 4000, 4001, 4002, 4099",
			"back off":  "1004, 1005, 1006, 1010, 1011, 1012, 1013, 1014, 1015, 3000, 3999, 4100, 4101, 4102, 4199, 4300, 4999",
			"new token": "4200, 4299",
		} {
			if got := value[[]string](p, `[...new Set([`+codes+`].map(afterClose))]`); len(got) != 1 || got[0] != want {
				t.Errorf("%s: got %q, want %q", codes, got, want)
			}
		}
		for _, failures := range []string{"0", "3", "50"} {
			span := value[[]float64](p, `(() => { const w = Array.from({length: 500}, () => backOff(`+failures+`)); return [Math.min(...w), Math.max(...w)] })()`)
			if span[0] < 250 || span[1] > 10_000 || span[1]-span[0] < span[1]/4 {
				t.Errorf("after %s failures it waits %v ms", failures, span)
			}
		}
	})
}
