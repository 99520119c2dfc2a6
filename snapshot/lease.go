package snapshot

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/durun/durun/snapshot/bucket"
)

// The times of a lease.
const (
	DefaultLease = 15 * time.Second // TTL where none is asked for
	MinLease     = time.Second
	MaxLease     = 24 * time.Hour

	// maxEpoch is the highest number of a lease.
	maxEpoch = math.MaxInt64
	// lockPatience is how long a lock is tried for: Driven takes it for a moment, to see whether it is free.
	lockPatience = 300 * time.Millisecond
	lockInterval = 10 * time.Millisecond
	// overslept is how long after the lease's end a request that ends with it comes back if the process was paused.
	overslept = time.Second
	// releasePatience is how long Release may take to tell the store.
	releasePatience = 2 * time.Second
)

// margin is how long after its TTL a lease counts as one that has run out for everybody but its holder. Two seconds are
// for the store: its times are whole seconds, and its servers need not quite agree. The rest is for clocks that do not run
// at the same rate: by 2 % at most, of which no computer that keeps time comes near.
func margin(ttl time.Duration) time.Duration { return 2*time.Second + ttl/50 }

// LeaseOptions says how a coroutine is acquired.
type LeaseOptions struct {
	// TTL is how long the lease holds without being renewed, from [MinLease] to [MaxLease]; 0 stands for [DefaultLease].
	// It is renewed each third of it. Locks have none.
	TTL time.Duration
	// OnWait makes Acquire wait for somebody else's lease that may run out, instead of giving up at once. It is called
	// once, when the wait begins.
	OnWait func(Wait)
	// OnLost is called once if the lease is lost, which [Lease.Err] then says, and not if it is released. It is called by any
	// goroutine, and must not wait. Nil: nobody is told.
	OnLost func()
}

// Wait is what [Store.Acquire] waits for: that a lease runs out, or is renewed.
type Wait struct {
	Holder Holder
	Until  time.Time // when it has run out, by this machine's clock
}

// Lease makes its holder a coroutine's only driver. It is a lock that dies with the process where the bucket has those,
// and elsewhere an object with a time to live, which is renewed in the background until Release. What the lease can't
// keep apart, because nobody's clock is to be relied on and a process may be paused between any two instructions, the
// commits' numbers do; see [Lease.Commit].
//
// Its methods may be called by any number of goroutines, except that commits are made one after the other.
type Lease struct {
	s       *Store
	id      string
	holder  Holder
	ttl     time.Duration
	onLost  func()
	release func() error // of the lock; nil for a lease that is an object

	turn chan struct{} // held by whoever renews the lease or asks the store about it

	mu        sync.Mutex
	epoch     uint64    // the last one made
	held      uint64    // the last one that was good
	sent      instant   // just before the request that made that: it is good until a TTL after, at least
	attempt   instant   // just before the first request for the next epoch, if one was sent and had no answer
	computing time.Time // what others are told; see Computing
	after     uint64
	old       []string  // keys of earlier epochs that are still to be deleted
	unknown   bool      // whether the next epoch was made is not known
	err       error     // why it is not held any more
	done      chan bool // closed when it is not

	ctx     context.Context // of the renewals
	cancel  context.CancelFunc
	stop    chan struct{} // closed by Release
	stopped chan struct{} // closed when the renewals have ended
	once    sync.Once
}

