//go:build echotest

package main

// widerTag names a key's largest value in binaries that echo.
const widerTag = "echotest"
