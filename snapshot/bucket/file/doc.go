// Package file keeps a bucket in a folder: the driver for one machine, or for several on a shared file system that has
// hard links and flock.
//
//	<root>/coroutines/p/fffffffffffffffe   an object; its key is its path
//	<root>/.durun/tmp/<random>             an object that is being written, locked by its writer
//	<root>/.durun/locks/<key>              a lock, held by whoever has it flocked, and its note
//	<root>/.durun/locks/.spare             a lock's file for when there is no room to make one
//
// An object is created in four steps, so that neither a crash of the process nor of the machine leaves half of one, and
// so that of several writers one wins:
//
//	write a file without a name · fsync it · linkat(2) it to its name · fsync the folder
//
// linkat fails if the name exists; it is the only step that publishes. New folders are fsynced into their parents last of
// all, before Put returns. Until it returns, readers may see an object that a loss of power would take away again.
//
// Where files can't be made without a name (other systems than Linux; NFS), a temporary file is linked, and its own name
// removed after. A writer that dies leaves it behind, and a later one removes it: it is not locked any more.
//
// All file work goes through one small interface, fsys, that tests replace in order to fail, to crash at each step and
// to lose what was never synced. Where a platform has no fsync of folders (Windows), the file system's journal has to do.
// With [Options].NoSync nothing is fsynced.
//
// On Linux a bucket can watch folders, with inotify(7). Elsewhere, and for what comes from other machines, who waits for
// objects lists now and then.
package file
