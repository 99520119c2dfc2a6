package wasm

import (
	"errors"
	"fmt"
	"io"
	goruntime "runtime"
	"sync"
	"sync/atomic"
)

// maxPages is the number of pages that a memory of 32 bits may have.
const maxPages = 1 << 16

// Validate checks m by the rules of the specification, with the proposals that the package's documentation lists. It
// validates functions on as many processors as there are. An error is a [FormatError] that names the section and the
// entry, and the offset in the binary if m was decoded; it wraps [ErrUnsupported] if m is valid, but not for durun.
// Of several errors it returns the first by section and index.
func Validate(m *Module) error {
	e, err := NewEnv(m)
	if err != nil {
		return err
	}
	for _, check := range []func(*Module, *Env) error{
		checkImports, checkTables, checkMemories, checkGlobals, checkExports, checkStart, checkElements, checkData,
	} {
		if err := check(m, e); err != nil {
			return err
		}
	}
	return checkFunctions(m, e)
}

func checkImports(m *Module, _ *Env) error {
	memories := 0
	for i := range m.Imports {
		im := &m.Imports[i]
		var err error
		switch im.Kind {
		case ExternTable:
			err = checkTableLimits(im.Table.Limits)
		case ExternMemory:
			err = checkMemory(memories, im.Memory)
			memories++
		}
		if err != nil {
			return m.entryError(idImport, i, fmt.Sprintf("import %d (%q %q)", i, im.Module, im.Name), err)
		}
	}
	return nil
}

func checkTables(m *Module, e *Env) error {
	for i := range m.Tables {
		t := &m.Tables[i]
		err := checkTableLimits(t.Type.Limits)
		switch {
		case err != nil:
		case t.Init != nil:
			err = e.checkExpr(t.Init, t.Type.Elem, e.NumImportedGlobals)
		case !t.Type.Elem.IsDefaultable():
			err = fmt.Errorf("elements of type %v need an initial value", t.Type.Elem)
		}
		if err != nil {
			return m.entryError(idTable, i, fmt.Sprintf("table %d", e.NumImportedTables+i), err)
		}
	}
	return nil
}

func checkTableLimits(l Limits) error {
	switch {
	case l.Shared:
		return unsupported("threads (shared table)")
	case l.Is64:
		return unsupported("memory64 (table of 64 bits)")
	}
	return checkMinMax(l)
}

func checkMemories(m *Module, e *Env) error {
	for i := range m.Memories {
		index := e.NumImportedMemories + i
		if err := checkMemory(index, m.Memories[i]); err != nil {
			return m.entryError(idMemory, i, fmt.Sprintf("memory %d", index), err)
		}
	}
	return nil
}

func checkMemory(index int, l Limits) error {
	switch {
	case index > 0:
		return unsupported("multiple memories")
	case l.Shared:
		return unsupported("threads (shared memory)")
	case l.Is64:
		return unsupported("memory64")
	case l.Min > maxPages:
		return fmt.Errorf("a memory of %d pages, more than %d", l.Min, maxPages)
	case l.HasMax && l.Max > maxPages:
		return fmt.Errorf("a memory of up to %d pages, more than %d", l.Max, maxPages)
	}
	return checkMinMax(l)
}

func checkMinMax(l Limits) error {
	if l.HasMax && l.Max < l.Min {
		return fmt.Errorf("a minimum of %d and a maximum of %d", l.Min, l.Max)
	}
	return nil
}

// checkGlobals lets an initial value read imported globals only, as wazero and the specification 2.0 do; 3.0 allows
// those before it too.
func checkGlobals(m *Module, e *Env) error {
	for i := range m.Globals {
		g := &m.Globals[i]
		if err := e.checkExpr(g.Init, g.Type.Type, e.NumImportedGlobals); err != nil {
			return m.entryError(idGlobal, i, fmt.Sprintf("global %d", e.NumImportedGlobals+i), err)
		}
	}
	return nil
}

func checkExports(m *Module, e *Env) error {
	seen := make(map[string]bool, len(m.Exports))
	for i := range m.Exports {
		x := &m.Exports[i]
		var n int
		switch x.Kind {
		case ExternFunc:
			n = e.NumFuncs()
		case ExternTable:
			n = len(e.Tables)
		case ExternMemory:
			n = len(e.Memories)
		case ExternGlobal:
			n = len(e.Globals)
		case ExternTag:
			n = len(e.Tags)
		}
		var err error
		if uint64(x.Index) >= uint64(n) {
			err = fmt.Errorf("unknown %v %d", x.Kind, x.Index)
		} else if seen[x.Name] {
			err = errors.New("the name was exported before")
		}
		if err != nil {
			return m.entryError(idExport, i, fmt.Sprintf("export %q", x.Name), err)
		}
		seen[x.Name] = true
	}
	return nil
}

func checkStart(m *Module, e *Env) error {
	if m.Start == nil {
		return nil
	}
	var err error
	if t := e.FuncType(*m.Start); t == nil {
		err = fmt.Errorf("unknown function %d", *m.Start)
	} else if len(t.Params)+len(t.Results) > 0 {
		err = fmt.Errorf("function %d has the type %v, where neither parameters nor results are allowed", *m.Start, t)
	}
	if err != nil {
		return m.entryError(idStart, 0, "", err)
	}
	return nil
}

func checkElements(m *Module, e *Env) error {
	for i := range m.Elements {
		if err := checkElement(&m.Elements[i], e); err != nil {
			return m.entryError(idElement, i, fmt.Sprintf("segment %d", i), err)
		}
	}
	return nil
}

