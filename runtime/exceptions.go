package runtime

import (
	"fmt"
	"unsafe"
)

// maxExceptions is how many exceptions a guest may catch by reference between two suspensions. What the runtime keeps for one is
// some 100 bytes.
const maxExceptions = 1 << 22

// exceptions are those that a guest may hold references to. wazero v1.12 makes them objects of Go's, and gives compiled code
// their addresses, which Go's garbage collector doesn't see.
type exceptions struct {
	kept map[unsafe.Pointer]struct{}
	most int // other than maxExceptions in tests
}

// keep keeps the exception whose address is on the stack.
func (e *exceptions) keep(stack []uint64) {
	p := *(*unsafe.Pointer)(unsafe.Pointer(&stack[0]))
	if p == nil {
		return
	}
	if e.kept == nil {
		e.kept = map[unsafe.Pointer]struct{}{}
	}
	e.kept[p] = struct{}{}
	most := e.most
	if most == 0 {
		most = maxExceptions
	}
	if len(e.kept) > most {
		panic(fmt.Errorf("durun: more than %d exceptions caught by reference without an await point between: the program might hold all of them", most))
	}
}

// release lets go of all. The guest must not hold any.
func (e *exceptions) release() {
	clear(e.kept)
}
