package main

import "fmt"

// userName is the name of the i-th user.
func userName(i int) string { return fmt.Sprintf("u%05d", i) }
