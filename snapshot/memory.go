package snapshot

import (
	"bytes"
	"fmt"
)

var zeroPage [PageSize]byte

// DiffPages returns the pages of mem that differ from image, ascending: the Pages of a [Memory] whose guest started
// from image. Beyond the image's end memory is compared with zeros. mem must be a multiple of [PageSize] long, and the
// image no longer than mem. The pages' Data alias mem, so they hold until the guest runs again.
func DiffPages(mem, image []byte) []Page {
	var pages []Page
	for at := 0; at+PageSize <= len(mem); at += PageSize {
		page := mem[at : at+PageSize : at+PageSize]
		var same bool
		switch rest := image[min(at, len(image)):]; {
		case len(rest) >= PageSize:
			same = bytes.Equal(page, rest[:PageSize])
		case len(rest) == 0:
			same = bytes.Equal(page, zeroPage[:])
		default:
			same = bytes.Equal(page[:len(rest)], rest) && bytes.Equal(page[len(rest):], zeroPage[len(rest):])
		}
		if !same {
			pages = append(pages, Page{Number: uint32(at / PageSize), Data: page})
		}
	}
	return pages
}

// ApplyPages copies pages into mem, which holds the image that they differ from. A page beyond mem's end is an error,
// [ErrInvalid], and none is copied then.
func ApplyPages(mem []byte, pages []Page) error {
	for _, p := range pages {
		if end := (uint64(p.Number) + 1) * PageSize; end > uint64(len(mem)) || len(p.Data) != PageSize {
			return &FormatError{
				Section: "memory", Offset: -1, Err: ErrInvalid,
				Msg: fmt.Sprintf("page %d of %d bytes does not lie in %d bytes of memory", p.Number, len(p.Data), len(mem)),
			}
		}
	}
	for _, p := range pages {
		copy(mem[int(p.Number)*PageSize:], p.Data)
	}
	return nil
}
