package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime/internal/wasm"
	"github.com/durun/durun/snapshot"
)

// suspended is a snapshot that is valid, as its bytes, with the module that it was taken of.
type suspended struct {
	name   string
	module *Module
	data   []byte
}

// copy returns the snapshot, to be changed.
func (s *suspended) copy(t testing.TB) *snapshot.Snapshot {
	t.Helper()
	c, err := snapshot.Decode(s.data)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// takeSnapshots runs a program to its end and returns its snapshots at up to n await points.
func takeSnapshots(t testing.TB, m *Module, name, entry string, n int) []suspended {
	t.Helper()
	ctx := context.Background()
	c, err := m.Start(ctx, StartConfig{ID: "hostile", Entry: entry, Hosts: benchHosts()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var list []suspended
	for len(list) < n {
		if status, err := c.Resume(ctx); err != nil {
			t.Fatal(err)
		} else if status.Ended() {
			break
		}
		s, err := c.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		data, err := snapshot.Encode(s)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, suspended{fmt.Sprintf("%s@%d", name, len(list)+1), m, data})
	}
	return list
}

// endure restores a snapshot that may be anything, and runs what comes of it: an error that says what doesn't fit, a trap, or
// any result, but not a panic, and not without end.
func endure(t testing.TB, m *Module, s *snapshot.Snapshot) (restored bool) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				done <- fmt.Errorf("panic: %v\n%s", r, debug.Stack())
			}
		}()
		ctx := context.Background()
		c, err := m.Restore(ctx, s, RestoreConfig{Hosts: benchHosts()})
		if err != nil {
			known := []error{ErrMismatch, ErrEnded, hostabi.ErrState, hostabi.ErrStateVersion}
			if slices.ContainsFunc(known, func(k error) bool { return errors.Is(err, k) }) {
				err = nil
			} else {
				err = fmt.Errorf("restore: error %w, want one of %v", err, known)
			}
			done <- err
			return
		}
		restored = true
		for range 5 {
			status, err := c.Resume(ctx)
			if errors.Is(err, ErrMismatch) { // the stack can't be rebuilt
				done <- nil
				return
			}
			if err != nil {
				done <- fmt.Errorf("resume: %w", err)
				return
			}
			if _, err := c.Snapshot(); err != nil {
				done <- fmt.Errorf("snapshot: %w", err)
				return
			}
			if status.Ended() {
				break
			}
		}
		done <- c.Close()
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("%v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it runs without end")
	}
	return restored
}

