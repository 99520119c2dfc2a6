package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/file"
)

// generator is a coroutine that has just yielded.
func generator(seq uint64, parent *snapshot.Parent) *snapshot.Snapshot {
	return &snapshot.Snapshot{
		Module: snapshot.HashOf([]byte("the module's bytes")), Coroutine: "counter", Seq: seq, Parent: parent,
		Time: time.Unix(1_700_000_000, 0).UTC(), Status: snapshot.Suspended, Entry: "count",
		Await: &snapshot.Await{Import: "durun.yield", Kind: "yield"},
		Frames: []snapshot.Frame{{Function: 2, Offset: 17, Slots: []snapshot.Slot{
			{Index: 0, Value: snapshot.Value{Type: snapshot.I32, Lo: seq}},
		}}},
		Output: []snapshot.Output{{Stream: 1, Data: fmt.Appendf(nil, "yielded %d\n", seq)}},
	}
}

func ExampleEncode() {
	data, err := snapshot.Encode(generator(1, nil))
	if err != nil {
		fmt.Println(err)
		return
	}
	s, err := snapshot.Decode(data)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(s.Coroutine, "waits in", s.Await.Import, "with", len(s.Frames), "frame on its stack")

	data[len(data)/2] ^= 1
	_, err = snapshot.Decode(data)
	fmt.Println(errors.Is(err, snapshot.ErrCorrupt), err)
	// Output:
	// counter waits in durun.yield with 1 frame on its stack
	// true corrupt data: digest at byte 166: does not match: damaged
}

func ExampleStore() {
	ctx := context.Background()
	b, err := bucket.OpenURL(ctx, "mem://", map[string]bucket.Opener{"file": file.OpenURL, "mem": bucket.OpenMem})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer b.Close()
	store := snapshot.NewStore(b)

	// A driver commits what it has reached, and goes on.
	first, err := store.Commit(ctx, generator(1, nil))
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := store.Commit(ctx, generator(2, first.AsParent())); err != nil {
		fmt.Println(err)
		return
	}
	// Another one, which still believes in commit 1, is fenced off.
	late := generator(2, first.AsParent())
	late.Time = late.Time.Add(time.Second)
	_, err = store.Commit(ctx, late)
	fmt.Println(errors.Is(err, snapshot.ErrFenced))

	s, c, err := store.Latest(ctx, "counter")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("commit", c.Seq, s.Status)
	if err := store.Logs(ctx, "counter", os.Stdout, os.Stderr); err != nil {
		fmt.Println(err)
	}
	// Output:
	// true
	// commit 2 suspended
	// yielded 1
	// yielded 2
}

func ExampleStore_WithKeys() {
	ctx := context.Background()
	b := bucket.NewMem()
	old := snapshot.NewKey()
	store := snapshot.NewStore(b).WithKeys(snapshot.NewKeyring(old))
	if _, err := store.Commit(ctx, generator(1, nil)); err != nil {
		fmt.Println(err)
		return
	}

	// Without the key there are listings.
	for c, err := range snapshot.NewStore(b).List(ctx) {
		fmt.Println(c.Coroutine, c.Status, c.Key == old.ID(), c.Locked, err)
	}
	_, _, err := snapshot.NewStore(b).Latest(ctx, "counter")
	fmt.Println(errors.Is(err, snapshot.ErrKey))

	// Another key takes the place of the first one.
	fresh := snapshot.NewKey()
	if _, err := store.WithKeys(snapshot.NewKeyring(fresh, old)).Rekey(ctx, "counter", snapshot.LeaseOptions{}); err != nil {
		fmt.Println(err)
		return
	}
	_, c, err := store.WithKeys(snapshot.NewKeyring(fresh)).Latest(ctx, "counter")
	fmt.Println(c.Seq, c.Key == fresh.ID(), err)
	// Output:
	// counter suspended true true <nil>
	// true
	// 2 true <nil>
}

func ExampleDiffPages() {
	image := []byte("what the data segments set")
	mem := make([]byte, snapshot.WasmPageSize)
	copy(mem, image)
	mem[5*snapshot.PageSize] = 1
	for _, p := range snapshot.DiffPages(mem, image) {
		fmt.Println("page", p.Number, "changed")
	}
	// Output: page 5 changed
}

func ExampleStore_Send() {
	ctx := context.Background()
	store := snapshot.NewStore(bucket.NewMem())
	if _, err := store.Commit(ctx, generator(1, nil)); err != nil {
		fmt.Println(err)
		return
	}

	// Who drives the coroutine is told when something comes.
	inbox := snapshot.NewInboxWatcher(store, snapshot.InboxWatcherOptions{})
	defer inbox.Close()
	came := make(chan struct{}, 1)
	stop := inbox.Watch("counter", func() {
		select {
		case came <- struct{}{}:
		default:
		}
	})
	defer stop()

	// Sent twice, to be sure, it is one message.
	for range 2 {
		r, err := store.Send(ctx, "counter", snapshot.Message{Name: "approval", Key: "order 4711", Data: []byte("yes")})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("sent", r.Key, "- a duplicate:", r.Duplicate)
	}

	<-came
	messages, _, err := store.Inbox(ctx, "counter", "approval")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, m := range messages {
		fmt.Printf("%s: %s\n", m.Name, m.Data)
		// After the commit that has the message, which is left out here.
		if err := store.Acknowledge(ctx, "counter", m.Key); err != nil {
			fmt.Println(err)
			return
		}
	}
	// Output:
	// sent order 4711 - a duplicate: false
	// sent order 4711 - a duplicate: true
	// approval: yes
}
