//go:build !nodev

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

var lanes = []string{"poll", "long", "sse", "ws"}

// stand waits until all four lanes of a demo page do, and the canvas.
func (p *tab) stand() *tab {
	p.t.Helper()
	for _, lane := range lanes {
		p.awaitLane(lane, `.state`, `startsWith("Connected")`)
	}
	p.canvasStands()
	return p
}

// canvasStands waits as well until the figures have come: the page grows by
// them, and they say that the page's backend knows the gateway that runs.
func (p *tab) canvasStands() {
	p.t.Helper()
	p.await(`document.querySelector("#canvas-state").textContent.startsWith("Connected")`)
	p.await(`document.querySelector("#gateway").textContent.startsWith("The gateway, since it was started")`)
}

// awaitLane waits for the text of a part of a lane.
func (p *tab) awaitLane(lane, part, condition string) {
	p.t.Helper()
	p.await(fmt.Sprintf(`document.querySelector("#lane-%s %s").textContent.%s`, lane, part, condition))
}

// counted waits until all lanes have so many events, and checks that none was
// lost or came twice.
func (p *tab) counted(events int) {
	p.t.Helper()
	for _, lane := range lanes {
		p.awaitLane(lane, ".received", fmt.Sprintf(`match(/^%d$/)`, events))
	}
	for _, lane := range lanes {
		for _, part := range []string{"lost", "duplicated", "way"} {
			p.awaitLane(lane, "."+part, `match(/^0$/)`)
		}
	}
}

func (p *tab) recovered() {
	p.t.Helper()
	for _, lane := range lanes {
		p.awaitLane(lane, ".recovered", `match(/^[1-9]/)`)
	}
}

// requests is how many a lane has made until now. The page shows it a little
// later.
func (p *tab) requests(lane string) int {
	p.t.Helper()
	return value[int](p, requestsOf(lane))
}

func requestsOf(lane string) string {
	return fmt.Sprintf(`lanes.find((lane) => lane.id === %q).client.requests`, lane)
}

// draw clicks a tile. What is pressed counts there: the canvas takes the pointer
// until it is let go.
func (p *tab) draw(tile string) {
	p.t.Helper()
	p.hit(tile, "pointerdown")
}

// tile waits until a tile has a colour.
func (p *tab) tile(x, y, color int) {
	p.t.Helper()
	p.await(fmt.Sprintf(`document.querySelector("#tile-%d-%d").dataset.color === "%d"`, x, y, color))
}

