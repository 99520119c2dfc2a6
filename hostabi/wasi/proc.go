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

// Signals by what they do to a program that doesn't handle them, as none does here.
const (
	signalNone = 0
	signalChld = 16
	signalCont = 17
	signalStop = 18
	signalTtou = 21
	signalUrg  = 22
	signalLast = 30 // sys
	// signalWinch does nothing, as CHLD, CONT and URG do.
	signalWinch = 27
)

// procRaise does what a signal does by default. One that ends the program ends it with 128 and its number, as a shell tells it.
func procRaise(_ *Instance, _ *hostabi.Guest, p []uint64) errno {
	switch n := byte(p[0]); {
	case n > signalLast:
		return eInval
	case n == signalNone, n == signalChld, n == signalCont, n == signalUrg, n == signalWinch:
		return success
	case n >= signalStop && n <= signalTtou:
		return eNotsup // nobody would make it go on
	default:
		panic(sys.NewExitError(128 + uint32(n)))
	}
}

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

// sockNone is all of sockets: nobody is given one, so no descriptor is one.
func sockNone(i *Instance, _ *hostabi.Guest, p []uint64) errno {
	if i.fds.get(int32(p[0])) == nil {
		return eBadf
	}
	return eNotsock
}
