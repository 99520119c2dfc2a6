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
)

// MaxValueLen is the longest value, in bytes, that passes between a coroutine and its driver in one call: an input, an
// output, a value yielded or received. It is the most that a signed 32-bit length can say.
const MaxValueLen = 1<<31 - 1
