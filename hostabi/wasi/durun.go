package wasi

import (
	"embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/tetratelabs/wazero/experimental/sys"

	"github.com/durun/durun/hostabi"
)

// The files under /durun are for programs that can't import the module "durun"; DURUN.md specifies them. Here are the
// folder and its plain files; durunrpc.go and durunevents.go have the two that let a guest wait, duruntree.go has what the
// folder is made of.

// durunName is the folder's name to the guest.
const durunName = "/durun"

// python has /durun/lib/python: the Python module, and what brings it to programs that don't import it.
//
//go:embed python/*.py python/durun/*.py python/durun/py.typed
var python embed.FS

const (
	// maxDevices is how many descriptors of /durun/rpc and /durun/events a guest can have open.
	maxDevices = 64
	// maxRequestLine is the longest first line of a request, in bytes: the numbers of all operations that there can be.
	maxRequestLine = 2 << 20
	// maxBuffered is how many bytes of requests and responses all descriptors hold together: two of the longest.
	maxBuffered = 2 * (maxRequestLine + hostabi.MaxPayload)
)

// durunFiles is /durun for one guest.
type durunFiles struct {
	mount *mount
	root  *mount // "/", which only lists what is mounted; the guest sees it if it was given no folder of that name

	output    []byte // what is in /durun/output
	cancelled bool   // the guest has yet to be told that the coroutine is to be cancelled

	devices  int // open descriptors of rpc and events
	buffered int // bytes that they hold
}

// hold counts n more bytes that are held. It returns false if they are too many.
func (f *durunFiles) hold(n int) bool {
	if f.buffered+n > maxBuffered {
		return false
	}
	f.buffered += n
	return true
}

// newDurun makes the files of i, which has or gets the mounts.
func newDurun(i *Instance, mounts []*mount) *durunFiles {
	f := &durunFiles{}
	f.mount = &mount{guest: durunName, fs: newTree(devDurun,
		newDevice("events", f, func(b deviceBase) device { return &eventsFile{deviceBase: b} }, i),
		newText("id", func() []byte {
			if i.coroutine == nil {
				return nil
			}
			return []byte(i.coroutine.ID())
		}),
		newText("input", func() []byte {
			if i.coroutine == nil {
				return nil
			}
			return i.coroutine.Input()
		}),
		newDir("lib", embedded("python")),
		newOutput(i, f),
		newText("parent", func() []byte { return []byte(i.getenv("DURUN_PARENT")) }),
		newDevice("rpc", f, func(b deviceBase) device { return &rpcFile{deviceBase: b} }, i),
	)}
	f.root = &mount{guest: "/", fs: newTree(devRoot, mountNames(append(slices.Clone(mounts), f.mount))...)}
	return f
}

// nameOf is a mount's name in a snapshot: the guest's, but for the root that only lists mounts, which has none.
func (f *durunFiles) nameOf(m *mount) string {
	if f != nil && m == f.root {
		return ""
	}
	return m.guest
}

// named is the reverse of nameOf, for the two mounts of f; nil if it is neither.
func (f *durunFiles) named(name string) *mount {
	switch {
	case f == nil:
		return nil
	case name == "":
		return f.root
	case name == durunName:
		return f.mount
	}
	return nil
}

// embedded returns the folder of the Python module's that has this name.
func embedded(name string) *node {
	list, err := python.ReadDir(name)
	if err != nil {
		panic(err) // it was there when this was built
	}
	var entries []*node
	for _, e := range list {
		if e.IsDir() {
			entries = append(entries, embedded(path.Join(name, e.Name())))
			continue
		}
		content, err := python.ReadFile(path.Join(name, e.Name()))
		if err != nil {
			panic(err)
		}
		entries = append(entries, newText(e.Name(), func() []byte { return content }))
	}
	return newDir(path.Base(name), entries...)
}

// rootName is the name of a mount in the root.
func (m *mount) rootName() string { return strings.TrimPrefix(m.guest, "/") }

// mountNames returns the folders that lead from the root to the mounts.
func mountNames(mounts []*mount) []*node {
	below := map[string][]*mount{}
	var names []string
	for _, m := range mounts {
		name, rest, _ := strings.Cut(m.rootName(), "/")
		if name == "" || name == "." || name == ".." {
			continue
		}
		if _, ok := below[name]; !ok {
			names = append(names, name)
			below[name] = nil
		}
		if rest != "" {
			below[name] = append(below[name], &mount{guest: rest})
		}
	}
	var list []*node
	for _, name := range names {
		list = append(list, newDir(name, mountNames(below[name])...))
	}
	return list
}

