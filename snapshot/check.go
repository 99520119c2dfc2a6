package snapshot

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
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
	// there is whole, too. 0 if there is none.
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

// line is a chain, as far as deltas need to know it to go on from it: states without pages, and which pages there are.
//
// Of what is encrypted under a key that isn't there, and of all that builds on it, states and pages are not known.
type line struct {
	module    Hash
	root      *Snapshot // nil: not known
	rootRef   Ref
	rootBytes int64
	rootPages pageBits

	origin Origin    // of the deltas, once there is one
	state  *Snapshot // of the last commit of the chain, nil: not known
	hash   Hash      // its digest
	pages  pageBits  // that it has
}

// newLine reads the pages of a full snapshot, to verify them, and returns its chain.
func newLine(ctx context.Context, st *stored, ref Ref) (*line, error) {
	snap, err := st.full()
	if err != nil {
		return nil, err
	}
	if err := readAndForget(ctx, &st.pages); err != nil {
		return nil, err
	}
	snap.Output = nil
	l := &line{module: snap.Module, root: snap, rootRef: ref, rootBytes: st.size, rootPages: pageBits(nil).grown(snap.Memory.Size), state: snap, hash: ref.Hash}
	l.rootPages.union(&st.pages)
	return l, nil
}

// lockedLine is the chain of a full snapshot that can't be read for want of the key.
func lockedLine(c Commit, ref Ref) *line {
	return &line{module: c.Module, rootRef: ref, rootBytes: c.Bytes, hash: ref.Hash}
}

// readAndForget reads pages, to verify them.
func readAndForget(ctx context.Context, p *pageSet) error {
	scratch := make([]byte, 16*PageSize)
	return p.read(ctx, func(_, n uint32) []byte { return scratch[:min(int(n), 16)*PageSize] })
}

// grown returns a copy of the set with room for the pages of a memory.
func (b pageBits) grown(memory uint64) pageBits {
	return append(slices.Clone(b), make(pageBits, max(0, int(memory/PageSize/64)+1-len(b)))...)
}

// add goes on to a delta of the chain: the anchor, or the next.
func (l *line) add(d *Delta) error {
	bad := func(format string, args ...any) error { return corrupt("manifest", headerSize, format, args...) }
	before, pages := l.state, l.pages
	switch {
	case d.Origin.Root != l.rootRef || d.Origin.RootBytes != l.rootBytes:
		return bad("it is of a chain with another root than the one that is there")
	case d.Origin.Anchor == d.Seq:
		l.origin = *d.Origin
		before, pages = l.root, l.rootPages
	case *d.Origin != l.origin:
		return bad("it is of another chain than the commit before it")
	case d.Parent.Hash != l.hash:
		return bad("its parent is another commit %d than the one that is there", d.Parent.Seq)
	}
	if d.Locked || before == nil {
		l.state, l.hash, l.pages = nil, d.Hash, nil
		return nil
	}
	s, err := d.State(before)
	if err != nil {
		return err
	}
	if d.Origin.Anchor == d.Seq || len(pages) <= int(d.MemorySize/PageSize/64) {
		pages = pages.grown(d.MemorySize)
	}
	if err := pages.add(d); err != nil {
		return err
	}
	s.Output = nil
	l.state, l.hash, l.pages = s, d.Hash, pages
	return nil
}

// fork returns a line that goes its own way from l's root.
func (l *line) fork() *line {
	return &line{module: l.module, root: l.root, rootRef: l.rootRef, rootBytes: l.rootBytes, rootPages: l.rootPages}
}

// survey is a coroutine that is being checked.
type survey struct {
	*checker
	id       string
	problems []Problem
	left     []string        // keys of leftovers
	output   []uint64        // numbers of commits whose output is damaged or missing
	whole    map[uint64]bool // commits that can be restored
	// rootUntil has for each commit that is the root of others the last of these, and roots its chain until then.
	rootUntil map[uint64]uint64
	roots     map[uint64]*line
	line      *line // the chain that the last commit is of; nil if that can't be restored
	before    Commit
	counted   tally // of what was read, guarded by checker.mu
}

