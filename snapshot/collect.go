package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/durun/durun/snapshot/bucket"
)

// CollectOptions says what [Store.Collect] removes.
type CollectOptions struct {
	// Policy says which commits of each coroutine are kept; zero: all.
	Policy Policy
	// Bases has shared bases collected that no coroutine needs. Else they stay until [Store.DeleteBase].
	Bases bool
	// Grace is how long a shared object stays condemned before it is deleted. It has to be longer than a driver may stand
	// still between the last look at what its first commit needs and the commit itself. 0 deletes at once: that is safe
	// unless a driver that makes a first commit at this moment is killed before it can look again.
	Grace time.Duration
	// DryRun finds out what would be done, and does nothing.
	DryRun bool
	// Progress is called now and then with the number of coroutines seen; nil for nobody.
	Progress func(coroutines int)
}

// Collected is what [Store.Collect] found and did.
type Collected struct {
	Reclaimed []Reclaimed // by kind, in the order of the kinds
	Condemned []Condemned // by key, ascending
	// Damaged are the errors that kept it from finding out what a coroutine needs. If there is any, no shared object was
	// condemned or deleted.
	Damaged []error
	// Skipped are what could not be removed, mostly for want of room for a mark or a log on a full disk.
	Skipped []error
}

// Reclaimed is how much of a kind of objects was removed.
type Reclaimed struct {
	Kind    ObjectKind
	Objects int
	Bytes   int64
}

// ObjectKind is a kind of objects in a store.
type ObjectKind string

// The kinds of objects that are reclaimed. Leftovers are those of a deletion or an import that was cut short.
const (
	ObjectCommit   ObjectKind = "commit"
	ObjectLeftover ObjectKind = "leftover"
	ObjectMessage  ObjectKind = "message" // to a coroutine that has ended
	ObjectModule   ObjectKind = "module"
	ObjectBase     ObjectKind = "base"
)

// Condemned is a shared object that will be deleted by a later Collect, unless somebody needs it by then.
type Condemned struct {
	Kind  ObjectKind // ObjectModule or ObjectBase
	Name  string     // the module's hash or the base's name
	Bytes int64
	Since time.Time // on the store's clock
	After time.Time // from when on it may be deleted, with the same grace
}

// Collect removes what nobody needs any more: commits that a policy does not keep, leftovers of what was cut short, messages to
// coroutines that have ended, and modules that no coroutine was made of. It is safe beside everything else that works on the store, itself included:
// modules (and bases, if asked for) are condemned first, and deleted by a later call, when they have been so for the grace
// time and nobody has come to need them. See FORMAT.md, "Shared objects".
//
// It reads the manifest of each commit in the store, and goes on where it can: what failed for one coroutine is in the
// result. Errors: those of the bucket that are not about a single object.
func (s *Store) Collect(ctx context.Context, o CollectOptions) (Collected, error) {
	c := &collector{s: s, o: o, reclaimed: map[ObjectKind]*Reclaimed{}}
	if err := c.run(ctx); err != nil {
		return c.result(), fmt.Errorf("collect: %w", err)
	}
	return c.result(), nil
}

type collector struct {
	s         *Store
	o         CollectOptions
	now       time.Time  // on the store's clock
	mu        sync.Mutex // of what follows
	reclaimed map[ObjectKind]*Reclaimed
	Collected
}

func (c *collector) result() Collected {
	for _, kind := range []ObjectKind{ObjectCommit, ObjectLeftover, ObjectMessage, ObjectModule, ObjectBase} {
		if r := c.reclaimed[kind]; r != nil {
			c.Reclaimed = append(c.Reclaimed, *r)
		}
	}
	slices.SortFunc(c.Condemned, func(a, b Condemned) int { return strings.Compare(string(a.Kind)+a.Name, string(b.Kind)+b.Name) })
	return c.Collected
}

func (c *collector) reclaim(kind ObjectKind, objects int, bytes int64) {
	if objects == 0 && bytes == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reclaimed[kind] == nil {
		c.reclaimed[kind] = &Reclaimed{Kind: kind}
	}
	c.reclaimed[kind].Objects += objects
	c.reclaimed[kind].Bytes += bytes
}

