package main

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes, written 512, 64KiB, 1MiB or 1GiB.
type Size int64

var sizeUnits = []struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}, {"", 1}}

// ParseSize reads what String writes.
func ParseSize(s string) (Size, error) {
	digits := strings.TrimRight(s, "BGKMi")
	n, err := strconv.ParseUint(digits, 10, 63)
	if err == nil {
		for _, unit := range sizeUnits {
			if s[len(digits):] == unit.name && n <= uint64(math.MaxInt64/unit.bytes) {
				return Size(int64(n) * unit.bytes), nil
			}
		}
	}
	return 0, errors.New("is not a size like 512, 64KiB or 1MiB")
}

// String uses the largest unit that is exact.
func (s Size) String() string {
	for _, unit := range sizeUnits[:3] {
		if s != 0 && int64(s)%unit.bytes == 0 {
			return strconv.FormatInt(int64(s)/unit.bytes, 10) + unit.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}