// enter returns the mount that a name in the root leads to, and the name there.
func (i *Instance) enter(name string) (*mount, string) {
	best, rest := i.durun.root, name
	for _, m := range append(slices.Clone(i.mounts), i.durun.mount) {
		at := m.rootName()
		if at == "" || at == "." || best != i.durun.root && len(at) < len(best.rootName()) {
			continue
		}
		if name == at {
			best, rest = m, "."
		} else if tail, ok := strings.CutPrefix(name, at+"/"); ok {
			best, rest = m, tail
		}
	}
	return best, rest
}

// getenv returns the value of an environment variable of the guest, "" if it has none.
func (i *Instance) getenv(name string) string {
	for _, s := range i.env {
		if value, ok := strings.CutPrefix(s, name+"="); ok {
			return value
		}
	}
	return ""
}

// outputFile is /durun/output. What is in it is the coroutine's result, with each write.
type outputFile struct {
	regularFile
	i     *Instance
	durun *durunFiles
}

func newOutput(i *Instance, f *durunFiles) *node {
	content := func() []byte { return f.output }
	n := &node{name: "output", mode: 0o644, size: func() int { return len(f.output) }}
	n.open = func(n *node, flag sys.Oflag) (file, errno) {
		o := &outputFile{regularFile: regularFile{treeFile: treeFile{node: n, flag: flag}, content: content}, i: i, durun: f}
		if flag&sys.O_TRUNC != 0 {
			return o, o.truncate(0)
		}
		return o, success
	}
	return n
}

func (f *outputFile) write(b []byte) (int, errno) {
	if f.isAppend() {
		f.off = int64(len(f.durun.output))
	}
	n, e := f.put(b, f.off)
	f.off += int64(n)
	return n, e
}

func (f *outputFile) pwrite(b []byte, off int64) (int, errno) {
	if f.isAppend() {
		off = int64(len(f.durun.output)) // as Linux
	}
	return f.put(b, off)
}

func (f *outputFile) put(b []byte, off int64) (int, errno) {
	switch {
	case !f.canWrite():
		return 0, eBadf
	case f.i.coroutine == nil:
		return 0, eIO
	case off < 0:
		return 0, eInval
	case len(b) == 0:
		return 0, success
	case off > hostabi.MaxPayload-int64(len(b)):
		return 0, eFbig
	}
	if end := int(off) + len(b); end > len(f.durun.output) {
		f.durun.output = append(f.durun.output, make([]byte, end-len(f.durun.output))...)
	}
	copy(f.durun.output[off:], b)
	f.i.coroutine.SetOutput(f.durun.output)
	return len(b), success
}

func (f *outputFile) truncate(size int64) errno {
	switch old := int64(len(f.durun.output)); {
	case size < 0 || !f.canWrite():
		return eInval
	case f.i.coroutine == nil:
		return eIO
	case size > hostabi.MaxPayload:
		return eFbig
	case size <= old:
		f.durun.output = f.durun.output[:size]
	default:
		f.durun.output = append(f.durun.output, make([]byte, size-old)...)
	}
	f.i.coroutine.SetOutput(f.durun.output)
	return success
}

// device is a file of /durun whose reads are await points.
type device interface {
	file
	// prepare is called before read. It returns what the guest has to wait for, in which case it is called again with
	// that; or success: then read returns bytes, or the end of the file, at once. With nonblock it returns eAgain instead.
	prepare(p *hostabi.Pending, nonblock bool) (*hostabi.Pending, errno)
	// subscribe says whether a read would return at once, as far as operations are concerned, and how many bytes are known
	// to be there. If not, it adds to w what the read waits for.
	subscribe(w *wait) (ready bool, nbytes int)
	save() *deviceState
	restore(s *deviceState) error
}

// deviceState is a device in a snapshot.
type deviceState struct {
	Unread   []byte `cbor:"1,keyasint,omitempty"` // what a read returns next
	Request  []byte `cbor:"2,keyasint,omitempty"` // of rpc, from here on: what was written
	Large    bool   `cbor:"3,keyasint,omitempty"` // it was too large to keep
	Timed    bool   `cbor:"4,keyasint,omitempty"` // the wait that it asks for has begun
	Deadline int64  `cbor:"5,keyasint,omitempty"` // and ends then, in nanoseconds since the epoch
	Told     []byte `cbor:"6,keyasint,omitempty"` // of events: numbers that it has told, see encodeNumbers
}

