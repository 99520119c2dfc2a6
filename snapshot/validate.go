package snapshot

import (
	"fmt"
	"unicode/utf8"
)

// Validate returns nil if the snapshot keeps the rules of the format, which [Encode] and [Decode] hold it to:
//
//   - the coroutine's id is valid, the sequence number from 1 to [MaxSeq], the parent's one less
//   - a suspended snapshot has an Await, and neither results, exit code nor error; one that has ended has neither an
//     Await nor frames; only a completed one has results, only a failed or cancelled one an error
//   - values have no bits that their type doesn't have; frames' slots are locals, then operands, each ascending
//   - globals, tables, dropped segments, host sections and pages are ascending and without duplicates
//   - memory is whole WebAssembly pages, at most [MaxMemory] and its limit; pages lie in it
//   - a delta is of a suspended coroutine, against a snapshot of a suspended one and of the same module, whose memory is
//     no larger and has the same limit; its chain is as [Origin] says, with at most [MaxChain] deltas behind the anchor
//   - lists and texts keep the format's limits; names of WebAssembly are UTF-8
//
// Else it returns a [*FormatError] with [ErrInvalid].
func (s *Snapshot) Validate() error { return s.validate(ErrInvalid) }

func (s *Snapshot) validate(kind error) error {
	if err := s.validateManifest(kind); err != nil {
		return err
	}
	return s.validateState(kind)
}

func (s *Snapshot) validateManifest(kind error) error {
	bad := func(format string, args ...any) error {
		return &FormatError{Section: "manifest", Offset: -1, Msg: fmt.Sprintf(format, args...), Err: kind}
	}
	if err := ValidID(s.Coroutine); err != nil {
		return bad("coroutine: %v", err)
	}
	if s.Seq == 0 || s.Seq > MaxSeq {
		return bad("sequence number %d", s.Seq)
	}
	if s.Parent != nil && (s.Parent.Seq == 0 || s.Parent.Seq != s.Seq-1) {
		return bad("sequence number %d with parent %d", s.Seq, s.Parent.Seq)
	}
	for _, text := range []struct {
		what, text string
		utf8       bool
	}{
		{"module name", s.ModuleName, false}, {"entry", s.Entry, true}, {"error", s.Error, false},
	} {
		if err := validText(text.text, text.utf8); err != "" {
			return bad("%s %s", text.what, err)
		}
	}
	if t := s.Time.Unix(); t < minTime || t > maxTime {
		return bad("time %v is out of range", s.Time)
	}
	switch {
	case statusCode(s.Status) == 0:
		return bad("status %q can't be stored", s.Status)
	case s.Status == Suspended && s.Await == nil:
		return bad("suspended, but at no await")
	case s.Status != Suspended && s.Await != nil:
		return bad("%s, but at an await", s.Status)
	case s.Status == Suspended && s.ExitCode != 0:
		return bad("suspended, but with exit code %d", s.ExitCode)
	case s.Status != Failed && s.Status != Cancelled && s.Error != "":
		return bad("%s, but with an error", s.Status)
	}
	if a := s.Await; a != nil {
		for _, text := range []struct {
			what, text string
			utf8       bool
		}{
			{"import", a.Import, true}, {"kind", a.Kind, true}, {"detail", a.Detail, false},
		} {
			if err := validText(text.text, text.utf8); err != "" {
				return bad("await: %s %s", text.what, err)
			}
		}
		if t := a.Until.Unix(); t < minTime || t > maxTime {
			return bad("await: time %v is out of range", a.Until)
		}
	}
	switch m := s.Memory; {
	case m.Size%WasmPageSize != 0 || m.Size > MaxMemory:
		return bad("memory of %d bytes", m.Size)
	case m.Max > MaxMemory || m.Max != 0 && m.Max < m.Size:
		return bad("memory of %d bytes with a limit of %d", m.Size, m.Max)
	}
	if s.Base != nil {
		return s.validateBase(kind)
	}
	return nil
}

func validText(s string, mustBeUTF8 bool) string {
	if len(s) > MaxText {
		return fmt.Sprintf("is longer than %d bytes", MaxText)
	}
	if mustBeUTF8 && !utf8.ValidString(s) {
		return "is not UTF-8"
	}
	return ""
}

// validateState checks all that is not in the manifest: each section by itself.
func (s *Snapshot) validateState(kind error) error {
	for _, c := range stateChecks {
		if why := c.check(s); why != "" {
			return &FormatError{Section: c.section, Offset: -1, Msg: why, Err: kind}
		}
	}
	return nil
}

// stateChecks are what validateState goes through, by section. Each returns why the section is bad, or nothing.
var stateChecks = []struct {
	section string
	check   func(*Snapshot) string
}{
	{"state", (*Snapshot).checkStatus},
	{"frames", (*Snapshot).checkFrames},
	{"globals", (*Snapshot).checkGlobals},
	{"tables", (*Snapshot).checkTables},
	{"dropped segments", (*Snapshot).checkDropped},
	{"memory", (*Snapshot).checkPages},
	{"host sections", (*Snapshot).checkHost},
	{"grants", (*Snapshot).checkGrants},
	{"output", (*Snapshot).checkOutput},
}

