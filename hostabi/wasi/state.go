package wasi

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/fxamacker/cbor/v2"
	"github.com/tetratelabs/wazero/experimental/sys"

	"github.com/durun/durun/hostabi"
)

// StateVersion is the version of the encoding that Save writes: deterministic CBOR (RFC 8949, 4.2.1) of the structs
// below, with integer keys. It changes when an older durun would misread the bytes; Restore reads all versions up to its own.
const StateVersion = 2

// maxState is the longest encoding that is decoded, in bytes.
const maxState = 64 << 20

// state is what goes into a snapshot. Strings are byte strings: neither arguments nor file names need be UTF-8.
type state struct {
	Args              [][]byte  `cbor:"1,keyasint"`
	Env               [][]byte  `cbor:"2,keyasint"`
	TTY               uint8     `cbor:"3,keyasint"` // bit n: stream n
	CheckpointOnYield bool      `cbor:"4,keyasint"`
	Mono              int64     `cbor:"5,keyasint"` // the guest's monotonic time
	Wall              int64     `cbor:"6,keyasint"` // the wall time at the same moment
	StdinEOF          bool      `cbor:"7,keyasint"`
	Mounts            [][]byte  `cbor:"8,keyasint"` // guest names of those that descriptors refer to
	FDs               []fdState `cbor:"9,keyasint"` // in the order of their numbers

	// From version 2 on:

	Volumes []volumeState `cbor:"10,keyasint,omitempty"` // those in memory
	// Standard input that was read from the host, and not yet by the guest.
	Ahead []byte `cbor:"11,keyasint,omitempty"`
	// Standard input comes from messages, and this is the operation that receives, or has received, the message of which the
	// next byte is, and where that is in it.
	StdinMessages bool   `cbor:"12,keyasint,omitempty"`
	StdinOp       uint32 `cbor:"13,keyasint,omitempty"`
	StdinPos      int64  `cbor:"14,keyasint,omitempty"`

	Durun     bool   `cbor:"20,keyasint,omitempty"` // there are the files under /durun. Then their mount is named so, and the root ""
	Output    []byte `cbor:"21,keyasint,omitempty"` // what is in /durun/output
	Cancelled bool   `cbor:"22,keyasint,omitempty"` // the guest has yet to be told
}

// volumeState is a volume in memory. What is in it is in parts of the state.
type volumeState struct {
	Guest []byte `cbor:"1,keyasint"`
	Limit int64  `cbor:"2,keyasint"` // bytes
}

// fdState is a descriptor. Only the first three are for standard streams.
type fdState struct {
	FD       int32     `cbor:"1,keyasint"`
	Kind     fdKind    `cbor:"2,keyasint"`
	Nonblock bool      `cbor:"3,keyasint,omitempty"`
	Mount    uint32    `cbor:"4,keyasint,omitempty"` // index into Mounts
	Path     []byte    `cbor:"5,keyasint,omitempty"`
	Flags    uint16    `cbor:"6,keyasint,omitempty"` // stateRead and so on
	Offset   int64     `cbor:"7,keyasint,omitempty"`
	Type     uint8     `cbor:"8,keyasint,omitempty"`  // WASI's file type
	Size     int64     `cbor:"9,keyasint,omitempty"`  // at the capture
	Gone     bool      `cbor:"10,keyasint,omitempty"` // its name did not lead to it any more
	Dir      *dirState `cbor:"11,keyasint,omitempty"`

	// From version 2 on:

	Inode  uint64       `cbor:"12,keyasint,omitempty"` // in a volume in memory: what is open, whatever its name is
	Device *deviceState `cbor:"20,keyasint,omitempty"`
}

// Flags of an open file in a snapshot. They don't depend on wazero's numbers.
const (
	stateRead     = 1 << 0
	stateWrite    = 1 << 1
	stateAppend   = 1 << 2
	stateSync     = 1 << 3
	stateNofollow = 1 << 4
	stateFlags    = 1<<5 - 1
)