func (c *collector) run(ctx context.Context) (err error) {
	if c.now, err = c.s.clock(ctx); err != nil {
		return err
	}
	if err := c.leftovers(ctx); err != nil {
		return err
	}
	if err := c.marks(ctx); err != nil {
		return err
	}
	// Marks and logs take some room before more is freed. On a full disk, what one has freed may do for the other.
	for {
		before := c.freed()
		c.Condemned, c.Damaged, c.Skipped = nil, nil, nil
		if err := c.shared(ctx); err != nil {
			return err
		}
		if err := c.commits(ctx); err != nil {
			return err
		}
		if !errors.Is(errors.Join(c.Skipped...), bucket.ErrFull) || c.freed() <= before {
			return nil
		}
	}
}

// freed is how many bytes were removed.
func (c *collector) freed() int64 {
	n := int64(0)
	for _, r := range c.reclaimed {
		n += r.Bytes
	}
	return n
}

// commits drops the commits of all coroutines that the policy does not keep, and removes what earlier drops have left.
func (c *collector) commits(ctx context.Context) error {
	return c.s.eachID(ctx, func(ctx context.Context, id string) error {
		done, err := c.s.retain(ctx, id, c.o.Policy, retaining{dry: c.o.DryRun})
		c.reclaim(ObjectCommit, done.Commits, done.Bytes)
		return c.skip(ctx, err)
	})
}

