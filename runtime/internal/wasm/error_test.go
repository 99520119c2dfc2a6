package wasm

import (
	"encoding/hex"
	"errors"
	goruntime "runtime"
	"strings"
	"testing"
)

// binaryOf returns a module with the given sections, in hexadecimal digits with any spaces.
func binaryOf(t testing.TB, sections string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(sections, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return append(append([]byte{}, header...), b...)
}

// oneFunction returns the sections of a module with a function of type [] -> [], whose code starts at byte 22.
func oneFunction(code string) string {
	n := len(strings.ReplaceAll(code, " ", "")) / 2
	return "01 04 01 60 00 00  03 02 01 00  0a " + hexByte(n+2) + " 01 " + hexByte(n) + code
}

func hexByte(n int) string { return hex.EncodeToString([]byte{byte(n)}) }

// formatErrors are modules with one thing wrong each, and the place and text of the error.
var formatErrors = []struct {
	name        string
	sections    string
	section     string
	offset      int
	text        string
	unsupported bool
}{
	{"section id", "0e 00", "", 8, "no section has the id 14", false},
	{"section size", "01 05 00", "type", 10, "5 bytes wanted, 1 left", false},
	{"section order", "03 01 00 01 01 00", "type", 11, "stands after the function section", false},
	{"section twice", "01 01 00 01 01 00", "type", 11, "a second one", false},
	{"tag before memory", "0d 01 00 05 01 00", "memory", 11, "stands after the tag section", false},
	{"data count after code", "0a 01 00 0c 01 00", "data count", 11, "stands after the code section", false},
	{"left over", "01 02 00 00", "type", 11, "1 bytes left over", false},
	{"count beyond the input", "01 05 ff ff ff ff 0f", "type", 10, "4294967295 types can't be", false},
	{"size beyond the input", "0b 06 01 01 ff ff ff 7f", "data", 16, "unexpected end", false},
	{"long number", "01 06 80 80 80 80 80 00", "type", 10, "longer than 32 bits", false},
	{"large number", "01 05 ff ff ff ff 1f", "type", 10, "doesn't fit 32 bits", false},
	{"cut number", "01 01 80", "type", 11, "unexpected end in a number", false},
	{"type form", "01 04 01 61 00 00", "type", 11, "0x61 isn't the start of a function type", false},
	{"value type", "01 05 01 60 01 05 00", "type", 13, "0x05 isn't a value type", false},
	{"struct", "01 03 01 5f 00", "type", 11, "garbage collection", true},
	{"anyref", "01 05 01 60 01 6e 00", "type", 13, "garbage collection (type any)", true},
	{"import kind", "02 06 01 00 00 09 00 00", "import", 13, "9 isn't a kind of import", false},
	{"name not UTF-8", "02 06 01 01 ff 00 03 00", "import", 11, "isn't UTF-8", false},
	{"table of numbers", "04 04 01 7f 00 00", "table", 11, "i32 isn't a reference type", false},
	{"limits", "05 03 01 08 00", "memory", 11, "flags of limits", false},
	{"mutability", "06 06 01 7f 02 41 00 0b", "global", 12, "isn't a mutability", false},
	{"not constant", "06 07 01 7f 00 41 00 45 0b", "global", 15, "i32.eqz in a constant expression", false},
	{"endless constant", "06 05 01 7f 00 41 00", "global", 15, "unexpected end in a constant expression", false},
	{"functions without code", "01 04 01 60 00 00 03 02 01 00", "code", 18, "1 functions are declared, and 0 have code", false},
	{"data count", "0c 01 02", "data", 11, "2 segments are announced, and there are 0", false},
	{"element kind", "09 04 01 08 00 00", "element", 11, "8 isn't a kind of segment", false},

	{"type index", "03 02 01 01 0a 04 01 02 00 0b", "function", 11, "unknown type 1, there are 0", false},
	{"forward type", "01 06 01 60 01 64 00 00", "type", 11, "unknown type 0", false},
	{"threads", "05 04 01 03 01 01", "memory", 11, "threads", true},
	{"memory64", "05 03 01 04 01", "memory", 11, "memory64", true},
	{"multiple memories", "05 05 02 00 01 00 01", "memory", 13, "multiple memories", true},
	{"imported memory", "02 07 01 01 6d 00 02 00 01 05 03 01 00 01", "memory", 20, "multiple memories", true},
	{"pages", "05 05 01 00 81 80 04", "memory", 11, "65537 pages", false},
	{"limits upside down", "05 04 01 01 02 01", "memory", 11, "a minimum of 2 and a maximum of 1", false},
	{"global type", "06 06 01 7f 00 42 00 0b", "global", 11, "of type i32 is wanted, and [i64] found", false},
	{"own global", "06 06 01 7f 00 23 00 0b", "global", 11, "global 0 has no value yet", false},
	{"export", "07 05 01 01 61 00 00", "export", 11, "unknown function 0", false},
	{"export twice", "05 03 01 00 01 07 09 02 01 61 02 00 01 61 02 00", "export", 20, "was exported before", false},
	{"start", "08 01 00", "start", 10, "unknown function 0", false},
	{"no table", "09 06 01 00 41 00 0b 00", "element", 11, "unknown table 0", false},
	{"no memory", "0b 06 01 00 41 00 0b 00", "data", 11, "unknown memory 0", false},
	{"tag with results", "01 05 01 60 00 01 7f 0d 03 01 00 00", "tag", 18, "has 1 results", false},
	{"table without a value", "01 04 01 60 00 00 04 05 01 64 00 00 00", "table", 17, "need an initial value", false},

	{"too many locals", oneFunction("02 ff ff ff ff 0f 7f 01 7f 0b"), "code", 29, "too many locals", false},
	{"cut locals", oneFunction("05 01 7f"), "code", 22, "5 groups of locals can't be", false},
	{"no end", oneFunction("00 01"), "code", 24, "without the end of the function", false},
	{"after the end", oneFunction("00 0b 01"), "code", 24, "nop: stands after the function's end", false},
	{"opcode", oneFunction("00 27 0b"), "code", 23, "no instruction has the opcode 0x27", false},
	{"prefixed opcode", oneFunction("00 fc 20 0b"), "code", 23, "no instruction has the opcode 0xfc 0x20", false},
	{"padded vector opcode", oneFunction("00 fd 80 00 0b"), "code", 23, "padded", false},
	{"relaxed SIMD", oneFunction("00 fd 80 02 0b"), "code", 23, "relaxed SIMD", true},
	{"atomics", oneFunction("00 fe 03 00 0b"), "code", 23, "threads", true},
	{"legacy exceptions", oneFunction("00 06 40 0b 0b"), "code", 23, "legacy exception handling", true},
	{"second memory", oneFunction("00 41 00 28 42 01 00 1a 0b"), "code", 26, "multiple memories", true},
	{"operand type", oneFunction("00 42 00 45 1a 0b"), "code", 25, "i32.eqz: an operand of type i32 is wanted, and i64 found", false},
	{"operand missing", oneFunction("00 1a 0b"), "code", 23, "drop: an operand is missing", false},
	{"operand too many", oneFunction("00 41 00 0b"), "code", 25, "end: 1 operands too many", false},
	{"below the block", oneFunction("00 41 00 02 40 1a 0b 0b"), "code", 27, "drop: an operand is missing", false},
	{"label", oneFunction("00 0c 01 0b"), "code", 23, "br: unknown label 1", false},
	{"else", oneFunction("00 02 40 05 0b 0b"), "code", 25, "else: no open if", false},
	{"local", oneFunction("00 20 00 1a 0b"), "code", 23, "local.get: unknown local 0", false},
	{"local without a value", oneFunction("01 01 64 70 20 00 1a 0b"), "code", 26, "local 0 of type (ref func) is not initialised", false},
	{"undeclared function", oneFunction("00 d2 00 1a 0b"), "code", 23, "not declared", false},
	{"data segment", oneFunction("00 fc 09 00 0b"), "code", 23, "data.drop: needs a data count section", false},
	{"memory", oneFunction("00 3f 00 1a 0b"), "code", 23, "memory.size: unknown memory 0", false},
	{"lane", oneFunction("00 fd 0c 00000000000000000000000000000000 fd 1d 02 1a 0b"), "code", 41, "i64x2.extract_lane: lane 2 of 2", false},
}

func TestErrors(t *testing.T) {
	for _, test := range formatErrors {
		t.Run(test.name, func(t *testing.T) {
			_, err := check(binaryOf(t, test.sections))
			var e *FormatError
			if !errors.As(err, &e) {
				t.Fatalf("error %v, want a FormatError", err)
			}
			if e.Section != test.section || e.Offset != test.offset || !strings.Contains(err.Error(), test.text) {
				t.Errorf("error %v\nin section %q at %d; want section %q at %d and %q", err, e.Section, e.Offset, test.section, test.offset, test.text)
			}
			if errors.Is(err, ErrUnsupported) != test.unsupported {
				t.Errorf("error %v: wraps ErrUnsupported: %v, want %v", err, !test.unsupported, test.unsupported)
			}
		})
	}
}

func TestHeader(t *testing.T) {
	for _, test := range []struct {
		data, text  string
		offset      int
		unsupported bool
	}{
		{"", "magic number is missing", 0, false},
		{"\x7fELF\x01\x00\x00\x00", "magic number is missing", 0, false},
		{"\x00asm", "unknown version", 4, false},
		{"\x00asm\x02\x00\x00\x00", "unknown version", 4, false},
		{"\x00asm\x0d\x00\x01\x00", "component model", 4, true},
	} {
		_, err := Decode([]byte(test.data))
		var e *FormatError
		if !errors.As(err, &e) || e.Offset != test.offset || !strings.Contains(err.Error(), test.text) || errors.Is(err, ErrUnsupported) != test.unsupported {
			t.Errorf("Decode(%q): error %v, want %q at byte %d", test.data, err, test.text, test.offset)
		}
	}
}

// TestErrorMessage pins how an error reads, as users see it.
func TestErrorMessage(t *testing.T) {
	_, err := check(binaryOf(t, oneFunction("00 42 00 45 1a 0b")))
	want := "wasm: code section function 0 (byte 0x3 of its code) at byte 0x19: i32.eqz: an operand of type i32 is wanted, and i64 found"
	if err == nil || err.Error() != want {
		t.Errorf("error %v\nwant  %v", err, want)
	}
}

// TestTotalLocals refuses a small module whose functions together declare more locals than a process has memory for.
func TestTotalLocals(t *testing.T) {
	m := &Module{Types: []FuncType{{}}}
	for range 2 * maxTotalLocals / maxLocals {
		m.Functions = append(m.Functions, 0)
		m.Code = append(m.Code, NewCode([]LocalGroup{{maxLocals, I64}}, []byte{byte(OpEnd)}))
	}
	_, err := check(m.Encode())
	if err == nil || !strings.Contains(err.Error(), "function 16 (byte 0x0 of its code)") || !strings.Contains(err.Error(), "too many locals") {
		t.Errorf("error %v, want one about the locals of function 16", err)
	}
}

// TestFirstError checks that the first of many wrong functions is reported, however the workers are scheduled.
func TestFirstError(t *testing.T) {
	m := &Module{Types: []FuncType{{}}}
	for i := range 1000 {
		code := []byte{byte(OpEnd)}
		if i >= 300 {
			code = []byte{byte(OpDrop), byte(OpEnd)}
		}
		m.Functions = append(m.Functions, 0)
		m.Code = append(m.Code, NewCode(nil, code))
	}
	for range 20 {
		if err := Validate(m); err == nil || !strings.Contains(err.Error(), "function 300 ") {
			t.Fatalf("error %v, want one about function 300", err)
		}
	}
}

// TestHostileLengths gives counts and sizes that claim gigabytes, and measures
// what is allocated.
func TestHostileLengths(t *testing.T) {
	for _, sections := range []string{
		"01 05 ff ff ff ff 0f",
		"01 06 01 4e ff ff ff 7f",
		"01 07 01 60 ff ff ff ff 0f",
		"02 05 ff ff ff ff 0f", "03 05 ff ff ff ff 0f", "04 05 ff ff ff ff 0f", "05 05 ff ff ff ff 0f", "06 05 ff ff ff ff 0f",
		"07 05 ff ff ff ff 0f", "09 05 ff ff ff ff 0f", "0a 05 ff ff ff ff 0f", "0b 05 ff ff ff ff 0f", "0d 05 ff ff ff ff 0f",
		"09 07 01 01 00 ff ff ff 7f",
		oneFunction("01 ff ff ff ff 0f 7e 0b"),
		oneFunction("00 0e ff ff ff 7f 00 0b"),
		oneFunction("00 1f 40 ff ff ff 7f 00 0b 0b"),
		oneFunction("00 1c ff ff ff 7f 0b"),
	} {
		data := binaryOf(t, sections)
		if allocated := allocatedBy(func() {
			if _, err := check(data); err == nil {
				t.Errorf("%s: accepted", sections)
			}
		}); allocated > 1<<20 {
			t.Errorf("%s: %d bytes allocated", sections, allocated)
		}
	}
}

// allocatedBy returns how many bytes f allocates.
func allocatedBy(f func()) uint64 {
	var before, after goruntime.MemStats
	goruntime.ReadMemStats(&before)
	f()
	goruntime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
