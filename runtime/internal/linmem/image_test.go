package linmem

import (
	"bytes"
	"errors"
	"testing"
)

func TestImage(t *testing.T) {
	eachTracking(t, func(t *testing.T, mode tracking) {
		initial := makeImage(t, mode, 4*wasmPageSize, func(mem []byte) { mem[1024], mem[3*wasmPageSize] = 1, 2 })
		want := make([]byte, 4*wasmPageSize)
		want[1024], want[3*wasmPageSize] = 1, 2
		if !bytes.Equal(initial.Bytes(), want) {
			t.Fatal("the image isn't what was filled in")
		}
		derived, err := initial.derive(mode, 6*wasmPageSize, []uint32{0, 90}, func(mem []byte) error {
			if !bytes.Equal(mem[:len(want)], want) {
				t.Error("a derived image doesn't start with the initial one")
			}
			mem[1024], mem[90*PageSize] = 0, 3
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		initial.Release() // derived has a reference
		m := makeMemory(t, Config{Image: derived, Size: 7 * wasmPageSize, tracking: mode})
		derived.Release() // and m has one to that
		m.Bytes()[3*wasmPageSize] = 9
		m.Bytes()[6*wasmPageSize] = 9
		if got := derived.Page(3 * wasmPageSize / PageSize)[0]; got != 2 {
			t.Errorf("what a guest writes is in the image: %d", got)
		}
		if !bytes.Equal(derived.Page(95), zeroPage[:]) || !bytes.Equal(derived.Page(1<<20-1), zeroPage[:]) {
			t.Error("pages that were never written, or are beyond the end, aren't zeros")
		}
		full := m.Full()
		if got := numbers(full); len(got) != 4 || got[0] != 0 || got[1] != 48 || got[2] != 90 || got[3] != 96 {
			t.Errorf("pages %v differ from the initial image, want 0, 48, 90 and 96", got)
		}
		m.Free()
		for what, f := range map[string]func(){"Retain": func() { initial.Retain() }, "Release": initial.Release} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s of an image that is gone doesn't panic", what)
					}
				}()
				f()
			}()
		}
	})
}

func TestImageRefuses(t *testing.T) {
	eachTracking(t, func(t *testing.T, mode tracking) {
		nothing := func([]byte) error { return nil }
		failed := errors.New("failed")
		if _, err := newImage(mode, wasmPageSize, nil, func([]byte) error { return failed }); !errors.Is(err, failed) {
			t.Errorf("the error of fill is lost: %v", err)
		}
		for _, size := range []uint64{1, PageSize, maxSize + wasmPageSize} {
			if _, err := newImage(mode, size, nil, nothing); err == nil {
				t.Errorf("there is an image of %d bytes", size)
			}
		}
		initial := makeImage(t, mode, 2*wasmPageSize, func([]byte) {})
		defer initial.Release()
		if _, err := initial.derive(mode, wasmPageSize, nil, nothing); err == nil {
			t.Error("a derived image is smaller than the initial one")
		}
		if _, err := initial.derive(mode, 2*wasmPageSize, []uint32{32}, nothing); err == nil {
			t.Error("a page beyond the end is listed")
		}
		derived, err := initial.derive(mode, 2*wasmPageSize, nil, nothing)
		if err != nil {
			t.Fatal(err)
		}
		defer derived.Release()
		if _, err := derived.derive(mode, 2*wasmPageSize, nil, nothing); err == nil {
			t.Error("an image is derived from a derived one")
		}
		if n := initial.refs.Load(); n != 2 {
			t.Errorf("the initial image has %d references, want mine and that of the derived one", n)
		}
	})
}

func TestPageSet(t *testing.T) {
	for start := range uint32(130) {
		for end := range uint32(200) {
			var got, want pageSet
			got.addRange(start, end)
			for p := start; p < end; p++ {
				want.add(p)
			}
			if got.count() != want.count() || got.count() != max(0, int(end)-int(start)) {
				t.Fatalf("%d to %d has %d pages", start, end, got.count())
			}
			next := start
			for p := range got.all() {
				if p != next || !got.has(p) {
					t.Fatalf("%d to %d has page %d", start, end, p)
				}
				next++
			}
		}
	}
}
