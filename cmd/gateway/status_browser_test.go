//go:build !nodev

package main

import (
	"context"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// width makes the window as wide as a telephone, or another screen.
func width(pixels int64) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
			Width: pixels, Height: 800, DeviceScaleFactor: 1,
		})
		return err
	})
}

func TestStatusInBrowser(t *testing.T) {
	browser := newBrowser(t)
	// Nobody reads what alice gets: she must not be closed for her silence.
	g := startGateway(t, "GATEWAY_HEARTBEAT=1h", "GATEWAY_AUTH_ISSUER=https://id.example/<img src=x onerror=window.hacked=1>")
	alice := g.connect("alice")
	g.connect("bob")
	g.publish("push.user.alice", `1`)
	alice.next()
	g.hub.DisconnectUser("bob")
	address := "http://" + g.admin.addr.String() + "/"
	text := func(id string) string { return `document.getElementById("` + id + `").innerText` }
	has := func(id, what string) string { return text(id) + `.includes(` + quoted(what) + `)` }

	t.Run("figures", func(t *testing.T) {
		p := openTab(t, browser, address)
		p.await(text("ready") + ` === "Ready"`)
		p.await(has("transports", "WebSocket\n1"))
		p.await(has("endings", "disconnected"))
		p.await(has("recent", "4000"))
		p.await(has("nats", "connected"))
		p.await(has("stream", "none"))
		p.await(`document.querySelectorAll(".tile polyline").length === 8`)
		p.press("summary")
		p.await(`document.querySelector("details").open`)
		p.await(has("config", "<img src=x") + ` && ` + has("config", "[redacted]"))
		if value[bool](p, `"hacked" in window || document.querySelector("img") !== null`) {
			t.Error("the configuration became HTML")
		}
		g.connect("carol")
		p.await(has("transports", "WebSocket\n2"))
	})

	t.Run("not ready", func(t *testing.T) {
		p := openTab(t, browser, address)
		g.draining.Store(true)
		defer g.draining.Store(false)
		p.await(text("ready") + ` === "Not ready: draining"`)
	})

	for _, scheme := range []string{"light", "dark"} {
		for _, pixels := range []int64{320, 1280} {
			t.Run(scheme+" "+strconv.Itoa(int(pixels)), func(t *testing.T) {
				p := openTab(t, browser, address, prefers(scheme), width(pixels))
				p.await(text("ready") + ` === "Ready"`)
				p.press("summary")
				p.await(`document.querySelector("details").open`)
				if wide := value[int](p, `document.documentElement.scrollWidth`); wide > int(pixels) {
					t.Errorf("it is %d wide", wide)
				}
				back := value[string](p, `getComputedStyle(document.body).backgroundColor`)
				if dark := strings.HasPrefix(back, "rgb(17,"); dark != (scheme == "dark") {
					t.Errorf("behind it is %s", back)
				}
			})
		}
	}
}
