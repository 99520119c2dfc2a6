package snapshot

import (
	"context"
	"time"
)

type Message struct {
	Name, Key string
	Data      []byte
	Sent      time.Time
	Err       error
}

const CancelMessage = "durun.cancel"

type InboxWatcher struct{}

func (w *InboxWatcher) Watch(id string, f func()) func()                          { return func() {} }
func (s *Store) Inbox(ctx context.Context, id string) ([]Message, error)         { return nil, nil }
func (s *Store) Acknowledge(ctx context.Context, id string, keys ...string) error { return nil }
