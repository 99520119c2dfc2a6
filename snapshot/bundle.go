package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/durun/durun/snapshot/bucket"
)

// wireBundle is the manifest of an exported coroutine. Its sections are the module, a log if commits precede the one
// that is exported, and that one.
type wireBundle struct {
	Coroutine string       // 1
	Seq       uint64       // 2
	Module    []byte       // 4
	Sections  sectionTable // 17
	Seal      *wireSeal    // 20
}

func (w *wireBundle) append(b []byte) []byte {
	m := newMap(b)
	m.key(1)
	m.b = appendText(m.b, w.Coroutine)
	m.key(2)
	m.b = appendUint(m.b, w.Seq)
	m.key(4)
	m.b = appendBytes(m.b, w.Module)
	w.Sections.append(&m)
	w.Seal.append(&m)
	return m.b
}

func (w *wireBundle) decode(u *unpacker) {
	u.pairs(func(key uint64) {
		switch key {
		case 1:
			w.Coroutine = u.text()
		case 2:
			w.Seq = u.number(math.MaxUint64)
		case 4:
			w.Module = u.blob()
		case 17:
			w.Sections = u.sections()
		case 20:
			w.Seal = u.seal()
		default:
			u.unknown(key)
		}
	})
}

// Export writes a coroutine as one self-contained file, a bundle: its module, the snapshot of commit seq (0 for the
// newest) and the output of the commits before it. Grants stay behind, and messages that wait for it. The bundle is deterministic and ends in a digest
// of all. Nothing is written before all has been read and verified; Export holds the bundle, and for a while the module,
// in memory. It is plain, also where the store's objects are encrypted; see [Store.ExportEncrypted].
//
// Errors: [ErrNotFound]; [ErrCorrupt]; [ErrVersion]; [ErrKey]; the writer's own.
func (s *Store) Export(ctx context.Context, id string, seq uint64, w io.Writer) error {
	return s.export(ctx, id, seq, w, nil)
}

// ExportEncrypted is Export of a bundle that is encrypted under the first of the store's keys, its module included: who
// imports it needs the key. It is not deterministic.
//
// Errors: also [ErrInvalid] if the store has no keys.
func (s *Store) ExportEncrypted(ctx context.Context, id string, seq uint64, w io.Writer) error {
	key := s.keys.newObject()
	if key == nil {
		return fmt.Errorf("export coroutine %s: %w: there is no key to encrypt it under", id, ErrInvalid)
	}
	return s.export(ctx, id, seq, w, key)
}

// export writes a bundle, encrypted under a key unless that is nil.
func (s *Store) export(ctx context.Context, id string, seq uint64, w io.Writer, key *objectKey) error {
	fail := func(err error) error { return fmt.Errorf("export coroutine %s: %w", id, err) }
	snap, c, err := s.At(ctx, id, seq)
	if err != nil {
		return fail(err)
	}
	seq = c.Seq
	module := snap.Module
	snap.Grants = nil
	commit, err := Encode(snap)
	if err != nil {
		return fail(err)
	}
	snap = nil // its memory can go
	var parts []part
	wasm, err := s.Module(ctx, module)
	if err != nil {
		return fail(err)
	}
	parts = append(parts, bytesPart(sectionModule, wasm))
	if seq > 1 {
		var entries []entry
		err := s.output(ctx, id, seq-1, func(seq uint64, output []Output) error {
			entries = append(entries, entry{seq, output})
			return nil
		})
		if err != nil {
			return fail(err)
		}
		logs, err := encodeLog(id, 1, seq-1, entries, nil)
		if err != nil {
			return fail(err)
		}
		parts = append(parts, bytesPart(sectionLog, logs))
	}
	parts = append(parts, bytesPart(sectionCommit, commit))
	e := encryptionOf(key, secrets{})
	data, err := encodeContainer(new([]byte), kindBundle, 512, parts, e, func(b []byte, sections sectionTable) []byte {
		w := &wireBundle{Coroutine: id, Seq: seq, Module: module[:], Sections: sections, Seal: e.wire()}
		return w.append(b)
	})
	if err != nil {
		return fail(err)
	}
	if _, err := w.Write(data); err != nil {
		return fail(err)
	}
	return nil
}

// ImportOptions says how a coroutine is imported.
type ImportOptions struct {
	ID    string       // the coroutine's new id; empty for the one that it had
	Lease LeaseOptions // of the coroutine, which Import holds meanwhile
}

