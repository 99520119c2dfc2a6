package wasi

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/tetratelabs/wazero/experimental/sys"
)

// errno is an error number of WASI preview 1, as the guest gets it.
type errno uint16

// The numbers that are used here, from WASI's witx definition.
const (
	success      errno = 0
	eAcces       errno = 2
	eAgain       errno = 6
	eBadf        errno = 8
	eBusy        errno = 10
	eDquot       errno = 19
	eExist       errno = 20
	eFault       errno = 21
	eFbig        errno = 22
	eIlseq       errno = 25
	eIntr        errno = 27
	eInval       errno = 28
	eIO          errno = 29
	eIsdir       errno = 31
	eLoop        errno = 32
	eMfile       errno = 33
	eMlink       errno = 34
	eNametoolong errno = 37
	eNfile       errno = 41
	eNodev       errno = 43
	eNoent       errno = 44
	eNomem       errno = 48
	eNospc       errno = 51
	eNosys       errno = 52
	eNotdir      errno = 54
	eNotempty    errno = 55
	eNotsock     errno = 57
	eNotsup      errno = 58
	eNxio        errno = 60
	eOverflow    errno = 61
	ePerm        errno = 63
	ePipe        errno = 64
	eRange       errno = 68
	eRofs        errno = 69
	eSpipe       errno = 70
	eTxtbsy      errno = 74
	eXdev        errno = 75
)

// fromSys translates wazero's errno, a subset of WASI's.
func fromSys(e sys.Errno) errno {
	switch e {
	case 0:
		return success
	case sys.EACCES:
		return eAcces
	case sys.EAGAIN:
		return eAgain
	case sys.EBADF:
		return eBadf
	case sys.EEXIST:
		return eExist
	case sys.EFAULT:
		return eFault
	case sys.EINTR:
		return eIntr
	case sys.EINVAL:
		return eInval
	case sys.EIO:
		return eIO
	case sys.EISDIR:
		return eIsdir
	case sys.ELOOP:
		return eLoop
	case sys.ENAMETOOLONG:
		return eNametoolong
	case sys.ENOENT:
		return eNoent
	case sys.ENOSYS:
		return eNosys
	case sys.ENOTDIR:
		return eNotdir
	case sys.ERANGE:
		return eRange
	case sys.ENOTEMPTY:
		return eNotempty
	case sys.ENOTSOCK:
		return eNotsock
	case sys.ENOTSUP:
		return eNotsup
	case sys.EPERM:
		return ePerm
	case sys.EROFS:
		return eRofs
	}
	return eIO
}

// hostErrno translates an error of package os.
func hostErrno(err error) errno {
	if err == nil {
		return success
	}
	var code syscall.Errno
	if errors.As(err, &code) {
		switch code {
		case syscall.EBUSY:
			return eBusy
		case syscall.EDQUOT:
			return eDquot
		case syscall.EFBIG:
			return eFbig
		case syscall.EMFILE:
			return eMfile
		case syscall.EMLINK:
			return eMlink
		case syscall.ENFILE:
			return eNfile
		case syscall.ENODEV:
			return eNodev
		case syscall.ENOMEM:
			return eNomem
		case syscall.ENOSPC:
			return eNospc
		case syscall.ENXIO:
			return eNxio
		case syscall.EOVERFLOW:
			return eOverflow
		case syscall.EPIPE:
			return ePipe
		case syscall.ESPIPE:
			return eSpipe
		case syscall.ETXTBSY:
			return eTxtbsy
		case syscall.EXDEV:
			return eXdev
		}
		return fromSys(sys.UnwrapOSError(code))
	}
	var (
		pathErr *os.PathError
		linkErr *os.LinkError
	)
	switch {
	case errors.As(err, &pathErr):
		err = pathErr.Err
	case errors.As(err, &linkErr):
		err = linkErr.Err
	}
	// os.Root's error for a path that leads out of it is not exported. TestEscape fails if its text changes.
	if err.Error() == "path escapes from parent" {
		return ePerm
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return eNoent
	case errors.Is(err, fs.ErrExist):
		return eExist
	case errors.Is(err, fs.ErrPermission):
		return ePerm
	case errors.Is(err, fs.ErrInvalid):
		return eInval
	case errors.Is(err, fs.ErrClosed):
		return eBadf
	}
	return fromSys(sys.UnwrapOSError(err))
}
