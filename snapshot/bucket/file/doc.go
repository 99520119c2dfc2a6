// Package file keeps a bucket in a folder: the driver for one machine, or for several on a shared file system that has
// hard links and flock.
//
//	<root>/coroutines/p/fffffffffffffffe   an object; its key is its path
//	<root>/.durun/tmp/<random>             an object that is being written, locked by its writer
//	<root>/.durun/locks/<key>              a lock, held by whoever has it flocked
//
// An object is created in five steps, so that neither a crash of the process nor of the machine leaves half of one, and
// so that of several writers one wins:
//
//	write a temporary file · fsync it · link(2) it to its name · unlink the temporary name · fsync the folder
//
// link fails if the name exists; it is the only step that publishes. New folders are fsynced into their parents before
// anything is put into them. A writer that dies leaves a temporary file, which a later one removes: it is not locked.
//
// All file work goes through one small interface, fsys, that tests replace in order to fail, to crash at each step and
// to lose what was never synced. Where a platform has no fsync of folders (Windows), the file system's journal has to do.
package file
