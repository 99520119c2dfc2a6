package wasi

// ModuleName is the name under which guests import WASI preview 1.
const ModuleName = "wasi_snapshot_preview1"

// Numbers of WASI preview 1, from its witx definition.

const (
	clockRealtime  = 0
	clockMonotonic = 1
	clockThreadCPU = 3 // the last of the two that exist, and that nobody supports
)

const (
	eventClock   = 0
	eventFDRead  = 1
	eventFDWrite = 2

	subclockAbstime = 1 << 0

	subscriptionSize = 48
	eventSize        = 32
)

const (
	typeUnknown   = 0
	typeBlock     = 1
	typeCharacter = 2
	typeDirectory = 3
	typeRegular   = 4
	typeSymlink   = 7
)

const (
	oflagCreat     = 1 << 0
	oflagDirectory = 1 << 1
	oflagExcl      = 1 << 2
	oflagTrunc     = 1 << 3
)

const (
	fdflagAppend   = 1 << 0
	fdflagDsync    = 1 << 1
	fdflagNonblock = 1 << 2
	fdflagRsync    = 1 << 3
	fdflagSync     = 1 << 4
)

const lookupSymlinkFollow = 1 << 0

const (
	fstAtim    = 1 << 0
	fstAtimNow = 1 << 1
	fstMtim    = 1 << 2
	fstMtimNow = 1 << 3
)

const (
	direntSize   = 24
	fdstatSize   = 24
	filestatSize = 64
)

// Rights were taken out of WASI; like wazero we report those that fit the file's type, and enforce none.
const (
	rightFDDatasync        = 1 << 0
	rightFDRead            = 1 << 1
	rightFDSeek            = 1 << 2
	rightFDStatSetFlags    = 1 << 3
	rightFDSync            = 1 << 4
	rightFDTell            = 1 << 5
	rightFDWrite           = 1 << 6
	rightFDAdvise          = 1 << 7
	rightFDAllocate        = 1 << 8
	rightPathCreateDir     = 1 << 9
	rightPathCreateFile    = 1 << 10
	rightPathLinkSource    = 1 << 11
	rightPathLinkTarget    = 1 << 12
	rightPathOpen          = 1 << 13
	rightFDReaddir         = 1 << 14
	rightPathReadlink      = 1 << 15
	rightPathRenameSource  = 1 << 16
	rightPathRenameTarget  = 1 << 17
	rightPathFilestatGet   = 1 << 18
	rightPathFilestatSize  = 1 << 19
	rightPathFilestatTimes = 1 << 20
	rightFDFilestatGet     = 1 << 21
	rightFDFilestatSize    = 1 << 22
	rightFDFilestatTimes   = 1 << 23
	rightPathSymlink       = 1 << 24
	rightPathRemoveDir     = 1 << 25
	rightPathUnlinkFile    = 1 << 26
	rightPollFDReadwrite   = 1 << 27

	fileRights = rightFDDatasync | rightFDRead | rightFDSeek | rightFDStatSetFlags | rightFDSync | rightFDTell |
		rightFDWrite | rightFDAdvise | rightFDAllocate | rightFDFilestatGet | rightFDFilestatSize |
		rightFDFilestatTimes | rightPollFDReadwrite
	dirRights = rightFDDatasync | rightFDStatSetFlags | rightFDSync | rightPathCreateDir | rightPathCreateFile |
		rightPathLinkSource | rightPathLinkTarget | rightPathOpen | rightFDReaddir | rightPathReadlink |
		rightPathRenameSource | rightPathRenameTarget | rightPathFilestatGet | rightPathFilestatSize |
		rightPathFilestatTimes | rightFDFilestatGet | rightFDFilestatTimes | rightPathSymlink | rightPathRemoveDir |
		rightPathUnlinkFile
)

// Limits of this implementation.
const (
	// maxFDs bounds the descriptor table, so that neither fd_renumber nor a snapshot makes it large.
	maxFDs = 4096
	// maxMounts leaves descriptors for the standard streams, / and /durun.
	maxMounts = maxFDs - 5
	// maxPath is the longest path taken from a guest, in bytes: PATH_MAX of Linux.
	maxPath = 4096
	// maxStrings and maxStringBytes bound the arguments, and the environment.
	maxStrings     = 1 << 16
	maxStringBytes = 16 << 20
	// maxBatch is how many entries of one fd_readdir are captured, the last ones.
	maxBatch = 1 << 10
	// maxSubscriptions bounds one poll_oneoff.
	maxSubscriptions = 1 << 14
	// maxStdinRead is the most read from standard input ahead of a guest's call, in bytes.
	maxStdinRead = 64 << 10
	// pollStdinRead is how much is read when the guest only asks whether there is input, in bytes.
	pollStdinRead = 4 << 10
)
