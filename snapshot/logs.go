package snapshot

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/durun/durun/snapshot/bucket"
)

// wireLog is the manifest of a log: the output of the commits First to Last, which are no longer there.
type wireLog struct {
	Coroutine string       // 1
	First     uint64       // 2
	Last      uint64       // 3
	Output    uint64       // 16: bytes
	Sections  sectionTable // 17
	Seal      *wireSeal    // 20
}

func (w *wireLog) append(b []byte) []byte {
	m := newMap(b)
	m.key(1)
	m.b = appendText(m.b, w.Coroutine)
	m.key(2)
	m.b = appendUint(m.b, w.First)
	m.key(3)
	m.b = appendUint(m.b, w.Last)
	m.uint(16, w.Output)
	w.Sections.append(&m)
	w.Seal.append(&m)
	return m.b
}

func (w *wireLog) decode(u *unpacker) {
	u.pairs(func(key uint64) {
		switch key {
		case 1:
			w.Coroutine = u.text()
		case 2:
			w.First = u.number(math.MaxUint64)
		case 3:
			w.Last = u.number(math.MaxUint64)
		case 16:
			w.Output = u.number(math.MaxUint64)
		case 17:
			w.Sections = u.sections()
		case 20:
			w.Seal = u.seal()
		default:
			u.unknown(key)
		}
	})
}

// entry is the output of one commit.
type entry struct {
	seq    uint64
	output []Output
}

// encodeLog encodes a log. The content is, for each commit that wrote anything, its number less First, the length of
// its output's encoding, and that, as in a snapshot. It is encrypted under a key, unless that is nil.
func encodeLog(id string, first, last uint64, entries []entry, key *objectKey) ([]byte, error) {
	var parts []part
	raw, size, stretches := uint64(0), uint64(0), 0
	for _, e := range entries {
		n := outputSize(e.output)
		raw += uint64(uvarintLen(e.seq-first)) + uint64(uvarintLen(n)) + n
		stretches += len(e.output)
		for _, o := range e.output {
			size += uint64(len(o.Data))
		}
	}
	if raw > MaxOutput {
		return nil, &FormatError{
			Section: "output", Offset: -1, Err: ErrInvalid,
			Msg: fmt.Sprintf("%d bytes of output, at most %d are allowed", raw, MaxOutput),
		}
	}
	if stretches > MaxStretches {
		return nil, &FormatError{
			Section: "output", Offset: -1, Err: ErrInvalid,
			Msg: fmt.Sprintf("%d stretches of output, at most %d are allowed", stretches, MaxStretches),
		}
	}
	if raw > 0 {
		parts = append(parts, part{id: sectionOutput, raw: raw, write: func(w io.Writer) error {
			for _, e := range entries {
				head := binary.AppendUvarint(nil, e.seq-first)
				head = binary.AppendUvarint(head, outputSize(e.output))
				if _, err := w.Write(head); err != nil {
					return err
				}
				if err := writeOutput(w, e.output); err != nil {
					return err
				}
			}
			return nil
		}})
	}
	e := encryptionOf(key, secrets{})
	return encodeContainer(new([]byte), kindLog, 256, parts, e, func(b []byte, sections sectionTable) []byte {
		w := &wireLog{Coroutine: id, First: first, Last: last, Output: size, Sections: sections, Seal: e.wire()}
		return w.append(b)
	})
}

// decodeLog decodes and verifies a log.
func decodeLog(data []byte, keys *Keyring) (*wireLog, []entry, error) {
	h, err := verify(data)
	if err != nil {
		return nil, nil, err
	}
	w, err := parseLog(h, data, keys)
	if err != nil {
		return nil, nil, err
	}
	var entries []entry
	size := uint64(0)
	if len(w.Sections) == 1 {
		content, err := sectionContent(w.Sections[0], data[headerSize+h.manifest:len(data)-digestSize])
		if err != nil {
			return nil, nil, err
		}
		u := &unpacker{name: "output", b: content}
		next, stretches := w.First, 0
		for u.more() {
			seq := w.First + u.uvarint(w.Last-w.First)
			n := u.uvarint(MaxOutput)
			v := &unpacker{name: "output", b: u.bytes(int(n)), err: u.err}
			e := entry{seq: seq, output: v.output()}
			if u.err = v.err; u.err == nil && (seq < next || len(e.output) == 0) {
				u.fail("commit %d is out of order or wrote nothing", seq)
			}
			if stretches += len(e.output); stretches > MaxStretches {
				u.fail("more than %d stretches", MaxStretches)
			}
			next = seq + 1
			for _, o := range e.output {
				size += uint64(len(o.Data))
			}
			entries = append(entries, e)
		}
		if u.err != nil {
			return nil, nil, u.err
		}
	}
	if size != w.Output {
		return nil, nil, corrupt("output", -1, "%d bytes, but the manifest says %d", size, w.Output)
	}
	return w, entries, nil
}

// parseLog reads a log's manifest from data, which starts with its container's header and holds the manifest.
func parseLog(h header, data []byte, keys *Keyring) (*wireLog, error) {
	if h.kind != kindLog {
		return nil, corrupt("header", 10, "a %v snapshot, not a log", h.kind)
	}
	raw, err := h.checkManifest(data)
	if err != nil {
		return nil, err
	}
	w := &wireLog{}
	if err := unmarshal("manifest", headerSize, raw, w); err != nil {
		return nil, err
	}
	if err := h.checkSections(w.Sections, sectionOutput); err != nil {
		return nil, err
	}
	key, _, err := w.Seal.open(h, data, keys)
	if err != nil {
		return nil, err
	}
	w.Sections.use(key)
	if ValidID(w.Coroutine) != nil || w.First == 0 || w.First > w.Last || w.Last > MaxSeq {
		return nil, corrupt("manifest", headerSize, "output of commits %d to %d of %q", w.First, w.Last, w.Coroutine)
	}
	return w, nil
}

// isLog holds a log to the key that it lies under.
func (w *wireLog) isLog(id, key string) error {
	if key != logKey(id, w.Last) || w.Coroutine != id {
		return corrupt("manifest", -1, "it says that it is of commits %d to %d of coroutine %s: the object was moved", w.First, w.Last, w.Coroutine)
	}
	return nil
}

// maxLog is the most bytes of a log's object that are read: its output, what sealing adds to that, and what precedes it.
const maxLog = MaxOutput + MaxOutput/sealChunk*tagSize + maxManifest + 1<<16

// readLog reads and verifies a log.
func (s *Store) readLog(ctx context.Context, id, key string) (*wireLog, []entry, error) {
	data, err := bucket.ReadAll(ctx, s.b, key, maxLog)
	if errors.Is(err, bucket.ErrTooLarge) {
		err = corrupt("header", 16, "%v", err)
	}
	if err != nil {
		return nil, nil, err
	}
	w, entries, err := decodeLog(data, s.keys)
	if err == nil {
		err = w.isLog(id, key)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", key, err)
	}
	return w, entries, nil
}

// peekLog reads a log's manifest.
func (s *Store) peekLog(ctx context.Context, id, key string) (*wireLog, error) {
	h, data, _, err := s.head(ctx, key)
	if err != nil {
		return nil, err
	}
	w, err := parseLog(h, data, s.keys)
	if err == nil {
		err = w.isLog(id, key)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return w, nil
}

// outputMissing says that the output of commits is in no object.
func outputMissing(first, last uint64) error {
	if first == last {
		return corrupt("output", -1, "that of commit %d is missing", first)
	}
	return corrupt("output", -1, "that of commits %d to %d is missing", first, last)
}