// snapshotGuests returns snapshots of the guests in testdata/wat.
func snapshotGuests(t testing.TB) []suspended {
	t.Helper()
	r, err := New(context.Background(), NewConfig().WithModules(benchModules...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close(context.Background()) })
	files, err := filepath.Glob(filepath.Join("..", "testdata", "wat", "*.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	var all []suspended
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		m, err := r.Compile(context.Background(), data)
		if err != nil {
			t.Logf("%s: left out: %v", filepath.Base(f), err)
			continue
		}
		if _, ok := m.entryType(m.defaultEntry()); !ok {
			t.Logf("%s: left out: it has entries of other names only, for tests of their own", filepath.Base(f))
			continue
		}
		all = append(all, takeSnapshots(t, m, filepath.Base(f), "", 3)...)
	}
	if len(all) < 30 {
		t.Fatalf("only %d snapshots", len(all))
	}
	return all
}

// TestHostileSnapshots changes one thing of each snapshot.
func TestHostileSnapshots(t *testing.T) {
	withoutRace(t)
	// A change returns false where there is nothing to change. must says that Restore has to notice.
	type change struct {
		name string
		must bool
		do   func(s *snapshot.Snapshot) bool
	}
	inner := func(s *snapshot.Snapshot) *snapshot.Frame {
		if len(s.Frames) == 0 {
			return nil
		}
		return &s.Frames[len(s.Frames)-1]
	}
	frame := func(f func(f *snapshot.Frame)) func(s *snapshot.Snapshot) bool {
		return func(s *snapshot.Snapshot) bool {
			if fr := inner(s); fr != nil {
				f(fr)
				return true
			}
			return false
		}
	}
	slot := func(f func(f *snapshot.Frame, i int)) func(s *snapshot.Snapshot) bool {
		return func(s *snapshot.Snapshot) bool {
			for i := range s.Frames {
				if len(s.Frames[i].Slots) > 0 {
					f(&s.Frames[i], len(s.Frames[i].Slots)-1)
					return true
				}
			}
			return false
		}
	}
	operand := func(f func(f *snapshot.Frame, i int)) func(s *snapshot.Snapshot) bool {
		return func(s *snapshot.Snapshot) bool {
			for i := range s.Frames {
				for j := range s.Frames[i].Slots {
					if s.Frames[i].Slots[j].Operand {
						f(&s.Frames[i], j)
						return true
					}
				}
			}
			return false
		}
	}
	always := func(f func(s *snapshot.Snapshot)) func(s *snapshot.Snapshot) bool {
		return func(s *snapshot.Snapshot) bool { f(s); return true }
	}
	table := func(f func(s *snapshot.Snapshot)) func(s *snapshot.Snapshot) bool {
		return func(s *snapshot.Snapshot) bool {
			if len(s.Tables) == 0 {
				return false
			}
			f(s)
			return true
		}
	}
	changes := []change{
		{"another module", true, always(func(s *snapshot.Snapshot) { s.Module[0]++ })},
		{"frame of an imported function", true, frame(func(f *snapshot.Frame) { f.Function = 0 })},
		{"frame of no function", true, frame(func(f *snapshot.Frame) { f.Function = 1 << 31 })},
		{"frame of function 2^32-1", true, frame(func(f *snapshot.Frame) { f.Function = 1<<32 - 1 })},
		{"frame of the next function", false, frame(func(f *snapshot.Frame) { f.Function++ })},
		{"offset of no call", true, frame(func(f *snapshot.Frame) { f.Offset++ })},
		{"offset 0", true, frame(func(f *snapshot.Frame) { f.Offset = 0 })},
		{"offset 2^32-1", true, frame(func(f *snapshot.Frame) { f.Offset = 1<<32 - 1 })},
		{"no frames", false, always(func(s *snapshot.Snapshot) { s.Frames = nil })},
		{"innermost frame missing", false, func(s *snapshot.Snapshot) bool {
			if len(s.Frames) == 0 {
				return false
			}
			s.Frames = s.Frames[:len(s.Frames)-1]
			return true
		}},
		{"outermost frame missing", false, func(s *snapshot.Snapshot) bool {
			if len(s.Frames) == 0 {
				return false
			}
			s.Frames = s.Frames[1:]
			return true
		}},
		{"frames reversed", false, func(s *snapshot.Snapshot) bool { slices.Reverse(s.Frames); return len(s.Frames) > 1 }},
		{"innermost frame twice", false, func(s *snapshot.Snapshot) bool {
			if len(s.Frames) == 0 {
				return false
			}
			s.Frames = append(s.Frames, *inner(s))
			return true
		}},
		{"a hundred thousand frames", false, func(s *snapshot.Snapshot) bool {
			if len(s.Frames) == 0 {
				return false
			}
			s.Frames = slices.Repeat([]snapshot.Frame{*inner(s)}, 100_000)
			return true
		}},
		{"slot missing", false, slot(func(f *snapshot.Frame, i int) { f.Slots = slices.Delete(f.Slots, i, i+1) })},
		{"slot twice", true, slot(func(f *snapshot.Frame, i int) { f.Slots = slices.Insert(f.Slots, i, f.Slots[i]) })},
		{"slot of another type", true, slot(func(f *snapshot.Frame, i int) { f.Slots[i].Value.Type ^= 1 })},
		{"slot that holds a reference, or a number for one", true, slot(func(f *snapshot.Frame, i int) {
			if v := &f.Slots[i].Value; v.Type == snapshot.FuncRef {
				v.Type = snapshot.I32
			} else {
				v.Type = snapshot.FuncRef
			}
		})},
		{"slot with a reference to no function", true, func(s *snapshot.Snapshot) (found bool) {
			for f := range s.Frames {
				for i := range s.Frames[f].Slots {
					if v := &s.Frames[f].Slots[i].Value; v.Type == snapshot.FuncRef {
						v.Lo, found = 1<<32, true
					}
				}
			}
			return found
		}},
		{"global with a reference to no function", true, func(s *snapshot.Snapshot) (found bool) {
			for i := range s.Globals {
				if v := &s.Globals[i].Value; v.Type == snapshot.FuncRef {
					v.Lo, found = 1<<20, true
				}
			}
			return found
		}},
		{"slot of no type", true, slot(func(f *snapshot.Frame, i int) { f.Slots[i].Value.Type = 0 })},
		{"slot with index 2^32-1", true, slot(func(f *snapshot.Frame, i int) { f.Slots[i].Index = 1<<32 - 1 })},
		{"local for an operand, or the reverse", false, slot(func(f *snapshot.Frame, i int) { f.Slots[i].Operand = !f.Slots[i].Operand })},
		{"slots reversed", false, slot(func(f *snapshot.Frame, _ int) { slices.Reverse(f.Slots) })},
		{"a hundred thousand slots", true, slot(func(f *snapshot.Frame, i int) { f.Slots = slices.Repeat(f.Slots[i:i+1], 100_000) })},
		{"operand missing", true, operand(func(f *snapshot.Frame, i int) { f.Slots = slices.Delete(f.Slots, i, i+1) })},
		{"operand with bits that it has no room for", false, operand(func(f *snapshot.Frame, i int) { f.Slots[i].Value.Lo = ^uint64(0) })},
		{"no await", true, always(func(s *snapshot.Snapshot) { s.Await = nil })},
		{"await of nothing", true, always(func(s *snapshot.Snapshot) { s.Await.Import = "" })},
		{"await of what isn't imported", true, always(func(s *snapshot.Snapshot) { s.Await.Import = "lab.pause" })},
		{"await of what doesn't suspend", true, always(func(s *snapshot.Snapshot) { s.Await.Import = "durun.input" })},
		{"await of another import", false, always(func(s *snapshot.Snapshot) {
			if s.Await.Import == "durun.yield" {
				s.Await.Import, s.Await.Args = "durun.checkpoint", nil
			} else {
				s.Await.Import, s.Await.Args = "durun.yield", slices.Repeat([]snapshot.Value{{Type: snapshot.I32}}, 2)
			}
		})},
		{"await with an argument more", true, always(func(s *snapshot.Snapshot) {
			s.Await.Args = append(s.Await.Args, snapshot.Value{Type: snapshot.I32})
		})},
		{"await with other arguments", false, always(func(s *snapshot.Snapshot) {
			for i := range s.Await.Args {
				s.Await.Args[i].Lo = ^uint64(0)
			}
		})},
		{"await of another kind", false, always(func(s *snapshot.Snapshot) { s.Await.Kind, s.Await.Data = "timer", make([]byte, 100) })},
		{"no such entry", true, always(func(s *snapshot.Snapshot) { s.Entry = "nothing" })},
		{"entry that is a memory", true, always(func(s *snapshot.Snapshot) { s.Entry = "memory" })},
		{"entry of the transform's", true, always(func(s *snapshot.Snapshot) { s.Entry = "durun:start" })},
		{"argument more", true, always(func(s *snapshot.Snapshot) { s.Args = append(s.Args, snapshot.Value{Type: snapshot.I64}) })},
		{"in start", false, always(func(s *snapshot.Snapshot) { s.InStart = !s.InStart })},
		{"global more", true, always(func(s *snapshot.Snapshot) {
			s.Globals = append(s.Globals, snapshot.Global{Index: 1 << 30, Value: snapshot.Value{Type: snapshot.I32}})
		})},
		{"global missing", true, func(s *snapshot.Snapshot) bool {
			if len(s.Globals) == 0 {
				return false
			}
			s.Globals = s.Globals[1:]
			return true
		}},
		{"global of another type", true, func(s *snapshot.Snapshot) bool {
			if len(s.Globals) == 0 {
				return false
			}
			s.Globals[0].Value.Type ^= 1
			return true
		}},
		{"global of another index", true, func(s *snapshot.Snapshot) bool {
			if len(s.Globals) == 0 {
				return false
			}
			s.Globals[0].Index = 1<<32 - 1
			return true
		}},
		{"memory of no size", false, always(func(s *snapshot.Snapshot) { s.Memory.Size = 0 })},
		{"memory with half a page", true, always(func(s *snapshot.Snapshot) { s.Memory.Size += 4096 })},
		{"memory of 16 pages more", false, always(func(s *snapshot.Snapshot) { s.Memory.Size += 16 * snapshot.WasmPageSize })},
		{"memory of more than 4 GiB", true, always(func(s *snapshot.Snapshot) { s.Memory.Size = 1<<32 + snapshot.WasmPageSize })},
		{"memory of 2^64 bytes", true, always(func(s *snapshot.Snapshot) { s.Memory.Size = -snapshot.WasmPageSize & (1<<64 - 1) })},
		{"page beyond memory", true, always(func(s *snapshot.Snapshot) {
			s.Memory.Pages = append(s.Memory.Pages, snapshot.Page{Number: 1<<32 - 1, Data: make([]byte, snapshot.PageSize)})
		})},
		{"page of one byte", true, always(func(s *snapshot.Snapshot) { s.Memory.Pages = []snapshot.Page{{Data: make([]byte, 1)}} })},
		{"pages missing", false, always(func(s *snapshot.Snapshot) { s.Memory.Pages = nil })},
		{"table more", true, always(func(s *snapshot.Snapshot) {
			s.Tables = append(s.Tables, snapshot.Table{Index: 99, Elements: []uint32{1}})
		})},
		{"table missing", true, table(func(s *snapshot.Snapshot) { s.Tables = s.Tables[1:] })},
		{"table with a function that there isn't", true, table(func(s *snapshot.Snapshot) { s.Tables[0].Elements[0] = 1<<32 - 1 })},
		{"table with an element less", true, table(func(s *snapshot.Snapshot) { s.Tables[0].Elements = nil })},
		{"table of a million elements", false, table(func(s *snapshot.Snapshot) { s.Tables[0].Elements = make([]uint32, 1<<20) })},
		{"dropped element segment", true, always(func(s *snapshot.Snapshot) { s.DroppedElements = []uint32{99} })},
		{"dropped data segment 2^32-1", true, always(func(s *snapshot.Snapshot) { s.DroppedData = []uint32{1<<32 - 1} })},
		{"host section of nobody", true, always(func(s *snapshot.Snapshot) { s.Host = append(s.Host, snapshot.Section{Name: "zzz"}) })},
		{"host section of another version", true, always(func(s *snapshot.Snapshot) { s.Host[0].Version++ })},
		{"host section that is damaged", true, always(func(s *snapshot.Snapshot) { s.Host[0].Data = []byte{0xff} })},
		{"host sections missing", false, always(func(s *snapshot.Snapshot) { s.Host = nil })},
		{"completed", true, always(func(s *snapshot.Snapshot) { s.Status = snapshot.Completed })},
		{"no status", false, always(func(s *snapshot.Snapshot) { s.Status = "" })},
	}
	ran, noticed := map[string]int{}, 0
	for _, valid := range snapshotGuests(t) {
		for _, ch := range changes {
			s := valid.copy(t)
			if !ch.do(s) {
				continue
			}
			noMemory := s.Memory.Size == 0 || valid.module.env.Memories == nil
			t.Run(valid.name+"/"+ch.name, func(t *testing.T) {
				restored := endure(t, valid.module, s)
				if !restored {
					noticed++
				} else if ch.must && !(noMemory && strings.HasPrefix(ch.name, "page")) {
					t.Error("Restore takes it")
				}
			})
			ran[ch.name]++
		}
		// The valid one still is.
		if !endure(t, valid.module, valid.copy(t)) {
			t.Errorf("%s: the valid snapshot is refused", valid.name)
		}
	}
	total := 0
	for _, ch := range changes {
		if ran[ch.name] == 0 {
			t.Errorf("%q never ran", ch.name)
		}
		total += ran[ch.name]
	}
	t.Logf("%d changes, of which Restore noticed %d", total, noticed)
	if total < 2000 || noticed < 1500 {
		t.Error("that can't be all")
	}
}

// FuzzRestore changes several things of a snapshot at once. The snapshots are of generated programs, as those end by
// themselves, whatever is done to their locals.
func FuzzRestore(f *testing.F) {
	r, err := New(context.Background(), NewConfig().WithModules(benchModules...))
	if err != nil {
		f.Fatal(err)
	}
	var all []suspended
	for seed := uint64(0); len(all) < 30; seed++ {
		m, err := r.Compile(context.Background(), generated(randomBytes(seed)))
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, takeSnapshots(f, m, fmt.Sprint(seed), "main", 4)...)
	}
	for seed := range uint64(30) {
		f.Add(randomBytes(seed)[:40])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 200 {
			t.Skip("longer than changes need")
		}
		src := source(data)
		valid := all[src.pick(len(all))]
		s := valid.copy(t)
		for range 1 + src.pick(4) {
			distort(&src, s, valid.module)
		}
		if len(s.Globals) > 0 && s.Globals[0].Index == 0 {
			s.Globals[0].Value.Lo = min(s.Globals[0].Value.Lo, 100) // the fuel
		}
		s.Memory.Size = min(s.Memory.Size, 16*snapshot.WasmPageSize)
		if _, err := snapshot.Encode(s); err != nil && !errors.Is(err, snapshot.ErrInvalid) {
			t.Errorf("encode: error %v, want ErrInvalid", err)
		}
		endure(t, valid.module, s)
	})
}

