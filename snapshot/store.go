package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/durun/durun/snapshot/bucket"
)

// Store keeps coroutines in a bucket: their modules, commits and output. It has no state of its own, so any number of
// goroutines and processes may work on one bucket. Whatever a method reads, it verifies.
//
// Beside this package's errors, those of the bucket come through every method; see package bucket for its sentinels.
type Store struct {
	b        bucket.Bucket
	keys     *Keyring       // nil for none
	local    func() instant // this machine's clocks
	inMemory int64          // bytes; the constants, but in tests
	large    int64
}

// NewStore returns the store in a bucket. The caller closes the bucket, after its last use of the store.
func NewStore(b bucket.Bucket) *Store {
	return &Store{b: b, local: now, inMemory: inMemory, large: large}
}

// WithKeys returns a store in the same bucket that encrypts what it writes, snapshots and output, under the ring's first key,
// and reads what is encrypted under any of them. What is plain it reads as well. Modules are not encrypted.
//
// Without a key that it needs a method returns a [*KeyError]. Listings, Check, Collect and Delete need none, though Check
// looks less deep, and no commit can be dropped whose output is to be kept.
func (s *Store) WithKeys(r *Keyring) *Store {
	with := *s
	with.keys = r
	return &with
}

// Bucket returns the bucket that the store is in.
func (s *Store) Bucket() bucket.Bucket { return s.b }

// Commit is a snapshot in a store, as far as its manifest tells.
type Commit struct {
	Manifest
	Bytes int64 // size of the encoded snapshot
	Hash  Hash  // its [Digest]; zero if only the manifest was read: in listings
	// Err is why the manifest can't be read, an [ErrCorrupt] or [ErrVersion], in listings: then of the rest only
	// Coroutine, Seq and Bytes are set.
	Err error
}

// AsParent returns what the next commit names as its parent. The commit must have its Hash.
func (c Commit) AsParent() *Parent { return &Parent{Seq: c.Seq, Hash: c.Hash} }

// The store's layout. A commit's key ends in its sequence number, inverted so that the newest is listed first. The key
// that would belong to the highest number of all is a tombstone: Delete puts it first and removes it last.
const (
	modulesPrefix    = "modules/"
	coroutinesPrefix = "coroutines/"
	logsPrefix       = "logs/"
	leasesPrefix     = "leases/"
	inboxPrefix      = "inbox/"
	seqDigits        = 16
	retries          = 10 // of reads that found an object gone which had just been listed
	tombstone        = "0000000000000000"
)

func moduleKey(h Hash) string         { return modulesPrefix + h.String() }
func coroutinePrefix(i string) string { return coroutinesPrefix + i + "/" }
func commitKey(id string, seq uint64) string {
	return fmt.Sprintf("%s%016x", coroutinePrefix(id), math.MaxUint64-seq)
}

func logKey(id string, last uint64) string { return fmt.Sprintf("%s%s/%016x", logsPrefix, id, last) }

// commitSeq returns the sequence number of a commit's key.
func commitSeq(id, key string) (uint64, bool) {
	seq, ok := parseSeq(strings.TrimPrefix(key, coroutinePrefix(id)))
	seq = math.MaxUint64 - seq
	return seq, ok && seq >= 1 && seq <= MaxSeq
}

func parseSeq(s string) (uint64, bool) {
	n, err := strconv.ParseUint(s, 16, 64)
	return n, err == nil && len(s) == seqDigits && strings.ToLower(s) == s
}

// PutModule keeps a module and returns its hash: [Store.KeepModule] of a module whose hash isn't known.
func (s *Store) PutModule(ctx context.Context, wasm []byte) (Hash, error) {
	h := HashOf(wasm)
	return h, s.KeepModule(ctx, h, wasm)
}

