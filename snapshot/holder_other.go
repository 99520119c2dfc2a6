//go:build !linux

package snapshot

// self knows nothing here: whether a process of this machine has ended shows when its lease runs out.
func self() process { return process{} }

func ended(int, string) bool { return false }

func dying(int, string) bool { return false }
