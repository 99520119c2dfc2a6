package wasi

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero/experimental/wazerotest"
	wazerosys "github.com/tetratelabs/wazero/sys"

	"github.com/durun/durun/hostabi"
)

const fuzzSecret = "c0ffee-secret-that-no-guest-may-see"

// fuzzPaths lie in the guest's memory one after the other, each in 32 bytes.
var fuzzPaths = []string{"f", "d", "d/g", "up", "up/secret", "abs", "..", "../outside/secret", "d/../../outside", "l", "new", "/", ".", "d/", "\xff", "", "rpc", "events", "output", "input", "lib/python/durun/__init__.py"}

// FuzzCall makes any calls with any arguments on any memory. The input is memory of 2 KiB, and calls: the function, then an
// argument each: a byte below 0xc0 is that number, others say how many bytes follow.
func FuzzCall(f *testing.F) {
	at := func(n int) byte { return byte(n) }
	seed := func(calls ...[]byte) { f.Add([]byte{}, bytes.Join(calls, nil)) }
	name := func(n string) byte {
		for i, fn := range Module.Functions {
			if fn.Name == n {
				return byte(i)
			}
		}
		panic(n)
	}
	ptr := func(n uint16) []byte { return []byte{0xc2, byte(n), byte(n >> 8)} }
	// The first descriptors of a guest: the folder, the volume, /durun; and the first two that it opens.
	const folder, volume, durun, first, second = 3, 4, 5, 6, 7
	// Open "d/g" at 1024+2*32 for reading and writing, write and read, suspend.
	seed([]byte{name("path_open"), folder, 1}, ptr(1024+64), []byte{3, 1, 66, 0, 0}, ptr(512),
		[]byte{name("fd_write"), first}, ptr(1024), []byte{0, 8},
		[]byte{name("fd_read"), 0}, ptr(1000), []byte{2}, ptr(520),
		[]byte{name("fd_readdir"), folder}, ptr(16), ptr(200), []byte{0}, ptr(528))
	seed([]byte{name("path_open"), folder, 1}, ptr(1024+4*32), []byte{9, 0, 2, 0, 0}, ptr(512))
	seed([]byte{name("path_open"), folder, 1}, ptr(1024+32), []byte{1, at(oflagDirectory), 2, 0, 0}, ptr(512),
		[]byte{name("fd_readdir"), first}, ptr(16), ptr(200), []byte{0}, ptr(528))
	// Open /durun/rpc and /durun/events, ask what is at 0, and read both.
	rpc := bytes.Join([][]byte{
		{name("path_open"), durun, 1},
		ptr(1024 + 16*32),
		{3, 0, 66, 0, 0},
		ptr(512),
		{name("path_open"), durun, 1},
		ptr(1024 + 17*32),
		{6, 0, 66, 0, 0},
		ptr(512),
		{name("fd_write"), first},
		ptr(1000),
		{1},
		ptr(512),
		{name("fd_read"), first},
		ptr(1008),
		{1},
		ptr(512),
		{name("fd_read"), second},
		ptr(1008),
		{1},
		ptr(512),
		// One over the other, of which a response is left.
		{name("fd_write"), first},
		ptr(1000),
		{1},
		ptr(512),
		{name("fd_read"), first},
		ptr(1016),
		{1},
		ptr(512),
		{name("fd_renumber"), second, first},
		{name("fd_read"), first},
		ptr(1008),
		{1},
		ptr(512),
	}, nil)
	for _, request := range []string{"begin call x\nbody", "begin timer 100", "wait 1 5", "yield\nx", "checkpoint", "output\nx"} {
		memory := make([]byte, 1024)
		copy(memory, request)
		le.PutUint32(memory[1004:], uint32(len(request)))
		le.PutUint32(memory[1008:], 600)
		le.PutUint32(memory[1012:], 100)
		le.PutUint32(memory[1016:], 600)
		le.PutUint32(memory[1020:], 1)
		f.Add(memory, rpc)
	}
	seed([]byte{name("path_rename"), folder}, ptr(1024+32), []byte{1, folder}, ptr(1024+320), []byte{3})
	// The same in the volume.
	seed([]byte{name("path_open"), volume, 1}, ptr(1024+10*32), []byte{3, 1, 66, 0, 0}, ptr(512),
		[]byte{name("fd_write"), first}, ptr(1024), []byte{0, 8},
		[]byte{name("path_unlink_file"), volume}, ptr(1024+10*32), []byte{3}, []byte{name("sched_yield")},
		[]byte{name("path_create_directory"), volume}, ptr(1024+32), []byte{1}, []byte{name("fd_allocate"), first}, ptr(1000), ptr(9000))
	seed([]byte{name("poll_oneoff"), 0}, ptr(512), []byte{4, 8})
	seed([]byte{name("proc_exit"), 3})
	far := make([]byte, subscriptionSize) // an absolute time, as late as can be
	for n := range 8 {
		far[24+n] = 0xff
	}
	far[40] = subclockAbstime
	f.Add(far, bytes.Join([][]byte{{name("poll_oneoff"), 0}, ptr(512), {1, 128}}, nil))
	f.Fuzz(func(t *testing.T, memory, calls []byte) {
		top := t.TempDir()
		in, out := filepath.Join(top, "in"), filepath.Join(top, "outside")
		for name, s := range map[string]string{"in/f": "inside", "in/d/g": "inside too", "outside/secret": fuzzSecret} {
			name = filepath.Join(top, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(s), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		for name, target := range map[string]string{"up": "../outside", "abs": out, "l": "d/g"} {
			if err := os.Symlink(target, filepath.Join(in, name)); err != nil {
				t.Skip(err)
			}
		}
		mem := wazerotest.NewMemory(1 << 16)
		mem.Bytes = mem.Bytes[:1<<11]
		copy(mem.Bytes, memory)
		for n, p := range fuzzPaths {
			copy(mem.Bytes[1024+n*32:], p)
		}
		config := Config{
			Args: []string{"a"}, Env: []string{"A=1"}, Clock: newFakeClock(), Random: testRandom(1), CheckpointOnYield: true,
			Stdin: NewStdin(strings.NewReader("some input\nand more\n")), Durun: true,
			Mounts: []Mount{{Host: in}, {Memory: true, Guest: "/volume", Limit: 1 << 20}},
		}
		i, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { i.Close() }()
		co := &fakeCoroutine{clock: config.Clock.(*fakeClock)}
		g := &hostabi.Guest{Memory: mem, Coroutine: co, Output: func(uint8, []byte) error { return nil }}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		for n := 0; n < 40 && len(calls) > 0; n++ {
			fn := &Module.Functions[int(calls[0])%len(Module.Functions)]
			calls = calls[1:]
			args := make([]uint64, max(len(fn.Params), len(fn.Results)))
			for k := range fn.Params {
				args[k], calls = fuzzArg(calls)
			}
			var ended bool
			if i, ended = fuzzCall(t, ctx, config, g, i, fn, args); ended {
				break
			}
			checkDevices(t, i)
		}
		if bytes.Contains(mem.Bytes, []byte(fuzzSecret)) {
			t.Error("the guest has the secret")
		}
		if s := content(t, filepath.Join(out, "secret")); s != fuzzSecret {
			t.Errorf("the secret is %q", s)
		}
		for _, dir := range []struct {
			name string
			n    int
		}{{top, 2}, {out, 1}} {
			if list, err := os.ReadDir(dir.name); err != nil || len(list) != dir.n {
				t.Errorf("%s: %v, %v", dir.name, list, err)
			}
		}
	})
}

// checkDevices checks what is counted of the devices under /durun by the descriptors that there are.
func checkDevices(t *testing.T, i *Instance) {
	t.Helper()
	devices, held := 0, 0
	for _, d := range i.fds.fds {
		if d == nil || d.kind != kindDevice {
			continue
		}
		devices++
		switch f := d.file.(type) {
		case *rpcFile:
			held += len(f.request) + len(f.unread)
		case *eventsFile:
			held += len(f.unread)
		}
	}
	if f := i.durun; f.devices != devices || f.buffered != held {
		t.Fatalf("%d devices hold %d bytes, but %d and %d are counted", devices, held, f.devices, f.buffered)
	}
}

func fuzzArg(b []byte) (uint64, []byte) {
	if len(b) == 0 {
		return 0, nil
	}
	if b[0] < 0xc0 {
		return uint64(b[0]), b[1:]
	}
	n := min(int(b[0]&0xf), 8, len(b)-1)
	var v [8]byte
	copy(v[:], b[1:1+n])
	return binary.LittleEndian.Uint64(v[:]), b[1+n:]
}

// fuzzCall makes one call. If it suspends it goes on in a new instance, which it returns. It says whether the guest ended.
func fuzzCall(t *testing.T, ctx context.Context, config Config, g *hostabi.Guest, i *Instance, fn *hostabi.Function, args []uint64) (next *Instance, ended bool) {
	next = i
	defer func() {
		if r := recover(); r != nil {
			var exit *wazerosys.ExitError
			if err, _ := r.(error); !errors.As(err, &exit) {
				panic(r)
			}
			ended = true
		}
	}()
	if fn.Call != nil {
		fn.Call(ctx, g, i, args)
		return i, false
	}
	before := bytes.Clone(g.Memory.(*wazerotest.Memory).Bytes)
	p := fn.Await(ctx, g, i, args, nil)
	if p == nil {
		return i, false
	}
	if !bytes.Equal(before, g.Memory.(*wazerotest.Memory).Bytes) {
		t.Fatalf("%s wrote to memory before it suspended", fn.Name)
	}
	version, data, err := i.Save()
	if err != nil {
		t.Fatal(err)
	}
	parts, err := i.SaveParts()
	if err != nil {
		t.Fatal(err)
	}
	checkVolume(t, i.volumes()[0])
	i.Close()
	if i, err = New(config); err != nil {
		t.Fatal(err)
	}
	if err := i.RestoreParts(version, parts); err != nil {
		t.Fatal(err)
	}
	if err := i.Restore(version, data); err != nil {
		t.Fatalf("after %s: %v", fn.Name, err)
	}
	if !p.Until.IsZero() {
		clock := config.Clock.(*fakeClock)
		clock.advance(p.Until.Sub(time.Unix(0, clock.Wall()))) // at once, even if it is far
	}
	if len(p.Ops) > 0 || p.Kind == hostabi.KindOperations {
		co := g.Coroutine.(*fakeCoroutine)
		co.fresh, co.cancel = false, len(p.Ops) == 0
		for n := range co.ops {
			co.end(n, "result", 0)
		}
	} else if p.Kind != hostabi.KindYield {
		if err := i.Wait(ctx, p); err != nil {
			t.Fatalf("%s: wait for %+v: %v", fn.Name, p, err)
		}
	}
	if again := fn.Await(ctx, g, i, args, p); again != nil {
		t.Fatalf("%s goes on waiting for %+v", fn.Name, again)
	}
	return i, false
}

// partsOf reads parts from bytes: for each a byte and so many bytes of name, two bytes and so many of content.
func partsOf(b []byte) (parts []hostabi.Part) {
	for len(b) > 0 {
		n := min(int(b[0]), len(b)-1)
		name := string(b[1 : 1+n])
		if b = b[1+n:]; len(b) < 2 {
			return parts
		}
		n = min(int(binary.LittleEndian.Uint16(b)), len(b)-2)
		parts = append(parts, hostabi.Part{Name: name, Data: b[2 : 2+n]})
		b = b[2+n:]
	}
	return parts
}

// bytesOf is the reverse of partsOf.
func bytesOf(parts []hostabi.Part) (b []byte) {
	for _, p := range parts {
		b = append(append(b, byte(len(p.Name))), p.Name...)
		b = append(binary.LittleEndian.AppendUint16(b, uint16(len(p.Data))), p.Data...)
	}
	return b
}

// FuzzRestoreVolume restores a volume from any parts. What is accepted is sound, can be used, and is saved as it was.
func FuzzRestoreVolume(f *testing.F) {
	g := memGuest(f, 0)
	fd := g.open("big", openArgs{oflags: oflagCreat, rights: readWrite})
	g.write(fd, strings.Repeat("x", 5000))
	for _, dir := range []string{"d", "d/e"} {
		p, n := g.path(dir)
		g.want(success, "path_create_directory", 3, p, n)
	}
	g.write(g.open("d/e/f", openArgs{oflags: oflagCreat, rights: readWrite}), "small")
	from, fromLen := g.path("big")
	to, toLen := g.path("d/hard")
	g.want(success, "path_link", 3, 0, from, fromLen, 3, to, toLen)
	to, toLen = g.path("soft")
	g.want(success, "path_symlink", from, fromLen, 3, to, toLen)
	g.want(success, "path_unlink_file", 3, from, fromLen)
	main := g.save()
	parts, err := g.inst.SaveParts()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bytesOf(parts))
	f.Add(bytesOf(parts[1:]))
	// A folder in itself, a name twice, an inode of no group, content beyond the end.
	dir := func(ino, parent uint64, name string) inodeState {
		return inodeState{Ino: ino, Kind: typeDirectory, Names: []nameState{{Dir: parent, Name: []byte(name)}}}
	}
	root := inodeState{Ino: memRoot, Kind: typeDirectory}
	for _, list := range [][]inodeState{
		{root},
		{root, dir(2, 3, "a"), dir(3, 2, "a")},
		{root, dir(2, 1, "a"), dir(3, 1, "a")},
		{root, dir(2, 1, "..")},
		{root, dir(40, 1, "a")},
		{root, {Ino: 2, Kind: typeRegular, Size: 1, Data: []byte("ab"), Names: []nameState{{Dir: 1, Name: []byte("f")}}}},
	} {
		data, err := encMode.Marshal(list)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(bytesOf([]hostabi.Part{{Name: "0.i0000000000", Data: data}}))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		parts := partsOf(data)
		restored := func(parts []hostabi.Part) (*guest, error) {
			g := memGuest(t, 0)
			if err := g.inst.RestoreParts(StateVersion, parts); err != nil {
				return nil, err
			}
			return g, g.inst.Restore(StateVersion, main)
		}
		g, err := restored(parts)
		if err != nil {
			return
		}
		checkVolume(t, g.inst.volumes()[0])
		_ = g.save()
		first, err := g.inst.SaveParts()
		if err != nil {
			t.Fatal(err)
		}
		again, err := restored(first)
		if err != nil {
			t.Fatalf("what was saved is refused: %v", err)
		}
		_ = again.save()
		second, err := again.inst.SaveParts()
		if err != nil || !bytes.Equal(bytesOf(first), bytesOf(second)) {
			t.Fatalf("%x, then %x, %v", bytesOf(first), bytesOf(second), err)
		}
		before := bytes.Clone(data)
		for _, name := range tree(again) {
			again.top = 64
			name, _, _ = strings.Cut(name, ":")
			if fd, e := again.tryOpen(name, openArgs{nofollow: true, oflags: oflagTrunc, rights: readWrite}); e == success {
				again.write(fd, "new")
			}
			p, n := again.path(name)
			again.call("path_unlink_file", 3, p, n)
			again.call("path_remove_directory", 3, p, n)
		}
		checkVolume(t, again.inst.volumes()[0])
		if !bytes.Equal(data, before) {
			t.Error("the parts that were given have changed")
		}
	})
}

