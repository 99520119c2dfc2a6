package file

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"slices"
	"strings"

	"github.com/durun/durun/snapshot/bucket"
)

// List implements [bucket.Bucket].
func (b *Bucket) List(ctx context.Context, o bucket.ListOptions) iter.Seq2[bucket.Entry, error] {
	return func(yield func(bucket.Entry, error) bool) {
		folder := o.Prefix[:strings.LastIndexByte(o.Prefix, '/')+1]
		if folder != "" && bucket.ValidKey(folder[:len(folder)-1]) != nil {
			return // no key has such a prefix
		}
		b.list(ctx, folder, o, yield)
	}
}

// list walks one folder, given as a key's prefix with its slash, and returns false once it is to stop.
func (b *Bucket) list(ctx context.Context, folder string, o bucket.ListOptions, yield func(bucket.Entry, error) bool) bool {
	// A folder is read whole, but where a limit is given, no more of it is kept and sorted than the caller will take; the
	// rest, should it be wanted, is in later turns.
	done := ""
	for limit := o.Limit; ; limit *= 2 {
		names, err := b.names(ctx, folder, o, done, limit)
		if err != nil {
			yield(bucket.Entry{}, err)
			return false
		}
		for _, name := range names {
			if !b.visit(ctx, folder+name, o, yield) {
				return false
			}
		}
		if limit <= 0 || len(names) < limit {
			return true
		}
		done = names[len(names)-1]
	}
}

// visit gives the entry for an object or a folder, or those in the folder. It returns false once the listing is to stop.
func (b *Bucket) visit(ctx context.Context, key string, o bucket.ListOptions, yield func(bucket.Entry, error) bool) bool {
	if err := ctx.Err(); err != nil {
		yield(bucket.Entry{}, err)
		return false
	}
	if e := (bucket.Entry{Key: key}); e.Folder() {
		if o.Folders {
			return yield(e, nil)
		}
		return b.list(ctx, key, o, yield)
	}
	info, err := b.fs.Stat(b.path(key))
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && !info.Mode().IsRegular():
		return true // deleted meanwhile
	case err != nil:
		yield(bucket.Entry{}, wrap("list", key, err))
		return false
	}
	return yield(bucket.Entry{Key: key, Size: info.Size(), ModTime: info.ModTime()}, nil)
}

// names returns the names of the objects in a folder that a listing is to give, and of the folders that it is to give or
// to walk, which end in a slash: in the order of keys, after the name done, and only the first ones if limit is positive.
func (b *Bucket) names(ctx context.Context, folder string, o bucket.ListOptions, done string, limit int) ([]string, error) {
	// A folder named by the prefix has all of it in its own name, what lies in one above it the rest.
	rest := o.Prefix[min(len(o.Prefix), len(folder)):]
	after, started := strings.CutPrefix(o.StartAfter, folder)
	if !started {
		if after = ""; folder < o.StartAfter {
			return nil, nil
		}
	}
	var names []string
	last := "" // of the names kept so far, if there are enough of them
	first := func() {
		slices.Sort(names)
		if names = names[:min(limit, len(names))]; len(names) == limit {
			last = names[limit-1]
		}
	}
	for e, err := range b.fs.ReadDir(b.path(folder)) {
		if err == nil {
			err = ctx.Err()
		}
		if errors.Is(err, fs.ErrNotExist) || notDir(err) {
			if _, gone := b.fs.Stat(b.root); gone == nil {
				return nil, nil
			}
			err = &bucket.Error{Op: "list", Key: folder, Kind: bucket.ErrUnavailable, Err: err} // unmounted, or removed
		}
		if err != nil {
			return nil, wrap("list", folder, err)
		}
		name := e.Name()
		if len(folder)+len(name) > bucket.MaxKey || bucket.ValidKey(name) != nil {
			continue
		}
		inside := false // what is to be listed may be in this folder, though it comes before StartAfter itself
		switch {
		case e.IsDir():
			name += "/" // in the order of keys it counts
			inside = !o.Folders && strings.HasPrefix(after, name)
		case !e.Type().IsRegular():
			continue
		}
		if !strings.HasPrefix(name, rest) || name <= after && !inside || name <= done || last != "" && name > last {
			continue
		}
		names = append(names, name)
		if limit > 0 && len(names) >= 2*limit+100 {
			first()
		}
	}
	if limit > 0 {
		first()
	} else {
		slices.Sort(names)
	}
	return names, nil
}
