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
//   - A descriptor that is open and no socket is ENOTSOCK to sock_recv and its like. proc_raise does what a signal does by default.
//   - Descriptors are below 4096, paths up to 4096 bytes, and one poll_oneoff takes up to 16384 subscriptions.
//
// # What is captured
//
// Arguments, environment, the descriptor table, the monotonic clock, standard input as far as it was read, and volumes in
// memory. A restored guest keeps all of these, whatever the Config of the restoring node says about them. From the node come
// standard input, the folders behind the mounts, the time, and random bytes. WASI.md goes through the functions one by one.
//
// A descriptor in a folder of the host is captured as mount, path, flags, type and offset, and opened again without O_CREAT,
// O_EXCL and O_TRUNC. A file that is gone, of another type, or, if it was open for reading only, shorter than the offset that
// was reached in it, is EIO at each use but fd_close. So is one that was unlinked or replaced while it was open: its name no
// longer leads to it. A file that the guest renamed is followed.
//
// The content of a file in such a folder is not captured. What the guest wrote after a commit stays written if the guest then
// goes back to that commit, and is written again: such effects are at least once.
//
// A volume in memory (see [Mount].Memory) is captured with all that is in it: files, folders, links, times, files that have
// lost their names and are still open. What the guest does there happens exactly once, as in its own memory. It is for what
// a program would put into /tmp: each byte is in the first commit, then in those that come after it was changed, in chunks of
// 64 KiB of which only what differs is stored.
//
// # Standard input and output
//
// Standard input is read ahead of the guest, at most what one call asked for, and that is part of the next commit. What the
// process has read since its last commit is lost if it dies: a pipe has it no more. Input that must not get lost
// comes from messages ([Config].StdinMessages), which are gone only with a commit that has them. That the input ended is
// remembered for good.
//
// Standard output and error are the runtime's, by [hostabi.Guest].Output: it commits them with the state.
//
// # Clocks
//
// The wall clock is the node's. The monotonic clock goes on from its captured value plus the wall time that passed, and
// never back. A wait's deadline is fixed when the guest asks, and travels in the Pending: a restore doesn't start it
// again.
package wasi