// KeepModule keeps a module, of which h is the hash: the caller has computed it, as it takes longer than all else here. A module
// that is there already is not written again; if [Store.Collect] has condemned it, it no longer is. Who starts a coroutine
// calls KeepModule again right before its first commit, and right after: in between a collector may have found that nobody
// needs the module. Errors: those of the bucket; [ErrInvalid] for one of more than [MaxModule] bytes.
func (s *Store) KeepModule(ctx context.Context, h Hash, wasm []byte) error {
	if len(wasm) > MaxModule {
		return &FormatError{
			Section: "module", Offset: -1, Err: ErrInvalid,
			Msg: fmt.Sprintf("%d bytes, at most %d are allowed", len(wasm), MaxModule),
		}
	}
	key := moduleKey(h)
	fail := func(err error) error { return fmt.Errorf("keep module %v: %w", h, err) }
	if err := s.rescue(ctx, key); err != nil {
		return fail(err)
	}
	e, err := s.b.Stat(ctx, key)
	if err == nil && e.Size != int64(len(wasm)) {
		return fail(corrupt("module", int(e.Size), "the stored module has %d bytes of %d: damaged", e.Size, len(wasm)))
	}
	if sync, ok := s.b.(bucket.Syncer); ok && err == nil {
		err = sync.Sync(ctx, key)
	}
	if err == nil {
		return nil
	}
	if !errors.Is(err, bucket.ErrNotExist) {
		return fail(err)
	}
	if err := bucket.PutBytes(ctx, s.b, key, wasm); err != nil && !errors.Is(err, bucket.ErrExist) {
		return fail(err)
	}
	return nil
}

// UseModule makes sure that the store has a module, as KeepModule does, for those who don't have its bytes at hand. Errors:
// [ErrNotFound]; those of the bucket.
func (s *Store) UseModule(ctx context.Context, h Hash) error {
	key := moduleKey(h)
	err := s.rescue(ctx, key)
	if err == nil {
		_, err = s.b.Stat(ctx, key)
	}
	if err == nil {
		if sync, ok := s.b.(bucket.Syncer); ok {
			err = sync.Sync(ctx, key)
		}
	}
	if errors.Is(err, bucket.ErrNotExist) {
		err = fmt.Errorf("%w in %s", ErrNotFound, s.b.URL())
	}
	if err != nil {
		return fmt.Errorf("use module %v: %w", h, err)
	}
	return nil
}

// Module returns the module with a hash. Errors: [ErrNotFound], [ErrCorrupt] if what is stored has another hash.
func (s *Store) Module(ctx context.Context, h Hash) ([]byte, error) {
	data, err := bucket.ReadAll(ctx, s.b, moduleKey(h), MaxModule)
	switch {
	case errors.Is(err, bucket.ErrNotExist):
		return nil, fmt.Errorf("module %v: %w in %s", h, ErrNotFound, s.b.URL())
	case errors.Is(err, bucket.ErrTooLarge):
		return nil, fmt.Errorf("module %v: %w", h, corrupt("module", -1, "%v", err))
	case err != nil:
		return nil, fmt.Errorf("module %v: %w", h, err)
	}
	if got := HashOf(data); got != h {
		return nil, fmt.Errorf("module %v: %w", h, corrupt("module", -1, "the stored bytes have the hash %v: damaged", got))
	}
	return data, nil
}

// Commit makes a snapshot durable, as the commit of its sequence number, and returns what the store has. The first
// commit of a coroutine, number 1, creates it. Of several drivers that commit the same number one wins; the others get
// [ErrFenced] and must stop, for what they have done since their last commit did not happen.
//
// After any other error it is unknown whether the commit was made. The caller may call Commit with the same snapshot
// again: a commit that is there and equal is its own. The snapshot is encoded by [Encode], or [Keyring.Encode]; it does not
// change.
//
// Errors: [ErrFenced]; for number 1, [ErrExist] together with ErrFenced; [ErrInvalid]; [bucket.ErrFull] and the others
// of the bucket.
func (s *Store) Commit(ctx context.Context, snap *Snapshot) (Commit, error) {
	c, err := s.commitSnapshot(ctx, snap)
	if err != nil {
		return Commit{}, fmt.Errorf("commit %d of coroutine %s: %w", snap.Seq, snap.Coroutine, err)
	}
	return c, nil
}

// commitSnapshot puts a commit. If it is to create the coroutine, there must be none of that id.
func (s *Store) commitSnapshot(ctx context.Context, snap *Snapshot) (Commit, error) {
	key := commitKey(snap.Coroutine, snap.Seq)
	if snap.Seq == 1 {
		if err := snap.Validate(); err != nil {
			return Commit{}, err
		}
		if err := s.prepare(ctx, snap.Coroutine, key); err != nil {
			return Commit{}, err
		}
	}
	c, err := s.putSnapshot(ctx, key, snap)
	switch {
	case !errors.Is(err, errAnother) && !errors.Is(err, bucket.ErrNotExist):
		return c, err
	case snap.Seq == 1:
		return Commit{}, errExist
	default:
		return Commit{}, fmt.Errorf("%w: another driver has made it", ErrFenced)
	}
}