// check refuses what can't be a device's state.
func (s *deviceState) check(path string) error {
	switch {
	case s == nil:
		return fmt.Errorf("device %.100q without a state", path)
	case path == "rpc" && s.Told == nil && (!s.Large || len(s.Request) == 0):
		return nil
	case path == "events" && s.Request == nil && !s.Large && !s.Timed && s.Deadline == 0:
		_, err := decodeNumbers(s.Told)
		return err
	}
	return fmt.Errorf("device %.100q with the state of another", path)
}

// deviceBase is what the devices have in common.
type deviceBase struct {
	treeFile
	i      *Instance
	durun  *durunFiles
	unread []byte // what reads return next
}

func newDevice(name string, f *durunFiles, make func(deviceBase) device, i *Instance) *node {
	// A character device: so that C libraries don't seek, and Go waits for it beside its other goroutines.
	n := &node{name: name, mode: fs.ModeDevice | fs.ModeCharDevice | 0o666}
	n.open = func(n *node, flag sys.Oflag) (file, errno) {
		if f.devices == maxDevices {
			return nil, eMfile
		}
		f.devices++
		return make(deviceBase{treeFile: treeFile{node: n, flag: flag}, i: i, durun: f}), success
	}
	return n
}

// answer replaces what reads return next. It returns false if that is too much.
func (d *deviceBase) answer(b []byte) bool {
	d.durun.buffered -= len(d.unread)
	d.unread = nil
	if !d.durun.hold(len(b)) {
		return false
	}
	d.unread = b
	return true
}

var errTooMuch = errors.New("requests and responses are too large")

func (d *deviceBase) read(b []byte) (int, errno) {
	n := copy(b, d.unread)
	d.unread = d.unread[n:]
	d.durun.buffered -= n
	return n, success
}

func (d *deviceBase) pwrite([]byte, int64) (int, errno) { return 0, eSpipe }

func (d *deviceBase) close() errno {
	d.durun.buffered -= len(d.unread)
	d.durun.devices--
	return success
}

// ended returns those of the operations that have ended, without waiting. If the coroutine is to be cancelled, that is
// noted, to be told by the next read that waits for operations.
func (d *deviceBase) ended(ops []uint32) ([]uint32, error) {
	// A wait for none of them is over at once.
	ended, _, err := d.i.coroutine.Await(hostabi.Wait{Ops: ops, Timeout: -1}, nil)
	if isCancelled(err) {
		d.durun.cancelled = true
		ended, _, err = d.i.coroutine.Await(hostabi.Wait{Ops: ops, Timeout: -1}, nil)
	}
	return ended, err
}

// readDevice is fd_read of a device.
func (i *Instance) readDevice(g *hostabi.Guest, d *descriptor, args []uint64, p *hostabi.Pending) (errno, *hostabi.Pending) {
	v, total, e := iovecsAt(g, uint32(args[1]), uint32(args[2]))
	if e != success {
		return e, nil
	}
	if _, ok := bytesAt(g, uint32(args[3]), 4); !ok {
		return eFault, nil
	}
	dev := d.file.(device)
	if total > 0 {
		p, e := dev.prepare(p, d.nonblock)
		if p != nil || e != success {
			return e, p
		}
	}
	n, e := readv(g, v, dev.read)
	if e != success {
		return e, nil
	}
	return putU32(g, uint32(args[3]), n), nil
}

// encodeNumbers encodes ascending numbers: the difference of each from the one before, as an unsigned varint.
func encodeNumbers(list []uint32) []byte {
	var b []byte
	var last uint32
	for _, n := range list {
		b = binary.AppendUvarint(b, uint64(n-last))
		last = n
	}
	return b
}

func decodeNumbers(b []byte) ([]uint32, error) {
	var list []uint32
	var last uint32
	for len(b) > 0 {
		step, n := binary.Uvarint(b)
		if n <= 0 || step == 0 || step > uint64(math.MaxUint32-last) || len(list) == hostabi.MaxOperations {
			return nil, errors.New("numbers of operations that do not ascend, or are too many")
		}
		last += uint32(step)
		list, b = append(list, last), b[n:]
	}
	return list, nil
}
