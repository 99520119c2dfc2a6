// Package wasi is durable WASI preview 1: the import module wasi_snapshot_preview1 with state that goes into a snapshot
// and comes out of it, in another process or on another machine.
//
// It answers as wazero's own wasi_snapshot_preview1 does, errnos included, so that a program runs here as it does there.
// It differs where durability or safety ask for it, and where wazero falls short of the specification:
//
//   - poll_oneoff, fd_read on standard input and, on request, sched_yield are await points. poll_oneoff knows absolute
//     times, reports only what happened, and finds files ready.
//   - Folders are behind [os.Root]: neither "..", nor an absolute path, nor a symbolic link leads out of a mount, whoever
//     else changes the folder meanwhile. An absolute link is not followed even if it points back in. (wazero's sysfs
//     follows links out of its folder, and its ReadFS creates and truncates files that are not opened for writing.)
//   - fd_readdir lists by name, so that it can be continued elsewhere.
//   - Named pipes can't be opened (ENOTSUP): what is in one can't be captured.
//   - Some errnos that wazero folds into EIO are told apart: ENOSPC, EDQUOT, EFBIG, EMFILE and their like. A rename or link
//     between mounts is EXDEV, a path that is not UTF-8 EILSEQ.
//   - The files under /durun, if the Config has them, let any program begin operations and wait for them: see DURUN.md.
//     Reads of two of them are await points, too.
//   - Descriptors are below 4096, paths up to 4096 bytes, and one poll_oneoff takes up to 16384 subscriptions.
//
// # What is captured
//
// Arguments, environment, the descriptor table, the monotonic clock, and that standard input ended. A restored guest
// keeps all of these, whatever the Config of the restoring node says about them. From the node come standard input, the
// folders behind the mounts, the time, and random bytes.
//
// A descriptor is captured as mount, path, flags, type and offset, and opened again without O_CREAT, O_EXCL and O_TRUNC.
// A file that is gone, of another type, or, if it was open for reading only, shorter than the offset that was reached in
// it, is EIO at each use but fd_close. So is one that was unlinked or replaced while it was open: its name no longer
// leads to it. A file that the guest renamed is followed.
//
// The content of a file is not captured. What the guest wrote after a commit stays written if the guest then goes back
// to that commit, and is written again: such effects are at least once.
//
// Standard input that was read from the host and not yet by the guest, at most what one call asked for, is not captured;
// see [Stdin]. That it ended is remembered for good.
//
// # Clocks
//
// The wall clock is the node's. The monotonic clock goes on from its captured value plus the wall time that passed, and
// never back. A wait's deadline is fixed when the guest asks, and travels in the Pending: a restore doesn't start it
// again.
package wasi
