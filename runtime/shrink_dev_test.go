package runtime

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/durun/durun/runtime/internal/instrument"
	"github.com/durun/durun/runtime/internal/wasm"
)

type probe struct {
	testing.TB
	msg string
}

func (p *probe) Helper()                    {}
func (p *probe) Logf(string, ...any)        {}
func (p *probe) Fatal(a ...any)             { p.msg = fmt.Sprint(a...); panic(p) }
func (p *probe) Fatalf(f string, a ...any)  { p.msg = fmt.Sprintf(f, a...); panic(p) }
func (p *probe) Errorf(f string, a ...any)  { p.msg = fmt.Sprintf(f, a...); panic(p) }

func fails(b *bench, binary []byte) (msg string) {
	p := &probe{}
	defer func() {
		if r := recover(); r != nil {
			if r == any(p) {
				msg = p.msg
				return
			}
			msg = fmt.Sprint(r)
		}
	}()
	b.threeWays(p, binary, "main")
	return ""
}

func text(m *wasm.Module) string {
	var s strings.Builder
	for i, im := range m.Imports {
		fmt.Fprintf(&s, "import %d %s %v\n", i, im.Name, &m.Types[im.Type])
	}
	for i, g := range m.Globals {
		fmt.Fprintf(&s, "global %d %v %x\n", i, g.Type.Type, g.Init)
	}
	n := 0
	for _, im := range m.Imports {
		if im.Kind == wasm.ExternFunc {
			n++
		}
	}
	for i := range m.Code {
		fmt.Fprintf(&s, "func %d %v locals %v\n", n+i, &m.Types[m.Functions[i]], m.Code[i].Locals)
		var in wasm.Instr
		d := 1
		for r := wasm.NewReader(m.Code[i].Body()); r.Next(&in) == nil; {
			if in.Op == wasm.OpEnd || in.Op == wasm.OpElse {
				d--
			}
			fmt.Fprintf(&s, "%s%x: %s\n", strings.Repeat("  ", max(d, 0)), m.Code[i].BodyOffset+in.Offset, in.String())
			switch in.Op {
			case wasm.OpBlock, wasm.OpLoop, wasm.OpIf, wasm.OpElse, wasm.OpTryTable:
				d++
			}
		}
	}
	return s.String()
}

func TestDevShrink(t *testing.T) {
	arg := os.Getenv("SHRINK")
	if arg == "" {
		t.Skip()
	}
	var data []byte
	if seed, err := strconv.ParseUint(arg, 10, 64); err == nil {
		data = randomBytes(seed)
	} else {
		raw, err := os.ReadFile(arg)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(raw), "[]byte(")
		q, err := strconv.Unquote(strings.TrimSuffix(strings.TrimSpace(rest), ")"))
		if err != nil {
			t.Fatal(err)
		}
		data = []byte(q)
	}
	b := newBench(t)
	if fails(b, generate(data)) == "" {
		t.Fatal("doesn't fail")
	}
	try := func(d []byte) bool { return fails(b, generate(d)) != "" }
	for changed := true; changed; {
		changed = false
		for n := len(data) / 2; n > 0; n /= 2 {
			for i := 0; i+n <= len(data); {
				c := append(append([]byte{}, data[:i]...), data[i+n:]...)
				if try(c) {
					data, changed = c, true
				} else {
					i += n
				}
			}
		}
		for i := range data {
			if data[i] != 0 {
				c := append([]byte{}, data...)
				c[i] = 0
				if try(c) {
					data, changed = c, true
				}
			}
		}
	}
	binary := generate(data)
	m, _ := wasm.Decode(binary)
	fmt.Println(text(m))
	fmt.Println(fails(b, binary))
	r, _ := instrument.Transform(m, instrument.Config{Await: b.runtime.isAwait})
	for i, s := range r.Plan.Sites {
		fmt.Println(i, s)
	}
	os.WriteFile("/tmp/keep/shrunk.wasm", binary, 0o644)
}
