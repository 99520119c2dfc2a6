//go:build !race

package guests

// RaceEnabled says that the race detector is on, with which wazero takes minutes to compile the large guests. `make test`
// runs the tests that leave them out once more without it.
const RaceEnabled = false
