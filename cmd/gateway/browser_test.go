//go:build !nodev

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// newBrowser starts the Chromium that one test opens its pages in.
func newBrowser(t *testing.T) context.Context {
	t.Helper()
	if testing.Short() {
		t.Skip("-short leaves the browser out")
	}
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Fatal("this test needs Chromium; install it, or run with -short:\napt-get install -y chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.NoSandbox, // root has none, and the page is our own
	)
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	return ctx
}

// tab is one open page.
type tab struct {
	t       *testing.T
	ctx     context.Context
	console iter.Seq2[chromedp.ConsoleMessage, error]
	deaf    context.CancelFunc // ends console
	meant   []string           // sources of console errors that the test provokes
}

// failedRequests are how Chromium reports requests and handshakes that fail.
var failedRequests = []string{"network", "javascript"}

// openTab opens a page. When the test ends, its console must hold no error.
func openTab(t *testing.T, browser context.Context, address string, before ...chromedp.Action[chromedp.Void]) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	// The first run has made the tab, which outlives the limit of each step.
	p := &tab{t: t, ctx: ctx}
	ctx, p.deaf = context.WithCancel(ctx)
	t.Cleanup(p.deaf)
	p.console = chromedp.Console(ctx)
	p.do(before...)
	p.do(chromedp.Navigate(address))
	t.Cleanup(p.leave)
	t.Cleanup(p.checkConsole)
	return p
}

// leave ends the page. Closing a tab is given up after a few seconds, and a page
// that stayed would keep its connections, and the lanes from all others.
func (p *tab) leave() {
	_, _ = perform(p, chromedp.Navigate("about:blank"))
}

// perform takes one step. Each has its time, and the tab as a whole has no end:
// on a busy machine all of them are slow.
func perform[T any](p *tab, step chromedp.Action[T]) (T, error) {
	ctx, cancel := context.WithTimeout(p.ctx, comesWithin)
	defer cancel()
	return chromedp.Run(ctx, step)
}

func (p *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	for _, step := range steps {
		if _, err := perform(p, step); err != nil {
			p.t.Fatalf("%v; %s", err, p.shows())
		}
	}
}

// value is what an expression gives in the page.
func value[T any](p *tab, expression string) T {
	p.t.Helper()
	v, err := perform(p, chromedp.Evaluate[T](expression))
	if err != nil {
		p.t.Fatalf("%s: %v; %s", expression, err, p.shows())
	}
	return v
}

// await waits until an expression is true in the page. It is no chromedp.Poll
// because that makes code of text inside the page, which the page forbids.
func (p *tab) await(expression string) {
	p.t.Helper()
	look := `new Promise((done) => { const look = () => (` + expression + `) ? done(true) : setTimeout(look, 10); look(); })`
	if _, err := perform(p, chromedp.Evaluate[bool](look, chromedp.EvalAwaitPromise)); err != nil {
		p.t.Fatalf("never came true: %s: %v; %s", expression, err, p.shows())
	}
}

func (p *tab) awaitStatus(prefix string) {
	p.t.Helper()
	p.await(`document.querySelector("#status").textContent.startsWith(` + quoted(prefix) + `)`)
}

func (p *tab) awaitEvent(text string) {
	p.t.Helper()
	p.await(`document.querySelector("#events").textContent.includes(` + quoted(text) + `)`)
}

func (p *tab) awaitLog(text string) {
	p.t.Helper()
	p.await(`document.querySelector("#log").textContent.includes(` + quoted(text) + `)`)
}

// quoted is a JavaScript string.
func quoted(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// shows is what a person would see, for a failed test.
func (p *tab) shows() string {
	text, err := perform(p, chromedp.Evaluate[string](
		`["status", "told", "events", "log", "said", "lanes", "canvas-state"].map((id) => id + ": " + document.getElementById(id)?.innerText).join("\n")`))
	if err != nil {
		return "and the page does not answer: " + err.Error()
	}
	return "the page shows\n" + text
}

// write puts text into a field as a person would.
func (p *tab) write(field, text string) {
	p.t.Helper()
	p.do(chromedp.Focus(chromedp.ID(field)))
	value[bool](p, `document.activeElement.select() ?? true`)
	p.do(chromedp.KeyEvent(text))
}

// press clicks a button where it is seen, as a person would.
func (p *tab) press(button string) {
	p.t.Helper()
	p.await(`!document.querySelector(` + quoted(button) + `).disabled`)
	p.hit(button, "click")
}

// hit clicks until an element gets the event. A click goes to a place, and what
// was there may have moved meanwhile, because a text above it has grown.
func (p *tab) hit(element, event string) {
	p.t.Helper()
	// A click comes with the button's way up, or not at all.
	watch := `(() => {
		const meant = document.querySelector(` + quoted(element) + `);
		window.landing?.over.abort();
		const landing = window.landing = { over: new AbortController() };
		const options = { capture: true, signal: landing.over.signal };
		addEventListener(` + quoted(event) + `, ({ target }) => { landing.hit ??= meant.contains(target); }, options);
		addEventListener("pointerup", () => setTimeout(() => { landing.hit ??= false; }), options);
		return true;
	})()`
	for end := time.Now().Add(comesWithin); ; {
		value[bool](p, watch)
		p.do(chromedp.Click(chromedp.CSS(element)))
		p.await(`landing.hit !== undefined`)
		if value[bool](p, `landing.hit`) {
			return
		}
		if time.Now().After(end) {
			p.t.Fatalf("something else gets the clicks on %s; %s", element, p.shows())
		}
	}
}

// checkConsole reads what the page wrote to the console until now.
func (p *tab) checkConsole() {
	const end = "this was the test"
	defer time.AfterFunc(comesWithin, p.deaf).Stop()
	if _, err := perform(p, chromedp.Evaluate[chromedp.Void](`console.info("`+end+`")`)); err != nil {
		p.t.Errorf("the page is gone: %v", err)
		return
	}
	for m, err := range p.console {
		if err != nil {
			p.t.Error(err)
			return
		}
		switch {
		case m.Text == end:
			return
		case !m.IsException() && slices.Contains(p.meant, m.Source):
		case m.IsException(), m.Type == chromedp.ConsoleError, m.Type == chromedp.ConsoleWarning:
			p.t.Errorf("the console says %s (%s %s:%d)", m, m.Source, m.URL, m.Line)
		}
	}
}

func prefers(scheme string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	})
}

func countdown(from, n int) string {
	numbers := make([]string, n)
	for i := range numbers {
		numbers[i] = fmt.Sprint(from - i)
	}
	return strings.Join(numbers, ",")
}
