package runtime

import (
	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime/internal/instrument"
	"github.com/durun/durun/runtime/internal/wasm"
)

// InstrumentReport says what [Instrument] did.
type InstrumentReport struct {
	Functions   int // that the module defines
	Suspendable int // of them, those that may suspend
	Sites       int // calls that may suspend
	CodeBefore  int // bytes of function code
	CodeAfter   int
}

// Instrument returns the form of a module that a runtime with these host modules compiles: the transform alone, for people
// who want to look at it. It returns a *[ModuleError] as [Runtime.Compile] does.
func Instrument(binary []byte, modules ...*hostabi.Module) ([]byte, InstrumentReport, error) {
	m, err := wasm.Decode(binary)
	if err == nil {
		err = wasm.Validate(m)
	}
	if err != nil {
		return nil, InstrumentReport{}, &ModuleError{Msg: "not a module that durun can run", Err: err}
	}
	if err := checkOriginal(m); err != nil {
		return nil, InstrumentReport{}, err
	}
	r := &Runtime{modules: append([]*hostabi.Module{abiModule}, modules...)}
	if m, err = r.internalise(m); err != nil {
		return nil, InstrumentReport{}, err
	}
	t, err := instrument.Transform(m, instrument.Config{Await: r.isAwait})
	if err != nil {
		return nil, InstrumentReport{}, &ModuleError{Msg: "make module suspendable", Err: err}
	}
	return t.Module.Encode(), InstrumentReport(t.Stats), nil
}
