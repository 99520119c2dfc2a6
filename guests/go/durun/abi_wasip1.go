package durun

import (
	goruntime "runtime"
	"unsafe"
)

// The functions of the import module, see hostabi/ABI.md. None keeps a pointer. Only yield, checkpoint and wait suspend; they
// stop the whole program until they return.

//go:wasmimport durun input
//go:noescape
func hostInput(buf unsafe.Pointer, size uint32) int32

//go:wasmimport durun output
//go:noescape
func hostOutput(value unsafe.Pointer, size uint32)

//go:wasmimport durun yield
//go:noescape
func hostYield(value unsafe.Pointer, size uint32) int32

//go:wasmimport durun checkpoint
func hostCheckpoint()

//go:wasmimport durun id
//go:noescape
func hostID(buf unsafe.Pointer, size uint32) int32

//go:wasmimport durun begin
//go:noescape
func hostBegin(kind uint32, name unsafe.Pointer, nameSize uint32, body unsafe.Pointer, bodySize uint32) int32

//go:wasmimport durun result
//go:noescape
func hostResult(op uint32, buf unsafe.Pointer, size uint32) int32

//go:wasmimport durun message
//go:noescape
func hostMessage(op uint32, buf unsafe.Pointer, size uint32) int32

//go:wasmimport durun cancel
func hostCancel(op uint32) int32

//go:wasmimport durun drop
func hostDrop(op uint32) int32

func pointer(b []byte) (unsafe.Pointer, uint32) {
	return unsafe.Pointer(unsafe.SliceData(b)), uint32(len(b))
}

func abiInput(buf []byte) int32 {
	p, n := pointer(buf)
	defer goruntime.KeepAlive(buf)
	return hostInput(p, n)
}

func abiOutput(value []byte) {
	p, n := pointer(value)
	hostOutput(p, n)
	goruntime.KeepAlive(value)
}

func abiYield(value []byte) {
	p, n := pointer(value)
	hostYield(p, n)
	goruntime.KeepAlive(value)
}

func abiCheckpoint() { hostCheckpoint() }

func abiID(buf []byte) int32 {
	p, n := pointer(buf)
	defer goruntime.KeepAlive(buf)
	return hostID(p, n)
}

// abiBegin returns the operation's number, or a code, negated.
func abiBegin(k kind, name string, body []byte) int32 {
	p, n := pointer(body)
	defer goruntime.KeepAlive(body)
	defer goruntime.KeepAlive(name)
	return hostBegin(uint32(k), unsafe.Pointer(unsafe.StringData(name)), uint32(len(name)), p, n)
}

func abiResult(number uint32) ([]byte, Code) {
	size := hostResult(number, nil, 0)
	if size < 0 {
		return nil, Code(-size)
	}
	result := make([]byte, size)
	p, n := pointer(result)
	hostResult(number, p, n)
	return result, 0
}

// abiMessage returns why an operation failed; of 0, why the last one could not begin.
func abiMessage(number uint32) string {
	return string(sized(func(buf []byte) int32 {
		p, n := pointer(buf)
		return max(hostMessage(number, p, n), 0)
	}))
}

func abiCancel(number uint32) { hostCancel(number) }

func abiDrop(number uint32) { hostDrop(number) }