func (s *Snapshot) checkStatus() string {
	if s.Status.Ended() && (len(s.Frames) > 0 || s.InStart) {
		return fmt.Sprintf("%s, but with a call stack", s.Status)
	}
	if s.Status != Completed && len(s.Results) > 0 {
		return fmt.Sprintf("%s, but with results", s.Status)
	}
	lists := []struct {
		what   string
		values []Value
	}{{"argument", s.Args}, {"result", s.Results}, {}}
	if s.Await != nil {
		lists[2].what, lists[2].values = "await's argument", s.Await.Args
		if len(s.Await.Data) > MaxState {
			return fmt.Sprintf("await's data of %d bytes", len(s.Await.Data))
		}
	}
	for _, l := range lists {
		if len(l.values) > maxList {
			return fmt.Sprintf("%d %ss", len(l.values), l.what)
		}
		for i, v := range l.values {
			if why := v.check(); why != "" {
				return fmt.Sprintf("%s %d is %s", l.what, i, why)
			}
		}
	}
	return ""
}

func (s *Snapshot) checkFrames() string {
	if len(s.Frames) > MaxFrames {
		return fmt.Sprintf("%d frames, at most %d are allowed", len(s.Frames), MaxFrames)
	}
	total := 0
	for i := range s.Frames {
		slots := s.Frames[i].Slots
		if total += len(slots); total > MaxSlots {
			return fmt.Sprintf("more than %d slots", MaxSlots)
		}
		for j := range slots {
			if why := slots[j].Value.check(); why != "" {
				return fmt.Sprintf("frame %d: slot %d is %s", i, j, why)
			}
			if j == 0 {
				continue
			}
			if a, b := &slots[j-1], &slots[j]; a.Operand && !b.Operand || a.Operand == b.Operand && a.Index >= b.Index {
				return fmt.Sprintf("frame %d: slot %d is out of order", i, j)
			}
		}
	}
	return ""
}

func (s *Snapshot) checkGlobals() string {
	if len(s.Globals) > maxList {
		return fmt.Sprintf("%d globals, at most %d are allowed", len(s.Globals), maxList)
	}
	for i, g := range s.Globals {
		if why := g.Value.check(); why != "" {
			return fmt.Sprintf("global %d is %s", g.Index, why)
		}
		if i > 0 && s.Globals[i-1].Index >= g.Index {
			return fmt.Sprintf("global %d is out of order", g.Index)
		}
	}
	return ""
}

func (s *Snapshot) checkTables() string {
	elements := 0
	if len(s.Tables) > maxList {
		return fmt.Sprintf("%d tables, at most %d are allowed", len(s.Tables), maxList)
	}
	for i, t := range s.Tables {
		if elements += len(t.Elements); elements > MaxElements {
			return fmt.Sprintf("more than %d elements", MaxElements)
		}
		if i > 0 && s.Tables[i-1].Index >= t.Index {
			return fmt.Sprintf("table %d is out of order", t.Index)
		}
	}
	return ""
}

func (s *Snapshot) checkDropped() string {
	for _, ns := range [][]uint32{s.DroppedData, s.DroppedElements} {
		if len(ns) > MaxElements {
			return fmt.Sprintf("%d segments", len(ns))
		}
		for i := range ns {
			if i > 0 && ns[i-1] >= ns[i] {
				return fmt.Sprintf("segment %d is out of order", ns[i])
			}
		}
	}
	return ""
}

func (s *Snapshot) checkPages() string {
	for i, p := range s.Memory.Pages {
		switch {
		case i > 0 && s.Memory.Pages[i-1].Number >= p.Number:
			return fmt.Sprintf("page %d is out of order", p.Number)
		case (uint64(p.Number)+1)*PageSize > s.Memory.Size:
			return fmt.Sprintf("page %d is beyond the memory's %d bytes", p.Number, s.Memory.Size)
		case len(p.Data) != PageSize:
			return fmt.Sprintf("page %d has %d bytes", p.Number, len(p.Data))
		}
	}
	return ""
}

func (s *Snapshot) checkHost() string {
	if len(s.Host) > maxList {
		return fmt.Sprintf("%d host sections, at most %d are allowed", len(s.Host), maxList)
	}
	for i, h := range s.Host {
		if why := validText(h.Name, true); why != "" || h.Name == "" {
			return fmt.Sprintf("name of host section %d is empty or %s", i, why)
		}
		if i > 0 && s.Host[i-1].Name >= h.Name {
			return fmt.Sprintf("host section %q is out of order", h.Name)
		}
		if len(h.Data) > MaxState {
			return fmt.Sprintf("host section %q has %d bytes", h.Name, len(h.Data))
		}
	}
	return ""
}

func (s *Snapshot) checkGrants() string {
	if len(s.Grants) > maxList {
		return fmt.Sprintf("%d grants, at most %d are allowed", len(s.Grants), maxList)
	}
	for i, g := range s.Grants {
		for _, text := range []string{g.Kind, g.Name, g.Value, g.Flags} {
			if why := validText(text, false); why != "" {
				return fmt.Sprintf("grant %d: text %s", i, why)
			}
		}
	}
	return ""
}

func (s *Snapshot) checkOutput() string {
	if len(s.Output) > MaxStretches {
		return fmt.Sprintf("%d stretches, at most %d are allowed", len(s.Output), MaxStretches)
	}
	for i, o := range s.Output {
		if o.Stream != 1 && o.Stream != 2 {
			return fmt.Sprintf("stretch %d is of stream %d", i, o.Stream)
		}
	}
	if n := s.outputBytes(); n > MaxOutput-uint64(len(s.Output))*11 {
		return fmt.Sprintf("%d bytes, at most %d are allowed", n, MaxOutput)
	}
	return ""
}
