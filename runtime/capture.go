package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/tetratelabs/wazero/api"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime/internal/instrument"
	"github.com/durun/durun/runtime/internal/wasm"
	"github.com/durun/durun/snapshot"
)

// Snapshot captures a coroutine that is suspended or has ended, as a snapshot that is complete in itself. Its sequence
// number is one more than that of the last commit, see [Coroutine.Committed]; its output is what the guest has written since
// then. The snapshot's pages alias the guest's memory: it is good until the next Resume or Close.
//
// Errors: [ErrNotSuspended] before the first Resume, [ErrInUse], [ErrClosed].
func (c *Coroutine) Snapshot() (*snapshot.Snapshot, error) {
	return c.locked(func() (*snapshot.Snapshot, error) { return c.snapshot(snapshot.SinceImage) })
}

// Capture captures a coroutine as its next commit is to be stored: by what has changed since the last commit or since the
// root of its chain, or as Snapshot does. It costs what has changed. Otherwise it is as Snapshot.
func (c *Coroutine) Capture() (*snapshot.Snapshot, error) {
	return c.locked(func() (*snapshot.Snapshot, error) {
		since := c.lineage.Next()
		if c.status.Ended() {
			since = snapshot.SinceImage
		}
		return c.snapshot(since)
	})
}

func (c *Coroutine) locked(f func() (*snapshot.Snapshot, error)) (*snapshot.Snapshot, error) {
	if !c.busy.CompareAndSwap(false, true) {
		return nil, ErrInUse
	}
	defer c.busy.Store(false)
	if c.closed {
		return nil, ErrClosed
	}
	s, err := f()
	c.taken = s
	return s, err
}

// snapshot captures the coroutine, with the pages that have changed since a moment, or all.
func (c *Coroutine) snapshot(since snapshot.Since) (*snapshot.Snapshot, error) {
	s := &snapshot.Snapshot{
		Module: c.module.hash, ModuleName: c.name, Coroutine: c.id, Seq: 1, Parent: c.parent,
		Time: time.Now().UTC(), Status: c.status, Entry: c.entry, Args: c.args,
		ExitCode: c.exit, Output: c.output, Grants: c.grants,
	}
	if c.parent != nil {
		s.Seq = c.parent.Seq + 1
	}
	if err := c.saveHosts(s); err != nil {
		return nil, err
	}
	if c.status.Ended() {
		if c.err != nil {
			s.Error = c.err.Error()
		}
		t, _ := c.module.entryType(c.entry)
		if c.results != nil {
			s.Results, _ = valuesOf(t.Results, c.results)
		}
		return s, nil
	}
	if c.pending == nil {
		return nil, ErrNotSuspended
	}
	s.InStart = c.inStart
	s.Await = c.savedAwait()
	var err error
	if s.Frames, err = c.captured(); err != nil {
		return nil, err
	}
	s.Globals = make([]snapshot.Global, len(c.module.mutable))
	for k, i := range c.module.mutable {
		v, err := c.global(i)
		if err != nil {
			return nil, err
		}
		s.Globals[k] = snapshot.Global{Index: i, Value: v}
	}
	if err := c.saveTables(s); err != nil {
		return nil, err
	}
	for _, seg := range c.module.plan.DroppedData {
		if c.main.ExportedGlobal(instrument.ExportDropped(seg)).Get() != 0 {
			s.DroppedData = append(s.DroppedData, seg)
		}
	}
	if c.linear != nil {
		c.followMemory()
		s.Memory.Size = uint64(len(c.linear.Bytes()))
		s.Memory.Max = c.module.memoryMax()
		var ok bool
		if s.Memory.Pages, ok = c.changes(since); !ok {
			since = snapshot.SinceImage
			s.Memory.Pages, _ = c.changes(since)
		}
	}
	state := c.atLast
	if since == snapshot.SinceRoot {
		state = c.atRoot
	}
	s.Base = c.lineage.Base(since, s.Seq, state)
	return s, nil
}

