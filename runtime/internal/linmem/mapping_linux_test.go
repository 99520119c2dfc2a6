//go:build amd64 || arm64

package linmem

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mappedOnly are the ways in which memories are mapped.
func mappedOnly(t *testing.T, f func(t *testing.T, mode tracking)) {
	eachTracking(t, func(t *testing.T, mode tracking) {
		if mode == heap {
			t.Skip("memories aren't mapped")
		}
		f(t, mode)
	})
}

func mappingOf(t *testing.T, m *Memory) *mapping {
	t.Helper()
	r, ok := m.space.(*mapping)
	if !ok {
		t.Fatalf("the memory is a %T", m.space)
	}
	return r
}

// TestUntouched looks for changes in a large memory that is nearly empty, which must not make it take memory.
func TestUntouched(t *testing.T) {
	mappedOnly(t, func(t *testing.T, mode tracking) {
		const size = 1 << 30
		image := makeImage(t, mode, size/2, func(mem []byte) { mem[0], mem[300<<20] = 1, 1 })
		defer image.Release()
		m := makeMemory(t, Config{Image: image, Size: size, Max: maxSize - wasmPageSize, tracking: mode})
		defer m.Free()
		m.Reallocate(size + 1<<20)
		mem := m.Bytes()
		for step := range 4 {
			mem[5*PageSize]++
			mem[400<<20]++
			mem[700<<20]++
			if n := len(m.Full()); n != 3 {
				t.Fatalf("a full commit has %d pages, not 3", n)
			}
			m.Committed()
			mem[700<<20]++
			for what, f := range map[string]func() ([]Change, bool){"delta": m.Delta, "anchor": m.Anchor} {
				if changes, ok := f(); !ok || len(changes) != 1 {
					t.Fatalf("step %d: the %s has %d pages, not 1", step, what, len(changes))
				}
			}
			m.Committed()
		}
		// The kernel maps what the image has nearby as well.
		if got := resident(t, mem); got > 4*PageSize {
			t.Errorf("the guest has written 3 pages, and takes %d bytes", got)
		}
		// To write to a hole of the image fills it, first.
		var info unix.Stat_t
		if err := unix.Fstat(image.file, &info); err != nil || info.Blocks*512 > 3*PageSize {
			t.Errorf("an image with 3 pages takes %d bytes (%v)", info.Blocks*512, err)
		}
	})
}

// resident returns how much of a memory is in memory, in bytes.
func resident(t *testing.T, mem []byte) int {
	t.Helper()
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skip(err)
	}
	inside, bytes := false, 0
	for line := range strings.Lines(string(smaps)) {
		var start, end uint64
		var kilobytes int
		if n, _ := fmt.Sscanf(line, "%x-%x ", &start, &end); n == 2 {
			inside = start >= address(mem) && start < address(mem)+uint64(len(mem))
		} else if n, _ := fmt.Sscanf(line, "Rss: %d kB", &kilobytes); n == 1 && inside {
			bytes += kilobytes << 10
		}
	}
	return bytes
}

// TestKernelWrites has the kernel write to a memory, as it does when a guest reads a file: also where the guest hasn't been yet.
func TestKernelWrites(t *testing.T) {
	mappedOnly(t, func(t *testing.T, mode tracking) {
		const size = 16 * wasmPageSize
		image := makeImage(t, mode, size/2, func(mem []byte) {
			for p := range uint32(len(mem) / PageSize) {
				pageOf(mem, p)[0] = 1
			}
		})
		defer image.Release()
		name := filepath.Join(t.TempDir(), "data")
		if err := os.WriteFile(name, bytes.Repeat([]byte{7}, 3*PageSize), 0o600); err != nil {
			t.Fatal(err)
		}
		m := makeMemory(t, Config{Image: image, Size: size, Max: size, tracking: mode})
		defer m.Free()
		for range 3 { // so that it is tracked
			m.Delta()
			m.Committed()
		}
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, offset := range []int{10*PageSize + 1, size/2 + 10*PageSize + 1, 11 * PageSize} {
			if n, err := f.ReadAt(m.Bytes()[offset:offset+2*PageSize], 0); err != nil || n != 2*PageSize {
				t.Fatalf("read to %d: %d, %v", offset, n, err)
			}
		}
		changes, ok := m.Delta()
		if got, want := fmt.Sprint(numbers(changes), ok), "[10 11 12 138 139 140] true"; got != want {
			t.Errorf("changes: %s, want %s", got, want)
		}
	})
}

