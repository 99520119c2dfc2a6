package command

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// sizeUnits are the units of sizes, as powers of two. All are binary, however they are spelled.
var sizeUnits = map[string]int{
	"": 0, "B": 0, "K": 10, "KB": 10, "KIB": 10, "M": 20, "MB": 20, "MIB": 20, "G": 30, "GB": 30, "GIB": 30, "T": 40, "TB": 40, "TIB": 40,
}

// parseSize reads a number of bytes: 4096, 64KiB, 64k, 1.5GiB.
func parseSize(s string) (int64, error) {
	number, unit := s, ""
	if at := strings.IndexFunc(s, func(r rune) bool { return (r < '0' || r > '9') && r != '.' }); at >= 0 {
		number, unit = s[:at], strings.TrimSpace(s[at:])
	}
	n, err := strconv.ParseFloat(number, 64)
	shift, ok := sizeUnits[strings.ToUpper(unit)]
	if n = math.Ldexp(n, shift); err != nil || !ok || n < 1 || n >= 1<<63 {
		return 0, fmt.Errorf("%q is no size: give a number of bytes, or one with a unit, such as 64MiB", s)
	}
	return int64(n), nil
}

// byteSize is a flag that is a size.
type byteSize int64

// Set implements pflag.Value.
func (b *byteSize) Set(s string) error {
	n, err := parseSize(s)
	if err == nil {
		*b = byteSize(n)
	}
	return err
}

// String implements pflag.Value.
func (b *byteSize) String() string {
	if *b == 0 {
		return ""
	}
	return humanBytes(uint64(*b))
}

// Type implements pflag.Value.
func (*byteSize) Type() string { return "size" }