func flagsToState(f sys.Oflag, isAppend bool) uint16 {
	var n uint16
	switch f & accessMode {
	case sys.O_RDWR:
		n = stateRead | stateWrite
	case sys.O_WRONLY:
		n = stateWrite
	default:
		n = stateRead
	}
	if isAppend {
		n |= stateAppend
	}
	if f&(sys.O_DSYNC|sys.O_RSYNC|sys.O_SYNC) != 0 {
		n |= stateSync
	}
	if f&sys.O_NOFOLLOW != 0 {
		n |= stateNofollow
	}
	return n
}

func flagsFromState(n uint16) sys.Oflag {
	f := sys.O_RDONLY
	switch n & (stateRead | stateWrite) {
	case stateRead | stateWrite:
		f = sys.O_RDWR
	case stateWrite:
		f = sys.O_WRONLY
	}
	if n&stateAppend != 0 {
		f |= sys.O_APPEND
	}
	if n&stateSync != 0 {
		f |= sys.O_SYNC
	}
	if n&stateNofollow != 0 {
		f |= sys.O_NOFOLLOW
	}
	return f
}

var (
	encMode = must(cbor.CoreDetEncOptions().EncMode())
	decMode = must(cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   8,
		MaxArrayElements:  maxStrings,
		MaxMapPairs:       32,
	}.DecMode())
)

// must is for options that are constants.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// SaveParts returns what is in volumes in memory; see [hostabi.PartedInstance].
func (i *Instance) SaveParts() ([]hostabi.Part, error) {
	var parts []hostabi.Part
	volumes := i.volumes()
	for _, v := range volumes {
		list, err := v.save()
		if err != nil {
			return nil, fmt.Errorf("save WASI state: %w", err)
		}
		if len(volumes) == 1 {
			return list, nil
		}
		parts = append(parts, list...)
	}
	slices.SortFunc(parts, func(a, b hostabi.Part) int { return strings.Compare(a.Name, b.Name) })
	return parts, nil
}

// RestoreParts is the first step of Restore; see [hostabi.PartedInstance].
func (i *Instance) RestoreParts(_ uint32, parts []hostabi.Part) error {
	i.parts = parts
	return nil
}

// Save returns the state; see [hostabi.Instance]. Encoding is [StateVersion].
func (i *Instance) Save() (version uint32, data []byte, err error) {
	s := state{
		Args: toBytes(i.args), Env: toBytes(i.env),
		CheckpointOnYield: i.checkpointOnYield, StdinEOF: i.stdin.eof,
	}
	s.Ahead, i.stdin.fresh = i.stdin.ahead, 0
	s.StdinMessages, s.StdinOp, s.StdinPos = i.stdin.messages, i.stdin.op, int64(i.stdin.pos)
	for n, tty := range i.tty {
		if tty {
			s.TTY |= 1 << n
		}
	}
	s.Mono, s.Wall = i.clock.anchor()
	if i.durun != nil {
		s.Durun, s.Output, s.Cancelled = true, i.durun.output, i.durun.cancelled
	}
	for _, m := range i.mounts {
		if v, ok := m.fs.(*memVolume); ok {
			s.Volumes = append(s.Volumes, volumeState{Guest: []byte(m.guest), Limit: v.limit})
		}
	}
	index := make(map[*mount]uint32)
	for fd, d := range i.fds.fds {
		if d == nil {
			continue
		}
		f := d.state()
		f.FD = int32(fd)
		if d.mount != nil {
			n, ok := index[d.mount]
			if !ok {
				n = uint32(len(s.Mounts))
				index[d.mount] = n
				s.Mounts = append(s.Mounts, []byte(i.durun.nameOf(d.mount)))
			}
			f.Mount = n
		}
		s.FDs = append(s.FDs, f)
	}
	data, err = encMode.Marshal(s)
	if err != nil {
		return 0, nil, fmt.Errorf("save WASI state: %w", err)
	}
	if len(data) > maxState {
		return 0, nil, fmt.Errorf("save WASI state: %d bytes, more than %d", len(data), maxState)
	}
	return StateVersion, data, nil
}

