package snapshot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
)

func page(number uint32, fill ...byte) Page {
	data := make([]byte, PageSize)
	copy(data, fill)
	return Page{Number: number, Data: data}
}

// noise is n bytes that don't compress, the same each time.
func noise(n int) []byte {
	b := make([]byte, 0, n+32)
	for h := HashOf([]byte("noise")); len(b) < n; h = HashOf(h[:]) {
		b = append(b, h[:]...)
	}
	return b[:n]
}

// samples are snapshots that use every feature of the format. Each has a golden file of its name.
func samples() map[string]*Snapshot {
	at := time.Date(2024, 2, 29, 23, 59, 59, 123456789, time.UTC)
	full := &Snapshot{
		Module: HashOf([]byte("module")), ModuleName: "guest.wasm", Coroutine: "sample-1_a.B", Seq: 42,
		Parent: &Parent{Seq: 41, Hash: HashOf([]byte("parent"))}, Time: at, Status: Suspended, Entry: "run",
		Args: []Value{{I32, 7, 0}, {F64, math.Float64bits(-1.5), 0}}, InStart: true,
		Await: &Await{
			Import: "wasi_snapshot_preview1.poll_oneoff", Args: []Value{{I32, 4294967295, 0}, {I64, 1 << 63, 0}}, Kind: "timer",
			Until: at.Add(time.Hour + 1), Detail: "sleep", Data: []byte{0, 1, 2},
		},
		Frames: []Frame{
			{Function: 3, Offset: 17},
			{Function: math.MaxUint32, Offset: math.MaxUint32, Slots: []Slot{
				{Index: 0, Value: Value{I32, 0, 0}},
				{Index: 1, Value: Value{I32, math.MaxUint32, 0}},
				{Index: 2, Value: Value{I64, math.MaxUint64, 0}},
				{Index: 5, Value: Value{F32, uint64(math.Float32bits(1.25)), 0}},
				{Index: 6, Value: Value{F64, 0x7ff8000000000001, 0}},
				{Index: 300, Value: Value{V128, 0x0123456789abcdef, 0xfedcba9876543210}},
				{Index: math.MaxUint32, Value: Value{FuncRef, 1 << 32, 0}},
				{Operand: true, Index: 0, Value: Value{FuncRef, 0, 0}},
				{Operand: true, Index: 9, Value: Value{I64, 1, 0}},
			}},
			{Function: 0, Offset: 0, Slots: []Slot{{Index: 0, Value: Value{I32, 1, 0}}}},
		},
		Globals:     []Global{{0, Value{I32, 65536, 0}}, {1, Value{I64, 0, 0}}, {90, Value{V128, 1, 2}}},
		Tables:      []Table{{0, nil}, {1, []uint32{0, 1, 0, math.MaxUint32}}, {7, make([]uint32, 300)}},
		DroppedData: []uint32{0, 1, 5}, DroppedElements: []uint32{2, math.MaxUint32},
		Memory: Memory{Size: 3 * WasmPageSize, Max: 100 * WasmPageSize, Pages: []Page{
			page(0), page(1, 1, 2, 3), page(2, bytes.Repeat([]byte("text "), 600)...), page(47, noise(PageSize)...),
		}},
		Host: []Section{{"clock", 1, []byte{1}}, {"random", 0, nil}, {"wasi", 7, bytes.Repeat([]byte("fd"), 300)}},
		Output: []Output{
			{1, []byte("out\n")}, {2, []byte("err\n")}, {1, nil}, {1, bytes.Repeat([]byte("more output\n"), 100)},
		},
		Grants: []Grant{{"dir", "/data", "/home/\xff/data", "ro"}, {"dir", "/tmp", "/tmp", ""}},
	}
	deep := &Snapshot{
		Module: HashOf([]byte("m")), Coroutine: "deep", Seq: 2, Time: at, Status: Suspended, Await: &Await{Import: "durun.yield", Kind: "yield"},
		Frames: withFrames(1000),
	}
	noisy := &Snapshot{
		Module: HashOf([]byte("m")), Coroutine: "noisy", Seq: 1, Time: at, Status: Suspended, Await: &Await{},
		Memory: Memory{Size: WasmPageSize, Pages: []Page{page(15, noise(PageSize)...)}},
		Host:   []Section{{"noise", 1, noise(600)}},
	}
	large := &Snapshot{
		Module: HashOf([]byte("m")), Coroutine: "large", Seq: MaxSeq, Time: at, Status: Suspended, Await: &Await{},
		Memory: Memory{Size: MaxMemory, Max: MaxMemory, Pages: []Page{page(0, 1), page(MaxMemory/PageSize-1, 2)}},
	}
	for i := range 600 { // more than a chunk
		large.Memory.Pages = append(large.Memory.Pages[:len(large.Memory.Pages)-1], page(uint32(10+i), byte(i)), large.Memory.Pages[len(large.Memory.Pages)-1])
	}
	ended := func(id string, s Status) *Snapshot {
		return &Snapshot{Module: HashOf([]byte("m")), Coroutine: id, Seq: 3, Time: at, Status: s, Entry: "_start"}
	}
	completed, failed, cancelled := ended("completed", Completed), ended("failed", Failed), ended("cancelled", Cancelled)
	completed.Results = []Value{{I32, 42, 0}, {FuncRef, 3, 0}}
	completed.ExitCode = 7
	completed.Memory = Memory{Size: WasmPageSize, Pages: []Page{page(3, 9)}}
	failed.ExitCode, failed.Error = math.MaxUint32, "wasm error: unreachable\n\tat f\xff()"
	failed.Output = []Output{{2, []byte("panic")}}
	return map[string]*Snapshot{
		"full": full, "deep": deep, "noisy": noisy, "large": large, "completed": completed, "failed": failed, "cancelled": cancelled,
		"minimal": {Coroutine: "m", Seq: 1, Status: Suspended, Await: &Await{}},
	}
}

