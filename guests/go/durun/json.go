package durun

import (
	"context"
	"encoding/json"
	"fmt"
)

// CallJSON calls a handler with arg as JSON, waits, and decodes what it returns; if that is empty, it is T's zero value. If
// waiting ends before, the call is given up. Use it in several goroutines to call in parallel, or [Call] and [All].
func CallJSON[T any](ctx context.Context, name string, arg any) (T, error) {
	body, err := json.Marshal(arg)
	if err != nil {
		var none T
		return none, fmt.Errorf("encode the argument of %s: %w", name, err)
	}
	return finishJSON[T](ctx, Call(name, body))
}

// RecvJSON receives a message of that name, and decodes it; an empty one is T's zero value. If waiting ends before, no message is
// taken.
func RecvJSON[T any](ctx context.Context, name string) (T, error) {
	return finishJSON[T](ctx, Recv(name))
}

// SpawnJSON runs a child of the given target and args, see [Spawn], with input as JSON, waits, and decodes its output. If waiting
// ends before, the child is cancelled.
func SpawnJSON[T any](ctx context.Context, target string, input any, args ...string) (T, error) {
	body, err := json.Marshal(input)
	if err != nil {
		var none T
		return none, fmt.Errorf("encode the input of a child: %w", err)
	}
	return finishJSON[T](ctx, Spawn(target, body, args...))
}

// InputJSON decodes the coroutine's [Input]; an empty one is T's zero value.
func InputJSON[T any]() (T, error) { return decode[T]("input", Input()) }

// SetOutputJSON encodes the coroutine's result, see [SetOutput].
func SetOutputJSON(value any) error {
	b, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode the output: %w", err)
	}
	SetOutput(b)
	return nil
}

func finishJSON[T any](ctx context.Context, op *Op) (T, error) {
	result, err := op.finish(ctx)
	if err != nil {
		var none T
		return none, err
	}
	return decode[T](op.String(), result)
}

func decode[T any](of string, b []byte) (T, error) {
	var v T
	if len(b) == 0 {
		return v, nil
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return v, fmt.Errorf("decode %s: %w", of, err)
	}
	return v, nil
}