// count notes what was read, for the checker and for the survey.
func (v *survey) count(t tally) {
	v.checker.count(t)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.counted.add(t)
}

// uncount takes back what the survey has counted, as the next one reads it again.
func (v *survey) uncount() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.Objects -= v.counted.objects
	v.Locked -= v.counted.locked
	v.Bytes -= v.counted.bytes
}

// coroutine verifies a coroutine.
func (c *checker) coroutine(ctx context.Context, id string) error {
	for try := 0; ; try++ {
		v := &survey{checker: c, id: id, whole: map[uint64]bool{}, rootUntil: map[uint64]uint64{}, roots: map[uint64]*line{}}
		h, err := c.s.history(ctx, id)
		var newest uint64
		if err == nil {
			newest = h.newest()
			err = v.all(ctx, h)
		}
		if errors.Is(err, errOvertaken) && try < retries {
			v.uncount()
			continue // commits were dropped meanwhile
		}
		if errors.Is(err, ErrCorrupt) { // of the listing itself
			v.problems = append(v.problems, Problem{Key: coroutinePrefix(id), Err: err})
		} else if err != nil {
			return err
		}
		missing := func(p Problem) bool { return errors.Is(p.Err, errMissing) || strings.HasSuffix(p.Key, "/") }
		if try < 2 && slices.ContainsFunc(v.problems, missing) {
			v.uncount()
			continue // a listing that was made while logs were merged may have missed some
		}
		if err := v.messages(ctx, h); err != nil {
			return err
		}
		c.leftover(v.left...)
		resumable := v.resumable(newest)
		for _, p := range v.problems {
			p.Coroutine, p.Resumable, p.Newest = id, resumable, newest
			c.problem(p)
		}
		return nil
	}
}

// resumable returns the newest commit that is whole, and, if it isn't the newest of all, can be exported.
func (v *survey) resumable(newest uint64) uint64 {
	if v.whole[newest] {
		return newest
	}
	limit := uint64(MaxSeq)
	if len(v.output) > 0 {
		limit = slices.Min(v.output)
	}
	best := uint64(0)
	for seq := range v.whole {
		if seq > best && seq <= limit {
			best = seq
		}
	}
	return best
}

func (v *survey) all(ctx context.Context, h *history) error {
	needed := h.needed(h.covered)
	var list []listed
	for _, c := range h.commits {
		if c.seq > h.covered || needed[c.seq] {
			list = append(list, c)
		} else {
			v.left = append(v.left, c.entry.Key)
		}
	}
	for _, c := range h.manifests {
		if c.Err == nil && c.Origin != nil {
			v.rootUntil[c.Origin.Root.Seq] = c.Seq
		}
	}
	if err := v.logs(ctx, h); err != nil {
		return err
	}
	// Several are read at a time, as the budget allows, and looked at in order.
	next := h.covered + 1
	for some := range slices.Chunk(list, width) {
		read := make([]object, len(some))
		err := parallel(ctx, width, len(some), func(ctx context.Context, i int) error { return v.fetch(ctx, some[i], &read[i]) })
		if err != nil {
			return err
		}
		for i := range read {
			seq := some[i].seq
			if seq > h.covered {
				if next < seq {
					v.missing(next)
					v.output = append(v.output, next)
				}
				next = seq + 1
			}
			if err := v.commit(ctx, some[i], &read[i]); err != nil {
				return err
			}
			read[i] = object{}
		}
	}
	return nil
}

func (v *survey) wrong(key string, seq uint64, err error) {
	v.problems = append(v.problems, Problem{Key: key, Commit: seq, Err: err})
}

