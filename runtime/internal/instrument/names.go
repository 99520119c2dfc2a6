package instrument

import "strconv"

// HostModule is the import module through which the emitted code calls the runtime:
//
//	unwound: [] -> []
//	    the stack of an export's call has been unwound down to its bottom
//	save<n>: [i64 x n, i32] -> []
//	    n values of a frame and its site; -1 in place of the site says that more values of the frame follow
//	next: [] -> [i32]
//	    rewinding: the continuation of the next frame, as an index into the resume module's table
//	load<n>: [] -> [i64 x n]
//	    rewinding: the next n values of the current frame; a reference as its position in the registry of its type
//	ref: [funcref] -> [i64]
//	    a reference as a number, to be saved; only where there are references
//	unnamed: [i32] -> []
//	    the frame that is saved next holds a reference that isn't null and can't be saved: NotNullExtern, NotNullExn;
//	    only where there are references
//	tick: [] -> []
//	    the guest has used up what the counter held, see ExportTicks; the runtime sets that, or ends the guest
//	try: [] -> []
//	    the guest is about to enter a try_table, which may take long; the runtime does what it does in a tick, if it is time;
//	    in a running form only where there are try_tables
//	keep: [exnref] -> []
//	    the guest may hold on to this exception; only where there are references
const HostModule = "durun:host"

// MaxValues is the most values that save and load move in one call.
const MaxValues = 16

// Names that the emitted code uses in [HostModule].
const (
	ImportUnwound = "unwound"
	ImportNext    = "next"
	ImportTick    = "tick"
	ImportTry     = "try"
	ImportRef     = "ref"
	ImportUnnamed = "unnamed"
	ImportKeep    = "keep"
)

// ElementSize is how many bytes an element of a table takes.
const ElementSize = 8

// What the import unnamed is called with: the type of the reference.
const (
	NotNullExtern = 1
	NotNullExn    = 2
)

// ImportSave returns the name of the function that saves n values.
func ImportSave(n int) string { return "save" + strconv.Itoa(n) }

// ImportLoad returns the name of the function that loads n values.
func ImportLoad(n int) string { return "load" + strconv.Itoa(n) }

// Names of exports that the running form adds. The prefix is reserved: a module that exports such a name is refused.
const (
	exportPrefix = "durun:"

	// ExportState is a mutable i32 global: 0 while the guest runs, 1 while it unwinds.
	ExportState = exportPrefix + "state"
	// ExportTicks is a mutable i64 global: how far the guest may run before it calls tick.
	ExportTicks = exportPrefix + "ticks"
	// ExportRoom is a mutable i64 global: by how many bytes memories and tables may still grow, at first without a limit. An
	// element of a table counts as [ElementSize] bytes.
	ExportRoom = exportPrefix + "room"
	// ExportStart is the module's start function: [] -> [].
	ExportStart = exportPrefix + "start"
	// ExportMemory is the module's memory.
	ExportMemory = exportPrefix + "memory"
	// ExportResume is the resume module's entry: [] -> the results of the outermost frame's function.
	ExportResume = exportPrefix + "resume"
	// MainModule is the name under which the resume module imports from the running form.
	MainModule = exportPrefix + "main"
)

func exportFunction(i uint32) string { return exportPrefix + "f" + strconv.FormatUint(uint64(i), 10) }

func exportTable(i uint32) string { return exportPrefix + "t" + strconv.FormatUint(uint64(i), 10) }

func exportTag(i uint32) string { return exportPrefix + "x" + strconv.FormatUint(uint64(i), 10) }

// ExportGlobal returns the name of the original module's global i.
func ExportGlobal(i uint32) string { return exportPrefix + "g" + strconv.FormatUint(uint64(i), 10) }

// ExportGetV128 returns the name of the function that reads mutable v128 global i: [] -> [i64 i64].
func ExportGetV128(i uint32) string { return ExportGlobal(i) + ".get" }

// ExportSetV128 returns the name of the function that writes mutable v128 global i: [i64 i64] -> [].
func ExportSetV128(i uint32) string { return ExportGlobal(i) + ".set" }

// ExportSetRef returns the name of the function that sets mutable global i, which holds references to functions, to the one
// at a position of the registry of its type: [i32] -> [].
func ExportSetRef(i uint32) string { return ExportGlobal(i) + ".set" }

// ExportRegistry returns the name of the function that reads registry i: [position i32] -> [funcref].
func ExportRegistry(i int) string { return exportRegistryTable(i) + ".get" }

func exportRegistryTable(i int) string { return exportPrefix + "r" + strconv.Itoa(i) }

// ExportTableSize returns the name of a function on table i, which the code can change. There are
//
//	ExportTableSize: [] -> [i32]
//	ExportTableGet:  [index i32] -> [funcref], of tables of other references [i32], which is 1 where there is one that isn't null
//	ExportTableSet:  [index i32, position in the registry of its type i32] -> [], for tables of references to functions
//	ExportTableGrow: [by i32] -> [i32], as table.grow
func ExportTableSize(i uint32) string { return exportTable(i) + ".size" }

// ExportTableGet is explained at [ExportTableSize].
func ExportTableGet(i uint32) string { return exportTable(i) + ".get" }

// ExportTableSet is explained at [ExportTableSize].
func ExportTableSet(i uint32) string { return exportTable(i) + ".set" }

// ExportTableGrow is explained at [ExportTableSize].
func ExportTableGrow(i uint32) string { return exportTable(i) + ".grow" }

// ExportDroppedElements returns the name of the mutable i32 global that is 1 once element segment i has been dropped.
func ExportDroppedElements(i uint32) string { return ExportDropElements(i) + "ped" }

// ExportDropElements returns the name of the function that drops element segment i: [] -> [].
func ExportDropElements(i uint32) string {
	return exportPrefix + "e" + strconv.FormatUint(uint64(i), 10) + ".drop"
}

func exportInitTable(segment, table uint32) string {
	return exportPrefix + "e" + strconv.FormatUint(uint64(segment), 10) + ".init" + strconv.FormatUint(uint64(table), 10)
}

// ExportDropped returns the name of the mutable i32 global that is 1 once data segment i has been dropped.
func ExportDropped(i uint32) string { return ExportDrop(i) + "ped" }

// ExportDrop returns the name of the function that drops data segment i: [] -> [].
func ExportDrop(i uint32) string {
	return exportPrefix + "d" + strconv.FormatUint(uint64(i), 10) + ".drop"
}

func exportInit(i uint32) string {
	return exportPrefix + "d" + strconv.FormatUint(uint64(i), 10) + ".init"
}
