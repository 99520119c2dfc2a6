//go:build !race

package guests

// RaceEnabled says that the race detector is on, with which wazero takes minutes to compile the large guests, and much else takes
// ten times as long. `make test` runs the tests that leave something out once more without it.
const RaceEnabled = false