// Committed tells the coroutine that a snapshot of it, the last that was captured, has become durable: the next one follows it,
// and has only the output since. It is to be called before the guest runs on, and before another snapshot is captured; else
// the next commit is stored in full. To tell it of one commit twice is nothing.
func (c *Coroutine) Committed(commit snapshot.Commit) {
	parent := commit.AsParent()
	if c.parent != nil && *c.parent == *parent {
		return
	}
	c.parent = parent
	c.dropOutput(commit.Output)
	s := c.taken
	switch {
	case c.status.Ended():
		return
	case s == nil || s.Seq != commit.Seq || !sameOrigin(s.Base, commit.Origin):
		c.lineage, c.atRoot, c.atLast = snapshot.Lineage{}, nil, nil
		return
	}
	c.taken = nil
	if c.linear != nil {
		c.linear.Committed()
	}
	c.lineage.Committed(commit)
	if c.atLast = withoutPages(s); s.Base == nil {
		c.atRoot = c.atLast
	}
}

// sameOrigin reports whether a commit is stored as a snapshot with that base is. Two snapshots of one moment may be stored
// differently, and then what has changed since the one is not what has changed since the other.
func sameOrigin(base *snapshot.Base, origin *snapshot.Origin) bool {
	if base == nil || origin == nil {
		return base == nil && origin == nil
	}
	return base.Origin == *origin
}

// dropOutput forgets the first n bytes of the output, which are committed. The guest may have written more since.
func (c *Coroutine) dropOutput(n uint64) {
	for len(c.output) > 0 && uint64(len(c.output[0].Data)) <= n {
		n -= uint64(len(c.output[0].Data))
		c.written -= len(c.output[0].Data)
		c.output = c.output[1:]
	}
	if len(c.output) == 0 {
		c.output, c.written = nil, 0
		return
	}
	c.output = slices.Clone(c.output) // the snapshot has the rest
	c.output[0].Data = c.output[0].Data[n:]
	c.written -= int(n)
}