// skip sorts out an error: what concerns one object only is noted.
func (c *collector) skip(ctx context.Context, err error) error {
	switch {
	case err == nil, errors.Is(err, ErrNotFound), errors.Is(err, ErrBusy):
		return nil
	case ctx.Err() != nil, errors.Is(err, bucket.ErrPermission), errors.Is(err, bucket.ErrUnavailable):
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Skipped = append(c.Skipped, err)
	return nil
}

// leftovers finishes deletions that were cut short, and removes what there is of coroutines that don't exist.
func (c *collector) leftovers(ctx context.Context) error {
	err := c.s.eachID(ctx, func(ctx context.Context, id string) error { return c.skip(ctx, c.leftover(ctx, id)) })
	if err != nil {
		return err
	}
	for _, prefix := range []string{logsPrefix, leasesPrefix, inboxPrefix} {
		for e, err := range c.s.b.List(ctx, bucket.ListOptions{Prefix: prefix, Folders: true}) {
			if err != nil {
				return err
			}
			id := strings.TrimSuffix(strings.TrimPrefix(e.Key, prefix), "/")
			if !e.Folder() || ValidID(id) != nil {
				continue
			}
			if err := c.skip(ctx, c.leftover(ctx, id)); err != nil {
				return err
			}
			if prefix != inboxPrefix {
				continue
			}
			if err := c.skip(ctx, c.unreceived(ctx, id)); err != nil {
				return err
			}
		}
	}
	return nil
}

// unreceived removes the messages that wait for a coroutine which has ended.
func (c *collector) unreceived(ctx context.Context, id string) error {
	ended := func() (bool, error) {
		head, err := c.s.Head(ctx, id)
		return err == nil && head.Status.Ended(), err
	}
	if is, err := ended(); err != nil || !is {
		return err
	}
	s := c.s
	if !c.o.DryRun {
		// While the lease is held, nobody removes the coroutine and creates another one of that id, to whom others may write.
		lease, err := c.s.Acquire(ctx, id, LeaseOptions{})
		if err != nil {
			return err
		}
		defer lease.Release()
		if is, err := ended(); err != nil || !is {
			return err
		}
		s = lease.guarded()
	}
	list, err := s.messageObjects(ctx, id)
	if err != nil {
		return err
	}
	for _, e := range list {
		if !c.o.DryRun {
			if err := s.b.Delete(ctx, e.Key); err != nil {
				return err
			}
		}
		c.reclaim(ObjectMessage, 1, e.Size)
	}
	return nil
}

// leftover removes what there is of a coroutine that does not exist.
func (c *collector) leftover(ctx context.Context, id string) error {
	if _, _, err := c.s.newest(ctx, id); !errors.Is(err, ErrNotFound) {
		return err
	}
	objects, size, young, err := c.measure(ctx, id)
	if err != nil || objects == 0 {
		return err
	}
	if c.o.DryRun {
		driven, err := c.s.Driven(ctx)
		if err != nil {
			return err
		}
		if _, busy := driven(id); !busy && !young {
			c.reclaim(ObjectLeftover, objects, size)
		}
		return nil
	}
	// Not while somebody creates it, imports it or deletes it. Acquire removes leases that have run out.
	lease, err := c.s.Acquire(ctx, id, LeaseOptions{})
	if err != nil {
		return err
	}
	held := lease.guarded()
	e, dead, err := held.first(ctx, id)
	switch {
	case err != nil:
	case dead && e.Key == coroutinePrefix(id)+tombstone:
		err = held.remove(ctx, id)
	case !dead:
		err = held.deleteAll(ctx, messagesPrefix(id), "")
		if err == nil && !young { // else somebody may import it who was paused for longer than his lease held
			err = held.deleteAll(ctx, logsPrefix+id+"/", "")
		}
	}
	if err = errors.Join(err, lease.Release()); err != nil {
		return err
	}
	left, leftSize, _, err := c.measure(ctx, id)
	c.reclaim(ObjectLeftover, max(0, objects-left), max(0, size-leftSize))
	return err
}

// measure counts what there is of a coroutine. Young says that its logs have not been there for the time of grace.
func (c *collector) measure(ctx context.Context, id string) (objects int, size int64, young bool, err error) {
	for _, prefix := range []string{logsPrefix, leasesPrefix, inboxPrefix, coroutinesPrefix} {
		for e, err := range c.s.b.List(ctx, bucket.ListOptions{Prefix: prefix + id + "/"}) {
			if err != nil {
				return 0, 0, false, err
			}
			objects++
			size += e.Size
			young = young || prefix == logsPrefix && c.now.Sub(e.ModTime) < c.o.Grace
		}
	}
	return objects, size, young, nil
}

// marks removes what an earlier collection has left: marks of objects that are gone, and announcements of deletions that
// are over in any case.
func (c *collector) marks(ctx context.Context) error {
	for e, err := range c.s.b.List(ctx, bucket.ListOptions{Prefix: condemnedPrefix}) {
		if err != nil {
			return err
		}
		key := strings.TrimPrefix(e.Key, condemnedPrefix)
		stale := false
		if of, ok := strings.CutSuffix(key, markSuffix); ok {
			_, err := c.s.b.Stat(ctx, of)
			if err != nil && !errors.Is(err, bucket.ErrNotExist) {
				return err
			}
			stale = err != nil
		} else {
			stale = c.now.Sub(e.ModTime) > 2*sweepPatience
		}
		if stale && !c.o.DryRun {
			if err := c.s.b.Delete(ctx, e.Key); err != nil {
				return err
			}
		}
	}
	return nil
}

// sharedObject is a module or a base in the store.
type sharedObject struct {
	bucket.Entry
	kind ObjectKind
	name string
	mark mark // zero if it is not condemned
}

// shared condemns the modules and bases that nobody needs, and deletes those that have been condemned for long enough.
func (c *collector) shared(ctx context.Context) error {
	objects, err := c.listShared(ctx)
	if err != nil {
		return err
	}
	// The marks were read before the coroutines are looked at: an object that is not needed now has not been since.
	refs, err := c.references(ctx)
	if err != nil {
		return err
	}
	if c.Damaged = refs.damaged; len(c.Damaged) > 0 {
		return nil
	}
	var fresh, ripe []sharedObject
	for _, o := range objects {
		condemned := !o.mark.made.IsZero() // though the mark be damaged
		switch {
		case refs.keys[o.Key]:
			if condemned && !c.o.DryRun {
				if err := c.s.b.Delete(ctx, markKey(o.Key)); err != nil {
					return err
				}
			}
		case condemned && c.now.Sub(o.mark.made) >= c.o.Grace:
			ripe = append(ripe, o)
		case condemned:
			c.condemned(o)
		default:
			if c.o.DryRun {
				o.mark.made = c.now
			} else if o.mark, err = c.s.condemn(ctx, o.Key); errors.Is(err, bucket.ErrNotExist) {
				continue // rescued at once
			} else if err != nil {
				if err := c.skip(ctx, err); err != nil {
					return err
				}
				continue
			}
			if c.o.Grace > 0 {
				c.condemned(o)
			} else {
				fresh = append(fresh, o)
			}
		}
	}
	if len(fresh) > 0 {
		if refs, err = c.references(ctx); err != nil {
			return err
		}
		for _, o := range fresh {
			switch {
			case len(refs.damaged) > 0:
				c.condemned(o)
			case !refs.keys[o.Key]:
				ripe = append(ripe, o)
			default: // taken into use just now
				if err := c.s.b.Delete(ctx, markKey(o.Key)); err != nil {
					return err
				}
			}
		}
	}
	for _, o := range ripe {
		deleted := true
		if !c.o.DryRun {
			if deleted, err = c.s.sweep(ctx, o.Key, o.mark); err != nil {
				if err := c.skip(ctx, err); err != nil {
					return err
				}
				c.condemned(o)
				continue
			}
		}
		if deleted {
			c.reclaim(o.kind, 1, o.Size)
		}
	}
	return nil
}

func (c *collector) condemned(o sharedObject) {
	c.Condemned = append(c.Condemned, Condemned{o.kind, o.name, o.Size, o.mark.made, o.mark.made.Add(c.o.Grace)})
}

// listShared lists the modules, and the bases if they are asked for, with their marks.
func (c *collector) listShared(ctx context.Context) ([]sharedObject, error) {
	var list []sharedObject
	for _, l := range []struct {
		prefix string
		kind   ObjectKind
		valid  func(string) bool
	}{
		{modulesPrefix, ObjectModule, func(name string) bool { _, err := ParseHash(name); return err == nil }},
		{basesPrefix, ObjectBase, func(name string) bool { return c.o.Bases && ValidID(name) == nil }},
	} {
		for e, err := range c.s.b.List(ctx, bucket.ListOptions{Prefix: l.prefix}) {
			if err != nil {
				return nil, err
			}
			name := strings.TrimPrefix(e.Key, l.prefix)
			if !l.valid(name) {
				continue // not ours
			}
			m, err := c.s.mark(ctx, e.Key)
			if err != nil && !errors.Is(err, bucket.ErrNotExist) {
				return nil, err
			}
			list = append(list, sharedObject{e, l.kind, name, m})
		}
	}
	return list, nil
}

// references are the shared objects that are needed.
type references struct {
	keys    map[string]bool
	damaged []error // why it isn't known of some coroutine or base what it needs
}

// references reads the manifest of each commit and base in the store.
func (c *collector) references(ctx context.Context) (*references, error) {
	refs := &references{keys: map[string]bool{}}
	seen := 0
	err := c.s.eachID(ctx, func(ctx context.Context, id string) error {
		needs, err := c.s.needsOf(ctx, id)
		c.mu.Lock()
		defer c.mu.Unlock()
		if seen++; c.o.Progress != nil {
			c.o.Progress(seen)
		}
		return refs.add(needs, err)
	})
	if err != nil {
		return nil, err
	}
	for base, err := range c.s.Bases(ctx) {
		if err != nil {
			return nil, err
		}
		if err := refs.add([]string{moduleKey(base.Module)}, base.Err); err != nil {
			return nil, err
		}
	}
	return refs, nil
}

// add notes needs, or why they aren't known. Any other error it returns.
func (r *references) add(keys []string, err error) error {
	switch {
	case err == nil:
		for _, key := range keys {
			r.keys[key] = true
		}
	case errors.Is(err, ErrNotFound): // deleted meanwhile
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrVersion):
		r.damaged = append(r.damaged, err)
	default:
		return err
	}
	return nil
}

