package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/buckettest"
)

func send(t testing.TB, s *Store, id string, m Message) Receipt {
	t.Helper()
	r, err := s.Send(t.Context(), id, m)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func inbox(t testing.TB, s *Store, id string, names ...string) []Message {
	t.Helper()
	list, _, err := s.Inbox(t.Context(), id, names...)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// texts are the data of messages, or why they can't be read.
func texts(list []Message) string {
	var b strings.Builder
	for i, m := range list {
		if i > 0 {
			b.WriteByte(' ')
		}
		if m.Err != nil {
			b.WriteString("!")
		}
		b.Write(m.Data)
	}
	return b.String()
}

func TestInbox(t *testing.T) {
	onBuckets(t, func(t *testing.T, b bucket.Bucket) {
		s := storeWith(t, b, "p", 2)
		if got := inbox(t, s, "p"); len(got) != 0 {
			t.Errorf("an inbox that nobody has written to: %+v", got)
		}
		large := bytes.Repeat([]byte("large "), 5000)
		var sent []Receipt
		for i, m := range []Message{
			{Name: "approval", Data: []byte("1")},
			{Name: "news", Key: "a key: any text, ü"},
			{Name: "approval", Key: "k", Data: []byte("3")},
			{Name: "stdin", Data: large},
		} {
			r := send(t, s, "p", m)
			if r.Duplicate || r.Key == "" || (m.Key == "") != isMessageKey(r.Key) || m.Key != "" && r.Key != m.Key || i > 0 && !r.Sent.After(sent[i-1].Sent) {
				t.Errorf("%+v", r)
			}
			sent = append(sent, r)
		}
		got := inbox(t, s, "p")
		if len(got) != 4 || got[0].Name != "approval" || string(got[0].Data) != "1" || got[1].Name != "news" || got[1].Data != nil ||
			!bytes.Equal(got[3].Data, large) || got[3].Bytes != int64(len(large)) {
			t.Errorf("%d messages, %.300v", len(got), got)
		}
		for i, m := range got {
			if m.Key != sent[i].Key || !m.Sent.Equal(sent[i].Sent) || m.Err != nil {
				t.Errorf("message %d: %+v of %+v", i, m, sent[i])
			}
		}
		peek, err := s.PeekInbox(t.Context(), "p")
		if err != nil || len(peek) != 4 || peek[3].Bytes != int64(len(large)) || peek[0].Data != nil {
			t.Errorf("%.300v, %v", peek, err)
		}
		if got := texts(inbox(t, s, "p", "approval", "nothing")); got != "1 3" {
			t.Errorf("approvals: %q", got)
		}
		if err := s.Acknowledge(t.Context(), "p", got[0].Key, got[2].Key, "unknown"); err != nil {
			t.Fatal(err)
		}
		if got := inbox(t, s, "p"); len(got) != 2 || got[0].Name != "news" || got[1].Name != "stdin" {
			t.Errorf("%.300v", got)
		}
		// A key that was received may be sent again: whoever receives remembers it.
		if r := send(t, s, "p", Message{Name: "approval", Key: "k", Data: []byte("again")}); r.Duplicate {
			t.Errorf("%+v", r)
		}
	})
}

func TestSendRefuses(t *testing.T) {
	s := storeWith(t, bucket.NewMem(), "p", 1)
	ended := commitOf("end", 1)
	ended.Status, ended.Await, ended.Frames = Completed, nil, nil
	commit(t, s, ended)
	for what, c := range map[string]struct {
		id   string
		m    Message
		want error
	}{
		"nobody":            {"nobody", Message{Name: "n"}, ErrNotFound},
		"no id":             {"../p", Message{Name: "n"}, ErrID},
		"an ended one":      {"end", Message{Name: "n"}, ErrEnded},
		"no name":           {"p", Message{}, ErrMessage},
		"a control":         {"p", Message{Name: "a\nb"}, ErrMessage},
		"no UTF-8":          {"p", Message{Name: "a\xff"}, ErrMessage},
		"a long name":       {"p", Message{Name: strings.Repeat("n", MaxMessageName+1)}, ErrMessage},
		"a long key":        {"p", Message{Name: "n", Key: strings.Repeat("k", MaxMessageKey+1)}, ErrMessage},
		"a key of controls": {"p", Message{Name: "n", Key: "\x00"}, ErrMessage},
		"too much":          {"p", Message{Name: "n", Data: make([]byte, MaxMessageData+1)}, ErrMessage},
		"no time":           {"p", Message{Name: "n", Sent: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}, ErrMessage},
	} {
		if r, err := s.Send(t.Context(), c.id, c.m); !errors.Is(err, c.want) {
			t.Errorf("%s: %+v, %v", what, r, err)
		}
	}
	if got := keys(t, s.b, inboxPrefix); len(got) > 0 {
		t.Errorf("left: %q", got)
	}
	longest := Message{Name: strings.Repeat("n", MaxMessageName), Key: strings.Repeat("k", MaxMessageKey), Data: bytes.Repeat([]byte{1, 2, 3, 4}, MaxMessageData/4)}
	send(t, s, "p", longest)
	if got := inbox(t, s, "p"); len(got) != 1 || !got[0].same(&longest) {
		t.Errorf("the largest message of all: %d", len(got))
	}
}

func TestDuplicates(t *testing.T) {
	onFastBuckets(t, func(t *testing.T, b bucket.Bucket) {
		for what, keyring := range map[string]*Keyring{"plain": nil, "encrypted": ringOf(0)} {
			s := storeWith(t, b, what, 0).WithKeys(keyring)
			commit(t, s, commitOf(what, 1))
			m := Message{Name: "n", Key: "k", Data: []byte("first")}
			for i, c := range []struct {
				m                  Message
				duplicate, differs bool
			}{
				{m, false, false},
				{m, true, false},
				{Message{Name: "n", Key: "k", Data: []byte("second")}, true, true},
				{Message{Name: "other", Key: "k", Data: m.Data}, true, true},
			} {
				if r := send(t, s, what, c.m); r.Duplicate != c.duplicate || r.Differs != c.differs {
					t.Errorf("%s, %d: %+v", what, i, r)
				}
			}
			if got := inbox(t, s, what); len(got) != 1 || !got[0].same(&m) {
				t.Errorf("%s: %+v", what, got)
			}
			// Many at once: one wins, and all others learn that.
			var wg sync.WaitGroup
			var won atomic.Int32
			for i := range 16 {
				wg.Go(func() {
					r, err := s.Send(t.Context(), what, Message{Name: "race", Key: "race", Data: fmt.Append(nil, i)})
					if err != nil || !r.Duplicate && won.Add(1) > 1 || r.Duplicate && !r.Differs {
						t.Errorf("%s: %+v, %v", what, r, err)
					}
				})
			}
			wg.Wait()
			if got := inbox(t, s, what, "race"); len(got) != 1 || won.Load() != 1 {
				t.Errorf("%s: %d of %+v", what, won.Load(), got)
			}
		}
	})
}

// TestMessageOrder has messages in the order of their times, one sender's in the order in which it sent them.
func TestMessageOrder(t *testing.T) {
	s := storeWith(t, bucket.NewMem(), "p", 1)
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for i, n := range []int{3, 1, 2, 1} {
		send(t, s, "p", Message{Name: "n", Data: fmt.Append(nil, n), Key: fmt.Sprintf("%033d", i), Sent: at.Add(time.Duration(n))})
	}
	for i := range 20 {
		send(t, s, "p", Message{Name: "m", Data: fmt.Append(nil, i)})
	}
	if got := texts(inbox(t, s, "p", "n")); got != "1 1 2 3" {
		t.Errorf("by time: %s", got)
	}
	if got := texts(inbox(t, s, "p", "m")); got != "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19" {
		t.Errorf("of one sender: %s", got)
	}
	// A clock that stands still, or goes back.
	first := sendTime(at.Add(50 * 365 * 24 * time.Hour))
	if second := sendTime(at); !second.After(first) {
		t.Errorf("%v after %v", second, first)
	}
	sendClock.last = time.Time{}
}

// TestInboxBudget gives a part of what is there at a time.
func TestInboxBudget(t *testing.T) {
	s := storeWith(t, bucket.NewMem(), "p", 1)
	for range 6 {
		send(t, s, "p", Message{Name: "n", Data: make([]byte, MaxMessageData)})
	}
	for _, want := range []int{4, 2, 0} {
		got := inbox(t, s, "p")
		if len(got) != want {
			t.Fatalf("%d messages, want %d", len(got), want)
		}
		var keys []string
		for _, m := range got {
			keys = append(keys, m.Key)
		}
		if err := s.Acknowledge(t.Context(), "p", keys...); err != nil {
			t.Fatal(err)
		}
	}
	// Of each name the first: one that is large doesn't hold up others, but those of its own name.
	for _, m := range []Message{{Name: "n", Data: make([]byte, MaxMessageData)}, {Name: "m", Data: []byte("x")}, {Name: CancelMessage}} {
		for range 6 {
			m.Key = ""
			send(t, s, "p", m)
		}
	}
	count := map[string]int{}
	list, more, err := s.Inbox(t.Context(), "p")
	for _, m := range list {
		count[m.Name]++
	}
	if err != nil || !more || count["n"] != 4 || count["m"] != 0 || count[CancelMessage] != 6 {
		t.Errorf("%v, more: %v, %v", count, more, err)
	}
	if list, more, err := s.Inbox(t.Context(), "p", "m"); err != nil || more || len(list) != 6 {
		t.Errorf("%d of one name, more: %v, %v", len(list), more, err)
	}
}

// TestEncryptedMessages keeps names, keys and data out of the bucket, under several of the store's keys.
func TestEncryptedMessages(t *testing.T) {
	ctx := t.Context()
	b := bucket.NewMem()
	s := sealedStore(t, b, "p", 1)
	m := Message{Name: "some name", Key: "some key", Data: []byte("some data")}
	send(t, s, "p", m)
	send(t, s, "p", Message{Name: "another name", Data: m.Data})
	for _, key := range keys(t, b, inboxPrefix) {
		data, err := bucket.ReadAll(ctx, b, key, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{"name", "some key", "some data"} {
			if bytes.Contains(data, []byte(word)) {
				t.Errorf("%s has %q", key, word)
			}
		}
		if strings.Contains(key, messageObject("p", m.Key, Key{})) {
			t.Errorf("%s is a plain hash of the key", key)
		}
	}
	// Who hasn't the coroutine's key can't send, or the message would be plain; what is there he sees that it is.
	for _, ring := range []*Keyring{nil, ringOf(5)} {
		other := NewStore(b).WithKeys(ring)
		if _, err := other.Send(ctx, "p", m); !errors.Is(err, ErrKey) {
			t.Errorf("sent without the key: %v", err)
		}
		got := inbox(t, other, "p")
		if len(got) != 2 || !errors.Is(got[0].Err, ErrKey) || got[0].Name != "" || got[0].Key == "" || got[0].Sent.IsZero() {
			t.Errorf("without the key: %+v", got)
		}
		checked, err := other.Check(ctx, CheckOptions{})
		if err != nil || len(checked.Problems) > 0 || checked.Locked != 3 {
			t.Errorf("checked without the key: %+v, %v", checked, err)
		}
	}
	// A new key: the same message gets another object, and is one nevertheless.
	both := s.WithKeys(ringOf(1, 0))
	if r := send(t, both, "p", m); r.Duplicate {
		t.Errorf("%+v", r)
	}
	got := inbox(t, both, "p")
	if len(got) != 2 || !got[0].same(&m) || len(keys(t, b, inboxPrefix)) != 3 {
		t.Errorf("%+v", got)
	}
	if err := both.Acknowledge(ctx, "p", got[0].Key, got[1].Key); err != nil {
		t.Fatal(err)
	}
	if left := keys(t, b, inboxPrefix); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestDamagedMessages tells of messages that can't be read, beside the others.
func TestDamagedMessages(t *testing.T) {
	ctx := t.Context()
	onFastBuckets(t, func(t *testing.T, b bucket.Bucket) {
		s := storeWith(t, b, "p", 1)
		storeWith(t, b, "q", 1)
		put := func(key string, data []byte) {
			if err := bucket.PutBytes(ctx, b, key, data); err != nil {
				t.Fatal(err)
			}
		}
		send(t, s, "p", Message{Name: "n", Key: "good", Data: []byte("good")})
		object := keys(t, b, inboxPrefix)[0]
		data, err := bucket.ReadAll(ctx, b, object, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		bad := bytes.Clone(data)
		bad[len(bad)-40]++
		damaged := messagesPrefix("p") + messageObject("p", "bad", Key{})
		put(damaged, bad)
		put(messagesPrefix("p")+NewMessageKey(), nil)
		put(messagesPrefix("p")+messageObject("p", "moved", Key{}), data)
		put(messagesPrefix("q")+strings.TrimPrefix(object, messagesPrefix("p")), data) // of another coroutine
		put(messagesPrefix("p")+"not-ours", data)
		got := inbox(t, s, "p", "some name")
		if len(got) != 3 {
			t.Errorf("%d that can't be read: %+v", len(got), got)
		}
		got = inbox(t, s, "p")
		if i := slices.IndexFunc(got, func(m Message) bool { return m.Err == nil }); len(got) != 4 || i < 0 || string(got[i].Data) != "good" {
			t.Errorf("%+v", got)
		}
		if got := inbox(t, s, "q"); len(got) != 1 || !errors.Is(got[0].Err, ErrCorrupt) {
			t.Errorf("%+v", got)
		}
		// What would be dropped in favour of a message that can't be read, is an error.
		if _, err := s.Send(ctx, "p", Message{Name: "n", Key: "bad"}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("sent over a damaged one: %v", err)
		}
		checked, err := s.Check(ctx, CheckOptions{})
		if err != nil || len(checked.Problems) != 4 || len(checked.Leftovers) > 0 {
			t.Errorf("%+v, %v", checked, err)
		}
		for _, p := range checked.Problems {
			if !strings.HasPrefix(p.Key, inboxPrefix) || p.Coroutine == "" || p.Resumable != p.Newest || p.Newest == 0 || !errors.Is(p.Err, ErrCorrupt) {
				t.Errorf("%+v", p)
			}
		}
		// They stay until somebody says so.
		for _, m := range got {
			if m.Err != nil {
				if err := s.Acknowledge(ctx, "p", m.Key); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := texts(inbox(t, s, "p")); got != "good" {
			t.Errorf("left: %s", got)
		}
	})
}

// TestMessagesGo holds that no message outlives its coroutine.
func TestMessagesGo(t *testing.T) {
	ctx := t.Context()
	onFastBuckets(t, func(t *testing.T, b bucket.Bucket) {
		s := storeWith(t, b, "p", 2)
		send(t, s, "p", Message{Name: "n"})
		if err := s.Delete(ctx, "p"); err != nil {
			t.Fatal(err)
		}
		if left := keys(t, b, inboxPrefix); len(left) > 0 {
			t.Fatalf("left: %q", left)
		}
		// A sender that died at a bad moment.
		stray := func() {
			t.Helper()
			m := Message{Name: "n", Key: NewMessageKey(), Sent: time.Now()}
			data, err := encodeMessage("p", &m, nil)
			if err == nil {
				err = bucket.PutBytes(ctx, b, messagesPrefix("p")+m.Key, data)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		stray()
		checked, err := s.Check(ctx, CheckOptions{})
		if err != nil || len(checked.Problems) > 0 || len(checked.Leftovers) != 1 {
			t.Errorf("%+v, %v", checked, err)
		}
		for _, dry := range []bool{true, false} {
			c, err := s.Collect(ctx, CollectOptions{Grace: time.Hour, DryRun: dry})
			if err != nil || len(c.Reclaimed) != 1 || c.Reclaimed[0].Kind != ObjectLeftover || c.Reclaimed[0].Objects != 1 {
				t.Errorf("%+v, %v", c, err)
			}
		}
		if left := keys(t, b, inboxPrefix); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
		stray()
		first := commit(t, s, commitOf("p", 1))
		if got := inbox(t, s, "p"); len(got) != 0 {
			t.Errorf("a coroutine got what was sent to another one of its id: %+v", got)
		}
		// What comes before the end, and is not received.
		send(t, s, "p", Message{Name: "n"})
		end := commitOf("p", 2)
		end.Parent, end.Status, end.Await, end.Frames = first.AsParent(), Completed, nil, nil
		commit(t, s, end)
		if checked, err := s.Check(ctx, CheckOptions{}); err != nil || len(checked.Problems) > 0 || len(checked.Leftovers) != 1 {
			t.Errorf("%+v, %v", checked, err)
		}
		for _, dry := range []bool{true, false} {
			c, err := s.Collect(ctx, CollectOptions{Grace: time.Hour, DryRun: dry})
			if err != nil || len(c.Reclaimed) != 1 || c.Reclaimed[0].Kind != ObjectMessage || c.Reclaimed[0].Objects != 1 {
				t.Errorf("%+v, %v", c, err)
			}
		}
		if left := keys(t, b, inboxPrefix); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
	})
}

// TestSendWhileRemoved removes the coroutine between each two steps of a send, and creates another one of its id.
func TestSendWhileRemoved(t *testing.T) {
	ctx := t.Context()
	for _, again := range []bool{false, true} {
		for n := 0; ; n++ {
			m := bucket.NewMem()
			plain := storeWith(t, m, "p", 2)
			done := false
			f := buckettest.NewFaulty(m, func(o buckettest.Op) buckettest.Fault {
				if o.N == n && !done {
					done = true
					if err := plain.Delete(ctx, "p"); err != nil {
						t.Error(err)
					}
					if again {
						commit(t, plain, commitOf("p", 1))
					}
				}
				return buckettest.Fault{}
			})
			_, err := NewStore(f).Send(ctx, "p", Message{Name: "n"})
			got := inbox(t, plain, "p")
			if (err == nil) != (len(got) == 1) && done {
				// It may have been sent to the second one: then that has it.
				t.Errorf("removed before operation %d, again %v: %v, and there is %+v", n, again, err, got)
			}
			if err != nil && !errors.Is(err, ErrNotFound) {
				t.Errorf("removed before operation %d: %v", n, err)
			}
			if !done {
				break
			}
		}
	}
}

// TestNoStrayMessages has a coroutine end, or be removed, before each operation of a sender, who goes on, or dies there. What
// of the message stays is told by Check, and removed by Collect; if the sender lives, it stays only if the coroutine ended after all.
func TestNoStrayMessages(t *testing.T) {
	ctx := t.Context()
	events := map[string]func(s *Store, first Commit){
		"ends": func(s *Store, first Commit) {
			end := commitOf("p", 2)
			end.Parent, end.Status, end.Await, end.Frames = first.AsParent(), Completed, nil, nil
			commit(t, s, end)
		},
		"removed": func(s *Store, _ Commit) {
			if err := s.Delete(ctx, "p"); err != nil {
				t.Error(err)
			}
		},
	}
	for name, event := range events {
		for _, dies := range []bool{false, true} {
			for n := 0; ; n++ {
				m := bucket.NewMem()
				s := storeWith(t, m, "p", 0)
				first := commit(t, s, commitOf("p", 1))
				var happened bool
				sender := NewStore(buckettest.NewFaulty(m, func(o buckettest.Op) buckettest.Fault {
					if o.N == n {
						happened = true
						event(s, first)
					}
					if dies && o.N >= n {
						return buckettest.Fault{Before: buckettest.ErrInjected}
					}
					return buckettest.Fault{}
				}))
				_, err := sender.Send(ctx, "p", Message{Name: "n"})
				if !happened {
					if err != nil {
						t.Error(err)
					}
					break
				}
				left := keys(t, m, inboxPrefix)
				if !dies && len(left) > 0 {
					t.Errorf("%s before operation %d: left %q, %v", name, n, left, err)
				}
				if c, err := s.Check(ctx, CheckOptions{}); err != nil || len(c.Problems) > 0 || len(c.Leftovers) != len(left) {
					t.Errorf("%s before operation %d, the last: %+v, %v; there is %q", name, n, c, err, left)
				}
				if _, err := s.Collect(ctx, CollectOptions{}); err != nil {
					t.Error(err)
				}
				if left := keys(t, m, inboxPrefix); len(left) > 0 {
					t.Errorf("%s before operation %d, the last: left %q", name, n, left)
				}
			}
		}
	}
}

// TestSendFaults fails each operation of a send, before it and after: a message whose send succeeded is there, and repeated under
// its key it is there once.
func TestSendFaults(t *testing.T) {
	ctx := t.Context()
	for _, ring := range []*Keyring{nil, ringOf(0)} {
		for _, after := range []bool{false, true} {
			for n := 0; ; n++ {
				m := bucket.NewMem()
				storeWith(t, m, "p", 0)
				s := NewStore(m).WithKeys(ring)
				commit(t, s, commitOf("p", 1))
				f := buckettest.NewFaulty(m, buckettest.FailAt(n, buckettest.ErrInjected, after))
				faulty := NewStore(f).WithKeys(ring)
				msg := Message{Name: "n", Key: NewMessageKey(), Data: []byte("x")}
				_, err := faulty.Send(ctx, "p", msg)
				if got := texts(inbox(t, s, "p")); err == nil && got != "x" {
					t.Errorf("operation %d, after %v: sent, and there is %q", n, after, got)
				}
				if err != nil && !errors.Is(err, buckettest.ErrInjected) {
					t.Errorf("operation %d, after %v: %v", n, after, err)
				}
				failed := len(f.Ops()) > n
				f.Plan(nil)
				if r, err := faulty.Send(ctx, "p", msg); err != nil || r.Differs {
					t.Errorf("operation %d, after %v, again: %+v, %v", n, after, r, err)
				}
				if got := texts(inbox(t, s, "p")); got != "x" {
					t.Errorf("operation %d, after %v, again: %q", n, after, got)
				}
				if !failed {
					break
				}
			}
		}
	}
	s := NewStore(buckettest.NewFaulty(storeWith(t, bucket.NewMem(), "p", 1).b, buckettest.FullDisk))
	if _, err := s.Send(ctx, "p", Message{Name: "n"}); !errors.Is(err, bucket.ErrFull) {
		t.Errorf("on a full disk: %v", err)
	}
}

// TestInboxFaults fails each operation of reading and acknowledging.
func TestInboxFaults(t *testing.T) {
	ctx := t.Context()
	for n := 0; ; n++ {
		m := bucket.NewMem()
		s := storeWith(t, m, "p", 1)
		send(t, s, "p", Message{Name: "n", Data: []byte("1")})
		send(t, s, "p", Message{Name: "n", Data: incompressible(16000)})
		f := buckettest.NewFaulty(m, buckettest.FailAt(n, buckettest.ErrInjected, false))
		got, _, err := NewStore(f).Inbox(ctx, "p")
		if i := slices.IndexFunc(got, func(m Message) bool { return m.Err != nil }); i >= 0 {
			if err = got[i].Err; !got[i].Unread() || got[1-i].Err != nil {
				t.Errorf("operation %d: %+v", n, got)
			}
		}
		if err == nil && len(got) == 2 {
			err = NewStore(f).Acknowledge(ctx, "p", got[0].Key, got[1].Key)
		}
		if len(f.Ops()) <= n {
			if err != nil {
				t.Error(err)
			}
			break
		}
		if !errors.Is(err, buckettest.ErrInjected) {
			t.Errorf("operation %d: %+v, %v", n, got, err)
		}
	}
}

// incompressible returns data of which more has to be read than a message's manifest.
func incompressible(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b) // never fails
	return b
}

// TestUnreadMessages has the storage fail to give one message of several: the others come, and that one stands before all that may have
// been sent after it.
func TestUnreadMessages(t *testing.T) {
	large := incompressible(16000)
	for _, c := range []struct {
		key   string // of the message that can't be read
		reads int    // of its object that go well before
		want  string // the names; of what can't be read in brackets, with nothing if the name is not known
	}{
		{"", 0, "a () c d"},
		{"by name", 0, "() a b d"}, // when it was sent is not known
		{"by name", 1, "a b (c) d"},
	} {
		m := bucket.NewMem()
		s := storeWith(t, m, "p", 1)
		send(t, s, "p", Message{Name: "a"})
		object := messagesPrefix("p") + send(t, s, "p", Message{Name: "b"}).Key
		if named := messagesPrefix("p") + messageObject("p", "by name", Key{}); c.key != "" {
			object = named
		}
		send(t, s, "p", Message{Name: "c", Key: "by name", Data: large})
		send(t, s, "p", Message{Name: "d"})
		reads := 0
		s = NewStore(buckettest.NewFaulty(m, func(op buckettest.Op) buckettest.Fault {
			if op.Name != "get" || op.Key != object {
				return buckettest.Fault{}
			}
			if reads++; reads <= c.reads {
				return buckettest.Fault{}
			}
			return buckettest.Fault{Before: buckettest.ErrInjected}
		}))
		var names []string
		for _, m := range inbox(t, s, "p", "a", "b", "c", "d") {
			if m.Err != nil {
				if m.Name = "(" + m.Name + ")"; !m.Unread() || !errors.Is(m.Err, buckettest.ErrInjected) {
					t.Errorf("%+v", m)
				}
			}
			names = append(names, m.Name)
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("without %q after %d reads: %s, want %s", c.key, c.reads, got, c.want)
		}
	}
}

// damagedOnce is a bucket of which each object is damaged when it is read for the first time.
type damagedOnce struct {
	*bucket.Mem
	mu   sync.Mutex
	read map[string]bool
}

func (b *damagedOnce) Get(ctx context.Context, key string, offset, length int64) (*bucket.Object, error) {
	o, err := b.Mem.Get(ctx, key, offset, length)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.read[key] && strings.HasPrefix(key, inboxPrefix) {
		data, err := io.ReadAll(o.Body)
		if err != nil {
			return nil, err
		}
		data[len(data)-1]++
		o.Body = io.NopCloser(bytes.NewReader(data))
	}
	b.read[key] = true
	return o, nil
}

// TestDamagedOnTheWay reads messages that arrive damaged once, and are sound in the bucket.
func TestDamagedOnTheWay(t *testing.T) {
	b := &damagedOnce{Mem: bucket.NewMem(), read: map[string]bool{}}
	s := storeWith(t, b, "p", 1)
	send(t, s, "p", Message{Name: "n", Data: []byte("1")})
	send(t, s, "p", Message{Name: "n", Data: []byte("2")})
	if got := texts(inbox(t, s, "p")); got != "1 2" {
		t.Errorf("%s", got)
	}
}

// TestInboxWhileReceived reads an inbox of which somebody else takes messages.
func TestInboxWhileReceived(t *testing.T) {
	ctx := t.Context()
	for n := 0; ; n++ {
		m := bucket.NewMem()
		s := storeWith(t, m, "p", 1)
		send(t, s, "p", Message{Name: "n", Key: "k", Data: incompressible(16000)})
		send(t, s, "p", Message{Name: "n", Data: []byte("stays")})
		f := buckettest.NewFaulty(m, func(o buckettest.Op) buckettest.Fault {
			if o.N == n {
				if err := s.Acknowledge(ctx, "p", "k"); err != nil {
					t.Error(err)
				}
			}
			return buckettest.Fault{}
		})
		got, _, err := NewStore(f).Inbox(ctx, "p")
		if err != nil || len(got) < 1 || string(got[len(got)-1].Data) != "stays" {
			t.Errorf("operation %d: %+v, %v", n, got, err)
		}
		if len(f.Ops()) <= n {
			break
		}
	}
}

// TestLeaseAcknowledge leaves the messages of a coroutine alone that has the id of the one whose lease was lost.
func TestLeaseAcknowledge(t *testing.T) {
	ctx := t.Context()
	b := buckettest.NoLock(bucket.NewMem())
	s := storeWith(t, b, "p", 1)
	send(t, s, "p", Message{Name: "n", Key: "k"})
	lease, err := s.Acquire(ctx, "p", LeaseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	lease.lose(&DrivenError{Coroutine: "p", Err: ErrFenced})
	if err := lease.Acknowledge(ctx, "k"); !errors.Is(err, ErrFenced) || len(inbox(t, s, "p")) != 1 {
		t.Errorf("without its lease: %v", err)
	}
	_ = lease.Release()
	if err := s.Delete(ctx, "p"); err != nil {
		t.Fatal(err)
	}
}

// TestCancel ends a coroutine as it stands.
func TestCancel(t *testing.T) {
	ctx := t.Context()
	onFastBuckets(t, func(t *testing.T, b bucket.Bucket) {
		s := storeWith(t, b, "p", 1)
		last := commitOf("p", 2)
		last.Host = []Section{{"host", 1, []byte("state")}}
		c2 := commit(t, s, last)
		lease, err := s.Acquire(ctx, "p", LeaseOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer lease.Release()
		c, err := lease.Cancel(ctx, 143, "by hand")
		if err != nil || c.Seq != 3 || c.Status != Cancelled || *c.Parent != *c2.AsParent() {
			t.Fatalf("%+v, %v", c, err)
		}
		snap, _, err := s.Latest(ctx, "p")
		if err != nil || snap.Error != "by hand" || snap.ExitCode != 143 || len(snap.Host) != 1 || len(snap.Memory.Pages) != 0 {
			t.Errorf("%+v, %v", snap, err)
		}
		if _, err := lease.Cancel(ctx, 143, "again"); !errors.Is(err, ErrEnded) {
			t.Errorf("cancelled again: %v", err)
		}
		if got := logsOf(t, s, "p"); got != outputOf(1, 2) {
			t.Errorf("logs %q", got)
		}
	})
}

func messageSamples() map[string]Message {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	return map[string]Message{
		"empty": {Name: "n", Key: messageObject("p", "x", Key{}), Sent: at},
		"key":   {Name: "approval", Key: "any text, ü", Sent: at, Data: []byte(`"yes"`)},
		"large": {Name: "stdin", Key: "0123456789abcdef-0123456789abcdef", Sent: at, Data: bytes.Repeat([]byte("line\n"), 1000)},
	}
}

// TestMessageGolden decodes stored messages, and encodes them to the same bytes.
func TestMessageGolden(t *testing.T) {
	for name, m := range messageSamples() {
		for _, ring := range []*Keyring{nil, ringOf(0)} {
			what, object := "message-"+name, ""
			if ring != nil {
				what += "-sealed"
				ring.salt = func(s *[saltSize]byte) { *s = HashOf([]byte(name)) }
				object = messageObject("p", m.Key, testKey(0))
			} else {
				object = messageObject("p", m.Key, Key{})
			}
			data, err := encodeMessage("p", &m, ring.newObject())
			if err != nil {
				t.Fatal(err)
			}
			want := golden(t, Version, what+".durun", func() []byte { return data })
			if !bytes.Equal(data, want) {
				t.Errorf("%s: %s", what, otherBytes)
			}
			p, err := decodeMessage(want, ring)
			if err != nil || !p.same(&m) || !p.Sent.Equal(m.Sent) || p.isMessage("p", object) != nil {
				t.Errorf("%s: %+v, %v", what, p, err)
			}
			if err := p.isMessage("q", object); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s, to another coroutine: %v", what, err)
			}
			if _, err := Decode(want); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s as a snapshot: %v", what, err)
			}
			for n := range want {
				if _, err := decodeMessage(want[:n], ring); !errors.Is(err, ErrCorrupt) {
					t.Fatalf("%s, cut at %d: %v", what, n, err)
				}
			}
			for at := range want {
				bad := bytes.Clone(want)
				bad[at] ^= 0x10
				if _, err := decodeMessage(bad, ring); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
					t.Fatalf("%s, changed at %d: %v", what, at, err)
				}
			}
		}
	}
}

// FuzzDecodeMessage decodes damaged messages, as they are and with checksums that match.
func FuzzDecodeMessage(f *testing.F) {
	seeds(f, "message-*.durun")
	ring := ringOf(0)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, data := range [][]byte{data, reseal(data)} {
			p, err := decodeMessage(data, ring)
			var fe *FormatError
			if err != nil {
				if !errors.As(err, &fe) && !errors.Is(err, ErrKey) {
					t.Fatalf("error %#v", err)
				}
				continue
			}
			again, err := encodeMessage(p.id, &p.Message, nil)
			if err != nil {
				t.Fatalf("what was decoded can't be encoded: %v", err)
			}
			p2, err := decodeMessage(again, nil)
			if err != nil || !p2.same(&p.Message) || !p2.Sent.Equal(p.Sent) || p2.id != p.id {
				t.Fatalf("%+v, %v; it was %+v", p2, err, p)
			}
			if err := p.validate(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
