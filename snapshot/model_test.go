package snapshot

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// model is a coroutine and its driver: it commits by the rules of Lineage, and knows what must be in the store.
type model struct {
	id      string
	module  []byte
	rnd     *rand.Rand
	lineage Lineage
	root    *Snapshot // of the chain
	newest  *Snapshot // complete
	last    Hash      // the newest's digest
	output  strings.Builder
}

// newModel is a coroutine without commits. Base is nil, or what it starts from.
func newModel(id string, module []byte, rnd *rand.Rand, base *Snapshot, of Commit) *model {
	m := &model{id: id, module: module, rnd: rnd}
	if base != nil {
		m.lineage, m.root = FromBase(of), base
	}
	return m
}

// next makes the snapshot of the next commit: a few pages of 24 have changed, so that chains come to their ends soon.
func (m *model) next() (snap, whole *Snapshot) {
	seq := uint64(1)
	whole = &Snapshot{
		Module: HashOf(m.module), Coroutine: m.id, Time: time.Unix(1_700_000_000, 0).UTC(), Status: Suspended, Entry: "_start",
		Await: &Await{Import: "durun.yield", Kind: "yield"}, Frames: withFrames(3), Memory: Memory{Size: 2 * WasmPageSize},
	}
	before := m.newest
	if before == nil {
		before = m.root
	} else {
		seq = before.Seq + 1
		whole.Parent = &Parent{Seq: before.Seq, Hash: m.last}
	}
	whole.Seq = seq
	whole.Await.Data = fmt.Appendf(nil, "commit %d", seq)
	pages := map[uint32][]byte{}
	if before != nil {
		for _, p := range before.Memory.Pages {
			pages[p.Number] = p.Data
		}
	}
	for range 1 + m.rnd.IntN(3) {
		page := make([]byte, PageSize)
		for i := range page {
			page[i] = byte(m.rnd.Uint32())
		}
		pages[uint32(m.rnd.IntN(24))] = page
	}
	for n := range uint32(24) {
		if p := pages[n]; p != nil {
			whole.Memory.Pages = append(whole.Memory.Pages, Page{Number: n, Data: p})
		}
	}
	if m.rnd.IntN(4) > 0 {
		whole.Output = []Output{{1, fmt.Appendf(nil, "%s %d\n", m.id, seq)}}
	}
	snap = &Snapshot{}
	*snap = *whole
	since := m.lineage.Next()
	base := m.newest
	if since == SinceRoot {
		base = m.root
	}
	if since != SinceImage {
		snap.Memory.Pages = changedPages(whole.Memory.Pages, base.Memory.Pages)
		snap.Base = m.lineage.Base(since, seq, base)
	}
	return snap, whole
}

// commit commits the next snapshot.
func (m *model) commit(ctx context.Context, s *Store) error {
	snap, whole := m.next()
	c, err := s.Commit(ctx, snap)
	if err != nil {
		return err
	}
	m.lineage.Committed(c)
	m.last, m.newest = c.Hash, whole
	if c.Origin == nil {
		m.root = whole
	}
	for _, o := range whole.Output {
		m.output.Write(o.Data)
	}
	return nil
}

// check compares the store with what must be there.
func (m *model) check(t testing.TB, s *Store) {
	t.Helper()
	got, c, err := s.Latest(context.Background(), m.id)
	if err != nil {
		t.Fatalf("coroutine %s: %v", m.id, err)
	}
	if c.Seq != m.newest.Seq || !bytes.Equal(encode(t, got), encode(t, m.newest)) {
		t.Fatalf("coroutine %s: commit %d is not the newest, %d, or another", m.id, c.Seq, m.newest.Seq)
	}
	if got := logsOf(t, s, m.id); got != m.output.String() {
		t.Fatalf("coroutine %s: output %q, want %q", m.id, got, m.output.String())
	}
	if _, err := s.Module(context.Background(), got.Module); err != nil {
		t.Fatalf("coroutine %s: %v", m.id, err)
	}
}

// checkHistory restores each commit of the history.
func (m *model) checkHistory(t testing.TB, s *Store) {
	t.Helper()
	seqs := seqsOf(t, s, m.id)
	if !slices.Contains(seqs, m.newest.Seq) {
		t.Fatalf("history %v", seqs)
	}
	for _, seq := range seqs {
		if got, _, err := s.At(context.Background(), m.id, seq); err != nil || string(got.Await.Data) != fmt.Sprintf("commit %d", seq) {
			t.Fatalf("commit %d of coroutine %s, in %v: %v", seq, m.id, seqs, err)
		}
	}
}