func encode(t testing.TB, s *Snapshot) []byte {
	t.Helper()
	data, err := Encode(s)
	if err != nil {
		t.Fatalf("encode %s: %v", s.Coroutine, err)
	}
	return data
}

func equal(t testing.TB, what string, got, want *Snapshot) {
	t.Helper()
	if reflect.DeepEqual(want, got) { // cmp takes its time
		return
	}
	t.Errorf("%s (-want +got):\n%.3000s", what, cmp.Diff(want, got))
}

func TestRoundTrip(t *testing.T) {
	for name, s := range samples() {
		t.Run(name, func(t *testing.T) {
			data := encode(t, s)
			got, err := Decode(data)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "decoded", got, s)
			if again := encode(t, got); !bytes.Equal(again, data) {
				t.Error("encoded again it is other bytes")
			}
			m, err := DecodeManifest(data)
			if err != nil {
				t.Fatal(err)
			}
			if m.Coroutine != s.Coroutine || m.Seq != s.Seq || m.Status != s.Status || m.Module != s.Module || !m.Time.Equal(s.Time) ||
				m.Pages != len(s.Memory.Pages) || m.Frames != len(s.Frames) || m.Output != s.outputBytes() || m.Kind != KindFull ||
				m.ExitCode != s.ExitCode || m.Error != s.Error || m.MemorySize != s.Memory.Size || (m.Await == nil) != (s.Await == nil) {
				t.Errorf("manifest %+v", m)
			}
			// The manifest needs the start alone, and that whole.
			h, err := parseHeader(data)
			if err != nil {
				t.Fatal(err)
			}
			if short, err := DecodeManifest(data[:headerSize+h.manifest]); err != nil || cmp.Diff(m, short) != "" {
				t.Errorf("from the start alone: %+v, %v", short, err)
			}
			if _, err := DecodeManifest(data[:headerSize+h.manifest-1]); !errors.Is(err, ErrCorrupt) {
				t.Errorf("one byte less: %v", err)
			}
			if Digest(data) != HashOf(data[:len(data)-32]) {
				t.Error("the digest is not the hash of the rest")
			}
		})
	}
}