func (c *Coroutine) saveHosts(s *snapshot.Snapshot) error {
	for _, h := range c.hosts {
		if h == nil {
			continue
		}
		version, data, err := h.Save()
		if err != nil {
			return fmt.Errorf("capture host module %s: %w", h.Module().Name, err)
		}
		s.Host = append(s.Host, snapshot.Section{Name: h.Module().Name, Version: version, Data: data})
		parted, ok := h.(hostabi.PartedInstance)
		if !ok || s.Status.Ended() { // nobody goes on with it
			continue
		}
		parts, err := parted.SaveParts()
		if err != nil {
			return fmt.Errorf("capture host module %s: %w", h.Module().Name, err)
		}
		for _, p := range parts {
			s.Host = append(s.Host, snapshot.Section{Name: h.Module().Name + partSeparator + p.Name, Version: version, Data: p.Data})
		}
	}
	slices.SortFunc(s.Host, func(a, b snapshot.Section) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

func (c *Coroutine) savedAwait() *snapshot.Await {
	p := c.pending
	m := c.module.runtime.modules[p.host.module]
	f := &m.Functions[p.host.function]
	a := &snapshot.Await{
		Import: m.Name + "." + f.Name, Kind: p.what.Kind, Until: p.what.Until, Data: p.what.Data,
		Detail: p.what.Detail + c.abi.ops.trouble(p.what.Ops),
	}
	for i, t := range f.Params {
		v := snapshot.Value{Type: snapshot.ValueType(t), Lo: p.args[i]}
		if t == api.ValueTypeI32 || t == api.ValueTypeF32 {
			v.Lo = uint64(uint32(v.Lo))
		}
		a.Args = append(a.Args, v)
	}
	return a
}

// handle returns the instance's mutable global i. To look one up takes longer than to read it a hundred times.
func (c *Coroutine) handle(i uint32) api.Global {
	if c.globals == nil {
		c.globals = make([]api.Global, len(c.module.env.Globals))
	}
	if c.globals[i] == nil {
		c.globals[i] = c.main.ExportedGlobal(instrument.ExportGlobal(i))
	}
	return c.globals[i]
}

// global reads a mutable global.
func (c *Coroutine) global(i uint32) (snapshot.Value, error) {
	t := c.module.env.Globals[i].Type
	v := snapshot.Value{Type: snapshotType(t)}
	switch t {
	case wasm.V128:
		// The engine's API shows the low half of a v128 only.
		var stack [2]uint64
		c.helper(instrument.ExportGetV128(i), stack[:])
		v.Lo, v.Hi = stack[0], stack[1]
		return v, nil
	case wasm.I32, wasm.F32:
		v.Lo = uint64(uint32(c.handle(i).Get()))
		return v, nil
	}
	v.Lo = c.handle(i).Get()
	if !t.IsRef() {
		return v, nil
	}
	var err error
	switch {
	case snapshotType(t) == snapshot.FuncRef:
		v.Lo, err = c.named(v.Lo)
	case v.Lo != 0:
		err = fmt.Errorf("it holds an %v that isn't null", t)
	default:
		v.Type = snapshot.FuncRef // null is null
	}
	if err != nil {
		return v, &CaptureError{Reason: fmt.Sprintf("global %d: %v", i, err)}
	}
	return v, nil
}

// setGlobal sets mutable global i to a value of its type.
func (c *Coroutine) setGlobal(i uint32, v snapshot.Value) error {
	t := c.module.env.Globals[i].Type
	switch {
	case t == wasm.V128:
		c.helper(instrument.ExportSetV128(i), []uint64{v.Lo, v.Hi})
	case !t.IsRef():
		c.handle(i).(api.MutableGlobal).Set(v.Lo)
	case snapshotType(t) != snapshot.FuncRef:
		if v.Lo != 0 {
			return fmt.Errorf("%w: a function in global %d, which holds %v", ErrMismatch, i, t)
		}
	default:
		at, err := c.module.position(t, v)
		if err != nil {
			return fmt.Errorf("global %d: %w", i, err)
		}
		if at == 0 && !t.IsNullable() {
			return fmt.Errorf("%w: a null in global %d, which holds %v", ErrMismatch, i, t)
		}
		return c.tryHelper(instrument.ExportSetRef(i), []uint64{at})
	}
	return nil
}

// snapshotType returns the type that a snapshot has for values of a type. There is one for all references to functions;
// other references are not in snapshots.
func snapshotType(t wasm.ValueType) snapshot.ValueType {
	if !t.IsRef() {
		return snapshot.ValueType(t)
	}
	if h := t.Heap(); h == wasm.HeapFunc || h.IsIndex() {
		return snapshot.FuncRef
	}
	return 0
}

// moduleType returns the type of a value in a snapshot.
func moduleType(t snapshot.ValueType) wasm.ValueType {
	if t == snapshot.FuncRef {
		return wasm.FuncRef
	}
	return wasm.ValueType(t)
}

// helper calls a function that the transform added, which neither suspends nor traps.
func (c *Coroutine) helper(name string, stack []uint64) {
	if err := c.tryHelper(name, stack); err != nil {
		panic(err)
	}
}

// tryHelper calls a function that the transform added, and which may trap.
func (c *Coroutine) tryHelper(name string, stack []uint64) error {
	if err := c.main.ExportedFunction(name).CallWithStack(context.Background(), stack); err != nil {
		return fmt.Errorf("call %s: %w", name, err)
	}
	return nil
}

// named returns which function a reference is to, as index + 1; 0 for null.
func (c *Coroutine) named(ref uint64) (uint64, error) {
	if ref == 0 {
		return 0, nil
	}
	if c.refs == nil {
		c.refs = map[uint64]uint32{}
		for i := range c.module.plan.Registries {
			read := c.main.ExportedFunction(instrument.ExportRegistry(i))
			if read == nil {
				continue // of references that are all null
			}
			for at, f := range c.module.plan.Registries[i].Funcs {
				stack := [1]uint64{uint64(at)}
				if err := read.CallWithStack(context.Background(), stack[:]); err != nil {
					return 0, fmt.Errorf("read %s: %w", instrument.ExportRegistry(i), err)
				}
				if f > 0 {
					c.refs[stack[0]] = f
				}
			}
		}
	}
	f, ok := c.refs[ref]
	if !ok {
		return 0, errors.New("a reference to a function that is none of the module's")
	}
	return uint64(f), nil
}

// position returns where an instance has the reference that v, a funcref, stands for, if it is to be of type t.
func (m *Module) position(t wasm.ValueType, v snapshot.Value) (uint64, error) {
	if v.Lo == 0 {
		return 0, nil
	}
	at, ok := m.plan.Position(m.env, t, uint32(v.Lo-1))
	if !ok || v.Lo > math.MaxUint32 {
		return 0, fmt.Errorf("%w: no %v can be a reference to function %d", ErrMismatch, t, v.Lo-1)
	}
	return uint64(at), nil
}

// checkForeign returns an error if a global or a table holds a reference that no snapshot can.
func (c *Coroutine) checkForeign() *CaptureError {
	var e *CaptureError
	for _, i := range c.module.foreignGlobals {
		if _, err := c.global(i); errors.As(err, &e) {
			return e
		}
	}
	for _, i := range c.module.foreignTables {
		if _, err := c.table(i); errors.As(err, &e) {
			return e
		}
	}
	return nil
}

// saveTables captures the tables that the guest can change, and the element segments that it has dropped.
func (c *Coroutine) saveTables(s *snapshot.Snapshot) error {
	for _, seg := range c.module.plan.DroppedElements {
		if c.main.ExportedGlobal(instrument.ExportDroppedElements(seg)).Get() != 0 {
			s.DroppedElements = append(s.DroppedElements, seg)
		}
	}
	total := uint64(0)
	for _, i := range c.module.plan.Tables {
		var stack [1]uint64
		c.helper(instrument.ExportTableSize(i), stack[:])
		if total += uint64(uint32(stack[0])); total > snapshot.MaxElements {
			return &CaptureError{Reason: fmt.Sprintf("table %d: the tables that the module can change have more than %d elements, which is what a snapshot holds", i, snapshot.MaxElements)}
		}
		t, err := c.table(i)
		if err != nil {
			return err
		}
		s.Tables = append(s.Tables, t)
	}
	return nil
}

// table reads a table that the guest can change.
func (c *Coroutine) table(i uint32) (snapshot.Table, error) {
	var stack [1]uint64
	c.helper(instrument.ExportTableSize(i), stack[:])
	t := snapshot.Table{Index: i, Elements: make([]uint32, uint32(stack[0]))}
	foreign := snapshotType(c.module.env.Tables[i].Elem) != snapshot.FuncRef
	get := c.main.ExportedFunction(instrument.ExportTableGet(i))
	for k := range t.Elements {
		stack[0] = uint64(k)
		if err := get.CallWithStack(context.Background(), stack[:]); err != nil {
			return t, fmt.Errorf("read table %d: %w", i, err)
		}
		f, err := uint64(0), error(nil)
		switch {
		case !foreign:
			f, err = c.named(stack[0])
		case uint32(stack[0]) != 0:
			err = fmt.Errorf("it is an %v that isn't null", c.module.env.Tables[i].Elem)
		}
		if err != nil {
			return t, &CaptureError{Reason: fmt.Sprintf("element %d of table %d: %v", k, i, err)}
		}
		t.Elements[k] = uint32(f)
	}
	return t, nil
}

// restoreTables puts back what saveTables has captured.
func (c *Coroutine) restoreTables(s *snapshot.Snapshot) error {
	plan := c.module.plan
	for _, seg := range s.DroppedElements {
		if !slices.Contains(plan.DroppedElements, seg) {
			return fmt.Errorf("%w: element segment %d can't have been dropped", ErrMismatch, seg)
		}
		c.helper(instrument.ExportDropElements(seg), nil)
	}
	if !slices.EqualFunc(s.Tables, plan.Tables, func(t snapshot.Table, i uint32) bool { return t.Index == i }) {
		return fmt.Errorf("%w: it doesn't have the tables that the module can change, which are %d", ErrMismatch, plan.Tables)
	}
	for _, t := range s.Tables {
		elem := c.module.env.Tables[t.Index].Elem
		var stack [2]uint64
		c.helper(instrument.ExportTableSize(t.Index), stack[:])
		size := uint32(stack[0])
		if len(t.Elements) < int(size) {
			return fmt.Errorf("%w: table %d has %d elements, where the module starts with %d", ErrMismatch, t.Index, len(t.Elements), size)
		}
		if by := uint32(len(t.Elements)) - size; by > 0 {
			stack[0] = uint64(by)
			if err := c.tryHelper(instrument.ExportTableGrow(t.Index), stack[:]); err != nil {
				return fmt.Errorf("%w: table %d: %w", ErrMismatch, t.Index, err)
			}
			if int32(uint32(stack[0])) < 0 {
				return fmt.Errorf("%w: table %d has %d elements, which is more than the module or this machine allows", ErrMismatch, t.Index, len(t.Elements))
			}
		}
		set := c.main.ExportedFunction(instrument.ExportTableSet(t.Index))
		for k, f := range t.Elements {
			if set == nil {
				if f != 0 {
					return fmt.Errorf("%w: a function in table %d, which holds %v", ErrMismatch, t.Index, elem)
				}
				continue
			}
			at, err := c.module.position(elem, snapshot.Value{Type: snapshot.FuncRef, Lo: uint64(f)})
			if err != nil {
				return fmt.Errorf("element %d of table %d: %w", k, t.Index, err)
			}
			stack = [2]uint64{uint64(k), at}
			if err := set.CallWithStack(context.Background(), stack[:]); err != nil {
				return fmt.Errorf("%w: element %d of table %d: %w", ErrMismatch, k, t.Index, err)
			}
		}
	}
	return nil
}

// RestoreConfig says what a restored coroutine gets from outside.
type RestoreConfig struct {
	Hash   snapshot.Hash      // of the snapshot's encoded bytes, see [snapshot.Digest]; its child names it as the parent
	Hosts  []hostabi.Instance // fresh instances, which take over the state in the snapshot; the coroutine closes them
	Stdout io.Writer          // as in [StartConfig]
	Stderr io.Writer
	Grants []snapshot.Grant
	Limits Limits
}

// Restore goes on from a complete snapshot of a suspended coroutine of this module. Nothing of the guest runs before the
// next Resume. The snapshot may have been taken by another version of durun, on another machine. [Module.RestoreChain] is
// for a snapshot in a store.
//
// Errors: [ErrMismatch] for a snapshot of another module, or one whose contents don't fit the module; [ErrEnded]; and
// those of the host instances, which may lack what the state needs. With an error, the instances stay the caller's.
func (m *Module) Restore(ctx context.Context, s *snapshot.Snapshot, config RestoreConfig) (*Coroutine, error) {
	if s.Base != nil {
		return nil, fmt.Errorf("restore coroutine %s: %w: it is not complete in itself", s.Coroutine, ErrMismatch)
	}
	c := &Coroutine{id: s.Coroutine, parent: &snapshot.Parent{Seq: s.Seq, Hash: config.Hash}}
	if err := c.restore(ctx, m, contentOfSnapshot(s), config); err != nil {
		return nil, fmt.Errorf("restore coroutine %s: %w", s.Coroutine, err)
	}
	return c, nil
}

// RestoreChain goes on from a snapshot as a store has it, as Restore does from one that was read whole. It costs less where
// the chain's root is known, see [Module.Known], and the commits that follow continue the chain. config.Hash is not used.
//
// Errors: as for Restore, and those of reading the chain's pages; [snapshot.ErrRootKnown] if the module has forgotten the root
// since it was asked, so that the chain has to be read anew.
func (m *Module) RestoreChain(ctx context.Context, chain *snapshot.Chain, config RestoreConfig) (*Coroutine, error) {
	fail := func(err error) (*Coroutine, error) {
		return nil, fmt.Errorf("restore coroutine %s: %w", chain.Commit.Coroutine, err)
	}
	switch {
	case chain.Commit.Status.Ended():
		return fail(ErrEnded)
	case isBase(chain):
		return fail(fmt.Errorf("%w: it is a base, which coroutines start from", ErrMismatch))
	}
	from, err := contentOf(ctx, chain)
	if err != nil {
		return fail(err)
	}
	c := &Coroutine{id: chain.Commit.Coroutine, parent: chain.Commit.AsParent(), lineage: chain.Lineage()}
	if err := c.restore(ctx, m, from, config); err != nil {
		return fail(err)
	}
	return c, nil
}

// RestoreFrom reads a commit of a coroutine, 0 for the newest, and goes on from it: as [snapshot.Store.Chain] and RestoreChain,
// without reading what the module knows.
func (m *Module) RestoreFrom(ctx context.Context, store *snapshot.Store, id string, seq uint64, config RestoreConfig) (*Coroutine, error) {
	for have := m.Known; ; have = nil {
		chain, err := store.Chain(ctx, id, seq, have)
		if err != nil {
			return nil, fmt.Errorf("restore: %w", err)
		}
		c, err := m.RestoreChain(ctx, chain, config)
		if !errors.Is(err, snapshot.ErrRootKnown) {
			return c, err
		}
	}
}

// isBase reports whether a chain is that of a shared base, and not of a coroutine.
func isBase(c *snapshot.Chain) bool { return c.RootRef.Seq == 0 && len(c.Deltas) == 0 }

// startFrom starts a coroutine from a shared base.
func (m *Module) startFrom(ctx context.Context, config StartConfig) (*Coroutine, error) {
	fail := func(err error) (*Coroutine, error) {
		return nil, fmt.Errorf("start from base %s: %w", config.Base.Commit.Coroutine, err)
	}
	if !isBase(config.Base) {
		return fail(fmt.Errorf("%w: it is a coroutine's commit", ErrMismatch))
	}
	from, err := contentOf(ctx, config.Base)
	if err != nil {
		return fail(err)
	}
	if s := from.state; config.Entry != "" && config.Entry != s.Entry || config.Args != nil && !equalBits(config.Args, s.Args) {
		return fail(fmt.Errorf("%w: it was made with entry %q and other arguments", ErrMismatch, s.Entry))
	}
	if a := from.state.Await; len(config.Input) > 0 && a != nil && a.Import == hostabi.ModuleName+"."+hostabi.FuncYield {
		return fail(errors.New("it waits in durun.yield, which would replace the input, unread, by what it receives"))
	}
	if err := snapshot.ValidID(config.ID); err != nil {
		return fail(err)
	}
	c := &Coroutine{
		id: config.ID, lineage: snapshot.FromBase(config.Base.Commit),
		output: slices.Clone(from.state.Output), // others start from the same, and each adds to its own
	}
	err = c.restore(ctx, m, from, RestoreConfig{
		Hosts: config.Hosts, Stdout: config.Stdout, Stderr: config.Stderr, Grants: config.Grants, Limits: config.Limits,
	})
	if err != nil {
		return fail(err)
	}
	c.name, c.abi.cpu = config.ModuleName, 0 // what the base has computed is not its own
	c.abi.renew()
	if config.Input != nil {
		c.abi.input = config.Input
	}
	// Who watches sees the output from its beginning.
	for i, o := range c.output {
		c.output[i].Data = slices.Clip(o.Data)
		c.written += len(o.Data)
		c.show(o.Stream, o.Data)
	}
	return c, nil
}

func equalBits(bits []uint64, values []snapshot.Value) bool {
	return slices.EqualFunc(bits, values, func(b uint64, v snapshot.Value) bool { return b == v.Lo })
}

// restore makes c, which has its id, parent and lineage, a coroutine of m in some state.
func (c *Coroutine) restore(ctx context.Context, m *Module, from *content, config RestoreConfig) error {
	s := from.state
	if s.Module != m.hash {
		return fmt.Errorf("%w: it was taken of module %x, this is %x", ErrMismatch, s.Module[:6], m.hash[:6])
	}
	if s.Status.Ended() {
		return ErrEnded
	}
	c.module, c.name, c.entry, c.args, c.grants = m, s.ModuleName, s.Entry, s.Args, config.Grants
	c.stdout, c.stderr, c.status, c.inStart = config.Stdout, config.Stderr, snapshot.Suspended, s.InStart
	c.abi, c.frames = newABI(c.id, nil), s.Frames
	var err error
	if c.limits, err = config.Limits.with(config.Grants); err != nil {
		return err
	}
	room, err := m.room(c.limits, s)
	if err != nil {
		return err
	}
	await, err := c.restoreAwait(s)
	if err == nil {
		c.linear, err = m.restoreMemory(ctx, from, c.limits)
	}
	if err == nil {
		err = c.init(ctx, config.Hosts)
	}
	if err == nil {
		c.setRoom(room)
		err = c.restoreState(s)
	}
	if err == nil {
		err = c.restoreHosts(s)
	}
	if err == nil {
		w := &c.abi.restored
		p := c.pending.what
		p.Ops, p.Min, p.Success, p.Cancellable = w.Ops, w.Min, w.Success, w.Cancellable
		p.Detail = strings.TrimSuffix(p.Detail, c.abi.ops.trouble(p.Ops)) // which savedAwait has added
	}
	if err == nil {
		err = c.checkResults(s, await)
	}
	if err == nil {
		err = c.prepareStack(ctx, s.Frames, await)
	}
	if err != nil {
		if c.main != nil {
			c.hosts = nil // stay the caller's
			_ = c.close()
		}
		c.freeMemory()
		return err
	}
	c.atRoot, c.atLast = withoutPages(from.root), withoutPages(s)
	if s.Memory.Max != m.memoryMax() {
		c.lineage = snapshot.Lineage{} // made up: what follows would be no delta of it
	}
	return nil
}

// withoutPages is what commits to come are compared with.
func withoutPages(s *snapshot.Snapshot) *snapshot.Snapshot {
	state := *s
	state.Memory.Pages, state.Output, state.Base = nil, nil, nil
	return &state
}

// restoreAwait sets what the coroutine waits for and returns the index of the imported function.
func (c *Coroutine) restoreAwait(s *snapshot.Snapshot) (uint32, error) {
	if s.Await == nil {
		return 0, fmt.Errorf("%w: it doesn't say in which host call the guest is", ErrMismatch)
	}
	if t, ok := c.module.entryType(s.Entry); !ok || !sameValues(s.Args, t.Params) {
		return 0, fmt.Errorf("%w: no entry %q with such arguments", ErrMismatch, s.Entry)
	}
	for i, h := range c.module.imports {
		m := c.module.runtime.modules[h.module]
		f := &m.Functions[h.function]
		if m.Name+"."+f.Name != s.Await.Import || f.Await == nil {
			continue
		}
		t := c.module.env.FuncType(uint32(i))
		if !sameValues(s.Await.Args, t.Params) {
			break
		}
		c.pending = &pending{host: h, what: &hostabi.Pending{
			Kind: s.Await.Kind, Until: s.Await.Until, Detail: s.Await.Detail, Data: s.Await.Data,
		}}
		for _, a := range s.Await.Args {
			c.pending.args = append(c.pending.args, a.Lo)
		}
		return uint32(i), nil
	}
	return 0, fmt.Errorf("%w: the guest is in host call %s, which the module doesn't import as an await point", ErrMismatch, s.Await.Import)
}

// checkResults checks that the outermost function returns what the entry does, which is what is taken from it.
func (c *Coroutine) checkResults(s *snapshot.Snapshot, await uint32) error {
	outer := await
	if len(s.Frames) > 0 {
		outer = s.Frames[0].Function
	}
	var want []wasm.ValueType
	if t, ok := c.module.entryType(s.Entry); ok && !s.InStart {
		want = t.Results
	}
	if t := c.module.env.FuncType(outer); t == nil || !slices.Equal(t.Results, want) {
		return fmt.Errorf("%w: its outermost frame is of function %d, which doesn't return what the entry does", ErrMismatch, outer)
	}
	return nil
}

func sameValues(vs []snapshot.Value, types []wasm.ValueType) bool {
	return slices.EqualFunc(vs, types, func(v snapshot.Value, t wasm.ValueType) bool { return sameType(v.Type, t) })
}

// sameType reports whether a snapshot has values of type b as values of type a.
func sameType(a snapshot.ValueType, b wasm.ValueType) bool {
	return moduleType(a) == b || a == snapshot.FuncRef && b.IsRef()
}

// restoreState puts back globals, tables and dropped segments.
func (c *Coroutine) restoreState(s *snapshot.Snapshot) error {
	if len(s.Globals) != len(c.module.mutable) {
		return fmt.Errorf("%w: %d mutable globals, where the module has %d", ErrMismatch, len(s.Globals), len(c.module.mutable))
	}
	for i, g := range s.Globals {
		if g.Index != c.module.mutable[i] || !sameType(g.Value.Type, c.module.env.Globals[g.Index].Type) {
			return fmt.Errorf("%w: global %d is not one of the module's mutable globals, or of another type", ErrMismatch, g.Index)
		}
		if err := c.setGlobal(g.Index, g.Value); err != nil {
			return fmt.Errorf("set global %d: %w", g.Index, err)
		}
	}
	for _, seg := range s.DroppedData {
		if !slices.Contains(c.module.plan.DroppedData, seg) {
			return fmt.Errorf("%w: data segment %d can't have been dropped", ErrMismatch, seg)
		}
		if _, err := c.main.ExportedFunction(instrument.ExportDrop(seg)).Call(context.Background()); err != nil {
			return fmt.Errorf("drop data segment %d: %w", seg, err)
		}
	}
	return c.restoreTables(s)
}

// partSeparator is between a host module's name and that of a part of its state, see [hostabi.PartedInstance].
const partSeparator = "#"

func (c *Coroutine) restoreHosts(s *snapshot.Snapshot) error {
	instance := func(name string) hostabi.Instance {
		i := slices.IndexFunc(c.module.runtime.modules, func(m *hostabi.Module) bool { return m.Name == name })
		if i < 0 {
			return nil
		}
		return c.hosts[i]
	}
	parts := map[string][]hostabi.Part{} // by module, in order
	for _, sec := range s.Host {
		if instance(sec.Name) != nil {
			continue
		}
		// A module's name may have the separator in it, a part's may not.
		if at := strings.LastIndex(sec.Name, partSeparator); at >= 0 {
			if _, ok := instance(sec.Name[:at]).(hostabi.PartedInstance); ok {
				parts[sec.Name[:at]] = append(parts[sec.Name[:at]], hostabi.Part{Name: sec.Name[at+1:], Data: sec.Data})
				continue
			}
		}
		return fmt.Errorf("%w: it has state of host module %s, of which no instance was given", ErrMismatch, sec.Name)
	}
	for _, sec := range s.Host {
		h := instance(sec.Name)
		if h == nil {
			continue
		}
		if parted, ok := h.(hostabi.PartedInstance); ok {
			if err := parted.RestoreParts(sec.Version, parts[sec.Name]); err != nil {
				return fmt.Errorf("host module %s: %w", sec.Name, err)
			}
			delete(parts, sec.Name)
		}
		if err := h.Restore(sec.Version, sec.Data); err != nil {
			return fmt.Errorf("host module %s: %w", sec.Name, err)
		}
	}
	for name := range parts {
		return fmt.Errorf("%w: it has parts of the state of host module %s, and not the state itself", ErrMismatch, name)
	}
	return nil
}

// prepareStack prepares for rebuilding a stack of these frames that ends in a call of the await import.
func (c *Coroutine) prepareStack(ctx context.Context, frames []snapshot.Frame, await uint32) error {
	r, sequence, err := c.module.resumeFor(ctx, frames, await)
	if err != nil {
		return err
	}
	defer r.release(ctx)
	// An instance has no state of its own, so it serves again where a guest waits in the same place, in a loop.
	if c.shape != r {
		inst, err := r.instantiate(ctx, c.module.runtime.engine, c.main)
		if err != nil {
			return fmt.Errorf("instantiate continuations: %w", err)
		}
		old := c.resume
		c.resume, c.shape = inst, r
		switch {
		case old == nil:
		case c.linear != nil && !c.linear.Detach():
			// wazero v1.12 takes an instance that is closed for the owner of its memory, also if it only imports it: from then on it
			// grows the memory itself. Where that can't be prepared for, the instance stays until the end.
			c.retired = append(c.retired, old)
		default:
			if err := old.Close(ctx); err != nil {
				return fmt.Errorf("close continuations: %w", err)
			}
		}
	}
	c.stack.reset()
	c.stack.continuations = sequence
	for i := range frames {
		for k, sl := range frames[i].Slots {
			lo := sl.Value.Lo
			if sl.Value.Type == snapshot.FuncRef {
				// The continuation knows of what type the reference is.
				if lo, err = c.module.position(r.slots[sequence[i]][k], sl.Value); err != nil {
					return fmt.Errorf("frame %d: %w", i, err)
				}
			}
			c.stack.words = append(c.stack.words, lo)
			if sl.Value.Type == snapshot.V128 {
				c.stack.words = append(c.stack.words, sl.Value.Hi)
			}
		}
	}
	return nil
}