func checkElement(s *Element, e *Env) error {
	if !s.Type.IsRef() {
		return fmt.Errorf("elements of type %v", s.Type)
	}
	if s.Mode == Active {
		if uint64(s.Table) >= uint64(len(e.Tables)) {
			return fmt.Errorf("unknown table %d", s.Table)
		}
		if t := e.Tables[s.Table].Elem; !e.IsSubtype(s.Type, t) {
			return fmt.Errorf("elements of type %v don't fit table %d of %v", s.Type, s.Table, t)
		}
		if err := e.checkExpr(s.Offset, I32, len(e.Globals)); err != nil {
			return fmt.Errorf("offset: %w", err)
		}
	}
	for i, f := range s.Funcs {
		t := e.FuncType(f)
		if t == nil {
			return fmt.Errorf("element %d: unknown function %d", i, f)
		}
		if ref := RefType(HeapType(e.FuncTypeIndex(f)), false); !e.IsSubtype(ref, s.Type) {
			return fmt.Errorf("element %d of type %v isn't a %v", i, ref, s.Type)
		}
	}
	for i, x := range s.Exprs {
		if err := e.checkExpr(x, s.Type, len(e.Globals)); err != nil {
			return fmt.Errorf("element %d: %w", i, err)
		}
	}
	return nil
}

func checkData(m *Module, e *Env) error {
	if m.DataCount != nil && uint64(*m.DataCount) != uint64(len(m.Data)) {
		return m.entryError(idDataCount, 0, "", fmt.Errorf("%d segments are announced, and there are %d", *m.DataCount, len(m.Data)))
	}
	for i := range m.Data {
		d := &m.Data[i]
		var err error
		switch {
		case d.Mode != Active:
		case d.Memory > 0:
			err = unsupported("multiple memories")
		case len(e.Memories) == 0:
			err = errors.New("unknown memory 0")
		default:
			err = e.checkExpr(d.Offset, I32, e.NumImportedGlobals)
		}
		if err != nil {
			return m.entryError(idData, i, fmt.Sprintf("segment %d", i), err)
		}
	}
	return nil
}

// checkFunctions validates the code of every function. The workers take the functions in order, so that the first
// that is wrong is found however they are scheduled.
func checkFunctions(m *Module, e *Env) error {
	if len(m.Code) != len(m.Functions) {
		return &FormatError{Section: "code", Offset: -1, Msg: fmt.Sprintf("%d functions are declared, and %d have code", len(m.Functions), len(m.Code))}
	}
	var (
		next  atomic.Int64
		group sync.WaitGroup
		mu    sync.Mutex
		wrong = len(m.Code) // the first function found to be wrong
		first error
	)
	total := uint64(0)
	for i := range m.Code {
		for _, g := range m.Code[i].Locals {
			total += uint64(g.Count)
		}
		if total > maxTotalLocals {
			return codeError(m, i, uint32(e.NumImportedFuncs+i), -m.Code[i].BodyOffset, fmt.Errorf("too many locals: with those of the functions before it, more than %d", maxTotalLocals))
		}
	}
	worker := func() {
		var v *FuncValidator
		var r Reader
		var in Instr
		for {
			i := int(next.Add(1)) - 1
			mu.Lock()
			stop := i >= wrong
			mu.Unlock()
			if stop {
				return
			}
			f := uint32(e.NumImportedFuncs + i)
			if v == nil {
				v = NewFuncValidator(e, f)
			} else {
				v.Reset(f)
			}
			if at, err := checkFunction(&m.Code[i], v, &r, &in); err != nil {
				mu.Lock()
				if i < wrong {
					wrong, first = i, codeError(m, i, f, at, err)
				}
				mu.Unlock()
			}
		}
	}
	for range min(goruntime.GOMAXPROCS(0), 1+len(m.Code)/64) {
		group.Go(worker)
	}
	group.Wait()
	return first
}

// checkFunction takes v through a function's body. With an error it returns the offset in the body.
func checkFunction(code *Code, v *FuncValidator, r *Reader, in *Instr) (int, error) {
	if code.BodyOffset > len(code.Raw) {
		return 0, errors.New("the body starts after the end of the code")
	}
	r.Reset(code.Body())
	for {
		if err := r.Next(in); errors.Is(err, io.EOF) {
			if !v.Done() {
				return r.Offset(), errors.New("the body ends without the end of the function")
			}
			return 0, nil
		} else if err != nil {
			at := r.Offset()
			if f := (*FormatError)(nil); errors.As(err, &f) {
				at = f.Offset
			}
			return at, err
		}
		if err := v.Step(in); err != nil {
			return in.Offset, err
		}
	}
}

// codeError returns err as an error about the function with index f, the i-th that m defines, at an offset in its
// body. It gives the offset in the code too, which holds for a module that was not decoded, and is the one that
// snapshots use.
func codeError(m *Module, i int, f uint32, at int, err error) error {
	code := &m.Code[i]
	at += code.BodyOffset
	file := -1
	if code.FileOffset > 0 {
		file = code.FileOffset + at
	}
	msg := ""
	if r := (*FormatError)(nil); errors.As(err, &r) {
		msg, err = r.Msg, r.Err // the reader's own place is in the body
	}
	name := ""
	if names := m.FunctionNames(); names[f] != "" {
		name = fmt.Sprintf(" %q", names[f])
	}
	return &FormatError{Section: "code", Item: fmt.Sprintf("function %d%s (byte %#x of its code)", f, name, at), Offset: file, Msg: msg, Err: err}
}
