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
//	    rewinding: the next n values of the current frame
const HostModule = "durun:host"

// MaxValues is the most values that save and load move in one call.
const MaxValues = 16

// Names that the emitted code uses in [HostModule].
const (
	ImportUnwound = "unwound"
	ImportNext    = "next"
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

// ExportDropped returns the name of the mutable i32 global that is 1 once data segment i has been dropped.
func ExportDropped(i uint32) string { return ExportDrop(i) + "ped" }

// ExportDrop returns the name of the function that drops data segment i: [] -> [].
func ExportDrop(i uint32) string {
	return exportPrefix + "d" + strconv.FormatUint(uint64(i), 10) + ".drop"
}

func exportInit(i uint32) string {
	return exportPrefix + "d" + strconv.FormatUint(uint64(i), 10) + ".init"
}
