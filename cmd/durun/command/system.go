package command

import (
	"io"

	"github.com/durun/durun/hostabi/wasi"
	"github.com/durun/durun/snapshot"
)

// systemConfig says what WASI gives a program.
type systemConfig struct {
	args, env []string         // of a new coroutine; a restored one brings its own
	tty       [3]bool          // as above
	grants    []snapshot.Grant // folders, and volumes of a new coroutine
	stdin     io.Reader
	messages  bool // standard input of a new coroutine comes from messages
	restored  bool // it is not a new one
}

func newSystem(c systemConfig) (*wasi.Instance, error) {
	config := wasi.Config{Args: c.args, Env: c.env, TTY: c.tty, Durun: true, Stdin: c.stdin, StdinMessages: c.messages}
	for _, g := range c.grants {
		if g.Kind == grantDir {
			config.Mounts = append(config.Mounts, wasi.Mount{Host: g.Value, Guest: g.Name, ReadOnly: g.Flags == flagReadOnly})
		}
	}
	if !c.restored { // else it brings its own
		volumes, err := volumesOf(c.grants)
		if err != nil {
			return nil, usageError("set up the program's system interface: %w", err)
		}
		config.Mounts = append(config.Mounts, volumes...)
	}
	i, err := wasi.New(config)
	if err != nil {
		return nil, usageError("set up the program's system interface: %w", err)
	}
	return i, nil
}
