package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/durun/durun/snapshot/bucket"
)

// pageSet is the pages of a stored snapshot: which ones, and where their content is.
type pageSet struct {
	runs    []byte // the numbers of the whole pages, packed
	patches []Patch
	memory  section // of the whole pages; zero for none
	stored  []byte  // its bytes, where they are in memory
	rest    *rest   // else, where the object is
}

// rest is the end of an object of which only the start was read.
type rest struct {
	b      bucket.Bucket
	key    string
	offset int64     // of the memory section
	size   int64     // of the object
	sum    hash.Hash // of what stands before the offset
	digest Hash      // what the object ends in
}

// numbers calls f with each run of whole pages: the first one's number and how many there are.
func (p *pageSet) numbers(f func(first, n uint32)) {
	u := &unpacker{name: "memory", b: p.runs}
	u.runs(f)
}

// check checks the numbers: that there is a page for each, that it lies in the memory, and that no page is there twice.
func (p *pageSet) check(memory uint64) error {
	u := &unpacker{name: "memory", b: p.runs}
	end := uint32(memory / PageSize)
	count := uint64(0)
	patches := p.patches
	u.runs(func(first, n uint32) {
		count += uint64(n)
		if first+n > end {
			u.fail("page %d is beyond the memory's %d bytes", first+n-1, memory)
		}
		for len(patches) > 0 && patches[0].Number < first {
			patches = patches[1:]
		}
		if len(patches) > 0 && patches[0].Number < first+n {
			u.fail("page %d is there whole, and is patched", patches[0].Number)
		}
	})
	if u.err == nil && count*PageSize != p.memory.Raw {
		u.fail("%d page numbers for %d bytes of pages", count, p.memory.Raw)
	}
	if n := len(p.patches); u.err == nil && n > 0 && p.patches[n-1].Number >= end {
		return corrupt("patches", -1, "page %d is beyond the memory's %d bytes", p.patches[n-1].Number, memory)
	}
	return u.err
}

// read reads the whole pages, in order. For each stretch of pages that are neighbours it asks to for their place, which
// has room for some of them: for the first one at least.
//
// What was read holds only if there is no error: the digest is verified at the end.
func (p *pageSet) read(ctx context.Context, to func(first, n uint32) []byte) error {
	switch {
	case p.memory.Raw == 0 && p.rest == nil:
		return nil
	case p.rest != nil:
		return notFound(p.rest.b, p.rest.read(ctx, p, to))
	}
	if crc32.Checksum(p.stored, castagnoli) != p.memory.CRC {
		return corrupt("memory", 0, "checksum does not match: damaged")
	}
	return p.fill(bytes.NewReader(p.stored), nil, to)
}

// fill reads the content of the memory section from its stored bytes. It calls tick, if it isn't nil, now and then.
func (p *pageSet) fill(stored io.Reader, tick func() error, to func(first, n uint32) []byte) error {
	return readContent(p.memory, stored, func(r io.Reader) error {
		var err error
		p.numbers(func(first, n uint32) {
			for n > 0 && err == nil {
				place := to(first, n)
				if _, err = io.ReadFull(r, place); err == nil && tick != nil {
					err = tick()
				}
				done := uint32(len(place) / PageSize)
				first, n = first+done, n-done
			}
		})
		return err
	})
}

