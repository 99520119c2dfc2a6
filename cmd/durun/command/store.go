package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

const storeVariable = "DURUN_STORE"

// storeName is the URL or folder of the store, and what has given it: --store, else $DURUN_STORE, else nothing, and it is
// durun under the XDG data directory.
func (a *app) storeName() (name, given string, err error) {
	if a.storeURL != "" {
		return a.storeURL, "--store", nil
	}
	if s := os.Getenv(storeVariable); s != "" {
		return s, storeVariable, nil
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) { // a relative one is to be ignored
		return filepath.Join(dir, "durun"), "", nil
	}
	if dir := os.Getenv("LOCALAPPDATA"); goruntime.GOOS == "windows" && dir != "" {
		return filepath.Join(dir, "durun", "store"), "", nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", "", usageError("no place for the store: %w; give --store or set %s", err, storeVariable)
	}
	return filepath.Join(home, ".local", "share", "durun"), "", nil
}

// openBucket opens the storage of the store. A folder that isn't there is made, or, for a command that wants what is there
// already, a *[missingStoreError]: its name is mistyped, or a disk is not mounted.
func (a *app) openBucket(ctx context.Context, existing bool) (bucket.Bucket, error) {
	name, given, err := a.storeName()
	if err != nil {
		return nil, err
	}
	var b bucket.Bucket
	location, err := a.location(name, existing)
	if err == nil {
		b, err = bucket.OpenURL(ctx, location, a.Drivers)
	}
	name = redacted(name)
	switch failed := (*bucket.Error)(nil); {
	case errors.As(err, new(*exitError)):
		return nil, err
	case errors.Is(err, bucket.ErrNoBucket) && errors.As(err, &failed):
		return nil, &missingStoreError{given: given, folder: failed.Key}
	case errors.Is(err, bucket.ErrURL):
		if errors.As(err, &failed) && failed.Err != nil {
			err = failed.Err // the rest repeats the name
		}
		return nil, usageError("%s %s: %w", cmp.Or(given, "--store"), name, err)
	case err != nil:
		return nil, &exitError{
			code:   exitUnavailable,
			err:    fmt.Errorf("open the store %s: %w", name, err),
			advice: "say where it is with --store or " + storeVariable,
		}
	}
	return b, nil
}

// location is a store's URL with what the command wants of it.
func (a *app) location(name string, existing bool) (string, error) {
	if _, err := bucket.CheckURL(name, a.Drivers); err != nil {
		return "", err
	}
	location, err := a.sync.apply(name)
	if err == nil && existing {
		location, _, err = folderOption(location, "create", "false")
	}
	return location, err
}

// missingStoreError says that there is no store, and that the command makes none.
type missingStoreError struct {
	given  string // what names it, empty if nobody has
	folder string
}

// missingStoreAdvice is for whoever has named a store that isn't there.
const missingStoreAdvice = `is the name right, and the disk mounted? "durun run" and "durun import" make a store`

// Error implements error.
func (e *missingStoreError) Error() string {
	return fmt.Sprintf("%s: there is no folder %s", cmp.Or(e.given, "the user's store"), e.folder)
}

// redacted is a store's name without a password. No driver takes one in a URL, but the one that was given is not to be shown.
func redacted(name string) string {
	if u, err := url.Parse(name); err == nil && u.User != nil {
		return u.Redacted()
	}
	return name
}

// store is an open store. Closing it closes its bucket.
type store struct {
	*snapshot.Store
	app *app // for messages
}

func (s *store) Close() error { return s.Bucket().Close() }

// openStore opens a store that is there, and makes none. The user's own, where nobody has named another, is empty until then.
func (a *app) openStore(ctx context.Context) (*store, error) { return a.open(ctx, true) }

// makeStore opens the store for a command that begins something in it, and makes it if it isn't there.
func (a *app) makeStore(ctx context.Context) (*store, error) { return a.open(ctx, false) }

