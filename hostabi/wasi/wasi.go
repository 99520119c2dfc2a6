package wasi

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"sync"

	"github.com/tetratelabs/wazero/experimental/sys"

	"github.com/durun/durun/hostabi"
)

// Config says what a guest gets. The zero value is a guest without arguments, environment, input and files.
//
// Args, Env, TTY, CheckpointOnYield, Durun, StdinMessages and mounts in memory belong to the guest: they are captured, and
// Restore puts the captured ones in place of these. The rest belongs to the node.
type Config struct {
	// Args are the program's arguments; the first is its name.
	Args []string
	// Env is the environment, KEY=VALUE each, in the order in which the guest sees it.
	//
	// It is part of the snapshot, secrets included.
	Env []string
	// TTY says which of the standard streams 0, 1 and 2 the guest shall take for a terminal. A C library then buffers
	// by the line, for example. The default is what wazero answers for an io.Reader or io.Writer: a device, but not a terminal.
	TTY [3]bool
	// CheckpointOnYield makes sched_yield an await point. By default it returns at once: the schedulers of Go and of
	// thread libraries call it in loops.
	CheckpointOnYield bool
	// Durun gives the guest the files under /durun, by which a program that can't import the module "durun" begins
	// operations and waits for them; see DURUN.md. It finds them as the last preopened descriptor. Before that is one for
	// "/", which lists what there is, unless Mounts has a folder of that name. A mount of the name /durun hides the files.
	Durun bool

	// StdinMessages lets standard input come from messages to the coroutine of the name "stdin", one after the other, in place
	// of Stdin. An empty one is its end.
	StdinMessages bool

	// Stdin is standard input; nil is an empty one. It is read in a goroutine, and only when the guest asks. A *[Stdin]
	// can be passed on from one Instance to the next.
	Stdin io.Reader
	// Mounts are the folders that the guest sees, as preopened descriptors from 3 on, in this order.
	Mounts []Mount
	// Clock is the time; nil is [SystemClock].
	Clock Clock
	// Random is the source of random_get; nil is crypto/rand.
	Random io.Reader
}

// Mount gives a guest a folder of the host, or a volume in memory.
type Mount struct {
	// Host is the folder's path on the host.
	Host string
	// Memory makes it a volume in memory instead, which is part of the snapshot with all that is in it: an empty folder, at
	// first. It goes back with the guest when that goes back to a commit, and goes on with it on another machine. See the
	// package's documentation on what it costs.
	Memory bool
	// Limit is how much a volume in memory can hold, in bytes; more is ENOSPC. 0 is [DefaultVolumeLimit]. All of a guest
	// together can have up to [MaxVolumes].
	Limit int64
	// Guest is the name under which the guest finds it, for example "/" or "/data"; empty means "/". A snapshot names
	// mounts by it.
	Guest string
	// ReadOnly refuses all changes, with EROFS.
	ReadOnly bool
}

// guestName is the name under which mounts are compared.
func guestName(s string) string {
	if s == "" {
		return "/"
	}
	return path.Clean(s)
}

// MissingMountError says that a saved state needs mounts that the Config doesn't have. The coroutine can be resumed
// when they are given.
type MissingMountError struct {
	Guests []string // the guest names of all that are missing, in the order in which the guest got them
}

func (e *MissingMountError) Error() string {
	return fmt.Sprintf("restore WASI state: the program needs folders that are not mounted: %s", strings.Join(e.Guests, ", "))
}

// VolumeMountError says that the Config mounts a folder where a saved state has a volume in memory. The coroutine can be resumed
// without it.
type VolumeMountError struct {
	Guest string // the name of both, to the guest
}

func (e *VolumeMountError) Error() string {
	return fmt.Sprintf("restore WASI state: the program has a volume of its own at %s: a folder can't be mounted there", e.Guest)
}

// ErrClosed is what Wait returns after Close.
var ErrClosed = errors.New("wasi: instance is closed")

// Instance is WASI for one coroutine.
type Instance struct {
	args, env         []string
	tty               [3]bool
	checkpointOnYield bool

	stdin  stdinState
	random io.Reader
	clock  guestClock
	mounts []*mount
	durun  *durunFiles    // nil if the guest has none
	parts  []hostabi.Part // of the state, between RestoreParts and Restore
	fds    table

	coroutine hostabi.Coroutine // the guest's, during a call; nil if there is none

	closing sync.Once
	open    context.Context // done when it is closed
	close   context.CancelFunc
}

var (
	_ hostabi.PartedInstance  = (*Instance)(nil)
	_ hostabi.ProgramInstance = (*Instance)(nil)
)

// mount is a folder that the guest sees.
type mount struct {
	guest string
	fs    volume
}

// preopen returns a descriptor of the mount's root. Its file is nil if that can't be opened.
func (m *mount) preopen() *descriptor {
	d := &descriptor{kind: kindPreopen, mount: m, path: "."}
	if f, e := m.fs.openFile(".", sys.O_RDONLY|sys.O_DIRECTORY, 0); e == 0 {
		d.file = f
	}
	return d
}