// distort changes something of a snapshot.
func distort(src *source, s *snapshot.Snapshot, m *Module) {
	number := func(v uint32) uint32 {
		switch src.pick(6) {
		case 0:
			return v + 1
		case 1:
			return v - 1
		case 2:
			return uint32(src.pick(256))
		case 3:
			return 1<<32 - 1
		case 4:
			return v ^ 1<<src.pick(32)
		}
		return 0
	}
	types := []snapshot.ValueType{snapshot.I32, snapshot.I64, snapshot.F32, snapshot.F64, snapshot.V128, snapshot.FuncRef, 0, 0x40}
	value := func() snapshot.Value {
		v := snapshot.Value{Type: types[src.pick(len(types))], Lo: uint64(src.pick(256))}
		if src.one(2) {
			v.Lo, v.Hi = ^v.Lo, ^v.Hi
		}
		return v
	}
	var f *snapshot.Frame
	if len(s.Frames) > 0 {
		f = &s.Frames[src.pick(len(s.Frames))]
	}
	switch what := src.pick(14); {
	case what == 0 && f != nil:
		f.Function = number(f.Function)
	case what == 1 && f != nil:
		// Another call, perhaps with the slots that it has.
		site := m.plan.Sites[src.pick(len(m.plan.Sites))]
		f.Function, f.Offset = site.Function, site.Offset
		if src.one(2) {
			f.Slots = nil
			for _, sl := range site.Slots {
				v := value()
				v.Type = snapshot.ValueType(sl.Type)
				if sl.Type == wasm.I32 || sl.Type == wasm.F32 {
					v.Lo = uint64(uint32(v.Lo))
				}
				f.Slots = append(f.Slots, snapshot.Slot{Operand: sl.Operand, Index: sl.Index, Value: v})
			}
		}
	case what == 2 && f != nil:
		f.Offset = number(f.Offset)
	case what <= 5 && f != nil && len(f.Slots) > 0:
		f.Slots = slices.Clone(f.Slots)
		i := src.pick(len(f.Slots))
		switch src.pick(7) {
		case 0:
			f.Slots = slices.Delete(f.Slots, i, i+1)
		case 1:
			f.Slots = slices.Insert(f.Slots, i, f.Slots[src.pick(len(f.Slots))])
		case 2:
			f.Slots[i].Value = value()
		case 3:
			t := f.Slots[i].Value.Type
			f.Slots[i].Value = value()
			f.Slots[i].Value.Type = t
		case 4:
			f.Slots[i].Index = number(f.Slots[i].Index)
		case 5:
			f.Slots[i].Operand = !f.Slots[i].Operand
		case 6:
			j := src.pick(len(f.Slots))
			f.Slots[i], f.Slots[j] = f.Slots[j], f.Slots[i]
		}
	case what == 6 && f != nil:
		i := src.pick(len(s.Frames))
		switch src.pick(3) {
		case 0:
			s.Frames = slices.Delete(s.Frames, i, i+1)
		case 1:
			s.Frames = slices.Insert(s.Frames, i, *f)
		case 2:
			j := src.pick(len(s.Frames))
			s.Frames[i], s.Frames[j] = s.Frames[j], s.Frames[i]
		}
	case what == 7 && s.Await != nil:
		switch src.pick(5) {
		case 0:
			im := m.outline.Imports[src.pick(len(m.outline.Imports))]
			s.Await.Import = im.Module + "." + im.Name
		case 1:
			// With arguments that fit.
			n := src.pick(m.env.NumImportedFuncs)
			im := m.outline.Imports[n]
			s.Await.Import, s.Await.Args = im.Module+"."+im.Name, nil
			for _, p := range m.env.FuncType(uint32(n)).Params {
				v := value()
				v.Type = snapshot.ValueType(p)
				s.Await.Args = append(s.Await.Args, v)
			}
		case 2:
			s.Await.Args = append(s.Await.Args, value())
		case 3:
			if len(s.Await.Args) > 0 {
				s.Await.Args = s.Await.Args[1:]
			}
		case 4:
			s.Await.Data = append(s.Await.Data, byte(src.pick(256)))
		}
	case what <= 9:
		g := snapshot.Global{Index: uint32(src.pick(8)), Value: value()}
		switch i := src.pick(len(s.Globals) + 1); {
		case i == len(s.Globals):
			s.Globals = append(s.Globals, g)
		case src.one(3):
			s.Globals = slices.Delete(s.Globals, i, i+1)
		case src.one(2):
			s.Globals[i] = g
		default:
			g.Index, g.Value.Type = s.Globals[i].Index, s.Globals[i].Value.Type
			s.Globals[i] = g
		}
	case what == 10:
		switch src.pick(4) {
		case 0:
			s.Memory.Size += uint64(src.pick(8)) * snapshot.WasmPageSize
		case 1:
			s.Memory.Size = uint64(src.pick(4)) * snapshot.WasmPageSize / 2
		case 2:
			s.Memory.Pages = append(s.Memory.Pages, snapshot.Page{Number: number(1), Data: make([]byte, []int{0, 1, snapshot.PageSize, snapshot.PageSize + 1}[src.pick(4)])})
		case 3:
			s.Memory.Pages = nil
		}
	case what == 11:
		switch src.pick(4) {
		case 0:
			s.DroppedData = append(s.DroppedData, number(1))
		case 1:
			s.DroppedElements = append(s.DroppedElements, number(0))
		case 2:
			s.Tables = append(s.Tables, snapshot.Table{Index: number(0), Elements: []uint32{number(1)}})
		case 3:
			s.DroppedData = nil
		}
	case what == 12:
		switch i := src.pick(len(s.Host) + 1); {
		case i == len(s.Host):
			s.Host = append(s.Host, snapshot.Section{Name: "spectest", Version: uint32(src.pick(3))})
		case src.one(2):
			s.Host[i].Data = append(slices.Clone(s.Host[i].Data), 1)
		default:
			s.Host[i].Version = number(s.Host[i].Version)
		}
	case what == 13:
		s.InStart = !s.InStart
	}
}