func (a *app) open(ctx context.Context, existing bool) (*store, error) {
	keys, err := a.keyring()
	if err != nil {
		return nil, err
	}
	b, err := a.openBucket(ctx, existing)
	if missing := (*missingStoreError)(nil); errors.As(err, &missing) && missing.given == "" {
		b, err = unmadeBucket{bucket.NewMem(), missing.folder}, nil
	}
	if err != nil {
		return nil, err
	}
	return &store{snapshot.NewStore(b).WithKeys(keys), a}, nil
}

// unmadeBucket is an empty bucket in the place of a folder that isn't there yet.
type unmadeBucket struct {
	*bucket.Mem
	folder string
}

// URL implements [bucket.Bucket].
func (b unmadeBucket) URL() string {
	u, err := bucket.ParseURL(b.folder)
	if err != nil {
		return b.folder
	}
	return u.String()
}

// Module returns the bytes of a module. It says what to do about one that is missing.
func (s *store) Module(ctx context.Context, hash snapshot.Hash) ([]byte, error) {
	b, err := s.Store.Module(ctx, hash)
	if errors.Is(err, snapshot.ErrNotFound) {
		return nil, inputError(err, "to start any coroutine of the same file puts it back: "+s.app.commandLine("run", "-d", "FILE"))
	}
	return b, err
}

// load returns the snapshot that an argument ID[@SEQ] means, without its pages.
func (s *store) load(ctx context.Context, arg string) (*snapshot.Snapshot, snapshot.Commit, error) {
	fail := func(err error) (*snapshot.Snapshot, snapshot.Commit, error) { return nil, snapshot.Commit{}, err }
	r, err := s.reference(ctx, arg)
	if err != nil {
		return fail(err)
	}
	chain, err := s.Chain(ctx, r.id, r.seq, nil)
	if err != nil {
		return fail(s.explain(r, err))
	}
	state, err := chain.State()
	if err != nil {
		return fail(fmt.Errorf("commit %d of coroutine %s: %w", chain.Commit.Seq, r.id, err))
	}
	return state, chain.Commit, nil
}

// reference is an argument ID[@SEQ].
type reference struct {
	id  string
	seq uint64 // 0 for the last commit
}

// explain says of a commit that isn't there where to find those that are.
func (s *store) explain(r reference, err error) error {
	if r.seq != 0 && errors.Is(err, snapshot.ErrNotFound) {
		return inputError(err, `"`+s.app.commandLine("history", r.id)+`" lists its commits`)
	}
	return err
}

// reference reads ID[@SEQ] and completes the id. The commit need not exist.
func (s *store) reference(ctx context.Context, arg string) (reference, error) {
	prefix, number, given := strings.Cut(arg, "@")
	var r reference
	var err error
	if given {
		if r.seq, err = strconv.ParseUint(number, 10, 64); err != nil || r.seq == 0 {
			return r, usageError("%s: %q is not the number of a commit; they count from 1", arg, number)
		}
	}
	r.id, err = s.resolve(ctx, prefix)
	return r, err
}

// resolveAll returns the ids that prefixes mean, each once. All are looked up before anything is done to the first.
func (s *store) resolveAll(ctx context.Context, args []string) ([]string, error) {
	var ids []string
	for _, arg := range args {
		id, err := s.resolve(ctx, arg)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// resolve returns the id that a prefix means.
func (s *store) resolve(ctx context.Context, prefix string) (string, error) {
	id, err := s.Resolve(ctx, prefix)
	if errors.Is(err, snapshot.ErrNotFound) {
		if id, _, ok := strings.Cut(prefix, "@"); ok {
			return "", usageError("%q: give %s; this command takes no @SEQ", prefix, cmp.Or(id, "an ID"))
		}
		return "", inputError(err, `"`+s.app.commandLine("ps", "-a")+`" lists what there is`)
	}
	return id, err
}
