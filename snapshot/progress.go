package snapshot

import "context"

// Progress is how far a long operation on a large snapshot has come.
type Progress struct {
	What        string // "compress", "write" or "read"
	Done, Total int64  // bytes
}

type progressKey struct{}

// WithProgress returns a context with which Commit, Chain's reads and whatever uses them report their progress, if the
// snapshot is large. The function is called often, from the operation's goroutines.
func WithProgress(ctx context.Context, f func(Progress)) context.Context {
	return context.WithValue(ctx, progressKey{}, f)
}

// progress returns a function that reports how many bytes of total are done.
func progress(ctx context.Context, what string, total int64) func(done int64) {
	f, ok := ctx.Value(progressKey{}).(func(Progress))
	if !ok {
		return func(int64) {}
	}
	return func(done int64) { f(Progress{What: what, Done: done, Total: total}) }
}