// TestTimes keeps nanoseconds and makes all times UTC.
func TestTimes(t *testing.T) {
	zone := time.FixedZone("there", 3600)
	s := samples()["minimal"]
	s.Time = time.Date(2024, 1, 1, 0, 0, 0, 1, zone)
	s.Await.Until = time.Date(2024, 1, 1, 0, 0, 0, 999999999, zone)
	got, err := Decode(encode(t, s))
	if err != nil {
		t.Fatal(err)
	}
	if !got.Time.Equal(s.Time) || !got.Await.Until.Equal(s.Await.Until) || got.Time.Location() != time.UTC {
		t.Errorf("got %v and %v", got.Time, got.Await.Until)
	}
	if s.Time = time.Now(); !bytes.Equal(encode(t, s), encode(t, s)) {
		t.Error("not deterministic")
	}
}

// TestEncodeIsDeterministic encodes with encoders that have a past, and at once.
func TestEncodeIsDeterministic(t *testing.T) {
	all := samples()
	mem, image := interpreter(300 << 10)
	all["interpreter"] = benchSnapshot(DiffPages(mem, image), 10)
	want := map[string][]byte{}
	for name, s := range all {
		want[name] = encode(t, s)
	}
	done := make(chan error)
	for range 4 {
		go func() {
			for range 3 {
				for name, s := range all {
					if data, err := Encode(s); err != nil || !bytes.Equal(data, want[name]) {
						done <- fmt.Errorf("%s: other bytes, %w", name, err)
						return
					}
				}
			}
			done <- nil
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestDecodeDoesNotAlias(t *testing.T) {
	for name, s := range samples() {
		data := encode(t, s)
		got, err := Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		for i := range data {
			data[i] = 0xee
		}
		equal(t, name, got, s)
	}
}

// TestDamage flips bits and cuts everywhere.
func TestDamage(t *testing.T) {
	check := func(t *testing.T, err error, format string, args ...any) {
		t.Helper()
		var fe *FormatError
		if !errors.Is(err, ErrCorrupt) || !errors.As(err, &fe) || fe.Section == "" || fe.Msg == "" {
			t.Fatalf("%s: %v", fmt.Sprintf(format, args...), err)
		}
	}
	for name, s := range samples() {
		data := encode(t, s)
		step := max(1, len(data)/2000)
		for at := 0; at < len(data); at += step {
			bad := bytes.Clone(data)
			bad[at] ^= 1 << (at % 8)
			_, err := Decode(bad)
			check(t, err, "%s: bit flipped at %d", name, at)
			_, err = Decode(data[:at])
			check(t, err, "%s: cut at %d", name, at)
		}
		_, err := Decode(append(bytes.Clone(data), 0))
		check(t, err, "%s: a byte follows", name)
		h, _ := parseHeader(data)
		for at := range headerSize + h.manifest {
			bad := bytes.Clone(data)
			bad[at] ^= 0x41
			_, err := DecodeManifest(bad)
			if at != 8 && at != 9 { // a newer version is not looked into
				check(t, err, "%s: manifest flipped at %d", name, at)
			} else if err == nil {
				t.Errorf("%s: manifest flipped at %d", name, at)
			}
		}
	}
	for _, data := range [][]byte{nil, {}, []byte("hello"), []byte(magic), make([]byte, 100), []byte("\x00asm\x01\x00\x00\x00")} {
		_, err := Decode(data)
		check(t, err, "%q", data)
		_, err = DecodeManifest(data)
		check(t, err, "%q", data)
	}
}

// reseal gives damaged bytes a header and a digest that match, as far as they are long enough: so that tests get behind
// the checksums.
func reseal(data []byte) []byte {
	if len(data) < headerSize+digestSize {
		return data
	}
	data = bytes.Clone(data)
	copy(data, magic)
	binary.LittleEndian.PutUint16(data[8:], Version)
	binary.LittleEndian.PutUint64(data[16:], uint64(len(data)))
	if n := binary.LittleEndian.Uint32(data[12:]); uint64(n) <= uint64(len(data)-headerSize-digestSize) {
		binary.LittleEndian.PutUint32(data[24:], headerCRC(data[:24], data[headerSize:headerSize+int(n)]))
	}
	putDigest(data)
	return data
}

func TestNewerVersion(t *testing.T) {
	data := encode(t, samples()["full"])
	binary.LittleEndian.PutUint16(data[8:], Version+1)
	putDigest(data)
	_, err := Decode(data)
	if !errors.Is(err, ErrVersion) || errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "version 3") {
		t.Errorf("got %v", err)
	}
	if _, err := DecodeManifest(data); !errors.Is(err, ErrVersion) {
		t.Errorf("manifest: %v", err)
	}
	data[len(data)/2] ^= 1
	if _, err := Decode(data); !errors.Is(err, ErrCorrupt) || errors.Is(err, ErrVersion) {
		t.Errorf("a newer version, damaged: %v", err)
	}
}

// TestHostile decodes containers whose checksums match and whose contents don't.
func TestHostile(t *testing.T) {
	good := samples()["full"]
	manifest := func(f func(*wireManifest)) func(*wireManifest, *wireState) {
		return func(m *wireManifest, _ *wireState) { f(m) }
	}
	state := func(f func(*wireState)) func(*wireManifest, *wireState) {
		return func(_ *wireManifest, s *wireState) { f(s) }
	}
	uv := func(ns ...uint64) []byte {
		var b []byte
		for _, n := range ns {
			b = binary.AppendUvarint(b, n)
		}
		return b
	}
	for name, change := range map[string]func(*wireManifest, *wireState){
		"id":                      manifest(func(m *wireManifest) { m.Coroutine = "../x" }),
		"id utf-8":                manifest(func(m *wireManifest) { m.Coroutine = "\xff" }),
		"seq 0":                   manifest(func(m *wireManifest) { m.Seq = 0 }),
		"seq":                     manifest(func(m *wireManifest) { m.Seq = 1 << 63 }),
		"parent":                  manifest(func(m *wireManifest) { m.Parent.Seq = 40 }),
		"parent's hash":           manifest(func(m *wireManifest) { m.Parent.Hash = nil }),
		"module hash":             manifest(func(m *wireManifest) { m.Module = m.Module[1:] }),
		"time":                    manifest(func(m *wireManifest) { m.Time.Sec = math.MaxInt64 }),
		"nanoseconds":             manifest(func(m *wireManifest) { m.Time.Nsec = 1e9 }),
		"until":                   manifest(func(m *wireManifest) { m.Await.Until.Sec = math.MinInt64 }),
		"until zero":              manifest(func(m *wireManifest) { *m.Await.Until = toWireTime(time.Time{}) }),
		"status 0":                manifest(func(m *wireManifest) { m.Status = 0 }),
		"status 5":                manifest(func(m *wireManifest) { m.Status = 5 }),
		"ended with await":        manifest(func(m *wireManifest) { m.Status = 2 }),
		"no await":                manifest(func(m *wireManifest) { m.Await = nil }),
		"exit code":               manifest(func(m *wireManifest) { m.ExitCode = 1 }),
		"error":                   manifest(func(m *wireManifest) { m.Error = "e" }),
		"long text":               manifest(func(m *wireManifest) { m.ModuleName = strings.Repeat("x", MaxText+1) }),
		"import":                  manifest(func(m *wireManifest) { m.Await.Import = "\xff" }),
		"memory size":             manifest(func(m *wireManifest) { m.MemorySize++ }),
		"memory too large":        manifest(func(m *wireManifest) { m.MemorySize, m.MemoryMax = MaxMemory+WasmPageSize, 0 }),
		"memory limit":            manifest(func(m *wireManifest) { m.MemoryMax = 1 }),
		"memory too small":        manifest(func(m *wireManifest) { m.MemorySize, m.MemoryMax = WasmPageSize, 0 }),
		"fewer pages":             manifest(func(m *wireManifest) { m.Pages-- }),
		"more pages":              manifest(func(m *wireManifest) { m.Pages++ }),
		"frames":                  manifest(func(m *wireManifest) { m.Frames++ }),
		"many frames":             manifest(func(m *wireManifest) { m.Frames = MaxFrames + 1 }),
		"output":                  manifest(func(m *wireManifest) { m.Output++ }),
		"much output":             manifest(func(m *wireManifest) { m.Output = math.MaxUint64 }),
		"no sections":             manifest(func(m *wireManifest) { m.Sections = nil }),
		"a section less":          manifest(func(m *wireManifest) { m.Sections = m.Sections[:3] }),
		"sections in other order": manifest(func(m *wireManifest) { m.Sections[0], m.Sections[1] = m.Sections[1], m.Sections[0] }),
		"a section twice":         manifest(func(m *wireManifest) { m.Sections[1].ID = 1 }),
		"an unknown section":      manifest(func(m *wireManifest) { m.Sections[2].ID = 9 }),
		"a bundle's section":      manifest(func(m *wireManifest) { m.Sections[2].ID = sectionModule }),
		"an unknown codec":        manifest(func(m *wireManifest) { m.Sections[0].Codec = 2 }),
		"raw, but other length":   manifest(func(m *wireManifest) { m.Sections[0].Codec = codecRaw }),
		"a section longer":        manifest(func(m *wireManifest) { m.Sections[0].Stored++ }),
		"a section much longer":   manifest(func(m *wireManifest) { m.Sections[0].Stored = math.MaxUint64 }),
		"a section empty":         manifest(func(m *wireManifest) { m.Sections[0].Stored = 0 }),
		"content longer":          manifest(func(m *wireManifest) { m.Sections[1].Raw++ }),
		"content shorter":         manifest(func(m *wireManifest) { m.Sections[1].Raw-- }),
		"content of 4 GiB": manifest(func(m *wireManifest) {
			m.MemorySize, m.MemoryMax, m.Pages, m.Sections[2].Raw = MaxMemory, 0, MaxMemory/PageSize-2, MaxMemory-2*PageSize
		}),
		"state of 1 GiB":          manifest(func(m *wireManifest) { m.Sections[1].Raw = MaxState }),
		"state of more":           manifest(func(m *wireManifest) { m.Sections[1].Raw = math.MaxUint64 }),
		"section checksum":        manifest(func(m *wireManifest) { m.Sections[1].CRC++ }),
		"args of an unknown type": state(func(s *wireState) { s.Args = []byte{6, 0} }),
		"args cut":                state(func(s *wireState) { s.Args = []byte{3, 0} }),
		"args not shortest":       state(func(s *wireState) { s.Args = []byte{0, 0x80, 0} }),
		"i32 of more bits":        state(func(s *wireState) { s.Args = append([]byte{0}, uv(1<<32)...) }),
		"funcref of more bits":    state(func(s *wireState) { s.Args = append([]byte{5}, uv(1<<32+1)...) }),
		"many args":               state(func(s *wireState) { s.Args = make([]byte, 2*(maxList+1)) }),
		"results":                 state(func(s *wireState) { s.Results = []byte{0, 0} }),
		"no frames":               state(func(s *wireState) { s.Frames = nil }),
		"0 frames":                state(func(s *wireState) { s.Frames = uv(0, 0) }),
		"frames cut":              state(func(s *wireState) { s.Frames = s.Frames[:len(s.Frames)-1] }),
		"frames longer":           state(func(s *wireState) { s.Frames = append(s.Frames, 0) }),
		"a million frames":        state(func(s *wireState) { s.Frames = uv(MaxFrames, 0, 0) }),
		"four million slots":      state(func(s *wireState) { s.Frames = uv(3, MaxSlots, 0) }),
		"more slots than all":     state(func(s *wireState) { s.Frames = uv(3, 1, 0, 0, 2, 0, 0, 0, 0, 0) }),
		"slots left over":         state(func(s *wireState) { s.Frames = uv(3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0) }),
		"slots out of order":      state(func(s *wireState) { s.Frames = uv(3, 2, 0, 0, 2, 1<<4, 0, 0, 0, 0, 0, 0, 0, 0, 0) }),
		"slot type":               state(func(s *wireState) { s.Frames = uv(3, 1, 0, 0, 1, 7, 0, 0, 0, 0, 0, 0, 0) }),
		"globals cut":             state(func(s *wireState) { s.Globals = s.Globals[:len(s.Globals)-1] }),
		"global index":            state(func(s *wireState) { s.Globals = uv(math.MaxUint32, 0, 0, 0, 0, 0) }),
		"table out of order":      state(func(s *wireState) { s.Tables[0].Index = 1 }),
		"table count":             state(func(s *wireState) { s.Tables[1].Count = math.MaxUint32 }),
		"table longer":            state(func(s *wireState) { s.Tables[1].Count-- }),
		"table cut":               state(func(s *wireState) { s.Tables[1].Elements = []byte{0, 0, 0, 0x80} }),
		"dropped":                 state(func(s *wireState) { s.DroppedData = uv(math.MaxUint32, 0) }),
		"patches for many pages":  manifest(func(m *wireManifest) { m.Pages += maxSmall; m.Sections[2].Raw += maxSmall * PageSize }),
		"no runs":                 state(func(s *wireState) { s.Runs = nil }),
		"runs cut":                state(func(s *wireState) { s.Runs = s.Runs[:1] }),
		"runs touch":              state(func(s *wireState) { s.Runs = uv(0, 1, 0, 0, 9, 0) }),
		"runs beyond":             state(func(s *wireState) { s.Runs = uv(46, 3) }),
		"runs far beyond":         state(func(s *wireState) { s.Runs = uv(1<<20, 1<<20) }),
		"host out of order":       state(func(s *wireState) { s.Host[0].Name = "z" }),
		"host twice":              state(func(s *wireState) { s.Host[0].Name = "random" }),
		"host without name":       state(func(s *wireState) { s.Host[0].Name = "" }),
		"grant":                   state(func(s *wireState) { s.Grants[0].Kind = strings.Repeat("x", MaxText+1) }),
	} {
		t.Run(name, func(t *testing.T) {
			data := forge(t, good, change)
			var before, after goruntime.MemStats
			goruntime.ReadMemStats(&before)
			s, err := Decode(data)
			goruntime.ReadMemStats(&after)
			var fe *FormatError
			if err == nil || !errors.Is(err, ErrCorrupt) || !errors.As(err, &fe) {
				t.Errorf("decoded to %v with %v", s, err)
			}
			// No more than the bytes, a chunk, and what the decompressor needs.
			if got := after.TotalAlloc - before.TotalAlloc; got > 24<<20 {
				t.Errorf("%d bytes were allocated: %v", got, err)
			}
		})
	}
}

// forge encodes a snapshot after change has changed its manifest and state, which need not be valid any more.
func forge(t *testing.T, s *Snapshot, change func(*wireManifest, *wireState)) []byte {
	t.Helper()
	limit := maxZeroPatch
	kind := KindFull
	if s.Base != nil {
		kind, limit = KindDelta, maxPatch
	}
	whole, patched, patches := splitPages(s.Memory.Pages, limit, new([]byte))
	m, st := s.wireManifest(nil), s.wireState(whole, new([]byte))
	m.Pages, m.Patches, m.Sections = uint32(len(whole)), uint32(patched), make([]section, 4)
	change(m, st)
	var output, pages bytes.Buffer
	if err := writeOutput(&output, s.Output); err != nil {
		t.Fatal(err)
	}
	for _, p := range whole {
		pages.Write(p.Data)
	}
	var parts []part
	for id, content := range [][]byte{
		sectionOutput: output.Bytes(), sectionState: st.append(nil), sectionMemory: pages.Bytes(), sectionPatches: patches,
	} {
		if len(content) > 0 {
			parts = append(parts, bytesPart(uint8(id), content))
		}
	}
	data, err := encodeContainer(new([]byte), kind, 8<<20, parts, nil, func(b []byte, sections sectionTable) []byte {
		m = s.wireManifest(sections)
		m.Pages, m.Patches = uint32(len(whole)), uint32(patched)
		change(m, s.wireState(whole, new([]byte)))
		return m.append(b)
	})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestForge makes sure that forge breaks nothing by itself.
func TestForge(t *testing.T) {
	s := samples()["full"]
	if data := forge(t, s, func(*wireManifest, *wireState) {}); !bytes.Equal(data, encode(t, s)) {
		t.Error("unchanged, it is not what Encode gives")
	}
}

// TestCBOR reads manifests and states with a library, which writes them again to the same bytes: so they are CBOR, in the
// core deterministic encoding.
func TestCBOR(t *testing.T) {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		t.Fatal(err)
	}
	snaps := samples()
	for name, c := range chainSamples(t) {
		for i, s := range c.snaps {
			snaps[fmt.Sprintf("%s %d", name, i)] = s
		}
	}
	for name, s := range snaps {
		m := s.wireManifest(sectionTable{{ID: 1, Stored: 1 << 40, Raw: 300, CRC: 1 << 31}})
		for what, data := range map[string][]byte{"manifest": m.append(nil), "state": s.wireState(s.Memory.Pages, new([]byte)).append(nil)} {
			var v any
			if err := cbor.Unmarshal(data, &v); err != nil {
				t.Errorf("%s: %s: %v", name, what, err)
			}
			if again, err := mode.Marshal(v); err != nil || !bytes.Equal(again, data) {
				t.Errorf("%s: %s: %x, the library writes %x, %v", name, what, data, again, err)
			}
		}
	}
}

// TestNotCanonical decodes CBOR that says the same in another way.
func TestNotCanonical(t *testing.T) {
	data := encode(t, samples()["minimal"])
	h, err := parseHeader(data)
	if err != nil {
		t.Fatal(err)
	}
	m := data[headerSize : headerSize+h.manifest]
	for name, manifest := range map[string][]byte{
		"long integer":   bytes.Replace(m, []byte{2, 1}, []byte{2, 0x18, 1}, 1),
		"unknown key":    append(append([]byte{m[0] + 1}, m[1:]...), 0x18, 99, 0),
		"key twice":      append(append([]byte{m[0] + 1}, m[1:]...), 1, 0x61, 'm'),
		"trailing":       append(bytes.Clone(m), 0),
		"deep":           append(bytes.Repeat([]byte{0x81}, 1000), 0),
		"endless map":    {0xbf, 0xff},
		"array claimed":  {0xa1, 0x11, 0x9b, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff},
		"string claimed": {0xa1, 0x01, 0x7b, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff},
		"tagged":         append([]byte{0xc1}, m...),
		"nothing":        {},
	} {
		bad := append(append(bytes.Clone(data[:headerSize]), manifest...), data[headerSize+h.manifest:]...)
		binary.LittleEndian.PutUint32(bad[12:], uint32(len(manifest)))
		var fe *FormatError
		if _, err := Decode(reseal(bad)); !errors.Is(err, ErrCorrupt) || !errors.As(err, &fe) || fe.Section != "manifest" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInvalid(t *testing.T) {
	for name, change := range map[string]func(*Snapshot){
		"id":                func(s *Snapshot) { s.Coroutine = "" },
		"seq":               func(s *Snapshot) { s.Seq = 0 },
		"parent":            func(s *Snapshot) { s.Parent.Seq = s.Seq },
		"running":           func(s *Snapshot) { s.Status = Running },
		"no await":          func(s *Snapshot) { s.Await = nil },
		"entry":             func(s *Snapshot) { s.Entry = "\xff" },
		"time":              func(s *Snapshot) { s.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"value type":        func(s *Snapshot) { s.Args[0].Type = 0 },
		"sign-extended i32": func(s *Snapshot) { s.Args[0].Lo = math.MaxUint64 },
		"high bits":         func(s *Snapshot) { s.Globals[0].Value.Hi = 1 },
		"slot value":        func(s *Snapshot) { s.Frames[2].Slots[0].Value.Type = 1 },
		"slots":             func(s *Snapshot) { s.Frames[1].Slots[1].Index = 0 },
		"operands first":    func(s *Snapshot) { s.Frames[1].Slots[0].Operand = true },
		"globals":           func(s *Snapshot) { s.Globals[0].Index = 1 },
		"tables":            func(s *Snapshot) { s.Tables[0].Index = 1 },
		"dropped":           func(s *Snapshot) { s.DroppedData[0] = 1 },
		"page order":        func(s *Snapshot) { s.Memory.Pages[0].Number = 1 },
		"page size":         func(s *Snapshot) { s.Memory.Pages[0].Data = s.Memory.Pages[0].Data[1:] },
		"page beyond":       func(s *Snapshot) { s.Memory.Pages[3].Number = 48 },
		"memory size":       func(s *Snapshot) { s.Memory.Size += PageSize },
		"memory max":        func(s *Snapshot) { s.Memory.Max = MaxMemory + 1 },
		"host order":        func(s *Snapshot) { s.Host[0], s.Host[1] = s.Host[1], s.Host[0] },
		"stream":            func(s *Snapshot) { s.Output[0].Stream = 3 },
		"results":           func(s *Snapshot) { s.Results = []Value{{I32, 1, 0}} },
		"long error":        func(s *Snapshot) { s.Status, s.Error = Failed, strings.Repeat("x", MaxText+1) },
		"ended with frames": func(s *Snapshot) { s.Status, s.Await = Completed, nil },
		"too many frames":   func(s *Snapshot) { s.Frames = make([]Frame, MaxFrames+1) },
		"too many globals":  func(s *Snapshot) { s.Globals = make([]Global, maxList+1) },
	} {
		s := samples()["full"]
		change(s)
		var fe *FormatError
		if data, err := Encode(s); !errors.Is(err, ErrInvalid) || !errors.As(err, &fe) || data != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestManyFrames(t *testing.T) {
	s := benchSnapshot(nil, 100_000)
	data := encode(t, s)
	got, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "100,000 frames", got, s)
	if len(data) > 1_000_000 {
		t.Errorf("%d bytes for 100,000 frames", len(data))
	}
}

func TestDiffPages(t *testing.T) {
	mem := make([]byte, 10*PageSize)
	image := make([]byte, 3*PageSize+100) // ends within a page
	for i := range image {
		image[i] = byte(i * 7)
	}
	copy(mem, image)
	if got := DiffPages(mem, image); got != nil {
		t.Errorf("nothing changed, got %d pages", len(got))
	}
	if got := DiffPages(nil, nil); got != nil {
		t.Errorf("no memory, got %d pages", len(got))
	}
	mem[PageSize]++                // in the image
	mem[3*PageSize+50]++           // in the image's last part
	mem[9*PageSize+PageSize-1] = 1 // beyond
	want := []uint32{1, 3, 9}
	numbers := func(pages []Page) (ns []uint32) {
		for _, p := range pages {
			ns = append(ns, p.Number)
		}
		return ns
	}
	pages := DiffPages(mem, image)
	if got := numbers(pages); !cmp.Equal(got, want) {
		t.Fatalf("got pages %v, want %v", got, want)
	}
	if &pages[0].Data[0] != &mem[PageSize] || cap(pages[0].Data) != PageSize {
		t.Error("data does not alias the memory, or reaches beyond the page")
	}
	restored := make([]byte, len(mem))
	copy(restored, image)
	if err := ApplyPages(restored, pages); err != nil || !bytes.Equal(restored, mem) {
		t.Errorf("restored memory differs, %v", err)
	}
	mem[3*PageSize+50]--
	mem[3*PageSize+100] = 1 // just behind the image
	if got := numbers(DiffPages(mem, image)); !cmp.Equal(got, want) {
		t.Errorf("got pages %v, want %v", got, want)
	}
	for _, bad := range [][]Page{{page(10)}, {page(math.MaxUint32)}, {{}}} {
		if err := ApplyPages(restored, bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("page %d of %d bytes: %v", bad[0].Number, len(bad[0].Data), err)
		}
	}
}

func TestIDs(t *testing.T) {
	for _, id := range []string{"a", "0", "_x", "A.b-c_9", strings.Repeat("x", MaxID), NewID()} {
		if err := ValidID(id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	for _, id := range []string{"", ".", "..", ".x", "-x", "a/b", "a b", "ä", "a\x00", "a\n", strings.Repeat("x", MaxID+1)} {
		if err := ValidID(id); !errors.Is(err, ErrID) {
			t.Errorf("%q: %v", id, err)
		}
	}
	seen := map[string]bool{}
	for range 1000 {
		id := NewID()
		if len(id) != 12 || strings.ToLower(id) != id || seen[id] {
			t.Errorf("new id %q", id)
		}
		seen[id] = true
	}
	h := HashOf([]byte("abc"))
	if p, err := ParseHash(h.String()); p != h || err != nil {
		t.Errorf("%v, %v", p, err)
	}
	for _, s := range []string{"", "ab", h.String()[1:], "g" + h.String()[1:]} {
		if _, err := ParseHash(s); err == nil {
			t.Errorf("%q is no hash", s)
		}
	}
}