// needsOf returns the keys of the shared objects that a coroutine's history needs.
func (s *Store) needsOf(ctx context.Context, id string) ([]string, error) {
	h, err := s.history(ctx, id)
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, c := range h.manifests {
		if c.Err != nil {
			return nil, fmt.Errorf("commit %d of coroutine %s: %w", c.Seq, id, c.Err)
		}
		for _, key := range c.shared() {
			if !slices.Contains(keys, key) { // there are one or two
				keys = append(keys, key)
			}
		}
	}
	return keys, nil
}

// shared returns the keys of the shared objects that a commit needs.
func (m *Manifest) shared() []string {
	keys := []string{moduleKey(m.Module)}
	for _, h := range m.Modules {
		keys = append(keys, moduleKey(h))
	}
	if m.Origin != nil && m.Origin.Root.Seq == 0 {
		keys = append(keys, baseKey(m.Origin.Root.Name))
	}
	return keys
}

// eachID calls f with the id of each coroutine that has a folder, a few at a time. The first error ends it.
func (s *Store) eachID(ctx context.Context, f func(ctx context.Context, id string) error) error {
	const batch = 256
	ids := make([]string, 0, batch)
	run := func() error {
		err := parallel(ctx, width, len(ids), func(ctx context.Context, i int) error { return f(ctx, ids[i]) })
		ids = ids[:0]
		return err
	}
	for id, err := range s.ids(ctx, "") {
		if err != nil {
			return err
		}
		if ids = append(ids, id); len(ids) == batch {
			if err := run(); err != nil {
				return err
			}
		}
	}
	return run()
}
