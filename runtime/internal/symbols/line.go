package symbols

import (
	"path"
	"slices"
	"strings"
)

// LineTable says which source lines a unit's code comes from: a line number program of DWARF 2 to 5 (DWARF 5, 6.2).
//
// It isn't debug/dwarf's because that trusts the header: it allocates as many directories as one claims, and joins each
// file's name to its directory's, be it used or not.
type LineTable struct {
	rows        []row
	directories [][]byte
	files       []file
	first       int // the number of the first file
	compilation string

	// Work is how many operations it took to make the table.
	Work int
}

// row is that addresses from low to high are of a line.
type row struct {
	low, high  uint64
	file, line uint32
}

type file struct {
	name      []byte
	directory uint64
}

// LineSections are the sections that line tables stand in.
type LineSections struct{ Line, Str, LineStr []byte }

// The codes of line number programs.
const (
	lineCopy          = 1
	lineAdvancePC     = 2
	lineAdvanceLine   = 3
	lineSetFile       = 4
	lineConstAddPC    = 8
	lineFixedAdvance  = 9
	lineEndSequence   = 1
	lineSetAddress    = 2
	lineDefineFile    = 3
	linePath          = 1
	lineDirectory     = 2
	lineMaxOperations = 1 << 22
)

// ReadLines reads the table at an offset of .debug_line, as far as it can be read. Compilation is the folder that relative
// names are relative to.
func ReadLines(s LineSections, offset int64, compilation string) *LineTable {
	t := &LineTable{compilation: compilation, first: 1}
	if offset < 0 || offset >= int64(len(s.Line)) {
		return t
	}
	c := &cursor{data: s.Line, at: int(offset)}
	size := c.u32()
	if c.bad || uint64(size) > uint64(len(s.Line)-c.at) {
		return t
	}
	c.data = s.Line[:c.at+int(size)]
	version := c.u16()
	if version < 2 || version > 5 {
		return t
	}
	if version >= 5 {
		c.skip(2) // the sizes of an address and of a segment selector
	}
	header := c.u32()
	program := &cursor{data: c.data, at: c.at}
	program.skip(uint64(header))
	p := lineProgram{table: t, unit: uint64(c.u8())}
	if version >= 4 {
		c.skip(1) // operations for each instruction: 1 but for VLIW
	}
	c.skip(1) // whether lines start as statements
	p.base, p.lineRange, p.opcodes = int8(c.u8()), c.u8(), c.u8()
	if c.bad || program.bad || p.lineRange == 0 || p.opcodes == 0 {
		return t
	}
	p.lengths = c.data[c.at:min(c.at+int(p.opcodes)-1, len(c.data))]
	c.skip(uint64(p.opcodes) - 1)
	if version >= 5 {
		t.first = 0
		for _, f := range s.entries(c) {
			t.directories = append(t.directories, f.name)
		}
		t.files = s.entries(c)
	} else {
		t.directories = [][]byte{nil}
		for {
			name := c.text()
			if len(name) == 0 {
				break
			}
			t.directories = append(t.directories, name)
		}
		for {
			f := c.file()
			if len(f.name) == 0 {
				break
			}
			t.files = append(t.files, f)
		}
	}
	p.run(program)
	return t
}

// text reads a string that ends in 0.
func (c *cursor) text() []byte {
	var v value
	c.value(attribute{form: formString}, &v)
	return v.block
}

// file reads a file of DWARF 4.
func (c *cursor) file() file {
	f := file{name: c.text()}
	if len(f.name) > 0 {
		f.directory = c.unsigned()
		c.unsigned() // when it was changed
		c.unsigned() // its size
	}
	return f
}