func toBytes(list []string) [][]byte {
	out := make([][]byte, len(list))
	for n, s := range list {
		out[n] = []byte(s)
	}
	return out
}

func toStrings(list [][]byte) []string {
	out := make([]string, len(list))
	for n, b := range list {
		out[n] = string(b)
	}
	return out
}

// state captures a descriptor, but for its number and mount's.
func (d *descriptor) state() fdState {
	if broken, ok := d.file.(brokenFile); ok {
		s := broken.saved
		s.Path = []byte(d.path)
		return s
	}
	s := fdState{Kind: d.kind, Nonblock: d.nonblock}
	if d.kind.stdio() {
		return s
	}
	if d.dir != nil {
		s.Dir = d.dir.state()
	}
	if d.kind == kindPreopen {
		return s
	}
	s.Path = []byte(d.path)
	s.Flags = flagsToState(d.flags, d.file.isAppend())
	if f, ok := d.file.(*memFile); ok {
		s.Inode, s.Type, s.Offset = f.n.ino, f.n.kind, f.off
		return s
	}
	s.Type = typeDirectory
	if f, ok := d.file.(interface{ current() bool }); ok {
		s.Gone = !f.current()
	}
	if dev, ok := d.file.(device); ok {
		s.Type, s.Device = typeCharacter, dev.save()
	}
	if d.kind == kindFile {
		s.Type = typeRegular
		if _, made := d.mount.fs.(*treeVolume); !made {
			st, _ := d.file.stat() // what fails here fails for the guest too
			s.Type, s.Size = fileType(st.Mode), st.Size
		}
		s.Offset, _ = d.file.seek(0, io.SeekCurrent) // 0 for a device that has none
	}
	return s
}

// Program returns what in a state that Save wrote is the guest's own, as the Config has it with which the guest was started:
// all but what belongs to the node.
func Program(version uint32, data []byte) (Config, error) {
	s, err := decodeState(version, data)
	if err != nil {
		return Config{}, err
	}
	c := Config{
		Args: toStrings(s.Args), Env: toStrings(s.Env), CheckpointOnYield: s.CheckpointOnYield, Durun: s.Durun,
		StdinMessages: s.StdinMessages,
	}
	for n := range c.TTY {
		c.TTY[n] = s.TTY&(1<<n) != 0
	}
	for _, v := range s.Volumes {
		c.Mounts = append(c.Mounts, Mount{Memory: true, Guest: string(v.Guest), Limit: v.Limit})
	}
	return c, nil
}

func decodeState(version uint32, data []byte) (*state, error) {
	if version < 1 || version > StateVersion {
		return nil, fmt.Errorf("restore WASI state: %w: %d, this durun reads up to %d", hostabi.ErrStateVersion, version, StateVersion)
	}
	if len(data) > maxState {
		return nil, fmt.Errorf("restore WASI state: %w: %d bytes, more than %d", hostabi.ErrState, len(data), maxState)
	}
	var s state
	if err := decMode.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("restore WASI state: %w: %w", hostabi.ErrState, err)
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("restore WASI state: %w: %w", hostabi.ErrState, err)
	}
	return &s, nil
}

