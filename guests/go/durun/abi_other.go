//go:build !wasip1

package durun

// What is needed to compile on other platforms, for tools. There is no host to ask.

func abiInput([]byte) int32               { panic(noHost) }
func abiOutput([]byte)                    { panic(noHost) }
func abiYield([]byte)                     { panic(noHost) }
func abiCheckpoint()                      { panic(noHost) }
func abiID([]byte) int32                  { panic(noHost) }
func abiBegin(kind, string, []byte) int32 { panic(noHost) }
func abiResult(uint32) ([]byte, Code)     { panic(noHost) }
func abiMessage(uint32) string            { panic(noHost) }
func abiCancel(uint32)                    { panic(noHost) }
func abiDrop(uint32)                      { panic(noHost) }
func waitForEnds() ([]uint32, bool)       { panic(noHost) }

const cancelledAlone = false

const noHost = "durun: the program runs outside of durun; build it with GOOS=wasip1 GOARCH=wasm"