// missing notes a commit that is not there, once.
func (v *survey) missing(seq uint64) {
	key := commitKey(v.id, seq)
	if !slices.ContainsFunc(v.problems, func(p Problem) bool { return p.Key == key }) {
		v.wrong(key, seq, errMissing)
	}
}

// object is a commit that was read: a full snapshot's line, or a delta.
type object struct {
	commit Commit
	full   *line
	delta  *Delta
	wrong  error
}

// fetch reads and decodes a commit.
func (v *survey) fetch(ctx context.Context, c listed, o *object) error {
	defer v.budget.take(min(c.entry.Size, v.s.inMemory))()
	st, err := v.s.readCommit(ctx, v.id, c.seq, c.entry.Key)
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w: %w", errOvertaken, err)
	}
	switch {
	case errors.Is(err, ErrKey):
		o.commit, err = v.locked(ctx, v.id, c.seq, c.entry.Key)
		if errors.Is(err, bucket.ErrNotExist) {
			return fmt.Errorf("%w: %w", errOvertaken, err)
		}
		if err != nil {
			break
		}
		v.count(tally{objects: 1, locked: 1, bytes: c.entry.Size})
		if o.commit.Kind == KindDelta {
			o.delta = &Delta{Commit: o.commit}
		} else {
			o.full = lockedLine(o.commit, Ref{Seq: c.seq, Hash: o.commit.Hash})
		}
	default:
		v.count(tally{objects: 1, bytes: c.entry.Size})
	}
	switch {
	case err != nil, o.commit.Locked:
	case st.kind == KindDelta:
		o.commit = st.commit()
		if o.delta, err = st.delta(); err == nil {
			err = readAndForget(ctx, &st.pages)
			o.delta.Output, o.delta.pages.stored = nil, nil
		}
	default:
		o.commit = st.commit()
		o.full, err = newLine(ctx, st, Ref{Seq: c.seq, Hash: st.digest})
	}
	o.wrong, err = damage(err)
	return err
}

// commit verifies a commit in its place.
func (v *survey) commit(ctx context.Context, at listed, o *object) error {
	key := at.entry.Key
	before := v.before
	v.before = Commit{Manifest: Manifest{Seq: at.seq}}
	if o.wrong != nil {
		v.wrong(key, at.seq, o.wrong)
		v.output = append(v.output, at.seq)
		v.line = nil
		return nil
	}
	v.before = o.commit
	switch p := o.commit.Parent; {
	case before.Seq+1 != at.seq:
		v.line = nil // a delta against the parent can't go on
		if d := o.delta; d != nil && d.Origin.Anchor < d.Seq {
			v.missing(at.seq - 1)
		}
	case !before.Hash.IsZero() && (p == nil || p.Hash != before.Hash):
		v.wrong(key, at.seq, corrupt("manifest", headerSize, "its parent is another commit %d than the one that is there", before.Seq))
		v.line = nil
	}
	whole, err := v.restores(ctx, key, o)
	if err != nil {
		return err
	}
	m, err := v.module(ctx, o.commit.Module)
	if err != nil {
		return err
	}
	if m.wrong != nil {
		v.share(moduleKey(o.commit.Module), m)
	} else if whole {
		v.whole[at.seq] = true
	}
	return nil
}

// share notes a problem of a shared object, once.
func (v *survey) share(key string, of *verdict) {
	v.mu.Lock()
	of.used = true
	v.mu.Unlock()
	if !slices.ContainsFunc(v.problems, func(p Problem) bool { return p.Key == key }) {
		v.wrong(key, 0, of.wrong)
	}
}