// TestHugePages has a memory lie in huge pages, which the kernel write-protects whole.
func TestHugePages(t *testing.T) {
	mappedOnly(t, func(t *testing.T, mode tracking) {
		const size = 8 << 20
		m := makeMemory(t, Config{Size: size, Max: 4 * size, tracking: mode})
		defer m.Free()
		mem := m.Bytes()
		if err := unix.Madvise(mem, unix.MADV_HUGEPAGE); err != nil {
			t.Skip(err)
		}
		for p := range uint32(size / PageSize) {
			pageOf(mem, p)[1] = 1
		}
		m.Full()
		m.Committed()
		for p := range uint32(20) {
			mem[p*333_333]++
			if p == 10 {
				m.Reallocate(2 * size)
				mem = m.Bytes()
				if err := unix.Madvise(mem, unix.MADV_HUGEPAGE); err != nil {
					t.Fatal(err)
				}
				mem[size+size/2] = 1
				m.Delta()
				m.Committed()
				continue
			}
			if changes, ok := m.Delta(); !ok || len(changes) != 1 || changes[0].Number != p*333_333/PageSize {
				t.Fatalf("got %v, %t, want page %d", numbers(changes), ok, p*333_333/PageSize)
			}
			m.Committed()
		}
	})
}

// TestTrackingFails has the kernel stop to track while a memory is in use.
func TestTrackingFails(t *testing.T) {
	if err := probe(); err != nil {
		t.Skip(err)
	}
	for _, armed := range []bool{false, true} {
		const size = 16 * wasmPageSize
		dropIdle(nil) // one of those may be tracked already
		m := makeMemory(t, Config{Size: size, Max: size, tracking: userfaultfd})
		m.Bytes()[5*PageSize] = 1
		m.Delta()
		m.Committed()
		r := mappingOf(t, m)
		if armed {
			m.Delta()
			if r.armed == 0 {
				t.Fatal("the memory isn't tracked")
			}
			m.Bytes()[6*PageSize] = 1
			if err := r.kernel.unregister(r.mem); err != nil {
				t.Fatal(err)
			}
		} else {
			m.Bytes()[6*PageSize] = 1
			r.kernel = &kernel{uffd: -1}
		}
		for step := range byte(3) {
			m.Bytes()[7*PageSize] = step + 1
			changes, ok := m.Delta()
			if got, want := fmt.Sprint(numbers(changes), ok), "[6 7] true"; got != want {
				t.Errorf("armed=%t: changes: %s, want %s", armed, got, want)
			}
		}
		if m.tracked {
			t.Error("the memory is said to be tracked")
		}
		m.Free()
		m = makeMemory(t, Config{Size: size, Max: size, tracking: userfaultfd})
		if !bytes.Equal(m.Bytes(), make([]byte, size)) {
			t.Error("the next memory has what this one had")
		}
		for range 3 {
			m.Delta()
			m.Committed()
		}
		if !m.tracked {
			t.Error("the next memory isn't tracked either")
		}
		m.Free()
	}
}

// unregister is register undone.
func (k *kernel) unregister(mem []byte) error {
	const uffdioUnregister = 0x8010aa01
	a := uffdRegisterArgs{start: address(mem), len: uint64(len(mem))}
	return k.ioctl(uffdioUnregister, unsafe.Pointer(&a))
}

// TestNothingLeft starts and ends many memories. DURUN_CYCLES says how many.
func TestNothingLeft(t *testing.T) {
	eachTracking(t, func(t *testing.T, mode tracking) {
		cycles := fromEnv(t, "DURUN_CYCLES", 20_000)
		if mode == heap {
			cycles /= 10 // its garbage is the collector's
		}
		type usage struct{ mappings, threads, descriptors, heap int }
		use := func() (u usage) {
			goruntime.GC()
			maps, err := os.ReadFile("/proc/self/maps")
			if err != nil {
				t.Skip(err)
			}
			for line := range strings.Lines(string(maps)) {
				// What has a name other than an image's is Go's, or the system's.
				if f := strings.Fields(line); len(f) < 6 || strings.Contains(line, "durun-image") {
					u.mappings++
				}
			}
			fds, err := os.ReadDir("/proc/self/fd")
			if err != nil {
				t.Skip(err)
			}
			u.descriptors = len(fds)
			threads, err := os.ReadDir("/proc/self/task")
			if err != nil {
				t.Skip(err)
			}
			u.threads = len(threads)
			var m goruntime.MemStats
			goruntime.ReadMemStats(&m)
			u.heap = int(m.HeapAlloc)
			return u
		}
		run := func(n int) {
			var small, large *Image
			for i := range n {
				if i%1000 == 0 {
					if small != nil {
						small.Release()
						large.Release()
					}
					small = makeImage(t, mode, wasmPageSize, func(mem []byte) { mem[5] = byte(i) })
					large = makeImage(t, mode, 8*wasmPageSize, func(mem []byte) { mem[5] = byte(i) })
				}
				c := Config{Image: small, Size: wasmPageSize, Max: 8 << 20, tracking: mode}
				if i%10 == 0 {
					c.Image, c.Size = large, 9*wasmPageSize
				}
				m := makeMemory(t, c)
				m.Bytes()[7]++
				if i%7 == 0 {
					m.Reallocate(10 * wasmPageSize)
					m.Bytes()[9*wasmPageSize]++
				}
				if i%3 == 0 {
					m.Full()
					m.Committed()
					m.Bytes()[7]++
				}
				m.Delta()
				m.Committed()
				m.Free()
			}
			small.Release()
			large.Release()
		}
		run(2000)
		before := use()
		run(cycles)
		after := use()
		t.Logf("%d cycles: %+v, then %+v", cycles, before, after)
		// With cgo a thread that Go has started meanwhile has a stack and a part of the C library's heap, each of two mappings.
		mappings := before.mappings + 8 + 4*max(0, after.threads-before.threads)
		if after.descriptors > before.descriptors || after.mappings > mappings || after.heap > before.heap+1<<20 {
			t.Errorf("%d cycles leave something behind: %+v, before %+v", cycles, after, before)
		}
	})
}