// readContent calls f with a reader of a section's content, given one of its stored bytes, and checks that f reads all of
// it, and that this is all there is.
func readContent(s section, stored io.Reader, f func(r io.Reader) error) error {
	r, err := s.open(stored)
	if err != nil {
		return err
	}
	if s.Codec == codecZstd {
		d := decoders.Get().(*zstd.Decoder)
		defer func() {
			_ = d.Reset(nil) // lets go of the input
			decoders.Put(d)
		}()
		// The decoder sees no more than a reader, so that it can't choose to decode all at once.
		if err := d.Reset(struct{ io.Reader }{r}); err != nil {
			return corrupt(s.name(), 0, "decompress: %v", err)
		}
		r = d
	}
	content := &counter{r: r}
	fail := func(err error) error {
		var broken *FormatError
		var failed *bucket.Error
		switch {
		case errors.As(err, &broken), errors.As(err, &failed), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
			return err
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return corrupt(s.name(), int(content.n), "it ends after %d of %d bytes", content.n, s.Raw)
		default:
			return corrupt(s.name(), int(content.n), "decompress: %v", err)
		}
	}
	if err := f(content); err != nil {
		return fail(err)
	}
	var one [1]byte
	switch n, err := io.ReadFull(content, one[:]); {
	case n > 0:
		return corrupt(s.name(), int(s.Raw), "it goes on after its %d bytes", s.Raw)
	case err != io.EOF:
		return fail(err)
	}
	return nil
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// read reads the rest of the object, with the memory section first, and verifies its digest.
func (o *rest) read(ctx context.Context, p *pageSet, to func(first, n uint32) []byte) error {
	body, err := o.b.Get(ctx, o.key, o.offset, -1)
	if err != nil {
		return err
	}
	defer body.Body.Close()
	if body.Size != o.size {
		return corrupt("header", 16, "the object has %d bytes, where it had %d", body.Size, o.size)
	}
	sum, err := cloneHash(o.sum)
	if err != nil {
		return err
	}
	count := &counter{r: body.Body}
	all := io.LimitReader(io.TeeReader(count, sum), o.size-o.offset-digestSize)
	crc := crc32.New(castagnoli)
	memory := io.TeeReader(io.LimitReader(all, int64(p.memory.Stored)), crc)
	report := progress(ctx, "read", o.size)
	err = p.fill(memory, func() error {
		report(o.offset + count.n)
		return ctx.Err()
	}, to)
	if err != nil {
		return err
	}
	if crc.Sum32() != p.memory.CRC {
		return corrupt("memory", 0, "checksum does not match: damaged")
	}
	if _, err := io.Copy(io.Discard, all); err != nil {
		return err
	}
	var end Hash
	if _, err := io.ReadFull(body.Body, end[:]); err != nil {
		return err
	}
	if end != o.digest || Hash(sum.Sum(nil)) != end {
		return corrupt("digest", int(o.size)-digestSize, "does not match: damaged")
	}
	report(o.size)
	return nil
}

// cloneHash returns a copy of a running hash.
func cloneHash(h hash.Hash) (hash.Hash, error) {
	c, ok := h.(hash.Cloner)
	if !ok {
		return nil, errors.New("this SHA-256 can't be copied")
	}
	return c.Clone()
}

// all returns the pages of a full snapshot.
func (p *pageSet) all(ctx context.Context) ([]Page, error) {
	whole, err := p.whole(ctx)
	if err != nil || len(p.patches) == 0 {
		return whole, err
	}
	pages := make([]Page, 0, len(whole)+len(p.patches))
	for _, patch := range p.patches {
		for len(whole) > 0 && whole[0].Number < patch.Number {
			pages, whole = append(pages, whole[0]), whole[1:]
		}
		data := make([]byte, PageSize)
		patch.Apply((*[PageSize]byte)(data))
		pages = append(pages, Page{Number: patch.Number, Data: data})
	}
	return append(pages, whole...), nil
}

// whole returns the whole pages.
func (p *pageSet) whole(ctx context.Context) ([]Page, error) {
	var list []Page
	err := p.read(ctx, func(first, n uint32) []byte {
		// Content that is shorter than it claims to be costs one chunk at most.
		n = min(n, chunkSize/PageSize)
		chunk := make([]byte, int(n)*PageSize)
		for i := range n {
			list = append(list, Page{Number: first + i, Data: chunk[i*PageSize : (i+1)*PageSize : (i+1)*PageSize]})
		}
		return chunk
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// stored is a snapshot as it was read from a store or from bytes: all but the whole pages.
type stored struct {
	kind   Kind
	w      *wireManifest
	snap   *Snapshot // its manifest and output
	state  wireState
	pages  pageSet
	digest Hash
	size   int64
}

// readBytes reads and verifies an encoded snapshot. It aliases the whole pages and nothing else.
func readBytes(data []byte, keys *Keyring) (*stored, error) {
	h, err := verify(data)
	if err != nil {
		return nil, err
	}
	s := &stored{kind: h.kind, digest: Digest(data), size: int64(len(data))}
	if err := s.manifest(h, data, keys); err != nil {
		return nil, err
	}
	rest := data[headerSize+h.manifest : len(data)-digestSize]
	for _, sec := range s.w.Sections {
		if err := s.section(sec, rest[:sec.Stored]); err != nil {
			return nil, err
		}
		rest = rest[sec.Stored:]
	}
	return s, s.check()
}

func (s *stored) manifest(h header, data []byte, keys *Keyring) error {
	var err error
	if s.w, s.snap, err = parseManifest(h, data, keys); err != nil {
		return err
	}
	if err := s.w.object.locked(); err != nil {
		return err
	}
	if s.w.section(sectionState).Raw == 0 && s.kind == KindFull {
		return corrupt("manifest", headerSize, "no state section")
	}
	s.state.delta = s.kind == KindDelta
	return nil
}

// section takes a section's stored bytes.
func (s *stored) section(sec section, b []byte) error {
	switch sec.ID {
	case sectionOutput:
		var err error
		s.snap.Output, err = decodeOutput(sec, b, s.w.Output)
		return err
	case sectionMemory:
		s.pages.memory, s.pages.stored = sec, b
		return nil
	}
	content, err := ownContent(sec, b)
	if err != nil {
		return err
	}
	if sec.ID == sectionState {
		return unmarshal("state", 0, content, &s.state)
	}
	u := &unpacker{name: "patches", b: content}
	s.pages.patches = u.patches(int(s.w.Patches))
	return u.err
}

// check checks what the sections say of each other.
func (s *stored) check() error {
	p := &s.pages
	if p.runs = s.state.Runs; s.state.delta {
		switch {
		case s.w.section(sectionState).Raw == 1:
			return corrupt("state", 0, "it is empty, and there nevertheless")
		case s.state.Results != nil || p.runs != nil && len(p.runs) == 0:
			return corrupt("state", -1, "results, or an empty list of pages")
		}
	} else {
		if n := len(p.patches); n > 0 && n+int(s.w.Pages) > maxSmall {
			return corrupt("patches", -1, "a full snapshot with patches, and %d pages in all", n+int(s.w.Pages))
		}
		for _, patch := range p.patches {
			if !patch.Zero {
				return corrupt("patches", -1, "page %d is patched, and there is no base", patch.Number)
			}
		}
	}
	return p.check(s.snap.Memory.Size)
}

func (s *stored) commit() Commit {
	return Commit{Manifest: *s.w.manifest(s.snap), Bytes: s.size, Hash: s.digest}
}

// full returns a full snapshot, without its pages.
func (s *stored) full() (*Snapshot, error) {
	if s.kind == KindDelta {
		return nil, corrupt("header", 10, "a delta, which is nothing without its base")
	}
	if err := s.state.fill(s.snap); err != nil {
		return nil, err
	}
	if len(s.snap.Frames) != int(s.w.Frames) {
		return nil, corrupt("frames", -1, "%d frames, but the manifest says %d", len(s.snap.Frames), s.w.Frames)
	}
	return s.snap, s.snap.validateState(ErrCorrupt)
}

// inMemory is the size up to which an object is read at once. Of a larger one the pages are read when they are needed,
// straight to where they are needed.
const inMemory = 8 << 20

// readObject reads a stored snapshot: all of it or, if it is large, all but its whole pages.
// One that isn't there is ErrNotFound.
func (s *Store) readObject(ctx context.Context, key string) (*stored, error) {
	st, err := s.readParts(ctx, key)
	return st, notFound(s.b, err)
}

// notFound makes an object that isn't there, whenever that was noticed, ErrNotFound.
func notFound(b bucket.Bucket, err error) error {
	if errors.Is(err, bucket.ErrNotExist) {
		return fmt.Errorf("%w in %s", ErrNotFound, b.URL())
	}
	return err
}

func (s *Store) readParts(ctx context.Context, key string) (*stored, error) {
	o, err := s.b.Get(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	defer o.Body.Close()
	if o.Size <= s.inMemory {
		data := make([]byte, o.Size)
		if err := readFull(ctx, o.Body, data); err != nil {
			return nil, err
		}
		return readBytes(data, s.keys)
	}
	front := make([]byte, headerSize)
	if err := readFull(ctx, o.Body, front); err != nil {
		return nil, err
	}
	h, err := parseHeader(front)
	if err != nil {
		return nil, err // the rest of a newer version's bytes is not looked at
	}
	if h.total != o.Size {
		return nil, corrupt("header", 16, "the object has %d bytes of %d: truncated or damaged", o.Size, h.total)
	}
	sum := sha256.New()
	next := func(n uint64) ([]byte, error) {
		var b bytes.Buffer // grows with what arrives
		got, err := io.Copy(&b, io.LimitReader(o.Body, int64(n)))
		if err == nil && got < int64(n) {
			err = io.ErrUnexpectedEOF
		}
		sum.Write(b.Bytes())
		return b.Bytes(), err
	}
	sum.Write(front)
	manifest, err := next(uint64(h.manifest))
	if err != nil {
		return nil, err
	}
	at := int64(headerSize + h.manifest)
	st := &stored{kind: h.kind, size: o.Size}
	if err := st.manifest(h, append(front, manifest...), s.keys); err != nil {
		return nil, err
	}
	rest := &rest{b: s.b, key: key, size: o.Size, sum: sum}
	for _, sec := range st.w.Sections {
		if sec.ID > sectionState && rest.offset == 0 {
			rest.offset = at
		}
		var b []byte
		switch {
		case sec.ID <= sectionState:
			b, err = next(sec.Stored)
		case sec.ID == sectionPatches:
			b, _, err = bucket.ReadRange(ctx, s.b, key, at, int64(sec.Stored))
		}
		if err != nil {
			return nil, err
		}
		if err := st.section(sec, b); err != nil {
			return nil, err
		}
		at += int64(sec.Stored)
	}
	if rest.offset == 0 {
		rest.offset = at
	}
	tail, _, err := bucket.ReadRange(ctx, s.b, key, o.Size-digestSize, digestSize)
	if err != nil {
		return nil, err
	}
	if len(tail) != digestSize {
		return nil, corrupt("digest", -1, "the object became shorter")
	}
	st.digest = Hash(tail)
	rest.digest = st.digest
	st.pages.rest = rest
	return st, st.check()
}

// readFull reads all of an object's body into data, which has its size.
func readFull(ctx context.Context, r io.Reader, data []byte) error {
	if _, err := io.ReadFull(r, data); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("the object ends early: %w", io.ErrUnexpectedEOF)
		}
		return err
	}
	return nil
}