// Restore takes over a saved state; see [hostabi.Instance]. It fails with [hostabi.ErrState] on bytes that don't decode, with a
// *[MissingMountError] if the Config lacks mounts that the state refers to, and with a *[VolumeMountError]. A file that can't be
// opened any more is no error here: it is EIO to the guest.
func (i *Instance) Restore(version uint32, data []byte) error {
	s, err := decodeState(version, data)
	if err != nil {
		return err
	}
	all, err := i.restoreVolumes(s.Volumes)
	if err != nil {
		return err
	}
	var durun *durunFiles
	if s.Durun {
		durun = newDurun(i, all)
		durun.output, durun.cancelled = s.Output, s.Cancelled
	}
	mounts := make([]*mount, len(s.Mounts))
	var missing []string
	for n, guest := range s.Mounts {
		if mounts[n] = durun.named(string(guest)); mounts[n] == nil {
			mounts[n] = findMount(all, string(guest))
		}
		if mounts[n] == nil {
			missing = append(missing, string(guest))
		}
	}
	if missing != nil {
		return &MissingMountError{Guests: missing}
	}

	i.mounts, i.durun = all, durun
	i.args, i.env = toStrings(s.Args), toStrings(s.Env)
	for n := range i.tty {
		i.tty[n] = s.TTY&(1<<n) != 0
	}
	i.checkpointOnYield = s.CheckpointOnYield
	i.stdin.release()
	i.stdin = stdinState{
		reader: i.stdin.reader, eof: s.StdinEOF, ahead: s.Ahead,
		messages: s.StdinMessages, op: s.StdinOp, pos: int(s.StdinPos),
	}
	i.clock.restore(s.Mono, s.Wall)
	i.fds.close()
	for _, f := range s.FDs {
		if f.Kind.stdio() {
			d := newStdio(f.Kind, i.tty[f.Kind])
			d.nonblock = f.Nonblock
			i.fds.set(f.FD, d)
			continue
		}
		i.fds.set(f.FD, f.reopen(mounts[f.Mount]))
	}
	for _, v := range i.volumes() {
		v.sweep()
	}
	return nil
}

// restoreVolumes returns the mounts that a restored guest has: the Config's folders, and its own volumes in memory.
func (i *Instance) restoreVolumes(volumes []volumeState) ([]*mount, error) {
	var all []*mount
	for _, m := range i.mounts {
		if _, ok := m.fs.(*memVolume); !ok {
			all = append(all, m)
		}
	}
	parts := make([][]hostabi.Part, len(volumes))
	for _, p := range i.parts {
		number, name, _ := strings.Cut(p.Name, ".")
		n, err := strconv.Atoi(number)
		if err != nil || n < 0 || n >= len(volumes) || strconv.Itoa(n) != number {
			return nil, fmt.Errorf("restore WASI state: %w: part %q is of no volume", hostabi.ErrState, p.Name)
		}
		parts[n] = append(parts[n], hostabi.Part{Name: name, Data: p.Data})
	}
	i.parts = nil
	for n, s := range volumes {
		guest := string(s.Guest)
		if findMount(all, guest) != nil {
			return nil, &VolumeMountError{Guest: guest}
		}
		v := newMemVolume(n, s.Limit, i.clock.wall)
		if err := v.restore(parts[n]); err != nil {
			return nil, fmt.Errorf("restore WASI state: %w: volume %s: %w", hostabi.ErrState, guest, err)
		}
		all = append(all, &mount{guest: guest, fs: v})
	}
	return all, nil
}

// check refuses what Save can't have written and what would break the code here.
func (s *state) check() error {
	if err := checkStrings(toStrings(s.Args), toStrings(s.Env)); err != nil {
		return err
	}
	if s.TTY > 7 {
		return fmt.Errorf("terminals %#x", s.TTY)
	}
	if s.Mono < 0 {
		return fmt.Errorf("monotonic time %d", s.Mono)
	}
	if len(s.Ahead) > maxStdinRead || s.StdinPos < 0 || s.StdinPos > hostabi.MaxPayload {
		return errors.New("standard input has read ahead too much")
	}
	if len(s.Output) > hostabi.MaxPayload || !s.Durun && (s.Output != nil || s.Cancelled) {
		return errors.New("/durun/output is too large, or there is no /durun")
	}
	for _, name := range s.Mounts {
		if len(name) == 0 && !s.Durun {
			return errors.New("a mount without a name")
		}
	}
	var volumes int64
	for _, v := range s.Volumes {
		if guest := string(v.Guest); guest != guestName(guest) || strings.ContainsRune(guest, 0) {
			return fmt.Errorf("a volume of the name %.100q", guest)
		}
		if v.Limit < 0 || v.Limit > MaxVolumes {
			return fmt.Errorf("a volume of %d bytes", v.Limit)
		}
		if volumes += v.Limit; volumes > MaxVolumes {
			return errors.New("volumes that are too large together")
		}
	}
	devices := 0
	for n, f := range s.FDs {
		if n > 0 && f.FD <= s.FDs[n-1].FD || f.FD < 0 || f.FD >= maxFDs {
			return fmt.Errorf("descriptor %d: number is out of order or range", f.FD)
		}
		if err := f.check(len(s.Mounts)); err != nil {
			return fmt.Errorf("descriptor %d: %w", f.FD, err)
		}
		if f.Kind == kindDevice {
			if devices++; !s.Durun || string(s.Mounts[f.Mount]) != durunName || devices > maxDevices {
				return fmt.Errorf("descriptor %d: a device that there can't be", f.FD)
			}
		}
	}
	return nil
}

