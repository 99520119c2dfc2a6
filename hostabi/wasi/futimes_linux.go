package wasi

import (
	"errors"
	"fmt"
	"os"

	"github.com/tetratelabs/wazero/experimental/sys"
	"golang.org/x/sys/unix"
)

// futimes sets the times of an open file, whatever its name is by now.
func futimes(f *os.File, atim, mtim int64) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	ts := []unix.Timespec{timespec(atim), timespec(mtim)}
	var failed error
	err = conn.Control(func(fd uintptr) {
		failed = unix.UtimesNanoAt(int(fd), "", ts, unix.AT_EMPTY_PATH)
	})
	if err != nil {
		return err
	}
	if errors.Is(failed, unix.EINVAL) || errors.Is(failed, unix.ENOENT) { // before Linux 5.8
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, failed)
	}
	return failed
}

func timespec(ns int64) unix.Timespec {
	if ns == sys.UTIME_OMIT {
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	}
	return unix.NsecToTimespec(ns)
}