// New returns the state of a guest that hasn't run yet. It fails on arguments or environment with a NUL byte, an environment
// entry without "=", two mounts of one name, and a mount that isn't a folder that can be opened.
func New(c Config) (*Instance, error) {
	i := &Instance{
		args:              append([]string(nil), c.Args...),
		env:               append([]string(nil), c.Env...),
		tty:               c.TTY,
		checkpointOnYield: c.CheckpointOnYield,
		random:            c.Random,
	}
	i.open, i.close = context.WithCancel(context.Background())
	if err := checkStrings(i.args, i.env); err != nil {
		return nil, err
	}
	if i.random == nil {
		i.random = rand.Reader
	}
	if c.Clock == nil {
		c.Clock = SystemClock()
	}
	i.clock = newGuestClock(c.Clock)
	switch in := c.Stdin.(type) {
	case nil:
	case *Stdin:
		i.stdin.reader = in
	default:
		i.stdin.reader = NewStdin(in)
	}
	i.stdin.messages = c.StdinMessages
	i.fds.insertStdio(i.tty)
	for _, m := range c.Mounts {
		if err := i.addMount(m); err != nil {
			i.closeFiles()
			return nil, err
		}
	}
	if c.Durun && i.mount(durunName) == nil {
		i.durun = newDurun(i, i.mounts)
		if i.mount("/") == nil && i.mount(".") == nil {
			i.fds.insert(i.durun.root.preopen())
		}
		i.fds.insert(i.durun.mount.preopen())
	}
	return i, nil
}

func (i *Instance) addMount(m Mount) error {
	guest := guestName(m.Guest)
	if i.mount(guest) != nil {
		return fmt.Errorf("mount %s at %s: the guest has another mount of that name", m.Host, guest)
	}
	if strings.ContainsRune(guest, 0) {
		return fmt.Errorf("mount %s at %q: the name has a NUL byte", m.Host, guest)
	}
	if len(i.mounts) >= maxMounts {
		return fmt.Errorf("mount %s at %s: more than %d mounts", m.Host, guest, maxMounts)
	}
	if m.Memory {
		return i.addVolume(guest, m)
	}
	root, err := os.OpenRoot(m.Host)
	if err != nil {
		return fmt.Errorf("mount %s at %s: %w", m.Host, guest, err)
	}
	mnt := &mount{guest: guest, fs: &hostFS{root: root, readOnly: m.ReadOnly}}
	i.mounts = append(i.mounts, mnt) // closeFiles closes it
	d := mnt.preopen()
	if d.file == nil {
		return fmt.Errorf("mount %s at %s: the folder can't be read", m.Host, guest)
	}
	i.fds.insert(d)
	return nil
}

// addVolume adds a volume in memory, and a descriptor for it.
func (i *Instance) addVolume(guest string, m Mount) error {
	volumes := i.volumes()
	if m.Limit == 0 {
		m.Limit = DefaultVolumeLimit
	}
	total := m.Limit
	for _, v := range volumes {
		total = satAdd(total, v.limit)
	}
	switch {
	case m.Host != "" || m.ReadOnly:
		return fmt.Errorf("volume at %s: it is in memory, and empty: it can neither show %q nor be read-only", guest, m.Host)
	case m.Limit < 0:
		return fmt.Errorf("volume at %s: a limit of %d bytes", guest, m.Limit)
	case total > MaxVolumes:
		return fmt.Errorf("volume at %s: all volumes have limits of %d bytes together, and can have %d", guest, total, MaxVolumes)
	}
	mnt := &mount{guest: guest, fs: newMemVolume(len(volumes), m.Limit, i.clock.wall)}
	i.mounts = append(i.mounts, mnt)
	i.fds.insert(mnt.preopen())
	return nil
}

// volumes returns the volumes in memory, in their order.
func (i *Instance) volumes() []*memVolume {
	var list []*memVolume
	for _, m := range i.mounts {
		if v, ok := m.fs.(*memVolume); ok {
			list = append(list, v)
		}
	}
	return list
}

// mount returns the mount of that guest name, or nil.
func (i *Instance) mount(guest string) *mount { return findMount(i.mounts, guest) }

func findMount(mounts []*mount, guest string) *mount {
	for _, m := range mounts {
		if m.guest == guest {
			return m
		}
	}
	return nil
}

// checkStrings refuses what a C program could not be handed.
func checkStrings(args, env []string) error {
	for n, s := range args {
		if strings.ContainsRune(s, 0) {
			return fmt.Errorf("argument %d %q has a NUL byte", n, s)
		}
	}
	for _, s := range env {
		if strings.ContainsRune(s, 0) {
			return fmt.Errorf("environment entry %q has a NUL byte", s)
		}
		if strings.IndexByte(s, '=') < 1 {
			return fmt.Errorf("environment entry %q is not KEY=VALUE", s)
		}
	}
	for _, list := range [][]string{args, env} {
		if len(list) > maxStrings || sizeOf(list) > maxStringBytes {
			return fmt.Errorf("arguments or environment are too long: %d in %d bytes, more than %d in %d", len(list), sizeOf(list), maxStrings, maxStringBytes)
		}
	}
	return nil
}

// Program returns the guest's arguments and environment; see [hostabi.ProgramInstance].
func (i *Instance) Program() (args, env []string) { return i.args, i.env }

// Module returns [Module].
func (i *Instance) Module() *hostabi.Module { return Module }

// Wait blocks until p may complete; see [hostabi.Instance]. After Close it returns [ErrClosed].
func (i *Instance) Wait(ctx context.Context, p *hostabi.Pending) error {
	if p.Kind == hostabi.KindCheckpoint {
		return ctx.Err()
	}
	w, err := decodeWait(p.Data)
	if err != nil {
		return err
	}
	return i.wait(ctx, w)
}

// Close closes the guest's files. A read of standard input that is under way goes on until the reader returns; what it
// brings stays in the [Stdin].
func (i *Instance) Close() error {
	i.closing.Do(func() {
		i.close()
		i.stdin.release()
		i.closeFiles()
	})
	return nil
}

func (i *Instance) closeFiles() {
	i.fds.close()
	for _, m := range i.mounts {
		m.fs.close()
	}
}