func (f *fdState) check(mounts int) error {
	switch {
	case f.Kind >= kindEnd:
		return fmt.Errorf("kind %d is not known", f.Kind)
	case f.Kind.stdio():
		return nil
	case int64(f.Mount) >= int64(mounts):
		return fmt.Errorf("mount %d of %d", f.Mount, mounts)
	case f.Flags&^stateFlags != 0:
		return fmt.Errorf("flags %#x", f.Flags)
	case f.Offset < 0 || f.Size < 0:
		return errors.New("offset or size is negative")
	case f.Kind != kindPreopen && !fs.ValidPath(string(f.Path)):
		return fmt.Errorf("path %.100q", f.Path)
	case f.Dir != nil && f.Kind >= kindFile:
		return errors.New("a file is read as a folder")
	case f.Dir != nil && f.Dir.Cookie > 1<<62:
		return fmt.Errorf("cookie %d", f.Dir.Cookie)
	case f.Kind == kindDevice:
		return f.Device.check(string(f.Path))
	case f.Device != nil:
		return errors.New("a device that is something else")
	}
	return nil
}

// reopen opens the descriptor's file again, or puts a brokenFile in its place.
func (f *fdState) reopen(m *mount) *descriptor {
	var d *descriptor
	ok := !f.Gone
	if f.Kind == kindPreopen {
		d = m.preopen()
		ok = d.file != nil
	} else {
		d = &descriptor{kind: f.Kind, mount: m, path: string(f.Path), flags: flagsFromState(f.Flags)}
		ok = ok && f.open(d)
	}
	if !ok {
		d.file = brokenFile{saved: *f}
	}
	d.nonblock = f.Nonblock
	if f.Dir != nil {
		d.dir = &listing{resume: f.Dir}
	}
	return d
}

// open says whether it opened the file that was captured, as far as that can be told.
func (f *fdState) open(d *descriptor) bool {
	if v, ok := d.mount.fs.(*memVolume); ok {
		n := v.nodes[f.Inode]
		if n == nil || n.kind != f.Type || (f.Kind == kindDir) != (n.kind == typeDirectory) || n.kind == typeSymlink {
			return false
		}
		open := v.openNode(n, d.flags)
		open.off = f.Offset
		d.file = open
		return true
	}
	if f.Inode != 0 {
		return false
	}
	file, e := d.mount.fs.openFile(d.path, d.flags, 0)
	if e != 0 {
		return false
	}
	st, e := file.stat()
	ok := e == 0 && fileType(st.Mode) == f.Type
	if ok && f.Kind == kindFile {
		// What the guest itself wrote since the capture is no reason to refuse. But nobody shortens a file that it only reads.
		if f.Flags&stateWrite == 0 && f.Type == typeRegular && f.Size >= f.Offset && st.Size < f.Offset {
			ok = false
		}
		if _, e := file.seek(f.Offset, io.SeekStart); e != 0 && f.Offset != 0 {
			ok = false
		}
	}
	if dev, is := file.(device); is != (f.Kind == kindDevice) {
		ok = false
	} else if is && dev.restore(f.Device) != nil {
		ok = false
	}
	if !ok {
		file.close()
		return false
	}
	d.file = file
	return true
}
