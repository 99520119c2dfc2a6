package snapshot

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/durun/durun/snapshot/bucket"
)

// checkBudget is how many bytes of stored objects a check reads at a time, or one object that is larger.
const checkBudget = 64 << 20

// CheckOptions says what [Store.Check] verifies.
type CheckOptions struct {
	IDs []string // these coroutines, and what they need; none for all that is in the store
	// Progress is called now and then, by any goroutine, with how much has been read; nil for nobody.
	Progress func(objects int, bytes int64)
}

// Checked is what [Store.Check] found.
type Checked struct {
	Objects   int       // verified
	Bytes     int64     // of those
	Problems  []Problem // by key, then coroutine; none if all is well
	Locked    int       // objects among them that are encrypted under a key that isn't there: see Check
	Leftovers []string  // keys of objects that count for nothing and wait for [Store.Collect]; not damage
}

// Problem is a damaged or missing object, and one of the coroutines that it touches.
type Problem struct {
	Key       string // of the object
	Coroutine string // whose it is or who needs it; empty for a module or base that no coroutine needs
	Commit    uint64 // the commit that the object is, 0 for others
	Err       error  // what is wrong
	// Resumable is the newest commit of the coroutine that is whole, with all that it needs: module, base, chain. If it is
	// Newest, the coroutine can be resumed; if it is older, it can be exported, and imported again, since the output up to
	// there is whole, too. 0 if there is none. Modules from which children may be started don't count here.
	Resumable uint64
	Newest    uint64 // the coroutine's newest commit, 0 if it has none
}

// Check reads all objects of a store, or those that some coroutines need, and verifies them: each by its digests and
// checksums; modules by their hash; that chains hold together, commit by commit, and can be put together; that each commit
// names the one before it; that the output is there from the first commit on; and messages. What is damaged is in the result. It works
// beside everything else, and needs memory for a few objects at a time.
//
// Of what is encrypted under a key that isn't there digests show whether it is what was written, and manifests whether
// chains are complete; not whether it was written by who had the key, nor whether what is in it makes sense.
//
// Errors: [ErrNotFound] for an id; those of the bucket but for objects that aren't there.
func (s *Store) Check(ctx context.Context, o CheckOptions) (Checked, error) {
	c := &checker{s: s, o: o, budget: newBudget(checkBudget), modules: map[Hash]*verdict{}, bases: map[string]*verdict{}}
	if err := c.run(ctx); err != nil {
		return c.Checked, fmt.Errorf("check: %w", err)
	}
	slices.SortFunc(c.Problems, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(a.Coroutine, b.Coroutine))
	})
	slices.Sort(c.Leftovers)
	return c.Checked, nil
}

type checker struct {
	s      *Store
	o      CheckOptions
	budget *budget
	mu     sync.Mutex
	Checked
	modules map[Hash]*verdict
	bases   map[string]*verdict
}

// verdict is what is known of a shared object, once it has been read.
type verdict struct {
	once  sync.Once
	err   error // of the storage
	wrong error // what is wrong with it; nil if it is whole
	used  bool
	base  *line // of a base
}

// read notes an object that was read.
func (c *checker) read(size int64) { c.count(tally{objects: 1, bytes: size}) }

// readLocked notes an object that was read as far as that goes without its key.
func (c *checker) readLocked(size int64) { c.count(tally{objects: 1, locked: 1, bytes: size}) }

// tally is how much was read.
type tally struct {
	objects, locked int
	bytes           int64
}

func (t *tally) add(o tally) {
	t.objects += o.objects
	t.locked += o.locked
	t.bytes += o.bytes
}

func (c *checker) count(t tally) {
	c.mu.Lock()
	c.Objects += t.objects
	c.Locked += t.locked
	c.Bytes += t.bytes
	objects, bytes := c.Objects, c.Bytes
	c.mu.Unlock()
	if c.o.Progress != nil {
		c.o.Progress(objects, bytes)
	}
}

