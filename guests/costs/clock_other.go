//go:build !unix

package main

import (
	"os"
	"time"
)

var processStart = time.Now()

// cpuTime is the time on the clock here: what other processes do shows in it.
func cpuTime() time.Duration { return time.Since(processStart) }

// peakMemory is not known here.
func peakMemory(*os.ProcessState) int64 { return 0 }