// restores reports whether a commit can be put together from its chain, and sets v.line to that.
func (v *survey) restores(ctx context.Context, key string, o *object) (bool, error) {
	seq := o.commit.Seq
	defer maps.DeleteFunc(v.roots, func(root uint64, _ *line) bool { return v.rootUntil[root] <= seq })
	if o.full != nil {
		v.line = o.full
		v.roots[seq] = o.full
		return true, nil
	}
	if o.delta.Origin.Anchor == seq {
		root, err := v.root(ctx, o.delta.Origin.Root)
		if err != nil {
			return false, err
		}
		if v.line = nil; root != nil {
			v.line = root.fork()
		}
	}
	if v.line == nil { // the fault is with another object, which is told there
		return false, nil
	}
	if err := v.line.add(o.delta); err != nil {
		v.wrong(key, seq, err)
		v.line = nil
		return false, nil
	}
	return true, nil
}

// root returns the root of a chain, nil if it is not whole.
func (v *survey) root(ctx context.Context, r Ref) (*line, error) {
	if r.Seq > 0 {
		if v.roots[r.Seq] == nil {
			v.missing(r.Seq)
		}
		return v.roots[r.Seq], nil
	}
	b, err := v.base(ctx, r.Name)
	if err != nil {
		return nil, err
	}
	if b.wrong != nil {
		v.share(baseKey(r.Name), b)
	}
	return b.base, nil
}

// messages verifies the messages that wait for the coroutine. If it has ended they are leftovers.
func (v *survey) messages(ctx context.Context, h *history) error {
	list, err := v.s.messageObjects(ctx, v.id)
	if err != nil {
		return err
	}
	if h != nil && len(h.manifests) > 0 && h.manifests[len(h.manifests)-1].Status.Ended() {
		for _, e := range list {
			v.left = append(v.left, e.Key)
		}
		return nil
	}
	for _, e := range list {
		err := func() error {
			defer v.budget.take(min(e.Size, maxMessage))()
			_, err := v.s.readMessage(ctx, v.id, e.Key)
			locked := errors.Is(err, ErrKey)
			if locked {
				_, _, _, err = v.lockedObject(ctx, e.Key)
			}
			if errors.Is(err, bucket.ErrNotExist) {
				return nil // received meanwhile
			}
			wrong, err := damage(err)
			switch {
			case err != nil:
				return err
			case wrong != nil:
				v.wrong(e.Key, 0, wrong)
			case locked:
				v.count(tally{objects: 1, locked: 1, bytes: e.Size})
			default:
				v.count(tally{objects: 1, bytes: e.Size})
			}
			return nil
		}()
		if err != nil {
			return err
		}
	}
	return nil
}

// logs verifies the logs, and that they cover what they should.
func (v *survey) logs(ctx context.Context, h *history) error {
	type covered struct{ first, last uint64 }
	var all []covered
	for _, e := range h.logs {
		err := func() error {
			defer v.budget.take(e.Size)()
			w, _, err := v.s.readLog(ctx, v.id, e.Key)
			locked := errors.Is(err, ErrKey)
			if locked {
				if _, _, _, err = v.lockedObject(ctx, e.Key); err == nil {
					w, err = v.s.peekLog(ctx, v.id, e.Key)
				}
			}
			if errors.Is(err, bucket.ErrNotExist) {
				return fmt.Errorf("%w: %w", errOvertaken, err)
			}
			wrong, err := damage(err)
			if err != nil {
				return err
			}
			switch {
			case !locked:
				v.count(tally{objects: 1, bytes: e.Size})
			case wrong == nil:
				v.count(tally{objects: 1, locked: 1, bytes: e.Size})
			}
			if wrong != nil {
				v.wrong(e.Key, 0, wrong)
				return nil
			}
			all = append(all, covered{w.First, w.Last})
			return nil
		}()
		if err != nil {
			return err
		}
	}
	slices.SortFunc(all, func(a, b covered) int { return cmp.Compare(a.first, b.first) })
	next := uint64(1)
	gap := func(to uint64) {
		if next < to {
			v.wrong(logsPrefix+v.id+"/", 0, outputMissing(next, to-1))
			v.output = append(v.output, next)
		}
	}
	for _, l := range all {
		gap(l.first)
		next = max(next, l.last+1)
	}
	gap(h.covered + 1)
	return nil
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