// Import creates a coroutine from a bundle that [Store.Export] wrote, under its own id or a new one, and returns its
// commit. All of the bundle is read and verified before anything is written; then come the module, the output and last
// the commit, so that an import which is cut short leaves no coroutine. The coroutine has no grants, whatever the bundle
// says. Import acquires the coroutine meanwhile.
//
// Errors: [ErrCorrupt] for a bundle that was changed or truncated anywhere, or is none; [ErrVersion]; [ErrExist] if the
// store has a coroutine of that id; [ErrBusy]; [ErrID]; [ErrKey]; the reader's own.
func (s *Store) Import(ctx context.Context, r io.Reader, o ImportOptions) (Commit, error) {
	c, err := s.importBundle(ctx, r, o)
	if err != nil {
		return Commit{}, fmt.Errorf("import: %w", err)
	}
	return c, nil
}

func (s *Store) importBundle(ctx context.Context, r io.Reader, o ImportOptions) (Commit, error) {
	if o.ID != "" {
		if err := ValidID(o.ID); err != nil {
			return Commit{}, err
		}
	}
	in, err := readBundle(r, s.keys)
	if err != nil {
		return Commit{}, err
	}
	snap, entries := in.snap, in.entries
	if o.ID != "" {
		snap.Coroutine = o.ID
	}
	id := snap.Coroutine
	lease, err := s.Acquire(ctx, id, o.Lease)
	if err != nil {
		return Commit{}, err
	}
	defer lease.Release()
	s = lease.guarded()

	data, logs := in.commit, in.log
	other := id != in.id || !s.keys.first().IsZero()
	if other || len(snap.Grants) > 0 {
		snap.Grants = nil
		if data, err = s.keys.Encode(snap); err != nil {
			return Commit{}, err
		}
	}
	if other && snap.Seq > 1 {
		if logs, err = encodeLog(id, 1, snap.Seq-1, entries, s.keys.newObject()); err != nil {
			return Commit{}, err
		}
	}
	m, err := s.keys.decodeManifest(data)
	if err != nil {
		return Commit{}, err
	}
	key := commitKey(id, snap.Seq)
	if err := s.prepare(ctx, id, ""); err != nil {
		return Commit{}, fmt.Errorf("coroutine %s: %w", id, err)
	}
	if err := s.KeepModule(ctx, snap.Module, in.module); err != nil {
		return Commit{}, err
	}
	if snap.Seq > 1 {
		if err := bucket.PutBytes(ctx, s.b, logKey(id, snap.Seq-1), logs); err != nil {
			return Commit{}, fmt.Errorf("coroutine %s: %w", id, err)
		}
		if err := lease.ensure(ctx); err != nil {
			// It was too late: the coroutine that is there now, if any, has no such past.
			return Commit{}, errors.Join(err, lease.s.b.Delete(ctx, logKey(id, snap.Seq-1)))
		}
	}
	if err := bucket.PutBytes(ctx, s.b, key, data); err != nil {
		if errors.Is(err, bucket.ErrExist) {
			err = fmt.Errorf("%w: %w", ErrExist, err)
		}
		return Commit{}, fmt.Errorf("coroutine %s: %w", id, err)
	}
	if err := s.KeepModule(ctx, snap.Module, in.module); err != nil { // a collector may have come by
		return Commit{}, err
	}
	return Commit{Manifest: *m, Bytes: int64(len(data)), Hash: Digest(data)}, nil
}

// imported is a bundle, read and verified.
type imported struct {
	id      string
	module  []byte
	log     []byte // nil if there are no earlier commits
	entries []entry
	commit  []byte
	snap    *Snapshot
}