// Acquire makes the caller the coroutine's only driver, until Release. The coroutine need not exist.
//
// Where the bucket has locks, the lease is one of them: it is had at once or not at all, and ends with the process,
// however that ends. Elsewhere it is an object (FORMAT.md, "Leases"). One whose holder has died on this machine, which
// Linux tells for certain, is taken over at once; any other when it has run out by the bucket's clock, or, where the
// bucket has none, has not been renewed for as long as it holds. With OnWait set, Acquire waits for that. A lease that
// is renewed meanwhile has a holder who is alive, and is not waited for any longer.
//
// Errors: a [*DrivenError] that is [ErrBusy], naming who drives it if that is known; [ErrID]; those of the bucket.
func (s *Store) Acquire(ctx context.Context, id string, o LeaseOptions) (*Lease, error) {
	if err := ValidID(id); err != nil {
		return nil, err
	}
	if o.TTL == 0 {
		o.TTL = DefaultLease
	}
	if o.TTL < MinLease || o.TTL > MaxLease {
		return nil, fmt.Errorf("a lease of %v: it can be from %v to %v", o.TTL, MinLease, MaxLease)
	}
	abandoned := s.hasNote(id)
	release, err := s.lock(ctx, id)
	if err == nil && abandoned {
		if err = s.settle(ctx, id); err != nil {
			err = errors.Join(err, release())
		}
	}
	switch {
	case errors.Is(err, errors.ErrUnsupported):
	case errors.Is(err, bucket.ErrLocked):
		return nil, &DrivenError{Coroutine: id, Holder: s.noted(id), Err: ErrBusy}
	case err != nil:
		return nil, fmt.Errorf("lock coroutine %s: %w", id, err)
	default:
		l := &Lease{s: s, id: id, holder: newHolder(), release: release, done: make(chan bool)}
		l.note()
		return l, nil
	}
	l := &Lease{
		s: s, id: id, holder: newHolder(), ttl: o.TTL, onLost: o.OnLost,
		turn: make(chan struct{}, 1), done: make(chan bool), stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	l.holder.TTL = o.TTL
	l.ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := l.acquire(ctx, o.OnWait); err != nil {
		l.cancel()
		var driven *DrivenError
		if errors.As(err, &driven) {
			return nil, err
		}
		return nil, fmt.Errorf("acquire coroutine %s: %w", id, err)
	}
	go l.keep()
	return l, nil
}

// lock takes the coroutine's lock. errors.ErrUnsupported says that the bucket has none.
func (s *Store) lock(ctx context.Context, id string) (release func() error, err error) {
	b, ok := s.b.(bucket.Locker)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	release, err = b.TryLock(ctx, leasesPrefix+id)
	for deadline := time.Now().Add(lockPatience); errors.Is(err, bucket.ErrLocked) && time.Now().Before(deadline); {
		if err := wait(ctx, lockInterval); err != nil {
			return nil, err
		}
		release, err = b.TryLock(ctx, leasesPrefix+id)
	}
	return release, err
}

// wait returns after a time, or with the error of a context that is done before.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// acquire makes the lease's first object.
func (l *Lease) acquire(ctx context.Context, onWait func(Wait)) error {
	ends := map[sight]time.Time{} // when each lease that was seen will have run out
	var waited sight              // the one that is being waited for
	for {
		found, err := l.s.leases(ctx, leasePrefix(l.id))
		if err != nil {
			return err
		}
		var live *leaseObject
		epoch := uint64(1)
		for i := range found {
			f := &found[i] // ascending: the last one wins
			epoch = f.epoch + 1
			if f.holder.gone() {
				continue
			}
			if _, ok := ends[f.sight()]; !ok {
				ends[f.sight()] = l.s.runsOut(ctx, f)
			}
			if time.Now().Before(ends[f.sight()]) {
				live = f
			}
		}
		if live == nil {
			held, err := l.claim(ctx, epoch, found)
			switch {
			case errors.Is(err, errTaken):
				onWait = nil // whoever was faster is alive
			case held || err != nil:
				return err
			}
			continue
		}
		if onWait == nil || waited != (sight{}) && waited != live.sight() {
			return &DrivenError{Coroutine: l.id, Holder: live.holder, Err: ErrBusy}
		}
		end := ends[live.sight()]
		if waited == (sight{}) {
			waited = live.sight()
			onWait(Wait{Holder: live.holder, Until: end})
		}
		poll := min(max(live.holder.TTL/15, 100*time.Millisecond), 2*time.Second)
		if err := wait(ctx, min(poll, time.Until(end)+time.Millisecond)); err != nil {
			return err
		}
	}
}

// runsOut returns when a lease that has just been seen will have run out for sure, if it is not renewed, on this
// machine's clock. If the bucket has no clock, the lease may be as new as its first sight.
func (s *Store) runsOut(ctx context.Context, f *leaseObject) time.Time {
	left := f.holder.TTL + margin(f.holder.TTL)
	seen := time.Now()
	end := seen.Add(left)
	if now, ok := s.storeTime(ctx); ok {
		// Neither is a clock relied on that is hours away from its own objects.
		if byClock := seen.Add(f.made.Add(left).Sub(now)); byClock.Before(end) {
			return byClock
		}
	}
	return end
}

// storeTime returns the time by the bucket's clock, if it has one.
func (s *Store) storeTime(ctx context.Context) (time.Time, bool) {
	c, ok := s.b.(bucket.Clock)
	if !ok {
		return time.Time{}, false
	}
	now, err := c.Now(ctx)
	return now, err == nil
}

// claim makes the lease's first object, over those that have run out. errTaken says that somebody else was faster; false
// without an error, that others were there meanwhile, and nothing is decided.
func (l *Lease) claim(ctx context.Context, epoch uint64, before []leaseObject) (bool, error) {
	l.epoch, l.held, l.sent = epoch, epoch, l.s.local()
	err := l.put(ctx, epoch)
	if errors.Is(err, errTaken) {
		return false, err
	}
	alone := false
	if err == nil {
		alone, err = l.alone(ctx, before)
	}
	if err == nil && alone {
		for _, f := range before {
			l.old = append(l.old, f.key)
		}
		l.sweep(ctx)
		if err = l.ensure(ctx); err == nil { // all this may have taken longer than the lease holds
			return true, nil
		}
	}
	// It may be there, and would be in everybody's way until it has run out. Or it is somebody else's.
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), releasePatience)
	defer cancel()
	key := leaseKey(l.id, l.epoch)
	if data, rerr := bucket.ReadAll(clean, l.s.b, key, maxLeaseObject); rerr == nil && decodeHolder(data).owner == l.holder.owner {
		_ = l.s.b.Delete(clean, key)
	}
	return false, err
}

