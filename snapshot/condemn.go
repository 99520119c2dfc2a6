package snapshot

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/durun/durun/snapshot/bucket"
)

// Modules and bases are shared: whoever deletes one can't know whether somebody is about to commit a coroutine that needs
// it. So it is condemned first, by a mark beside it, and deleted only if nobody needs it after that and the mark is still
// there. Who uses it removes the mark. What makes the two agree is what each does first: who deletes announces it and then
// looks for the mark; who uses removes the mark and then looks for the announcement. So at least one sees the other
// (Dekker's rule), and the user is the one to wait. FORMAT.md, "Shared objects", has the protocol and what it assumes.

const (
	condemnedPrefix = "condemned/"
	markSuffix      = "/mark"
	sweepSuffix     = "/sweep"
)

func markKey(key string) string  { return condemnedPrefix + key + markSuffix }
func sweepKey(key string) string { return condemnedPrefix + key + sweepSuffix }

// How long who deletes a shared object may take from the announcement to the deletion, and how long others take the
// announcement for one that is in progress. In between, a delete that was sent may still arrive.
const (
	sweepTime     = 20 * time.Second
	sweepPatience = time.Minute
	sweepInterval = 10 * time.Millisecond
)

// mark is a mark in the store. Its nonce tells it from another one that is put in its place.
type mark struct {
	nonce string
	made  time.Time
}

// condemn puts a mark beside a shared object, or reads the one that is there.
func (s *Store) condemn(ctx context.Context, key string) (mark, error) {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	m := mark{nonce: hex.EncodeToString(b[:])}
	err := bucket.PutBytes(ctx, s.b, markKey(key), []byte(m.nonce))
	if err == nil || errors.Is(err, bucket.ErrExist) {
		m, err = s.mark(ctx, key)
	}
	if err != nil {
		return mark{}, fmt.Errorf("condemn %s: %w", key, err)
	}
	return m, nil
}

// mark reads the mark beside a shared object.
func (s *Store) mark(ctx context.Context, key string) (mark, error) {
	e, err := s.b.Stat(ctx, markKey(key))
	if err != nil {
		return mark{}, err
	}
	// A mark that was put in the place of this one meanwhile is younger than the time says; its nonce counts.
	data, err := bucket.ReadAll(ctx, s.b, markKey(key), 1024)
	if err != nil {
		return mark{}, err
	}
	return mark{string(data), e.ModTime}, nil
}

// sweep deletes a condemned object that nobody is known to need, as of some time after the mark was put. It reports
// whether it did: not if the mark is another one now or gone, or somebody else is about to.
func (s *Store) sweep(ctx context.Context, key string, m mark) (bool, error) {
	fail := func(err error) (bool, error) { return false, fmt.Errorf("delete %s: %w", key, err) }
	limited, cancel := context.WithTimeout(ctx, sweepTime)
	defer cancel()
	if err := s.b.Put(limited, sweepKey(key), bucket.Bytes(nil), 0); errors.Is(err, bucket.ErrExist) {
		return false, nil
	} else if err != nil {
		return fail(err)
	}
	now, err := s.mark(limited, key)
	if errors.Is(err, bucket.ErrNotExist) || err == nil && now.nonce != m.nonce {
		return false, s.b.Delete(ctx, sweepKey(key))
	}
	if err == nil {
		err = s.b.Delete(limited, key)
	}
	if err != nil {
		return fail(err) // the announcement stays, for the delete may still take place
	}
	for _, k := range []string{markKey(key), sweepKey(key)} {
		if err := s.b.Delete(ctx, k); err != nil {
			return fail(err)
		}
	}
	return true, nil
}

// rescue removes the mark of a shared object, if it has one. After it the object is either there and not condemned, or
// gone, and may be put again.
func (s *Store) rescue(ctx context.Context, key string) error {
	prefix := condemnedPrefix + key + "/"
	deadline := time.Now().Add(sweepPatience)
	for {
		marked, swept := false, false
		for e, err := range s.b.List(ctx, bucket.ListOptions{Prefix: prefix}) {
			if err != nil {
				return err
			}
			marked = marked || strings.HasSuffix(e.Key, markSuffix)
			swept = swept || strings.HasSuffix(e.Key, sweepSuffix)
		}
		switch {
		case marked:
			if err := s.b.Delete(ctx, markKey(key)); err != nil {
				return err
			}
			continue // and look who has announced himself before
		case !swept:
			return nil
		case time.Now().After(deadline): // whoever announced it has died, or all he sent has arrived
			return s.b.Delete(ctx, sweepKey(key))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(sweepInterval):
		}
	}
}