// readBundle reads and verifies a bundle. It holds the module twice, compressed and not.
func readBundle(r io.Reader, keys *Keyring) (*imported, error) {
	sum := sha256.New()
	read := func(section string, n int64) ([]byte, error) {
		var b bytes.Buffer // grows with what arrives
		got, err := io.Copy(&b, io.LimitReader(r, n))
		if err != nil {
			return nil, err
		}
		if got < n {
			return nil, corrupt(section, int(got), "truncated: %d bytes of %d", got, n)
		}
		return b.Bytes(), nil
	}
	var head bytes.Buffer
	if _, err := io.Copy(&head, io.LimitReader(r, headerSize)); err != nil {
		return nil, err
	}
	h, err := parseHeader(head.Bytes())
	if errors.Is(err, ErrVersion) {
		return nil, newerBundle(err, head.Bytes(), r)
	}
	if err != nil {
		return nil, err
	}
	if h.kind != kindBundle {
		return nil, corrupt("header", 10, "it holds no exported coroutine (kind %v)", h.kind)
	}
	raw, err := read("manifest", int64(h.manifest))
	if err != nil {
		return nil, err
	}
	front := append(head.Bytes(), raw...)
	if _, err := h.checkManifest(front); err != nil {
		return nil, err
	}
	sum.Write(front)
	w := &wireBundle{}
	if err := unmarshal("manifest", headerSize, raw, w); err != nil {
		return nil, err
	}
	if err := h.checkSections(w.Sections, sectionModule, sectionLog, sectionCommit); err != nil {
		return nil, err
	}
	key, _, err := w.Seal.open(h, front, keys)
	if err == nil {
		err = key.locked()
	}
	if err != nil {
		return nil, err
	}
	w.Sections.use(key)
	in := &imported{id: w.Coroutine}
	for _, sec := range w.Sections {
		stored, err := read(sec.name(), int64(sec.Stored))
		if err != nil {
			return nil, err
		}
		sum.Write(stored)
		content, err := sectionContent(sec, stored)
		if err != nil {
			return nil, err
		}
		switch sec.ID {
		case sectionModule:
			in.module = content
		case sectionLog:
			in.log = content
		case sectionCommit:
			in.commit = content
		}
	}
	digest, err := read("digest", digestSize)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(digest, sum.Sum(nil)) {
		return nil, corrupt("digest", int(h.total)-digestSize, "does not match: damaged")
	}
	if n, err := io.CopyN(io.Discard, r, 1); n > 0 {
		return nil, corrupt("digest", int(h.total), "bytes follow the end")
	} else if err != io.EOF { //nolint:errorlint // io.CopyN returns it bare
		return nil, err
	}
	return in, in.check(w)
}

// check decodes the parts and holds them to each other.
func (in *imported) check(w *wireBundle) error {
	within := func(section string, err error) error {
		var fe *FormatError
		if errors.As(err, &fe) {
			c := *fe
			c.Section = section + "'s " + fe.Section
			return &c
		}
		return err
	}
	var err error
	if in.commit == nil || in.module == nil {
		return corrupt("manifest", headerSize, "a part is missing")
	}
	for _, part := range [][]byte{in.commit, in.log} {
		if h, err := parseHeader(part); err == nil && h.sealed {
			return corrupt("manifest", headerSize, "a part that is encrypted by itself")
		}
	}
	if in.snap, err = Decode(in.commit); err != nil {
		return within("commit", err)
	}
	if h := HashOf(in.module); h != in.snap.Module || !bytes.Equal(h[:], w.Module) {
		return corrupt("module", -1, "it has the hash %v, not that of the snapshot's module", h)
	}
	if in.snap.Coroutine != w.Coroutine || in.snap.Seq != w.Seq {
		return corrupt("commit", -1, "it is %d of coroutine %s, not %d of %s", in.snap.Seq, in.snap.Coroutine, w.Seq, w.Coroutine)
	}
	if (in.log != nil) != (w.Seq > 1) {
		return corrupt("manifest", headerSize, "earlier output is missing, or too much")
	}
	if in.log != nil {
		l, entries, err := decodeLog(in.log, nil)
		if err != nil {
			return within("log", err)
		}
		if l.Coroutine != w.Coroutine || l.First != 1 || l.Last != w.Seq-1 {
			return corrupt("log", -1, "it is of commits %d to %d of coroutine %s", l.First, l.Last, l.Coroutine)
		}
		in.entries = entries
	}
	return nil
}

// newerBundle tells a bundle of a newer version from a damaged one: it reads to the end, where in every version there is
// the digest of all before.
func newerBundle(version error, head []byte, r io.Reader) error {
	sum := sha256.New()
	tail := append([]byte{}, head...)
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		tail = append(tail, buf[:n]...)
		if keep := len(tail) - digestSize; keep > 0 {
			sum.Write(tail[:keep])
			tail = append(tail[:0], tail[keep:]...)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if !bytes.Equal(tail, sum.Sum(nil)) {
		return corrupt("digest", -1, "does not match: damaged")
	}
	return version
}
