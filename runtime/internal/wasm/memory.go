package wasm

// memoryPage is the size of a page of memory in bytes.
const memoryPage = 65536

// InitialMemory returns what the active data segments of a valid module make of its memory, up to the end of the last page of
// 64 KiB that they reach; beyond it is zero. It returns false if that can't be told: if a segment stands where an imported
// global says, or doesn't fit the memory's initial size, so that the module can't be instantiated.
func (m *Module) InitialMemory() ([]byte, bool) {
	if len(m.Memories) == 0 {
		return nil, false
	}
	size := m.Memories[0].Min * memoryPage
	end := uint64(0)
	offsets := make([]uint64, len(m.Data))
	for i := range m.Data {
		d := &m.Data[i]
		if d.Mode != Active {
			continue
		}
		at, ok := constantI32(d.Offset)
		if !ok || d.Memory != 0 {
			return nil, false
		}
		offsets[i] = uint64(at)
		if end = max(end, uint64(at)+uint64(len(d.Init))); end > size {
			return nil, false
		}
	}
	memory := make([]byte, (end+memoryPage-1)/memoryPage*memoryPage)
	for i := range m.Data {
		if m.Data[i].Mode == Active {
			copy(memory[offsets[i]:], m.Data[i].Init)
		}
	}
	return memory, true
}

// constantI32 evaluates a constant expression of type i32; it returns false if that depends on a global.
func constantI32(x Expr) (uint32, bool) {
	r := NewReader(x)
	var in Instr
	var stack []uint32
	for r.Next(&in) == nil {
		n := len(stack)
		switch in.Op {
		case OpI32Const:
			stack = append(stack, uint32(in.Const))
			continue
		case OpEnd:
			if n != 1 {
				return 0, false
			}
			return stack[0], true
		case OpI32Add, OpI32Sub, OpI32Mul:
		default:
			return 0, false
		}
		if n < 2 {
			return 0, false
		}
		a, b := stack[n-2], stack[n-1]
		switch in.Op {
		case OpI32Add:
			a += b
		case OpI32Sub:
			a -= b
		case OpI32Mul:
			a *= b
		}
		stack = append(stack[:n-2], a)
	}
	return 0, false
}
