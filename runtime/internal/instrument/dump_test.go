package instrument

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/durun/durun/runtime/internal/wasm"
)

// dump writes a module as text, close to the text format, for goldens: all but types, imports, tables, memories and data,
// and with names for the functions that have one. m must have been decoded.
func dump(m *wasm.Module) (string, error) {
	d := &dumper{m: m}
	var err error
	if d.env, err = wasm.NewEnv(m); err != nil {
		return "", err
	}
	names := m.FunctionNames()
	for i := range m.Imports {
		im := &m.Imports[i]
		if im.Kind == wasm.ExternFunc {
			d.names = append(d.names, im.Module+"."+im.Name)
		}
	}
	for i := d.env.NumImportedFuncs; i < d.env.NumFuncs(); i++ {
		name := fmt.Sprint(i)
		if i < len(names) && names[i] != "" {
			name += ":" + names[i]
		}
		d.names = append(d.names, name)
	}
	for i := range m.Code {
		if err := d.function(i); err != nil {
			return "", fmt.Errorf("function %d: %w", d.env.NumImportedFuncs+i, err)
		}
	}
	for i := range m.Globals {
		g := &m.Globals[i]
		d.printf("global %d %s %v mutable=%v\n", d.env.NumImportedGlobals+i, d.expr(g.Init), g.Type.Type, g.Type.Mutable)
	}
	for i := range m.Elements {
		el := &m.Elements[i]
		d.printf("elem %d mode=%d table=%d", i, el.Mode, el.Table)
		for _, f := range el.Funcs {
			d.printf(" $%s", d.names[f])
		}
		for _, e := range el.Exprs {
			d.printf(" (%s)", d.expr(e))
		}
		d.printf("\n")
	}
	for _, e := range m.Exports {
		what := fmt.Sprint(e.Index)
		if e.Kind == wasm.ExternFunc {
			what = "$" + d.names[e.Index]
		}
		d.printf("export %q %v %s\n", e.Name, e.Kind, what)
	}
	if m.Start != nil {
		d.printf("start $%s\n", d.names[*m.Start])
	}
	return d.b.String(), nil
}

type dumper struct {
	m     *wasm.Module
	env   *wasm.Env
	names []string // of functions
	b     strings.Builder
}

func (d *dumper) printf(format string, args ...any) { fmt.Fprintf(&d.b, format, args...) }

func (d *dumper) function(i int) error {
	index := uint32(d.env.NumImportedFuncs + i)
	d.printf("func $%s %v", d.names[index], d.env.FuncType(index))
	for j, l := range d.m.Code[i].Locals {
		if j == 0 {
			d.printf(" locals")
		}
		d.printf(" %dx%v", l.Count, l.Type)
	}
	d.printf("\n")
	r := wasm.NewReader(d.m.Code[i].Body())
	var in wasm.Instr
	depth := 1
	for {
		err := r.Next(&in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch in.Op {
		case wasm.OpEnd, wasm.OpElse:
			depth--
		}
		if depth > 0 {
			d.printf("%s%s\n", strings.Repeat("  ", depth), d.instr(&in))
		}
		switch in.Op {
		case wasm.OpBlock, wasm.OpLoop, wasm.OpIf, wasm.OpElse, wasm.OpTryTable:
			depth++
		}
	}
}

func (d *dumper) instr(in *wasm.Instr) string {
	switch in.Op {
	case wasm.OpCall, wasm.OpReturnCall, wasm.OpRefFunc:
		return fmt.Sprintf("%v $%s", in.Op, d.names[in.Index])
	case wasm.OpCallIndirect, wasm.OpReturnCallIndirect:
		return fmt.Sprintf("%v %v table=%d", in.Op, &d.m.Types[in.Index], in.Index2)
	case wasm.OpBlock, wasm.OpLoop, wasm.OpIf:
		params, results := d.env.BlockTypes(in.Block)
		if len(params)+len(results) == 0 {
			return in.Op.String()
		}
		return fmt.Sprintf("%v %v", in.Op, &wasm.FuncType{Params: params, Results: results})
	case wasm.OpGlobalGet, wasm.OpGlobalSet:
		return fmt.Sprintf("%v %s", in.Op, d.global(in.Index))
	}
	return in.String()
}

// global names the globals that the transform adds.
func (d *dumper) global(i uint32) string {
	names := map[string]string{ExportState: "$state", ExportTicks: "$ticks"}
	n := uint32(0)
	for j := range d.m.Imports {
		if im := &d.m.Imports[j]; im.Kind == wasm.ExternGlobal {
			if name := names[im.Name]; n == i && name != "" {
				return name
			}
			n++
		}
	}
	for _, e := range d.m.Exports {
		if name := names[e.Name]; e.Kind == wasm.ExternGlobal && e.Index == i && name != "" {
			return name
		}
	}
	return fmt.Sprint(i)
}

func (d *dumper) expr(e wasm.Expr) string {
	var parts []string
	var in wasm.Instr
	for r := wasm.NewReader(e); r.Next(&in) == nil && in.Op != wasm.OpEnd; {
		parts = append(parts, d.instr(&in))
	}
	return strings.Join(parts, " ")
}
