package snapshot

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// The limits of a message.
const (
	MaxMessageName = 256      // bytes of its name
	MaxMessageKey  = 256      // bytes of its key
	MaxMessageData = 16 << 20 // bytes of its data
)

// ReservedMessages starts the names of messages that are durun's own, such as [CancelMessage]: senders that pass on what
// somebody else has chosen refuse such names. [Store.Send] takes them.
const ReservedMessages = "durun."

// CancelMessage is the name of the message that asks a coroutine to clean up and end. It is sent with the name as key
// as well, so that there is one at most.
const CancelMessage = ReservedMessages + "cancel"

// ErrMessage is returned for a message that can't be sent: its name, key or data break a rule. See [Message].
var ErrMessage = errors.New("invalid message")

// Message is what is sent to a coroutine from outside: it stays in the store until the coroutine has received it.
type Message struct {
	// Name says what it is, and who receives it: 1 to [MaxMessageName] bytes of UTF-8 without control characters.
	Name string
	// Key tells it from all others of the coroutine: of messages with one key the first counts. To send, 1 to
	// [MaxMessageKey] bytes of UTF-8 without control characters, or empty for a new key of its own ([NewMessageKey]).
	Key  string
	Data []byte // at most [MaxMessageData] bytes; nil for none. Not in [Store.PeekInbox]
	// Sent is when, by the sender's clock, which orders messages. To send, zero for now.
	Sent time.Time
	// Bytes is the size of Data, as it was sent.
	Bytes int64
	// Err is why the stored message can't be read: [ErrCorrupt], [ErrVersion] or [ErrKey], or an error of the storage, see
	// [Message.Unread]. If Name is empty, Key is the name of its object, which [Store.Acknowledge] takes as well, Sent is when
	// that was made, and the rest is not known. Else only Data is missing.
	Err error
}

// Unread reports whether it is the storage that has failed to give a stored message, which may go well another time.
func (m *Message) Unread() bool { return m.Err != nil && !isMessageProblem(m.Err) }

// validate returns an [ErrMessage] for a message that can't be sent.
func (m *Message) validate() error {
	for _, text := range []struct {
		what, text string
		most       int
		optional   bool
	}{{"name", m.Name, MaxMessageName, false}, {"key", m.Key, MaxMessageKey, true}} {
		if wrong := labelProblem(text.text, text.most); wrong != "" && !(text.text == "" && text.optional) {
			return fmt.Errorf("%w: its %s %s", ErrMessage, text.what, wrong)
		}
	}
	if len(m.Data) > MaxMessageData {
		return fmt.Errorf("%w: %d bytes of data, at most %d are allowed", ErrMessage, len(m.Data), MaxMessageData)
	}
	if t := m.Sent.Unix(); !m.Sent.IsZero() && (t < minTime || t > maxTime) {
		return fmt.Errorf("%w: the time %v is out of range", ErrMessage, m.Sent)
	}
	return nil
}

// labelProblem returns what is wrong with a name or a key, empty for nothing.
func labelProblem(s string, most int) string {
	switch {
	case s == "":
		return "is empty"
	case len(s) > most:
		return fmt.Sprintf("is longer than %d bytes", most)
	case !utf8.ValidString(s):
		return "is not UTF-8"
	case strings.ContainsFunc(s, unicode.IsControl):
		return "has a control character"
	}
	return ""
}

// sendClock gives messages their times: of one process each is later than the one before, so that they stay in order.
var sendClock struct {
	sync.Mutex
	last time.Time
}

func sendTime(now time.Time) time.Time {
	now = now.Round(0).UTC()
	sendClock.Lock()
	defer sendClock.Unlock()
	if !now.After(sendClock.last) {
		now = sendClock.last.Add(1)
	}
	sendClock.last = now
	return now
}

// NewMessageKey returns a new key for a message: the time in nanoseconds and 64 random bits, 16 hexadecimal digits each, with
// a '-' between. Who wants to repeat a send whose outcome is not known makes the key first.
func NewMessageKey() string { return messageKeyAt(time.Now()) }

func messageKeyAt(t time.Time) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(max(0, t.UnixNano())))
	_, _ = rand.Read(b[8:]) // never fails
	return hex.EncodeToString(b[:8]) + "-" + hex.EncodeToString(b[8:])
}

// messageKeyTime returns the time that a key has of the form that NewMessageKey makes.
func messageKeyTime(key string) time.Time {
	ns, err := strconv.ParseInt(key[:16], 16, 64)
	if err != nil {
		return time.Time{} // beyond what it makes
	}
	return time.Unix(0, ns).UTC()
}

// isMessageKey reports whether a key is of the form that NewMessageKey makes.
func isMessageKey(key string) bool {
	return len(key) == 33 && key[16] == '-' && isHex(key[:16]) && isHex(key[17:])
}

// hashedKey starts the names of objects whose message has any other key.
const hashedKey = "k-"

