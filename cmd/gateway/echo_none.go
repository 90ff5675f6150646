//go:build !echotest

package main

// widerTag is no tag: what binaries for conformance tests take is not taken.
const widerTag = ""