func (c *checker) problem(p Problem) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Problems = append(c.Problems, p)
}

func (c *checker) leftover(keys ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Leftovers = append(c.Leftovers, keys...)
}

func (c *checker) run(ctx context.Context) error {
	if c.o.IDs != nil {
		return parallel(ctx, width, len(c.o.IDs), func(ctx context.Context, i int) error { return c.coroutine(ctx, c.o.IDs[i]) })
	}
	err := c.s.eachID(ctx, func(ctx context.Context, id string) error {
		err := c.coroutine(ctx, id)
		if errors.Is(err, ErrNotFound) { // deleted meanwhile, or a tombstone
			return c.remains(ctx, coroutinePrefix(id))
		}
		return err
	})
	for _, prefix := range []string{logsPrefix, inboxPrefix} {
		if err == nil {
			err = c.ofNobody(ctx, prefix)
		}
	}
	if err == nil {
		err = c.unused(ctx)
	}
	return err
}

// remains notes what there is of a coroutine that doesn't exist.
func (c *checker) remains(ctx context.Context, prefix string) error {
	for e, err := range c.s.b.List(ctx, bucket.ListOptions{Prefix: prefix}) {
		if err != nil {
			return err
		}
		c.leftover(e.Key)
	}
	return nil
}

// ofNobody notes the logs, or the messages, of coroutines that don't exist.
func (c *checker) ofNobody(ctx context.Context, prefix string) error {
	for e, err := range c.s.b.List(ctx, bucket.ListOptions{Prefix: prefix, Folders: true}) {
		if err != nil {
			return err
		}
		id := strings.TrimSuffix(strings.TrimPrefix(e.Key, prefix), "/")
		if !e.Folder() || ValidID(id) != nil {
			continue
		}
		if _, _, err := c.s.newest(ctx, id); errors.Is(err, ErrNotFound) {
			err = c.remains(ctx, e.Key)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// unused verifies the modules and bases that no coroutine needs.
func (c *checker) unused(ctx context.Context) error {
	for e, err := range c.s.b.List(ctx, bucket.ListOptions{Prefix: basesPrefix}) {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(e.Key, basesPrefix)
		if ValidID(name) != nil {
			continue
		}
		v, err := c.base(ctx, name)
		if err != nil {
			return err
		}
		if v.wrong != nil && !errors.Is(v.wrong, errMissing) && !v.used {
			c.problem(Problem{Key: e.Key, Err: v.wrong})
		}
		if v.wrong == nil {
			m, err := c.module(ctx, v.base.module)
			if err != nil {
				return err
			}
			if errors.Is(m.wrong, errMissing) && !m.used {
				c.problem(Problem{Key: moduleKey(v.base.module), Err: m.wrong})
			}
		}
	}
	for e, err := range c.s.b.List(ctx, bucket.ListOptions{Prefix: modulesPrefix}) {
		if err != nil {
			return err
		}
		h, err := ParseHash(strings.TrimPrefix(e.Key, modulesPrefix))
		if err != nil {
			continue
		}
		v, err := c.module(ctx, h)
		if err != nil {
			return err
		}
		if v.wrong != nil && !errors.Is(v.wrong, errMissing) && !v.used {
			c.problem(Problem{Key: e.Key, Err: v.wrong})
		}
	}
	return nil
}

// module verifies a module, once. It is not held in memory.
func (c *checker) module(ctx context.Context, h Hash) (*verdict, error) {
	c.mu.Lock()
	v := c.modules[h]
	if v == nil {
		v = &verdict{}
		c.modules[h] = v
	}
	c.mu.Unlock()
	v.once.Do(func() {
		o, err := c.s.b.Get(ctx, moduleKey(h), 0, -1)
		if errors.Is(err, bucket.ErrNotExist) {
			v.wrong = errMissing
			return
		}
		if v.err = err; err != nil {
			return
		}
		defer o.Body.Close()
		sum := sha256.New()
		n, err := io.Copy(sum, o.Body)
		c.read(n)
		switch v.err = err; {
		case err != nil:
		case n != o.Size:
			v.wrong = corrupt("module", int(n), "%d bytes of %d can be read", n, o.Size)
		case Hash(sum.Sum(nil)) != h:
			v.wrong = corrupt("module", -1, "the stored bytes have the hash %x: damaged", sum.Sum(nil))
		}
	})
	return v, v.err
}

// base verifies a shared base, once.
func (c *checker) base(ctx context.Context, name string) (*verdict, error) {
	c.mu.Lock()
	v := c.bases[name]
	if v == nil {
		v = &verdict{}
		c.bases[name] = v
	}
	c.mu.Unlock()
	v.once.Do(func() {
		defer c.budget.take(c.s.inMemory)()
		st, err := c.s.readCommit(ctx, name, 1, baseKey(name))
		switch {
		case err == nil:
			c.read(st.size)
			v.base, err = newLine(ctx, st, Ref{Name: name, Hash: st.digest})
		case errors.Is(err, ErrKey):
			var base Commit
			if base, err = c.locked(ctx, name, 1, baseKey(name)); err == nil {
				c.readLocked(base.Bytes)
				v.base = lockedLine(base, Ref{Name: name, Hash: base.Hash})
			}
		}
		v.wrong, v.err = damage(err)
	})
	return v, v.err
}

// damage tells an error that says what is wrong with an object from one of the storage.
func damage(err error) (wrong, storage error) {
	switch {
	case errors.Is(err, ErrNotFound), errors.Is(err, bucket.ErrNotExist):
		return errMissing, nil
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrVersion):
		return err, nil
	}
	return nil, err
}

// locked verifies a commit or a base without the key that it is encrypted under.
func (c *checker) locked(ctx context.Context, id string, seq uint64, key string) (Commit, error) {
	h, front, digest, err := c.lockedObject(ctx, key)
	if err != nil {
		return Commit{}, err
	}
	w, snap, err := parseManifest(h, front, c.s.keys)
	if err != nil {
		return Commit{}, err
	}
	if m := w.manifest(snap); m.Coroutine != id || m.Seq != seq {
		return Commit{}, moved(m.Coroutine, m.Seq)
	}
	return Commit{Manifest: *w.manifest(snap), Bytes: h.total, Hash: digest}, nil
}

// lockedObject verifies a container's digest, and returns what precedes the sections.
func (c *checker) lockedObject(ctx context.Context, key string) (header, []byte, Hash, error) {
	fail := func(err error) (header, []byte, Hash, error) { return header{}, nil, Hash{}, err }
	h, front, _, err := c.s.head(ctx, key)
	if err != nil {
		return fail(err)
	}
	o, err := c.s.b.Get(ctx, key, 0, -1)
	if err != nil {
		return fail(err)
	}
	defer o.Body.Close()
	if o.Size != h.total {
		return fail(corrupt("header", 16, "the object has %d bytes, where it had %d", o.Size, h.total))
	}
	sum := sha256.New()
	if _, err := io.CopyN(sum, o.Body, h.total-digestSize); err != nil {
		return fail(err)
	}
	var digest Hash
	if err := readFull(ctx, o.Body, digest[:]); err != nil {
		return fail(err)
	}
	if Hash(sum.Sum(nil)) != digest {
		return fail(corrupt("digest", int(h.total)-digestSize, "does not match: damaged"))
	}
	return h, front, digest, nil
}

// budget bounds how much is held at a time.
type budget struct {
	mu    sync.Mutex
	freed *sync.Cond
	limit int64
	used  int64
}

func newBudget(limit int64) *budget {
	b := &budget{limit: limit}
	b.freed = sync.NewCond(&b.mu)
	return b
}

// take waits until n more fit, or nothing else is held, and returns what gives them back.
func (b *budget) take(n int64) (release func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.used > 0 && b.used+n > b.limit {
		b.freed.Wait()
	}
	b.used += n
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.used -= n
		b.freed.Broadcast()
	}
}