// entries reads the directories or files of DWARF 5.
func (s *LineSections) entries(c *cursor) []file {
	var formats []attribute
	for range c.u8() {
		formats = append(formats, attribute{name: uint16(c.unsigned()), form: uint16(c.unsigned())})
	}
	var list []file
	for n := c.unsigned(); n > 0 && !c.bad && len(formats) > 0; n-- {
		var f file
		for _, a := range formats {
			var v value
			c.value(a, &v)
			switch a.name {
			case linePath:
				switch a.form {
				case formString:
					f.name = v.block
				case formStrp:
					f.name = terminated(s.Str, v.n)
				case formLineStrp:
					f.name = terminated(s.LineStr, v.n)
				}
			case lineDirectory:
				f.directory = v.n
			}
		}
		if !c.bad {
			list = append(list, f)
		}
	}
	return list
}

// lineProgram is the machine that makes the rows.
type lineProgram struct {
	table              *LineTable
	unit               uint64 // the size of the smallest instruction
	base               int8
	lineRange, opcodes uint8
	lengths            []byte // how many operands the standard operations have

	address    uint64
	file, line uint32
	last       row
	started    bool
}

func (p *lineProgram) reset() { p.address, p.file, p.line, p.started = 0, 1, 1, false }

// emit ends the last row here, and starts the next.
func (p *lineProgram) emit() {
	if p.started && p.last.low < p.address {
		p.last.high = p.address
		p.table.rows = append(p.table.rows, p.last)
	}
	p.last, p.started = row{low: p.address, file: p.file, line: p.line}, true
}

func (p *lineProgram) run(c *cursor) {
	p.reset()
	for work := &p.table.Work; !c.bad && c.at < len(c.data) && *work < lineMaxOperations; *work++ {
		op := c.u8()
		if op >= p.opcodes {
			special := op - p.opcodes
			p.address += uint64(special/p.lineRange) * p.unit
			p.line += uint32(int32(p.base) + int32(special%p.lineRange))
			p.emit()
			continue
		}
		switch op {
		case 0:
			p.extended(c)
		case lineCopy:
			p.emit()
		case lineAdvancePC:
			p.address += c.unsigned() * p.unit
		case lineAdvanceLine:
			p.line += uint32(c.signed())
		case lineSetFile:
			p.file = uint32(c.unsigned())
		case lineConstAddPC:
			p.address += uint64((255-p.opcodes)/p.lineRange) * p.unit
		case lineFixedAdvance:
			p.address += uint64(c.u16())
		default:
			if int(op) <= len(p.lengths) {
				for range p.lengths[op-1] {
					c.unsigned()
				}
			}
		}
	}
}

func (p *lineProgram) extended(c *cursor) {
	size := c.unsigned()
	end := *c
	end.skip(size)
	if end.bad || size == 0 {
		c.bad = c.bad || end.bad
		return
	}
	switch c.u8() {
	case lineEndSequence:
		p.emit()
		p.reset()
	case lineSetAddress:
		p.address = 0
		for i := range min(size-1, 8) {
			p.address |= uint64(c.u8()) << (8 * i)
		}
	case lineDefineFile:
		p.table.files = append(p.table.files, c.file())
	}
	*c = end
}

// Find returns the file and line of an address, "" and 0 if there is none.
func (t *LineTable) Find(address uint64) (name string, line int) {
	i := slices.IndexFunc(t.rows, func(r row) bool { return r.low <= address && address < r.high })
	if i < 0 {
		return "", 0
	}
	r := t.rows[i]
	k := int64(r.file) - int64(t.first)
	if k < 0 || k >= int64(len(t.files)) || len(t.files[k].name) == 0 {
		return "", 0
	}
	f := t.files[k]
	name = short(f.name)
	if f.directory < uint64(len(t.directories)) {
		name = join(short(t.directories[f.directory]), name)
	}
	return join(t.compilation, name), int(int32(r.line))
}

func short(name []byte) string { return string(name[:min(len(name), maxName)]) }

func join(directory, name string) string {
	// A path of Windows has a drive, or starts with a backslash.
	if directory == "" || path.IsAbs(name) || strings.HasPrefix(name, `\`) || len(name) > 1 && name[1] == ':' {
		return name
	}
	return strings.TrimSuffix(directory, "/") + "/" + name
}
