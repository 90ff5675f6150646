// Package web holds the demo page of the dev command: plain files, no build
// step, nothing loaded from elsewhere.
package web

import "embed"

// Page is the demo page, index.html at its root.
//
//go:embed index.html
var Page embed.FS
