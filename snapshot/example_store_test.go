package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

// counted returns a store with a coroutine of so many commits.
func counted(ctx context.Context, commits uint64) *snapshot.Store {
	store := snapshot.NewStore(bucket.NewMem())
	if _, err := store.PutModule(ctx, []byte("the module's bytes")); err != nil {
		panic(err)
	}
	var parent *snapshot.Parent
	for seq := uint64(1); seq <= commits; seq++ {
		c, err := store.Commit(ctx, generator(seq, parent))
		if err != nil {
			panic(err)
		}
		parent = c.AsParent()
	}
	return store
}

// A coroutine has one driver at a time.
func ExampleStore_Acquire() {
	ctx := context.Background()
	store := counted(ctx, 1)
	lease, err := store.Acquire(ctx, "counter", snapshot.LeaseOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = store.Acquire(ctx, "counter", snapshot.LeaseOptions{})
	fmt.Println("a second driver:", errors.Is(err, snapshot.ErrBusy))

	// What the driver commits counts only as long as it holds the lease.
	head, err := store.Head(ctx, "counter")
	if err != nil {
		fmt.Println(err)
		return
	}
	c, err := lease.Commit(ctx, generator(2, head.AsParent()))
	fmt.Println("commit", c.Seq, err)

	if err := lease.Release(); err != nil {
		fmt.Println(err)
		return
	}
	next, err := store.Acquire(ctx, "counter", snapshot.LeaseOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("afterwards:", next.Release())
	// Output:
	// a second driver: true
	// commit 2 <nil>
	// afterwards: <nil>
}

// A coroutine moves to another store as one file, and gets another id there.
func ExampleStore_Export() {
	ctx := context.Background()
	var bundle bytes.Buffer // or a file
	if err := counted(ctx, 2).Export(ctx, "counter", 0, &bundle); err != nil {
		fmt.Println(err)
		return
	}
	store := snapshot.NewStore(bucket.NewMem())
	c, err := store.Import(ctx, &bundle, snapshot.ImportOptions{ID: "copy"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(c.Coroutine, "at commit", c.Seq, c.Status)
	if err := store.Logs(ctx, "copy", os.Stdout, os.Stderr); err != nil {
		fmt.Println(err)
	}
	// Output:
	// copy at commit 2 suspended
	// yielded 1
	// yielded 2
}

// Old commits are dropped, what they wrote isn't; and what is left is sound.
func ExampleStore_Retain() {
	ctx := context.Background()
	store := counted(ctx, 5)
	retained, err := store.Retain(ctx, "counter", snapshot.Policy{Keep: 2})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(retained.Commits, "dropped")
	history, err := store.History(ctx, "counter")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, c := range history {
		fmt.Println("commit", c.Seq)
	}
	if err := store.Logs(ctx, "counter", os.Stdout, os.Stderr); err != nil {
		fmt.Println(err)
		return
	}
	checked, err := store.Check(ctx, snapshot.CheckOptions{})
	fmt.Println(checked.Objects, "objects,", len(checked.Problems), "problems", err)
	// Output:
	// 3 dropped
	// commit 4
	// commit 5
	// yielded 1
	// yielded 2
	// yielded 3
	// yielded 4
	// yielded 5
	// 4 objects, 0 problems <nil>
}
