package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/durun/durun/snapshot"
)

// checkOut reports whether the value of a flag -o FILE can be written to at all.
func checkOut(verb, out string, stdout io.Writer) error {
	switch {
	case out == "":
		return &exitError{code: exitUsage, err: fmt.Errorf("%s: -o FILE is missing", verb), advice: "-o - writes to standard output"}
	case out == "-" && isTerminal(stdout):
		return usageError("%s: the output is binary; it is not written to a terminal", verb)
	}
	return nil
}

// writeOut has write produce the file out, or standard output for "-". The file appears whole or not at all, and
// replaces what was there. It has the mode perm, less the umask.
func writeOut(ctx context.Context, out string, perm fs.FileMode, stdout io.Writer, write func(io.Writer) error) (err error) {
	if out == "-" {
		w := bufio.NewWriter(stdout)
		if err := write(&contextWriter{ctx, w}); err != nil {
			return err
		}
		if err := w.Flush(); err != nil {
			return outputError(fmt.Errorf("write standard output: %w", err), "")
		}
		return nil
	}
	if info, err := os.Stat(out); err == nil && !info.Mode().IsRegular() { // /dev/null, a pipe: nothing to replace
		if info.IsDir() {
			return usageError("-o %s: it is a folder; give a file", out)
		}
		f, err := os.OpenFile(out, os.O_WRONLY, 0)
		if err != nil {
			return outputError(fmt.Errorf("write %s: %w", out, err), "")
		}
		return errors.Join(write(&contextWriter{ctx, &fileWriter{f, out}}), f.Close())
	}
	// A symbolic link's target is replaced, not the link.
	if target, err := filepath.EvalSymlinks(out); err == nil {
		out = target
	}
	temporary := filepath.Join(filepath.Dir(out), "."+filepath.Base(out)+"."+snapshot.NewID()+".tmp")
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm) // less the umask, which CreateTemp ignores
	if err != nil {
		return outputError(fmt.Errorf("write %s: %w", out, cause(err)), "")
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(temporary)
		}
	}()
	if err := write(&contextWriter{ctx, &fileWriter{f, out}}); err != nil {
		return err
	}
	for _, step := range []func() error{
		f.Sync,
		f.Close,
		func() error { return os.Rename(temporary, out) },
	} {
		if err := step(); err != nil {
			return outputError(fmt.Errorf("write %s: %w", out, cause(err)), "")
		}
	}
	return nil
}

// cause is an error without the name of the temporary file that it is about.
func cause(err error) error {
	if path := (*fs.PathError)(nil); errors.As(err, &path) {
		return path.Err
	}
	if link := (*os.LinkError)(nil); errors.As(err, &link) {
		return link.Err
	}
	return err
}

// fileWriter tells the errors of an output file from those of what is written to it.
type fileWriter struct {
	f    *os.File
	name string
}

func (w *fileWriter) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	if err != nil {
		err = outputError(fmt.Errorf("write %s: %w", w.name, cause(err)), "")
	}
	return n, err
}

// contextWriter stops at a context's end.
type contextWriter struct {
	ctx context.Context
	w   io.Writer
}

func (w *contextWriter) Write(p []byte) (int, error) {
	if w.ctx.Err() != nil {
		return 0, context.Cause(w.ctx)
	}
	return w.w.Write(p)
}
