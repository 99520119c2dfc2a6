package linmem

import "sync"

// slot says where the content of a page at some point is to be found.
type slot uint32

const (
	asImage     slot = iota // in the image
	unknown                 // nowhere: there was no room for a shadow
	firstShadow             // this and those after it: in a shadow
)

// chunkPages is how many shadows are allocated at a time.
const chunkPages = 16

// shadows holds copies of pages, outside of Go's heap where that can be, so that the collector's pace doesn't double them.
type shadows struct {
	chunks [][]byte
	unused []slot
	used   int
}

// page returns the content of a shadow.
func (s *shadows) page(i slot) []byte {
	i -= firstShadow
	return pageOf(s.chunks[i/chunkPages], uint32(i%chunkPages))
}

// take returns a shadow of any content, or unknown if there is no memory.
func (s *shadows) take() slot {
	if len(s.unused) == 0 {
		c := takeChunk()
		if c == nil {
			return unknown
		}
		next := firstShadow + slot(len(s.chunks)*chunkPages)
		s.chunks = append(s.chunks, c)
		for i := range slot(chunkPages) {
			s.unused = append(s.unused, next+chunkPages-1-i)
		}
	}
	i := s.unused[len(s.unused)-1]
	s.unused = s.unused[:len(s.unused)-1]
	s.used++
	return i
}

// give takes a shadow back, and does nothing with what isn't one.
func (s *shadows) give(i slot) {
	if i >= firstShadow {
		s.unused = append(s.unused, i)
		s.used--
	}
}

// free gives all back.
func (s *shadows) free() {
	for _, c := range s.chunks {
		giveChunk(c)
	}
	*s = shadows{}
}

// chunks are those that no memory uses at the moment. A guest that starts, suspends and ends within microseconds is to find
// its chunk here, and not to wait for the kernel.
var chunks struct {
	sync.Mutex
	unused [][]byte
}

// maxUnusedChunks bounds chunks.unused, to 4 MiB.
const maxUnusedChunks = 64

// takeChunk returns a chunk of any content, or nil if there is no memory.
func takeChunk() []byte {
	chunks.Lock()
	defer chunks.Unlock()
	if n := len(chunks.unused); n > 0 {
		c := chunks.unused[n-1]
		chunks.unused = chunks.unused[:n-1]
		return c
	}
	return allocate(chunkPages * PageSize)
}

func giveChunk(c []byte) {
	chunks.Lock()
	defer chunks.Unlock()
	if len(chunks.unused) < maxUnusedChunks {
		chunks.unused = append(chunks.unused, c)
		return
	}
	deallocate(c)
}
