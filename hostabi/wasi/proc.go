package wasi

import (
	"context"
	"io"

	"github.com/tetratelabs/wazero/sys"

	"github.com/durun/durun/hostabi"
)

func procExit(_ context.Context, _ *hostabi.Guest, _ hostabi.Instance, stack []uint64) {
	panic(sys.NewExitError(uint32(stack[0])))
}

func procRaise(*Instance, *hostabi.Guest, []uint64) errno { return eNosys }

// schedYield is an await point only if asked for: schedulers call it in loops, and a commit each time would cost far
// more than what the guest yields for.
func schedYield(i *Instance, _ *hostabi.Guest, _ []uint64, p *hostabi.Pending) (errno, *hostabi.Pending) {
	if p == nil && i.checkpointOnYield {
		return success, &hostabi.Pending{Kind: hostabi.KindCheckpoint, Detail: "sched_yield"}
	}
	return success, nil
}

func randomGet(i *Instance, g *hostabi.Guest, p []uint64) errno {
	b, ok := bytesAt(g, uint32(p[0]), uint64(uint32(p[1])))
	if !ok {
		return eFault
	}
	if _, err := io.ReadFull(i.random, b); err != nil {
		return eIO
	}
	return success
}

// There are no sockets, so no descriptor is one.

func sockNone(*Instance, *hostabi.Guest, []uint64) errno { return eBadf }

func sockSend(_ *Instance, _ *hostabi.Guest, p []uint64) errno {
	if uint32(p[3]) != 0 {
		return eNotsup // no flag is defined
	}
	return eBadf
}