// FuzzRestore restores any bytes. What is accepted has one encoding from then on, and every call on it works.
func FuzzRestore(f *testing.F) {
	f.Add([]byte(content(f, filepath.Join("testdata", "state-v1.cbor"))))
	f.Add([]byte(content(f, filepath.Join("testdata", "state-v2-durun.cbor"))))
	f.Add([]byte{0xa0})
	dir := files(f, map[string]string{"f": "0123456789", "d/a": "", "d/b": ""})
	f.Fuzz(func(t *testing.T, data []byte) {
		clock := newFakeClock()
		config := Config{Clock: clock, Mounts: []Mount{{Host: dir, Guest: "/data", ReadOnly: true}}}
		i, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		defer i.Close()
		if i.Restore(StateVersion, data) != nil {
			return
		}
		version, first, err := i.Save()
		if err != nil {
			t.Fatal(err)
		}
		again, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		if err := again.Restore(version, first); err != nil {
			t.Fatalf("what was saved is refused: %v", err)
		}
		if _, second, err := again.Save(); err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%x, then %x, %v", first, second, err)
		}
		mem := wazerotest.NewMemory(1 << 16)
		g := &hostabi.Guest{Memory: mem}
		for n := range Module.Functions {
			fn := &Module.Functions[n]
			if fn.Call == nil || fn.Name == "proc_exit" || fn.Name == "proc_raise" {
				continue
			}
			for fd := range min(8, len(again.fds.fds)) {
				args := make([]uint64, max(len(fn.Params), len(fn.Results)))
				for k := range args {
					args[k] = 100
				}
				args[0] = uint64(fd)
				if fn.Name == "fd_readdir" && again.fds.fds[fd] != nil && again.fds.fds[fd].dir != nil {
					args[3] = again.fds.fds[fd].dir.last
					if r := again.fds.fds[fd].dir.resume; r != nil {
						args[3] = r.Cookie
					}
				}
				fn.Call(context.Background(), g, again, args)
			}
		}
		if _, _, err := again.Save(); err != nil {
			t.Fatal(err)
		}
	})
}
