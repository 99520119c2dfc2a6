package runtime

import (
	"context"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
	"github.com/tetratelabs/wazero/api"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/snapshot"
)

// abi is the state of the import module "durun", version 1, for one coroutine: see hostabi/ABI.md.
type abi struct {
	input  []byte // what input copies: the coroutine's input, then what the last yield received
	result []byte // what output set last
	reply  []byte // what a pending yield will receive
}

var i32 = api.ValueTypeI32

// abiModule describes the import module "durun".
var abiModule = &hostabi.Module{
	Name: hostabi.ModuleName,
	Functions: []hostabi.Function{
		{
			Name: hostabi.FuncInput, Params: []api.ValueType{i32, i32}, Results: []api.ValueType{i32},
			Call: func(_ context.Context, g *hostabi.Guest, i hostabi.Instance, stack []uint64) {
				a := i.(*abi)
				n := min(uint32(len(a.input)), uint32(stack[1]))
				copy(guestBytes(g, hostabi.FuncInput, uint32(stack[0]), n), a.input)
				stack[0] = uint64(len(a.input))
			},
		},
		{
			Name: hostabi.FuncOutput, Params: []api.ValueType{i32, i32},
			Call: func(_ context.Context, g *hostabi.Guest, i hostabi.Instance, stack []uint64) {
				a := i.(*abi)
				a.result = append([]byte{}, guestBytes(g, hostabi.FuncOutput, uint32(stack[0]), uint32(stack[1]))...)
			},
		},
		{
			Name: hostabi.FuncYield, Params: []api.ValueType{i32, i32}, Results: []api.ValueType{i32},
			Await: func(_ context.Context, g *hostabi.Guest, i hostabi.Instance, stack []uint64, p *hostabi.Pending) *hostabi.Pending {
				a := i.(*abi)
				if p == nil {
					value := guestBytes(g, hostabi.FuncYield, uint32(stack[0]), uint32(stack[1]))
					return &hostabi.Pending{
						Kind: hostabi.KindYield, Data: append([]byte{}, value...),
						Detail: fmt.Sprintf("the driver, which was handed %d bytes", len(value)),
					}
				}
				a.input, a.reply = a.reply, nil
				stack[0] = uint64(len(a.input))
				return nil
			},
		},
		{
			Name: hostabi.FuncCheckpoint,
			Await: func(_ context.Context, _ *hostabi.Guest, _ hostabi.Instance, _ []uint64, p *hostabi.Pending) *hostabi.Pending {
				if p == nil {
					return &hostabi.Pending{Kind: hostabi.KindCheckpoint, Detail: "nothing"}
				}
				return nil
			},
		},
	},
}

// guestBytes returns the guest's memory [ptr, ptr+n), and traps if it is out of range.
func guestBytes(g *hostabi.Guest, function string, ptr, n uint32) []byte {
	if n == 0 {
		return nil
	}
	if g.Memory != nil {
		if b, ok := g.Memory.Read(ptr, n); ok {
			return b
		}
	}
	panic(fmt.Errorf("durun.%s: bytes [%#x, %#x) are outside the guest's memory", function, ptr, uint64(ptr)+uint64(n)))
}

// abiState is the encoding of abi in snapshots, version 1.
type abiState struct {
	Input  []byte `cbor:"1,keyasint,omitempty"`
	Result []byte `cbor:"2,keyasint,omitempty"`
}

const abiVersion = 1

// ResultOf returns what the guest had set with durun.output when a snapshot was taken, nil if nothing.
func ResultOf(s *snapshot.Snapshot) ([]byte, error) {
	for _, sec := range s.Host {
		if sec.Name == hostabi.ModuleName {
			var a abi
			if err := a.Restore(sec.Version, sec.Data); err != nil {
				return nil, fmt.Errorf("result of coroutine %s: %w", s.Coroutine, err)
			}
			return a.result, nil
		}
	}
	return nil, nil
}

// Module implements hostabi.Instance.
func (a *abi) Module() *hostabi.Module { return abiModule }

// Save implements hostabi.Instance.
func (a *abi) Save() (uint32, []byte, error) {
	data, err := cbor.Marshal(abiState{Input: a.input, Result: a.result})
	return abiVersion, data, err
}

// Restore implements hostabi.Instance.
func (a *abi) Restore(version uint32, data []byte) error {
	if version != abiVersion {
		return fmt.Errorf("version %d of its state is unknown, this is version %d", version, abiVersion)
	}
	var s abiState
	if err := cbor.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("decode state: %w", err)
	}
	a.input, a.result = s.Input, s.Result
	return nil
}

// Wait implements hostabi.Instance: a yield is over when the driver says so, by resuming; a checkpoint at once.
func (a *abi) Wait(context.Context, *hostabi.Pending) error { return nil }

// Close implements hostabi.Instance.
func (a *abi) Close() error { return nil }

// errInterrupted is the cause of the trap by which a guest is stopped at its next host call.
var errInterrupted = errors.New("interrupted")