// alone reports whether the store has the lease's object, those that were there before it, and no other. Two that acquire
// the coroutine having seen the same want to make the same object, and one of them does. If they have seen different
// things, because one of them was slow and the leases that it saw have gone since, that shows here: to both of them,
// if the one comes just after the other. Then both try again.
func (l *Lease) alone(ctx context.Context, before []leaseObject) (bool, error) {
	left := map[string]time.Time{}
	for _, f := range before {
		left[f.key] = f.made
	}
	own := false
	for e, err := range l.s.b.List(ctx, bucket.ListOptions{Prefix: leasePrefix(l.id)}) {
		if err != nil {
			return false, err
		}
		_, epoch, ok := parseLeaseKey(e.Key)
		if !ok {
			continue
		}
		if made, ok := left[e.Key]; ok && made.Equal(e.ModTime) {
			delete(left, e.Key)
		} else if epoch != l.epoch {
			return false, nil
		} else {
			own = true
		}
	}
	return own && len(left) == 0, nil
}

// errTaken is for an epoch that is somebody else's.
var errTaken = errors.New("the epoch is taken")

// put makes an epoch's object. errTaken says that somebody else has made it.
func (l *Lease) put(ctx context.Context, epoch uint64) error {
	if epoch > maxEpoch {
		return corrupt("store", -1, "leases of coroutine %s have used up their numbers", l.id)
	}
	key := leaseKey(l.id, epoch)
	err := bucket.PutBytes(ctx, l.s.b, key, l.says())
	if !errors.Is(err, bucket.ErrExist) {
		return err
	}
	there, err := bucket.ReadAll(ctx, l.s.b, key, maxLeaseObject)
	switch {
	case err == nil && decodeHolder(there).owner == l.holder.owner:
		return nil // an earlier request, whose answer was lost
	case err == nil, errors.Is(err, bucket.ErrNotExist), errors.Is(err, bucket.ErrTooLarge):
		return errTaken
	default:
		return err
	}
}

// keep renews the lease until it is released or lost.
func (l *Lease) keep() {
	defer close(l.stopped)
	next := l.due()
	for {
		timer := time.NewTimer(next)
		select {
		case <-timer.C:
		case <-l.stop:
			timer.Stop()
			return
		case <-l.done:
			timer.Stop()
			return
		}
		if next = l.due(); next > 0 {
			continue // a commit has renewed it
		}
		if err := l.renew(l.ctx); err != nil {
			next = l.ttl / 15
		} else {
			next = l.due()
		}
	}
}

// due returns how long it is until the lease is to be renewed.
func (l *Lease) due() time.Duration { return l.left() - l.ttl*2/3 }

