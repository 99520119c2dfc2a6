package command

import "testing"

func TestByteSize(t *testing.T) {
	for s, want := range map[string]byteSize{
		"1": 1, "4096": 4096, "17B": 17, "64KiB": 64 << 10, "64k": 64 << 10, "256 MiB": 256 << 20, "1MB": 1 << 20, "1.5GiB": 3 << 29, "2TiB": 2 << 40,
		"9007199254740991": 1<<53 - 1,
	} {
		var b byteSize
		if err := b.Set(s); err != nil || b != want {
			t.Errorf("%q: %d, %v; want %d", s, b, err, want)
		}
	}
	for _, s := range []string{"", "0", "-1", "-1MiB", "MiB", "1XB", "1 2", "NaNMiB", "InfB", "9e99", "0x10", "1_000", "1.2.3", ".", "8388608TiB", "0.5"} {
		b := byteSize(7)
		if err := b.Set(s); err == nil || b != 7 {
			t.Errorf("%q: %d, without an error", s, b)
		}
	}
}
