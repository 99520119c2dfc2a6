package hostabi

// The import module "durun", version 1. ABI.md specifies it; the runtime implements it.
const (
	// ModuleName is the name under which a guest imports durun's own functions.
	ModuleName = "durun"
	// ABIVersion is the version of the import module that these constants name. See ABI.md on how versions evolve.
	ABIVersion = 1

	// FuncInput is input(buf i32, cap i32) -> len i32: copy the value most recently handed to the coroutine.
	FuncInput = "input"
	// FuncOutput is output(ptr i32, len i32): set the coroutine's result.
	FuncOutput = "output"
	// FuncYield is yield(ptr i32, len i32) -> len i32, an await point: hand a value to the driver, receive one.
	FuncYield = "yield"
	// FuncCheckpoint is checkpoint(), an await point: capture here, go on.
	FuncCheckpoint = "checkpoint"
	// FuncID is id(buf i32, cap i32) -> len i32: copy the coroutine's id.
	FuncID = "id"
	// FuncBegin is begin(kind i32, name i32, name_len i32, body i32, body_len i32) -> op i32, or a negated [Code]: begin an operation.
	FuncBegin = "begin"
	// FuncWait is wait(ops i32, n i32, min i32, timeout i64) -> ended i32, or a negated [Code], an await point.
	FuncWait = "wait"
	// FuncResult is result(op i32, buf i32, cap i32) -> len i32, or a negated [Code]: copy an operation's result.
	FuncResult = "result"
	// FuncMessage is message(op i32, buf i32, cap i32) -> len i32, or a negated [Code]: copy why an operation failed, or, with
	// 0 for its number, why the last begin did.
	FuncMessage = "message"
	// FuncCancel is cancel(op i32) -> i32, 0 or a negated [Code]: give an operation up.
	FuncCancel = "cancel"
	// FuncDrop is drop(op i32) -> i32, 0 or a negated [Code]: cancel an operation and forget it.
	FuncDrop = "drop"
)

// MaxValueLen is the longest value, in bytes, that passes between a coroutine and its driver in one call: an input, an
// output, a value yielded or received. It is the most that a signed 32-bit length can say.
const MaxValueLen = 1<<31 - 1

// Limits of operations.
const (
	// MaxOperations is how many operations a coroutine can have that it has not dropped.
	MaxOperations = 100_000
	// MaxName is the longest name of an operation or a message, in bytes; [MaxSpawnName] that of a child.
	MaxName = 256
	// MaxSpawnName is the longest name of a child, with its arguments.
	MaxSpawnName = 64 << 10
	// MaxPayload is the longest body, result or message, in bytes.
	MaxPayload = 16 << 20
	// MaxPayloads is how many bytes names, bodies and results of a coroutine's operations can have together.
	MaxPayloads = 64 << 20
)

// WaitSuccess is a flag in the min of wait: see [Wait].Success.
const WaitSuccess = 1 << 31