// valid reports whether the lease can't have run out yet.
func (l *Lease) valid() bool { return l.left() > 0 }

// ensure returns at once if the lease is valid, and else, after a pause of the process or the machine, renews it if
// nobody has taken it meanwhile.
func (l *Lease) ensure(ctx context.Context) error {
	if err := l.Err(); err != nil || l.release != nil || l.valid() {
		return err
	}
	return l.renew(ctx)
}

// renew makes the next epoch. The lease is lost if somebody else has, or if it has run out and one attempt to renew it
// has failed.
func (l *Lease) renew(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-l.turn }()
	if err := l.Err(); err != nil {
		return err
	}
	for {
		before := l.left()
		limit := before
		if limit <= 0 {
			limit = l.ttl / 3
		}
		limited, cancel := context.WithTimeout(ctx, limit)
		err := l.extend(limited)
		cancel()
		after := l.left()
		switch {
		case err == nil:
			return nil
		case errors.Is(err, ErrFenced):
			l.lose(err)
			return err
		case ctx.Err() != nil, after > 0:
			return err
		case before > 0 && after < -overslept:
			continue // the process was paused: it may be no fault of the store's
		}
		err = &DrivenError{Coroutine: l.id, Err: ErrFenced, Cause: fmt.Errorf("its lease ran out and could not be renewed: %w", err)}
		l.lose(err)
		return err
	}
}

// left returns how long the lease holds yet; it may be negative.
func (l *Lease) left() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ttl - l.s.since(l.sent)
}

// extend makes epochs until one is valid, as a rule the first. It is called in turn.
func (l *Lease) extend(ctx context.Context) error {
	for {
		start := l.s.local()
		l.mu.Lock()
		if l.unknown {
			start = l.attempt // it may have been made then
		}
		l.attempt, l.unknown = start, true
		next := l.epoch + 1
		l.mu.Unlock()
		if err := l.put(ctx, next); errors.Is(err, errTaken) {
			return l.overtaken(ctx)
		} else if err != nil {
			return err
		}
		l.mu.Lock()
		late := l.s.since(l.sent) >= l.ttl
		l.old, l.epoch, l.unknown = append(l.old, leaseKey(l.id, l.epoch)), next, false
		held := l.held
		l.mu.Unlock()
		if late {
			// The lease had run out, and this is as if it was acquired anew: that counts if nobody has done so before.
			if still, err := l.untouched(ctx, leaseKey(l.id, held)); err != nil {
				return err
			} else if !still {
				err = l.overtaken(ctx)
				for made := held + 1; made <= next; made++ {
					_ = l.s.b.Delete(ctx, leaseKey(l.id, made))
				}
				return err
			}
		}
		l.mu.Lock()
		l.held, l.sent = next, start
		l.mu.Unlock()
		if l.valid() {
			break
		}
	}
	l.sweep(ctx)
	return nil
}

// untouched reports whether the store has the lease's object of the last epoch that was good, which whoever had taken the
// coroutine would have deleted, and no lease of others.
func (l *Lease) untouched(ctx context.Context, held string) (bool, error) {
	found, err := l.s.leases(ctx, leasePrefix(l.id))
	if err != nil {
		return false, err
	}
	there := false
	for _, f := range found {
		if f.holder.owner != l.holder.owner {
			return false, nil
		}
		there = there || f.key == held
	}
	return there, nil
}

// errLapsed says what has happened to a holder that was paused for longer than its lease, when nobody is left to name.
var errLapsed = errors.New("its lease ran out, and somebody else has had it since")

var errReleased = errors.New("its lease was released")

// sweep deletes the objects of earlier epochs. One that can't be deleted now is tried again the next time.
func (l *Lease) sweep(ctx context.Context) {
	l.mu.Lock()
	old := l.old
	l.old = nil
	l.mu.Unlock()
	for i, key := range old {
		if err := l.s.b.Delete(ctx, key); err != nil {
			l.mu.Lock()
			l.old = append(l.old, old[i:]...)
			l.mu.Unlock()
			return
		}
	}
}