func TestDemoLanes(t *testing.T) {
	browser := newBrowser(t)
	d := startDev(t, "GATEWAY_AUTH_LEEWAY=0s")

	t.Run("all get one event", func(t *testing.T) {
		p := openTab(t, browser, d.page).stand()
		socket, polls := p.requests("ws"), p.requests("poll")
		p.press("#publish")
		p.counted(1)
		for _, lane := range lanes {
			p.awaitLane(lane, ".last", `match(/^[0-9.]+$/)`)
			p.awaitLane(lane, ".requests", `match(/^[1-9]/)`)
			p.awaitLane(lane, ".bytes", `match(/^[1-9]/)`)
			p.awaitLane(lane, ".now", `match(/[0-9]/)`)
		}
		p.awaitLane("poll", ".empty", `match(/^[1-9]/)`)
		// From a terminal: without a number, and shown all the same.
		d.publish(message("push.user.alice", `<img src=x onerror=window.hacked=1>`), message("push.broadcast", `{"run":"other","n":1}`))
		p.counted(3)
		p.await(fmt.Sprintf(`%s > %d`, requestsOf("poll"), polls+1))
		if n := p.requests("ws"); n != socket {
			t.Errorf("the WebSocket made %d requests more", n-socket)
		}
		if value[bool](p, `"hacked" in window || document.querySelector("img") !== null`) {
			t.Error("a payload became more than text")
		}
	})

	t.Run("a network that is cut", func(t *testing.T) {
		p := openTab(t, browser, d.page).stand()
		// It is cut until the test has seen what it looks for, if that takes more
		// than 10 s.
		value[bool](p, `(() => {
			const { cut } = network, seen = new Promise((done) => { window.seen = done; });
			network.cut = function (ms, clients) {
				const over = cut.call(this, ms, clients);
				return this.up = seen.then(() => over).then(() => { this.isCut = false; });
			};
			return true;
		})()`)
		p.press("#cut")
		for _, lane := range lanes {
			p.awaitLane(lane, ".state", `includes("network is cut")`)
		}
		p.press("#burst")
		p.await(`document.querySelector("#said").textContent === "Numbers up to 100 are published."`)
		for _, lane := range lanes {
			p.awaitLane(lane, ".way", `match(/^100$/)`)
		}
		value[bool](p, `window.seen() ?? true`)
		p.await(`document.querySelector("#said").textContent === "The network is back."`)
		p.counted(100)
		p.recovered()
	})

	t.Run("a token that expires", func(t *testing.T) {
		p := openTab(t, browser, d.page)
		p.meant = failedRequests
		p.stand()
		// The button's three seconds may pass before a lane has come back with
		// the token: it would never say why it came back again.
		value[bool](p, `(() => { const real = mint; mint = (ttl) => real(ttl && "20s"); return true; })()`)
		p.press("#expire")
		p.awaitLane("poll", ".state", `includes("Connected, after: ")`)
		p.awaitLane("poll", ".state", `includes("(401)")`)
		p.awaitLane("long", ".state", `includes("(401)")`)
		p.awaitLane("sse", ".state", `includes("Connected, after: token expired (4200)")`)
		p.awaitLane("ws", ".state", `includes("Connected, after: token expired (4200)")`)
		p.press("#burst")
		p.counted(100)
	})

	t.Run("a restart", func(t *testing.T) {
		p := openTab(t, browser, d.page)
		p.meant = failedRequests
		p.stand()
		p.press("#burst")
		p.counted(100)
		p.press("#restart")
		for _, lane := range []string{"sse", "ws"} {
			p.awaitLane(lane, ".state", `includes("(1001)")`)
		}
		d.publish(message("push.user.alice", `"while it is away"`))
		p.stand()
		p.press("#publish")
		p.counted(102)
		// And once more. How often they have to ask is the gateway's matter.
		socket, stream := p.requests("ws"), p.requests("sse")
		p.press("#restart")
		p.await(fmt.Sprintf(`%s > %d && %s > %d`, requestsOf("ws"), socket, requestsOf("sse"), stream))
		p.stand()
	})

	t.Run("a slow reader", func(t *testing.T) {
		p := openTab(t, browser, d.page)
		p.meant = failedRequests
		p.stand()
		p.awaitLane("sse", ".now", `startsWith("1 ")`) // and none of a page before
		p.press("#slow")
		p.await(`document.querySelector("#said").textContent.includes("slow consumer (4100)")`)
		p.awaitLane("sse", ".recovered", `match(/^[1-9]/)`)
		for _, lane := range lanes {
			p.awaitLane(lane, ".way", `match(/^0$/)`)
			p.awaitLane(lane, ".lost", `match(/^0$/)`)
			p.awaitLane(lane, ".duplicated", `match(/^0$/)`)
		}
	})

	t.Run("in one window at a time", func(t *testing.T) {
		first := openTab(t, browser, d.page).stand()
		second := openTab(t, browser, d.page)
		second.await(`!document.querySelector("#elsewhere").hidden`)
		second.press("#here")
		second.stand()
		first.awaitLane("ws", ".state", `startsWith("Runs in another window")`)
		second.press("#publish")
		second.counted(1)
		first.press("#here")
		first.stand()
	})
}

func TestDemoCanvas(t *testing.T) {
	browser := newBrowser(t)
	d := startDev(t, "GATEWAY_AUTH_LEEWAY=0s")
	first, second := openTab(t, browser, d.page).stand(), openTab(t, browser, d.page+"?user=bob")
	second.canvasStands()
	first.draw("#tile-3-7")
	second.tile(3, 7, 3)
	first.tile(3, 7, 3)
	// By keyboard: another colour, and a tile beside.
	second.do(chromedp.Focus(chromedp.CSS(`#colors input[aria-label="red"]`)), chromedp.KeyEvent(kb.ArrowRight))
	second.do(chromedp.Focus(chromedp.ID("tile-0-0")), chromedp.KeyEvent(kb.ArrowLeft), chromedp.KeyEvent(kb.Enter))
	first.tile(23, 0, 4)
	first.draw("#tile-4-7")
	late := openTab(t, browser, d.page+"?user=carol")
	late.tile(3, 7, 3)
	late.tile(4, 7, 3)
	late.tile(23, 0, 4)
	late.await(`!document.querySelector("#elsewhere").hidden`) // which moves the tiles
	late.canvasStands()
	late.draw("#tile-23-0")
	second.tile(23, 0, 3)
	late.await(`document.querySelector("#tile-23-0").ariaLabel === "23, 0: red"`)
	// What is no tile draws nothing, and breaks nothing.
	d.publish(message("push.canvas.99.1", `{"color":1}`), message("push.canvas.1.1", `{"color":"x"}`),
		message("push.canvas.1.1", `null`), message("push.canvas.a.b", `1`), message("push.canvas.2.2", `{"color":9}`))
	late.tile(2, 2, 9)
	late.tile(1, 1, 0)
}

