//go:build race

package runtime

// raceEnabled says that the tests run with the race detector, which makes compiling CPython take minutes.
const raceEnabled = true