// isMessageObject reports whether a string is of the form of a message's object's name, without its folder.
func isMessageObject(name string) bool {
	hash, ok := strings.CutPrefix(name, hashedKey)
	return isMessageKey(name) || ok && len(hash) == 2*sha256.Size && isHex(hash)
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// messageLabel makes the names of encrypted messages' objects a use of the store's key of its own.
const messageLabel = "durun message 1"

// messageObject returns the name of the object of a message to coroutine id with a key. It is the key itself, if that is
// of the form of such a name. Else it is a hash, since a key may be any text; under a store's key, which is not zero, one
// that tells nobody else what was hashed.
func messageObject(id, key string, master Key) string {
	if isMessageObject(key) {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	if master != (Key{}) {
		mac, err := hkdf.Expand(sha256.New, master.secret[:], messageLabel+id+"\x00"+key, sha256.Size)
		if err != nil {
			panic(err) // only for one that is too long
		}
		sum = [sha256.Size]byte(mac)
	}
	return hashedKey + hex.EncodeToString(sum[:])
}

// wireMessage is the manifest of a message. Of an encrypted one name and key are sealed.
type wireMessage struct {
	Coroutine string       // 1
	Name      string       // 2
	Key       string       // 3
	Sent      wireTime     // 6
	Sections  sectionTable // 17
	Seal      *wireSeal    // 20
}

func (w *wireMessage) append(b []byte) []byte {
	m := newMap(b)
	m.key(1)
	m.b = appendText(m.b, w.Coroutine)
	m.text(2, w.Name)
	m.text(3, w.Key)
	m.key(6)
	m.b = w.Sent.append(m.b)
	w.Sections.append(&m)
	w.Seal.append(&m)
	return m.b
}

func (w *wireMessage) decode(u *unpacker) {
	u.pairs(func(key uint64) {
		switch key {
		case 1:
			w.Coroutine = u.text()
		case 2:
			w.Name = u.text()
		case 3:
			w.Key = u.text()
		case 6:
			w.Sent = u.time()
		case 17:
			w.Sections = u.sections()
		case 20:
			w.Seal = u.seal()
		default:
			u.unknown(key)
		}
	})
}

// encodeMessage encodes a message to a coroutine, encrypted under a key unless that is nil.
func encodeMessage(id string, m *Message, key *objectKey) ([]byte, error) {
	var parts []part
	if len(m.Data) > 0 {
		parts = append(parts, bytesPart(sectionData, m.Data))
	}
	w := &wireMessage{Coroutine: id, Name: m.Name, Key: m.Key, Sent: toWireTime(m.Sent)}
	e := encryptionOf(key, secrets{Name: m.Name, Key: m.Key})
	if e != nil {
		w.Name, w.Key = "", ""
	}
	const most = 256 + MaxID + MaxMessageName + MaxMessageKey
	return encodeContainer(new([]byte), kindMessage, most, parts, e, func(b []byte, sections sectionTable) []byte {
		w.Sections, w.Seal = sections, e.wire()
		return w.append(b)
	})
}

// parsedMessage is a message as far as its manifest tells.
type parsedMessage struct {
	Message
	id     string     // the coroutine's
	object string     // name of the object that it belongs in
	key    *objectKey // nil for a plain one
	data   section    // zero for none
}

// parseMessage reads a message's manifest from data, which starts with its container's header and holds the manifest. Without
// the key that it needs there are a [*KeyError] and what can be known.
func parseMessage(h header, data []byte, keys *Keyring) (*parsedMessage, error) {
	if h.kind != kindMessage {
		return nil, corrupt("header", 10, "a %v, not a message", h.kind)
	}
	raw, err := h.checkManifest(data)
	if err != nil {
		return nil, err
	}
	w := &wireMessage{}
	if err := unmarshal("manifest", headerSize, raw, w); err != nil {
		return nil, err
	}
	bad := func(format string, args ...any) (*parsedMessage, error) {
		return nil, corrupt("manifest", headerSize, format, args...)
	}
	if err := h.checkSections(w.Sections, sectionData); err != nil {
		return nil, err
	}
	key, s, err := w.Seal.open(h, data, keys)
	if err != nil {
		return nil, err
	}
	sent, ok := w.Sent.time()
	if !ok || sent.IsZero() {
		return bad("impossible time")
	}
	if err := ValidID(w.Coroutine); err != nil {
		return bad("%v", err)
	}
	p := &parsedMessage{id: w.Coroutine, key: key}
	p.Sent = sent
	if len(w.Sections) == 1 {
		p.data = w.Sections[0]
		p.data.key = key
		p.Bytes = int64(p.data.Raw)
	}
	master := Key{}
	if key != nil {
		if w.Name != "" || w.Key != "" {
			return bad("encrypted, and with a name or a key that isn't")
		}
		if err := key.locked(); err != nil {
			return p, err
		}
		if s.Detail != "" || s.Error != "" {
			return bad("a snapshot's detail or error, sealed with a message")
		}
		w.Name, w.Key = s.Name, s.Key
		master = keys.byID(key.id)
	}
	if wrong := labelProblem(w.Name, MaxMessageName); wrong != "" {
		return bad("its name %s", wrong)
	}
	if wrong := labelProblem(w.Key, MaxMessageKey); wrong != "" {
		return bad("its key %s", wrong)
	}
	p.Name, p.Key = w.Name, w.Key
	p.object = messageObject(p.id, p.Key, master)
	return p, nil
}

// decodeMessage decodes and verifies a message. The result does not alias data.
func decodeMessage(data []byte, keys *Keyring) (*parsedMessage, error) {
	h, err := verify(data)
	if err != nil {
		return nil, err
	}
	p, err := parseMessage(h, data, keys)
	if err != nil || p.data.Raw == 0 {
		return p, err
	}
	p.Data, err = ownContent(p.data, data[headerSize+h.manifest:len(data)-digestSize])
	return p, err
}

// isMessage holds a message to the coroutine and the object that it lies in.
func (p *parsedMessage) isMessage(id, object string) error {
	if p.id != id || p.object != object {
		return corrupt("manifest", -1, "it says that it is a message to coroutine %s in object %s: the object was moved", p.id, p.object)
	}
	return nil
}

// same reports whether two messages say the same.
func (m *Message) same(other *Message) bool {
	return m.Name == other.Name && m.Key == other.Key && bytes.Equal(m.Data, other.Data)
}
