package wasm

// The ids of sections.
const (
	idCustom    byte = 0
	idType      byte = 1
	idImport    byte = 2
	idFunction  byte = 3
	idTable     byte = 4
	idMemory    byte = 5
	idGlobal    byte = 6
	idExport    byte = 7
	idStart     byte = 8
	idElement   byte = 9
	idCode      byte = 10
	idData      byte = 11
	idDataCount byte = 12
	idTag       byte = 13
)

// section is a kind of section other than a custom one.
type section struct {
	id   byte
	name string
	// decode reads the section's contents, which are all that the cursor has.
	decode func(m *Module, c *cursor)
	// encode appends the section's contents. It appends nothing if there is to be no section.
	encode func(m *Module, dst []byte) []byte
}

// sections lists the sections in the order in which a module has them, which isn't that of their ids.
var sections = [...]section{
	{idType, "type", decodeTypes, encodeTypes},
	{idImport, "import", decodeImports, encodeImports},
	{idFunction, "function", decodeFunctions, encodeFunctions},
	{idTable, "table", decodeTables, encodeTables},
	{idMemory, "memory", decodeMemories, encodeMemories},
	{idTag, "tag", decodeTags, encodeTags},
	{idGlobal, "global", decodeGlobals, encodeGlobals},
	{idExport, "export", decodeExports, encodeExports},
	{idStart, "start", decodeStart, encodeStart},
	{idElement, "element", decodeElements, encodeElements},
	{idDataCount, "data count", decodeDataCount, encodeDataCount},
	{idCode, "code", decodeCode, encodeCode},
	{idData, "data", decodeData, encodeData},
}

// sectionOrder returns the place of a section in sections, -1 if there is no such section.
func sectionOrder(id byte) int {
	for i := range sections {
		if sections[i].id == id {
			return i
		}
	}
	return -1
}

// entries says where the entries of each section stood in the binary, by section id. An entry that was added since
// has no place.
type entries [idTag + 1][]uint32

// note notes that the next entry of a section starts at the cursor.
func (e *entries) note(id byte, c *cursor) { e[id] = append(e[id], uint32(c.pos)) }

// offset returns where entry i of a section stood, -1 if that isn't known.
func (e *entries) offset(id byte, i int) int {
	if i < 0 || i >= len(e[id]) {
		return -1
	}
	return int(e[id][i])
}

// entryError returns err as an error about entry i of a section.
func (m *Module) entryError(id byte, i int, item string, err error) error {
	name := ""
	if o := sectionOrder(id); o >= 0 {
		name = sections[o].name
	}
	return &FormatError{Section: name, Item: item, Offset: m.entries.offset(id, i), Err: err}
}
