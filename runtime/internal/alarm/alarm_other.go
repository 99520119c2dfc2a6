//go:build !linux

package alarm

import "time"

// AfterFunc calls f, in a goroutine of its own, when d has passed. stop keeps it from that, and returns false if it is too late.
func AfterFunc(d time.Duration, f func()) (stop func() bool) { return time.AfterFunc(d, f).Stop }
