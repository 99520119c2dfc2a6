package runtime

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/durun/durun/runtime/handler"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

// waiters compiles testdata/wat/coroutines.wat.
func waiters(t testing.TB) *Module {
	t.Helper()
	m, err := testRuntime(t).Compile(context.Background(), waitersBinary(t))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func waitersBinary(t testing.TB) []byte {
	t.Helper()
	binary, err := os.ReadFile(filepath.Join("..", "testdata", "wat", "coroutines.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// echoing returns handlers with one, "echo".
func echoing(f handler.Func) *handler.Set {
	var set handler.Set
	set.Handle("echo", f, handler.Policy{})
	return &set
}

func answer(_ context.Context, c handler.Call) ([]byte, error) { return c.Body, nil }

// newTestScheduler returns a scheduler over a store, that of config if it has one.
func newTestScheduler(t testing.TB, m *Module, config SchedulerConfig) *Scheduler {
	t.Helper()
	if config.Store == nil {
		config.Store = snapshot.NewStore(bucket.NewMem())
	}
	s := NewScheduler(m.runtime, config)
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func number32(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }

// numbers decodes a result.
func numbers(b []byte) (n []uint32) {
	for ; len(b) >= 4; b = b[4:] {
		n = append(n, binary.LittleEndian.Uint32(b))
	}
	return n
}

// ends waits for a coroutine, at most for a minute.
func ends(t testing.TB, s *Scheduler, id string) Outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	o, err := s.Wait(ctx, id)
	if err != nil {
		t.Fatalf("wait for %s: %v", id, err)
	}
	return o
}

// TestScheduler runs a coroutine of each sort at once, with room for all of them in memory and for none.
func TestScheduler(t *testing.T) {
	m := waiters(t)
	for _, memory := range []int64{0, 1} {
		t.Run(fmt.Sprintf("memory=%d", memory), func(t *testing.T) {
			s := newTestScheduler(t, m, SchedulerConfig{Memory: memory, Outside: Outside{Handlers: echoing(answer)}})
			cases := []struct {
				entry string
				input []byte
				want  []uint32
			}{
				{"sleep", nanoseconds(20 * time.Millisecond), nil},
				{"steps", number32(20), []uint32{190}},
				{"fan", number32(100), []uint32{4950, 0}},
				{"parent", number32(10), []uint32{90, 0}},
				{"parent", number32(14), []uint32{156, 1}}, // child 13 traps
				{"tree", number32(3), []uint32{15, 0}},
			}
			for i, c := range cases {
				id := fmt.Sprintf("%s-%d", c.entry, i)
				if _, err := s.Start(t.Context(), Program{ID: id, Module: m, Entry: c.entry, Input: c.input}); err != nil {
					t.Fatal(err)
				}
			}
			for i, c := range cases {
				o := ends(t, s, fmt.Sprintf("%s-%d", c.entry, i))
				if o.Status != snapshot.Completed || o.Err != nil || fmt.Sprint(numbers(o.Result)) != fmt.Sprint(c.want) {
					t.Errorf("%s %x: %v %v %v, want %v", c.entry, c.input, o.Status, o.Err, numbers(o.Result), c.want)
				}
			}
			if st := s.Stats(); st.Coroutines != 0 || st.Resident != 0 || st.Bytes != 0 {
				t.Errorf("at the end: %+v", st)
			}
		})
	}
}
