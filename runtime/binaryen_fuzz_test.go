package runtime

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/durun/durun/runtime/internal/wasm"
)

// TestBinaryenPrograms runs programs that Binaryen's fuzzer makes, with await points between their instructions, as
// TestSuspendRandom does with our own.
func TestBinaryenPrograms(t *testing.T) {
	withoutRace(t)
	tool, err := exec.LookPath("wasm-opt")
	if err != nil {
		t.Skip("left out: there is no wasm-opt (Debian's package binaryen)")
	}
	seeds := uint64(24)
	if testing.Short() {
		seeds = 3
	}
	if all {
		seeds = 400
	}
	b, back := borrow(t)
	defer back()
	var c counts
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			dir := t.TempDir()
			in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out.wasm")
			r := rand.New(rand.NewPCG(seed, 2))
			data := make([]byte, 500+r.IntN(3000))
			for i := range data {
				data[i] = byte(r.Uint32())
			}
			if err := os.WriteFile(in, data, 0o600); err != nil {
				t.Fatal(err)
			}
			// Without references: of Debian's version, two in three such programs are of an older language, in which externref
			// is a supertype of funcref. Its exceptions are of an older language altogether.
			cmd := exec.Command(tool, "-ttf", in, "--denan", "--disable-reference-types", "--enable-multivalue", "--enable-bulk-memory",
				"--enable-sign-ext", "--enable-nontrapping-float-to-int", "--enable-mutable-globals", "--enable-tail-call",
				"--enable-simd", "--enable-extended-const", "-o", out)
			if text, err := cmd.CombinedOutput(); err != nil {
				t.Skipf("left out: %v: %v\n%s", cmd, err, text)
			}
			binary, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			binaryenProgram(t, b, binary, r, &c)
		})
	}
	c.log(t)
	if c.n["calls"] < int(seeds) && c.n["programs"] > 0 {
		t.Error("these do too little")
	}
}

func binaryenProgram(t *testing.T, b *bench, binary []byte, r *rand.Rand, c *counts) {
	m, err := wasm.Decode(binary)
	if err != nil {
		t.Fatal(err)
	}
	logVectors(m)
	env, err := wasm.NewEnv(m)
	if err != nil {
		t.Fatal(err)
	}
	var entries []specEntry
	for _, e := range m.Exports {
		if e.Kind != wasm.ExternFunc || len(entries) == 8 {
			continue
		}
		call := specCall{name: "call " + e.Name, function: e.Index}
		for _, p := range env.FuncType(e.Index).Params {
			ops := map[wasm.ValueType]wasm.Opcode{
				wasm.I32: wasm.OpI32Const, wasm.I64: wasm.OpI64Const, wasm.F32: wasm.OpF32Const, wasm.F64: wasm.OpF64Const,
				wasm.V128: wasm.OpV128Const,
			}
			call.args = append(call.args, wasm.Instr{Op: ops[p], Const: uint64(r.Uint32() % 100)})
		}
		entries = append(entries, specEntry{call.name, []specCall{call}})
	}
	c.add("programs")
	s := specModule{name: "program", m: m}
	w := specWay{density: everywhere, moves: 8, most: 5000, what: "in between"}
	_, rest := s.run(t, b, w, entries, c)
	for range rest {
		c.add("left out: call with too many awaits")
	}
}

// logVectors has a program log a half of each vector, as host functions can't take vectors.
func logVectors(m *wasm.Module) {
	names := map[string]int{}
	for i := range m.Imports {
		names[m.Imports[i].Name] = i // all are functions
	}
	vector, ok := names["log-v128"]
	if !ok {
		return
	}
	m.Imports[vector] = m.Imports[names["log-i64"]]
	for c := range m.Code {
		code := &m.Code[c]
		out := slices.Clone(code.Raw[:code.BodyOffset])
		var in wasm.Instr
		for r := wasm.NewReader(code.Body()); r.Next(&in) == nil; {
			if (in.Op == wasm.OpCall || in.Op == wasm.OpReturnCall) && in.Index == uint32(vector) {
				out = wasm.AppendInstr(out, &wasm.Instr{Op: wasm.OpI64x2ExtractLane, Lane: 1})
			}
			out = wasm.AppendInstr(out, &in)
		}
		code.Raw = out
	}
}