// errAnother is for an object that is to be put, where there is another one.
var errAnother = errors.New("another object is there")

// putSnapshot puts a snapshot, and returns what the store has then. One that is there and equal is that of an earlier
// attempt, whose answer was lost. Errors: errAnother; bucket.ErrNotExist for another one that was there a moment ago.
func (s *Store) putSnapshot(ctx context.Context, key string, snap *Snapshot) (Commit, error) {
	object := s.keys.newObject()
	e, err := s.encode(ctx, snap, object)
	if err != nil {
		return Commit{}, err
	}
	defer e.close()
	c := Commit{Manifest: snap.manifest(), Bytes: e.size, Hash: e.hash}
	err = s.b.Put(ctx, key, e.ReaderAt, e.size)
	if errors.Is(err, bucket.ErrExist) {
		err = s.isThere(ctx, key, e)
	}
	if object != nil {
		if errors.Is(err, errAnother) {
			return s.isThereSealed(ctx, key, snap)
		}
		c.Key = object.id
	}
	if err != nil {
		return Commit{}, err
	}
	return c, nil
}

// isThere returns nil if an object is the one that was to be put: if it ends in the same digest of all before.
func (s *Store) isThere(ctx context.Context, key string, e *encoded) error {
	end, size, err := bucket.ReadRange(ctx, s.b, key, e.size-digestSize, digestSize)
	if err == nil && (size != e.size || !bytes.Equal(end, e.hash[:])) {
		err = errAnother
	}
	return err
}

// isThereSealed returns an encrypted object's commit if it is of a snapshot. An earlier attempt had another salt, so that the
// bytes are others; with the salt of the one that is there they are the same.
func (s *Store) isThereSealed(ctx context.Context, key string, snap *Snapshot) (Commit, error) {
	_, w, there, _, err := s.front(ctx, key)
	switch {
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrVersion):
		return Commit{}, errAnother
	case err != nil:
		return Commit{}, err
	case w.object == nil || w.object.locked() != nil:
		return Commit{}, errAnother
	}
	// Only what has the same manifest, to the nanosecond of its time, is encrypted again under this salt: different contents
	// under one key would betray each other.
	theirs, ours := *w, snap.wireManifest(nil)
	theirs.Sections, theirs.Seal = nil, nil
	ours.Pages, ours.Patches = w.Pages, w.Patches
	if !bytes.Equal(theirs.append(nil), ours.append(nil)) {
		return Commit{}, errAnother
	}
	e, err := s.encode(ctx, snap, w.object)
	if err != nil {
		return Commit{}, err
	}
	defer e.close()
	if err := s.isThere(ctx, key, e); err != nil {
		return Commit{}, err
	}
	return Commit{Manifest: *w.manifest(there), Bytes: e.size, Hash: e.hash}, nil
}

// prepare makes sure that nothing is there of a coroutine that is to be created, except the commit itself: leftovers of
// one whose deletion or import was cut short are removed, and messages whose senders died before they saw that it was gone.
func (s *Store) prepare(ctx context.Context, id, key string) error {
	// The messages come first: those that were there before the coroutine can have been sent to none of that id.
	messages, err := s.messageObjects(ctx, id)
	if err != nil {
		return err
	}
	e, ok, logs, err := s.look(ctx, id)
	if err != nil {
		return err
	}
	if ok && e.Key == coroutinePrefix(id)+tombstone {
		if err := s.remove(ctx, id); err != nil {
			return err
		}
		ok = false
	}
	if ok {
		if e.Key != key {
			return errExist
		}
		return nil // perhaps a retry
	}
	for _, m := range messages {
		if err := s.b.Delete(ctx, m.Key); err != nil {
			return err
		}
	}
	if !logs {
		return nil
	}
	return s.deleteAll(ctx, logsPrefix+id+"/", "")
}

// errExist is for a commit that was to create a coroutine.
var errExist = fmt.Errorf("%w (%w: it has commits already)", ErrExist, ErrFenced)

