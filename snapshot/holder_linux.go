package snapshot

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// self returns what tells this process from others. It is empty if /proc is not that of the process's own namespace, or
// isn't there.
var self = sync.OnceValue(func() process {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return process{}
	}
	pids, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return process{}
	}
	if pid, err := os.Readlink("/proc/self"); err != nil || pid != strconv.Itoa(os.Getpid()) {
		return process{}
	}
	s, err := stat(os.Getpid())
	if err != nil {
		return process{}
	}
	return process{Boot: strings.TrimSpace(string(boot)), PIDs: pids, Start: s.start}
})

// ended reports whether a process of this namespace that started then is no more. A stopped one is.
func ended(pid int, start string) bool {
	if syscall.Kill(pid, 0) == syscall.ESRCH { // also where /proc hides the processes of others
		return true
	}
	s, err := stat(pid)
	if err != nil {
		return false
	}
	// A zombie has ended, though its parent has not noticed yet; if it has threads, only its first one has.
	zombie := (s.state == "Z" || s.state == "X") && s.threads == "1"
	return s.start != start || zombie
}

// exiting is the flag of a task that has begun to end, PF_EXITING of the kernel.
const exiting = 0x4

// dying reports whether a process of this namespace that started then is ending, or is to be by a signal that it can't catch.
func dying(pid int, start string) bool {
	s, err := stat(pid)
	if err != nil || s.start != start {
		return false
	}
	flags, _ := strconv.ParseUint(s.flags, 10, 32)
	return s.state == "Z" || s.state == "X" || flags&exiting != 0 || killed(pid)
}

// killed reports whether a process has been sent a SIGKILL that it has yet to take, see proc_pid_status(5).
func killed(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(line, ":")
		if name != "SigPnd" && name != "ShdPnd" {
			continue
		}
		pending, _ := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if pending&(1<<(syscall.SIGKILL-1)) != 0 {
			return true
		}
	}
	return false
}

// status is what /proc says of a process.
type status struct{ state, flags, threads, start string }

// stat reads /proc/PID/stat, see proc_pid_stat(5). The second field, the name in parentheses, may hold anything.
func stat(pid int) (status, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return status{}, err
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 20 {
		return status{}, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields)+2)
	}
	return status{state: fields[0], flags: fields[6], threads: fields[17], start: fields[19]}, nil
}