func TestDemoLooks(t *testing.T) {
	browser := newBrowser(t)
	d := startDev(t, "GATEWAY_AUTH_LEEWAY=0s")
	p := openTab(t, browser, d.page, chromedp.EmulateViewport(360, 740)).stand()
	p.tabStops()
	p.press("#burst")
	p.counted(100)
	colors := map[string]bool{}
	for _, scheme := range []string{"light", "dark"} {
		p.do(prefers(scheme))
		if width := value[[]int](p, `[document.documentElement.scrollWidth, document.documentElement.clientWidth]`); width[0] > width[1] || width[1] != 360 {
			t.Errorf("%s: it is %d wide in %d", scheme, width[0], width[1])
		}
		colors[value[string](p, `getComputedStyle(document.body).backgroundColor`)] = true
		// 4.5 to 1 is what WCAG AA asks of text.
		const contrast = `(() => {
			const numbers = (c) => c.match(/[\d.]+/g).slice(0, 3).map(Number);
			const light = (c) => numbers(c).map((v) => v / 255).map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
				.reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
			const back = (e) => { const c = getComputedStyle(e).backgroundColor; return c === "rgba(0, 0, 0, 0)" ? back(e.parentElement) : c; };
			return [...document.querySelectorAll("h1, h2, h3, p, a, dt, dd, legend, button:not([id^=tile]), small, code")].filter((e) => e.textContent && !e.disabled)
				.map((e) => { const [a, b] = [light(getComputedStyle(e).color), light(back(e))].sort((x, y) => y - x);
					return [(a + .05) / (b + .05), e.tagName + " " + e.className + " " + e.textContent.slice(0, 30)]; })
				.filter(([ratio]) => ratio < 4.5).map(([ratio, what]) => ratio.toFixed(1) + " " + what); })()`
		if weak := value[[]string](p, contrast); len(weak) > 0 {
			t.Errorf("%s: too little contrast: %q", scheme, weak)
		}
	}
	if len(colors) != 2 {
		t.Errorf("light and dark look the same: %v", colors)
	}
	if missing := value[[]string](p, `[...document.querySelectorAll("button, input")].filter((e) => !(e.ariaLabel || e.textContent.trim())).map((e) => e.outerHTML)`); len(missing) > 0 {
		t.Errorf("without a name: %q", missing)
	}
}

// tabStops walks through the page by keyboard: every stop has a name and a
// mark, and the canvas is one stop.
func (p *tab) tabStops() {
	p.t.Helper()
	const focused = `(() => { const e = document.activeElement; return [e.ariaLabel || e.textContent, getComputedStyle(e).outlineStyle, getComputedStyle(e.closest("label") ?? e).outlineStyle] })()`
	var stops []string
	for range 30 {
		p.do(chromedp.KeyEvent(kb.Tab))
		if value[bool](p, `document.activeElement === document.body`) {
			break
		}
		at := value[[]string](p, focused)
		if at[0] == "" || at[1] == "none" && at[2] == "none" {
			p.t.Errorf("a stop without a name or a mark: %q", at)
		}
		stops = append(stops, at[0])
	}
	want := "Console, Second window, Publish, Burst of 100, Cut my network for 10 s, Restart the gateway, Expire my token, Slow reader, 0, 0: empty, red"
	if got := strings.Join(stops, ", "); got != want {
		p.t.Errorf("the stops are %s", got)
	}
}

// The pictures of the README are of this page: their names stand there.
func TestDemoPictures(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range regexp.MustCompile(`docs/images/[\w.-]+`).FindAllString(string(readme), -1) {
		info, err := os.Stat(filepath.Join("../..", name))
		if err != nil {
			t.Error(err)
		} else if info.Size() > 200<<10 {
			t.Errorf("%s has %d bytes", name, info.Size())
		}
	}
}