// childVariable names what a process that a test starts is to do, instead of testing.
const childVariable = "DURUN_LINMEM_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childVariable) {
	case "tracking":
		name, why := Tracking()
		fmt.Fprintln(os.Stdout, name, why)
	case "limits":
		if err := withinLimits(); err != nil {
			fmt.Fprintln(os.Stdout, err)
			os.Exit(1)
		}
	default:
		os.Exit(m.Run())
	}
}

func child(t *testing.T, what string, env ...string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), childVariable+"="+what), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func TestTrackingVariable(t *testing.T) {
	for _, mode := range []string{"compare", "heap"} {
		if got, want := child(t, "tracking", trackingVariable+"="+mode), mode+" "+trackingVariable+" is set\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	want := "userfaultfd <nil>\n"
	if err := probe(); err != nil {
		want = fmt.Sprintln("compare", err)
	}
	if got := child(t, "tracking", trackingVariable+"="); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestLimits has a process run without descriptors and with little address space.
func TestLimits(t *testing.T) {
	if mode() == heap {
		t.Skip("memories aren't mapped: DURUN_TRACKING")
	}
	child(t, "limits")
}

func withinLimits() error {
	mode()
	if _, err := pagemap(); err != nil {
		return err
	}
	status, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return err
	}
	var pages uint64
	if _, err := fmt.Sscan(string(status), &pages); err != nil {
		return err
	}
	const size = 20 * wasmPageSize
	fill := func(mem []byte) error { mem[0], mem[size-1] = 1, 2; return nil }
	file, err := NewImage(size, fill)
	if err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{}); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_AS, &unix.Rlimit{Cur: pages*PageSize + 1<<30, Max: pages*PageSize + 1<<30}); err != nil {
		return err
	}
	noFile, err := NewImage(size, fill)
	if err != nil {
		return err
	}
	if noFile.file >= 0 {
		return fmt.Errorf("there is a descriptor beyond the limit")
	}
	for _, image := range []*Image{file, noFile} {
		for _, most := range []uint64{size, maxSize - wasmPageSize} {
			for range 2 { // the second time in a mapping that was kept
				m, err := New(Config{Image: image, Size: size, Max: most})
				if err != nil {
					return err
				}
				if _, mapped := m.space.(*mapping); mapped != (most == size) {
					return fmt.Errorf("a memory of %d bytes at most is a %T", most, m.space)
				}
				if !bytes.Equal(m.Bytes(), image.Bytes()) {
					return fmt.Errorf("the memory isn't as the image")
				}
				m.Bytes()[5*PageSize] = 1
				if changes, ok := m.Delta(); !ok || len(changes) != 1 || changes[0].Number != 5 {
					return fmt.Errorf("got %v, %t, want page 5", numbers(changes), ok)
				}
				m.Free()
			}
		}
	}
	return nil
}

// TestIdleIsBounded frees a memory of which much was written, and many at once.
func TestIdleIsBounded(t *testing.T) {
	mappedOnly(t, func(t *testing.T, mode tracking) {
		dropIdle(nil)
		image := makeImage(t, mode, 8*wasmPageSize, func(mem []byte) { mem[len(mem)-1] = 1 })
		kept := func() (mappings, private int) {
			idle.Lock()
			defer idle.Unlock()
			return len(idle.mappings), idle.private
		}
		start := func(size uint64) *Memory {
			return makeMemory(t, Config{Image: image, Size: size, Max: 32 << 20, tracking: mode})
		}
		m := start(32 << 20)
		for p := range uint32(maxPrivate + 1) {
			pageOf(m.Bytes(), p)[5] = 1
		}
		m.Free()
		if n, private := kept(); n != 0 || private != 0 {
			t.Errorf("a mapping of which %d pages were written is kept", private)
		}
		var ms []*Memory
		for range maxIdle + 10 {
			m := start(8 * wasmPageSize)
			pageOf(m.Bytes(), 3)[5], pageOf(m.Bytes(), 9)[5] = 1, 1
			ms = append(ms, m)
		}
		for _, m := range ms {
			m.Free()
		}
		if n, private := kept(); n != maxIdle || private != 2*maxIdle {
			t.Errorf("%d mappings and %d pages are kept, want %d and %d", n, private, maxIdle, 2*maxIdle)
		}
		image.Release()
		if n, private := kept(); n != 0 || private != 0 {
			t.Errorf("%d mappings and %d pages of an image that is gone are kept", n, private)
		}
	})
}