// overtaken returns the error of a holder whose lease somebody else has taken.
func (l *Lease) overtaken(ctx context.Context) error {
	driven := &DrivenError{Coroutine: l.id, Err: ErrFenced}
	if found, err := l.s.leases(ctx, leasePrefix(l.id)); err == nil && len(found) > 0 {
		if h := found[len(found)-1].holder; h.owner != l.holder.owner {
			driven.Holder = h
			return driven
		}
	}
	driven.Cause = errLapsed
	return driven
}

// lose ends the lease.
func (l *Lease) lose(err error) {
	l.mu.Lock()
	lost := l.err == nil
	if lost {
		l.err = err
		close(l.done)
	}
	l.mu.Unlock()
	if lost && l.onLost != nil && !errors.Is(err, errReleased) {
		l.onLost()
	}
}

// Err returns nil while the lease is held as far as its holder knows, and after that why it isn't: a [*DrivenError] that
// is [ErrFenced].
func (l *Lease) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Holder returns what others see of the lease's holder.
func (l *Lease) Holder() Holder { return l.holder }

// Context returns a copy of ctx that is also done, with [Lease.Err] as cause, when the lease is lost or released.
func (l *Lease) Context(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-l.done:
			cancel(l.Err())
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// Release gives the coroutine up. It may be called more than once. A lease that the store could not be told about ends by
// running out; that is no error. Errors: those of the bucket's lock.
func (l *Lease) Release() error {
	var err error
	l.once.Do(func() {
		released := &DrivenError{Coroutine: l.id, Err: ErrFenced, Cause: errReleased}
		if l.release != nil {
			l.lose(released)
			err = l.release()
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), releasePatience)
		defer cancel()
		close(l.stop)
		select {
		case <-l.stopped: // a renewal that was under way has an answer
		case <-ctx.Done():
		}
		l.cancel()
		<-l.stopped
		l.mu.Lock()
		// Where the store's answer is missing, an epoch may yet appear. It must find its number taken, by what is left to
		// run out. And what was lost is the next holder's to remove.
		leave := l.unknown || l.err != nil
		l.old = append(l.old, leaseKey(l.id, l.epoch))
		l.mu.Unlock()
		l.lose(released)
		if !leave {
			l.sweep(ctx)
		}
	})
	return err
}

// leaseObject is a lease in the store.
type leaseObject struct {
	key    string
	id     string
	epoch  uint64
	made   time.Time // by the bucket's clock
	holder Holder
}

// sight tells an epoch of a lease from all others: numbers are used again.
type sight struct {
	key, owner string
	made       int64
}

func (f *leaseObject) sight() sight { return sight{f.key, f.holder.owner, f.made.UnixNano()} }

// leases returns the leases below a prefix, by coroutine and epoch ascending.
func (s *Store) leases(ctx context.Context, prefix string) ([]leaseObject, error) {
again:
	for try := 0; ; try++ {
		var found []leaseObject
		for e, err := range s.b.List(ctx, bucket.ListOptions{Prefix: prefix}) {
			if err != nil {
				return nil, err
			}
			if id, epoch, ok := parseLeaseKey(e.Key); ok {
				found = append(found, leaseObject{key: e.Key, id: id, epoch: epoch, made: e.ModTime})
			}
		}
		kept := found[:0]
		for _, f := range found {
			data, err := bucket.ReadAll(ctx, s.b, f.key, maxLeaseObject)
			switch {
			case errors.Is(err, bucket.ErrNotExist) && try < retries:
				continue again // renewed or released meanwhile
			case errors.Is(err, bucket.ErrNotExist):
				continue
			case err != nil && !errors.Is(err, bucket.ErrTooLarge):
				return nil, err
			}
			f.holder = decodeHolder(data)
			kept = append(kept, f)
		}
		return kept, nil
	}
}

func leasePrefix(id string) string { return leasesPrefix + id + "/" }

func leaseKey(id string, epoch uint64) string {
	return fmt.Sprintf("%s%016x", leasePrefix(id), epoch)
}

func parseLeaseKey(key string) (id string, epoch uint64, ok bool) {
	id, number, ok := strings.Cut(strings.TrimPrefix(key, leasesPrefix), "/")
	if !ok || ValidID(id) != nil {
		return "", 0, false
	}
	epoch, ok = parseSeq(number)
	return id, epoch, ok && epoch >= 1 && epoch <= maxEpoch
}
