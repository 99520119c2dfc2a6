package wasm

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

const goProgram = `package main

import (
	"fmt"
	"sync"
)

func main() {
	var group sync.WaitGroup
	results := make(chan int, 10)
	for i := range 10 {
		group.Add(1)
		go func() {
			defer group.Done()
			results <- i * i
		}()
	}
	group.Wait()
	close(results)
	sum := 0
	for r := range results {
		sum += r
	}
	fmt.Println("hello, the sum is", sum)
}
`

var goBinary = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "durun-wasm")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	main, out := filepath.Join(dir, "main.go"), filepath.Join(dir, "main.wasm")
	if err := os.WriteFile(main, []byte(goProgram), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command("go", "build", "-o", out, main)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=", "GO111MODULE=off", "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, errors.Join(err, errors.New(string(text)))
	}
	return os.ReadFile(out)
})

// readGoBinary returns a program with goroutines, compiled by Go.
func readGoBinary(t testing.TB) []byte {
	t.Helper()
	data, err := goBinary()
	if err != nil {
		t.Fatalf("build a Go program for wasip1: %v", err)
	}
	return data
}

func TestGoBinary(t *testing.T) {
	data := readGoBinary(t)
	m, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := Validate(m); err != nil {
		t.Fatal(err)
	}
	// Go's linker pads the sizes of sections to five bytes; so the first encoding is the same module, and the second
	// the same bytes.
	out := m.Encode()
	m2, err := Decode(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := Validate(m2); err != nil {
		t.Fatal(err)
	}
	if again := m2.Encode(); !bytes.Equal(again, out) {
		t.Error("the second encoding differs from the first")
	}
	if d := len(data) - len(out); d < 0 || d > 5*(len(sections)+len(m.Customs)+2*len(m.Elements)) {
		t.Errorf("%d bytes became %d", len(data), len(out))
	}
	instructions := 0
	for i := range m.Code {
		if !bytes.Equal(m.Code[i].Raw, m2.Code[i].Raw) {
			t.Fatalf("function %d: its code changed", i)
		}
		body, err := appendBody(nil, m.Code[i].Body(), false)
		if err != nil {
			t.Fatalf("function %d: %v", i, err)
		}
		if len(body) > len(m.Code[i].Body()) {
			t.Errorf("function %d: its body grew", i)
		}
		for r, in := NewReader(body), new(Instr); r.Next(in) == nil; {
			instructions++
		}
	}
	names := m.FunctionNames()
	if !slices.Contains(names, "main.main") {
		t.Error("no function is named main.main")
	}
	t.Logf("%d bytes, %d functions, %d instructions", len(data), len(m.Code), instructions)
	if len(m.Code) < 1000 || instructions < 100_000 {
		t.Errorf("%d functions with %d instructions can't be a Go program", len(m.Code), instructions)
	}
}

// TestReaderDoesNotAllocate covers every instruction of a program, after the slices of an Instr have grown.
func TestReaderDoesNotAllocate(t *testing.T) {
	m, err := Decode(readGoBinary(t))
	if err != nil {
		t.Fatal(err)
	}
	var r Reader
	var in Instr
	if n := testing.AllocsPerRun(1, func() {
		for i := range m.Code[:500] {
			r.Reset(m.Code[i].Body())
			for {
				if err := r.Next(&in); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
		}
	}); n > 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkDecode(b *testing.B) {
	data := readGoBinary(b)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := Decode(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	data := readGoBinary(b)
	m, err := Decode(data)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		m.Encode()
	}
}

func BenchmarkReader(b *testing.B) {
	m, err := Decode(readGoBinary(b))
	if err != nil {
		b.Fatal(err)
	}
	size := 0
	for i := range m.Code {
		size += len(m.Code[i].Body())
	}
	b.SetBytes(int64(size))
	var r Reader
	var in Instr
	for b.Loop() {
		for i := range m.Code {
			for r.Reset(m.Code[i].Body()); r.Next(&in) == nil; {
			}
		}
	}
}

func BenchmarkValidate(b *testing.B) {
	m, err := Decode(readGoBinary(b))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := Validate(m); err != nil {
			b.Fatal(err)
		}
	}
}
