// Package web holds the pages of the dev command: plain files, no build step,
// nothing loaded from elsewhere.
package web

import "embed"

// Page is index.html, the demo, and console.html, one session frame by frame.
//
//go:embed index.html console.html
var Page embed.FS