// Latest returns a coroutine's newest snapshot, complete, decoded and verified; see [Store.Chain] for what it is made of.
// Errors: [ErrNotFound], [ErrCorrupt], [ErrVersion]. It never falls back to an older commit; that is the caller's to
// decide, with [Store.At].
func (s *Store) Latest(ctx context.Context, id string) (*Snapshot, Commit, error) {
	return s.At(ctx, id, 0)
}

// At returns the snapshot of a commit, 0 for the newest, as [Store.Latest] does.
func (s *Store) At(ctx context.Context, id string, seq uint64) (*Snapshot, Commit, error) {
	for try := 0; ; try++ {
		c, err := s.Chain(ctx, id, seq, nil)
		if err != nil {
			return nil, Commit{}, err
		}
		snap, err := c.Snapshot(ctx)
		if err == nil {
			return snap, c.Commit, nil
		}
		if seq == 0 && errors.Is(err, ErrNotFound) && try < retries && ctx.Err() == nil {
			continue // dropped meanwhile: there is a newer one, or none
		}
		return nil, Commit{}, fmt.Errorf("commit %d of coroutine %s: %w", c.Commit.Seq, id, err)
	}
}

// exists returns nil if a commit, should it be stored, is part of the coroutine's history.
func (s *Store) exists(ctx context.Context, id string, seq uint64) error {
	if _, _, err := s.newest(ctx, id); err != nil { // also: it is not being deleted
		return err
	}
	_, covered, err := s.listLogs(ctx, id)
	if err != nil {
		return fmt.Errorf("coroutine %s: %w", id, err)
	}
	if seq > covered {
		return nil
	}
	h, err := s.history(ctx, id)
	if err != nil {
		return err
	}
	if !h.needed(h.covered)[seq] {
		return fmt.Errorf("commit %d of coroutine %s: %w in %s: it was dropped", seq, id, ErrNotFound, s.b.URL())
	}
	return nil
}

// first returns the first entry of a coroutine's folder: the tombstone, or the newest commit.
func (s *Store) first(ctx context.Context, id string) (e bucket.Entry, ok bool, err error) {
	e, ok, _, err = s.look(ctx, id)
	return e, ok, err
}

// look is first, and reports whether there are logs if there is nothing else.
func (s *Store) look(ctx context.Context, id string) (e bucket.Entry, ok, logs bool, err error) {
	for try := 0; ; try++ {
		e, ok, err = bucket.First(ctx, s.b, bucket.ListOptions{Prefix: coroutinePrefix(id)})
		if err != nil || ok {
			return e, ok, false, err
		}
		// If commits are dropped as fast as they are made, a listing may come to each too late, and to the next too early.
		// Then there are logs.
		if _, logs, err = bucket.First(ctx, s.b, bucket.ListOptions{Prefix: logsPrefix + id + "/"}); err != nil || !logs || try == retries {
			return bucket.Entry{}, false, logs, err
		}
	}
}

// newest returns the entry and number of a coroutine's newest commit.
func (s *Store) newest(ctx context.Context, id string) (bucket.Entry, uint64, error) {
	if err := ValidID(id); err != nil {
		return bucket.Entry{}, 0, err
	}
	e, ok, err := s.first(ctx, id)
	if err != nil {
		return bucket.Entry{}, 0, fmt.Errorf("coroutine %s: %w", id, err)
	}
	if !ok || e.Key == coroutinePrefix(id)+tombstone {
		return bucket.Entry{}, 0, fmt.Errorf("coroutine %s: %w in %s", id, ErrNotFound, s.b.URL())
	}
	seq, ok := commitSeq(id, e.Key)
	if !ok {
		return bucket.Entry{}, 0, fmt.Errorf("coroutine %s: %w", id, corrupt("store", -1, "%s is no commit", e.Key))
	}
	return e, seq, nil
}

// isCommit holds an object to the key that it lies under.
func isCommit(m *Manifest, id string, seq uint64) error {
	if m.Coroutine != id || m.Seq != seq {
		return moved(m.Coroutine, m.Seq)
	}
	return nil
}

func moved(id string, seq uint64) error {
	return corrupt("manifest", -1, "it says that it is commit %d of coroutine %s: the object was moved", seq, id)
}
