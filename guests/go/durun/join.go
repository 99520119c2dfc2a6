package durun

import (
	"context"
	"errors"
	"slices"
)

// All waits until all operations have succeeded, or the first has failed, and returns the results in the order of ops, or
// that one's error. Nothing is cancelled. Other errors are those of [Op.Wait].
func All(ctx context.Context, ops ...*Op) ([][]byte, error) {
	var failed error
	err := ends(ctx, ops, func(op *Op) bool {
		failed = op.err
		return failed == nil
	})
	switch {
	case err != nil:
		return nil, err
	case failed != nil:
		return nil, failed
	}
	results := make([][]byte, len(ops))
	for i, op := range ops {
		results[i] = op.result
	}
	return results, nil
}

// Any waits until one operation has succeeded, and returns it; or until all have failed, and returns their errors, joined, in
// the order of ops. Without operations it fails with [ErrInvalid]. Other errors are those of [Op.Wait].
func Any(ctx context.Context, ops ...*Op) (*Op, error) {
	var first *Op
	err := ends(ctx, ops, func(op *Op) bool {
		if op.err == nil {
			first = op
		}
		return first == nil
	})
	switch {
	case err != nil:
		return nil, err
	case first != nil:
		return first, nil
	case len(ops) == 0:
		return nil, errNoOperations
	}
	failures := make([]error, len(ops))
	for i, op := range ops {
		failures[i] = op.err
	}
	return nil, errors.Join(failures...)
}

// Race waits until one operation has ended, well or not, and returns it. Without operations it fails with [ErrInvalid]. Other
// errors are those of [Op.Wait].
func Race(ctx context.Context, ops ...*Op) (*Op, error) {
	ended, err := Some(ctx, 1, ops...)
	switch {
	case err != nil:
		return nil, err
	case len(ended) == 0:
		return nil, errNoOperations
	}
	return ended[0], nil
}

// Some waits until n of the operations have ended, well or not, and returns these n in the order in which they ended. An n
// above len(ops) stands for all. Errors are those of [Op.Wait]; with one it returns those that have ended so far.
func Some(ctx context.Context, n int, ops ...*Op) ([]*Op, error) {
	var ended []*Op
	if n <= 0 {
		return ended, nil
	}
	err := ends(ctx, ops, func(op *Op) bool {
		ended = append(ended, op)
		return len(ended) < n
	})
	return ended, err
}

var errNoOperations = &Error{Code: Invalid, Message: "no operations to wait for"}

// ends calls next for each operation as it ends, until it returns false or there are no more.
func ends(ctx context.Context, ops []*Op, next func(*Op) bool) error {
	join := make(chan *Op, len(ops))
	operations.join(join, ops)
	defer operations.leave(join, ops)

	cancelled, leave := operations.enter()
	defer leave()
	for range ops {
		var op *Op
		select {
		case op = <-join: // whatever ctx says
		default:
			select {
			case op = <-join:
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-cancelled:
				return ErrCoroutineCancelled
			}
		}
		if !next(op) {
			return nil
		}
	}
	return nil
}

// join has each operation sent to a channel once it has ended, those that have ended at once and in order.
func (t *table) join(join chan<- *Op, ops []*Op) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, op := range ops {
		if op.hasEnded() {
			join <- op
		} else {
			op.joins = append(op.joins, join)
		}
	}
}

func (t *table) leave(join chan<- *Op, ops []*Op) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, op := range ops {
		op.joins = slices.DeleteFunc(op.joins, func(c chan<- *Op) bool { return c == join })
	}
}