// TestFullMemory: the engine's API can't tell a memory of 4 GiB from one of none, so there is none of that size.
func TestFullMemory(t *testing.T) {
	r := testRuntime(t)
	ctx := context.Background()
	code := func(instrs ...wasm.Instr) wasm.Code {
		raw := []byte{0}
		for _, in := range append(instrs, wasm.Instr{Op: wasm.OpEnd}) {
			raw = wasm.AppendInstr(raw, &in)
		}
		return wasm.Code{Raw: raw, BodyOffset: 1}
	}
	m := &wasm.Module{
		Types:     []wasm.FuncType{{Results: []wasm.ValueType{wasm.I32}}},
		Functions: []uint32{0},
		Memories:  []wasm.Limits{{}},
		Exports:   []wasm.Export{{Name: "main", Kind: wasm.ExternFunc}},
		Code:      []wasm.Code{code(wasm.Instr{Op: wasm.OpI32Const, Const: 65536}, wasm.Instr{Op: wasm.OpMemoryGrow})},
	}
	for _, limits := range []wasm.Limits{{}, {Max: 65536, HasMax: true}} {
		m.Memories[0] = limits
		mod, err := r.Compile(ctx, m.Encode())
		if err != nil {
			t.Fatal(err)
		}
		c, err := mod.Start(ctx, StartConfig{ID: "full"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Resume(ctx); err != nil {
			t.Fatal(err)
		}
		if got := c.Results(); len(got) != 1 || uint32(got[0]) != 1<<32-1 {
			t.Errorf("memory.grow to 4 GiB gives %d, want -1", got)
		}
		_ = c.Close()
	}
	m.Memories[0] = wasm.Limits{Min: 65536}
	var e *ModuleError
	if _, err := r.Compile(ctx, m.Encode()); !errors.As(err, &e) {
		t.Errorf("a module that starts with 4 GiB: error %v, want a ModuleError", err)
	}
}
