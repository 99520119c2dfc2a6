package wasi

import (
	"context"

	"github.com/tetratelabs/wazero/api"

	"github.com/durun/durun/hostabi"
)

const (
	i32 = api.ValueTypeI32
	i64 = api.ValueTypeI64
)

// handler is a function that doesn't suspend. p are its arguments.
type handler func(i *Instance, g *hostabi.Guest, p []uint64) errno

// awaiter is a function that may suspend; see [hostabi.Function].
type awaiter func(i *Instance, g *hostabi.Guest, args []uint64, p *hostabi.Pending) (errno, *hostabi.Pending)

// called notes that the guest runs, and has called.
func (i *Instance) called(g *hostabi.Guest) {
	i.clock.anchored = false
	i.coroutine = g.Coroutine
}

// call wraps a handler; the errno is its only result.
func call(name string, f handler, params ...api.ValueType) hostabi.Function {
	return hostabi.Function{
		Name: name, Params: params, Results: []api.ValueType{i32},
		Call: func(_ context.Context, g *hostabi.Guest, inst hostabi.Instance, stack []uint64) {
			i := inst.(*Instance)
			i.called(g)
			stack[0] = uint64(f(i, g, stack))
		},
	}
}

// await wraps an awaiter.
func await(name string, f awaiter, params ...api.ValueType) hostabi.Function {
	return hostabi.Function{
		Name: name, Params: params, Results: []api.ValueType{i32},
		Await: func(_ context.Context, g *hostabi.Guest, inst hostabi.Instance, stack []uint64, p *hostabi.Pending) *hostabi.Pending {
			i := inst.(*Instance)
			i.called(g)
			e, p := f(i, g, stack, p)
			if p == nil {
				stack[0] = uint64(e)
			}
			return p
		},
	}
}

// Module describes wasi_snapshot_preview1: all of its functions, in the order of the specification.
var Module = &hostabi.Module{Name: ModuleName, Functions: []hostabi.Function{
	call("args_get", argsGet, i32, i32),
	call("args_sizes_get", argsSizesGet, i32, i32),
	call("environ_get", environGet, i32, i32),
	call("environ_sizes_get", environSizesGet, i32, i32),
	call("clock_res_get", clockResGet, i32, i32),
	call("clock_time_get", clockTimeGet, i32, i64, i32),
	call("fd_advise", fdAdvise, i32, i64, i64, i32),
	call("fd_allocate", fdAllocate, i32, i64, i64),
	call("fd_close", fdClose, i32),
	call("fd_datasync", fdSync, i32),
	call("fd_fdstat_get", fdFdstatGet, i32, i32),
	call("fd_fdstat_set_flags", fdFdstatSetFlags, i32, i32),
	call("fd_fdstat_set_rights", fdFdstatSetRights, i32, i64, i64),
	call("fd_filestat_get", fdFilestatGet, i32, i32),
	call("fd_filestat_set_size", fdFilestatSetSize, i32, i64),
	call("fd_filestat_set_times", fdFilestatSetTimes, i32, i64, i64, i32),
	call("fd_pread", fdPread, i32, i32, i32, i64, i32),
	call("fd_prestat_get", fdPrestatGet, i32, i32),
	call("fd_prestat_dir_name", fdPrestatDirName, i32, i32, i32),
	call("fd_pwrite", fdPwrite, i32, i32, i32, i64, i32),
	await("fd_read", fdRead, i32, i32, i32, i32),
	call("fd_readdir", fdReaddir, i32, i32, i32, i64, i32),
	call("fd_renumber", fdRenumber, i32, i32),
	call("fd_seek", fdSeek, i32, i64, i32, i32),
	call("fd_sync", fdSync, i32),
	call("fd_tell", fdTell, i32, i32),
	call("fd_write", fdWrite, i32, i32, i32, i32),
	call("path_create_directory", pathCreateDirectory, i32, i32, i32),
	call("path_filestat_get", pathFilestatGet, i32, i32, i32, i32, i32),
	call("path_filestat_set_times", pathFilestatSetTimes, i32, i32, i32, i32, i64, i64, i32),
	call("path_link", pathLink, i32, i32, i32, i32, i32, i32, i32),
	call("path_open", pathOpen, i32, i32, i32, i32, i32, i64, i64, i32, i32),
	call("path_readlink", pathReadlink, i32, i32, i32, i32, i32, i32),
	call("path_remove_directory", pathRemoveDirectory, i32, i32, i32),
	call("path_rename", pathRename, i32, i32, i32, i32, i32, i32),
	call("path_symlink", pathSymlink, i32, i32, i32, i32, i32),
	call("path_unlink_file", pathUnlinkFile, i32, i32, i32),
	await("poll_oneoff", pollOneoff, i32, i32, i32, i32),
	{Name: "proc_exit", Params: []api.ValueType{i32}, Call: procExit},
	call("proc_raise", procRaise, i32),
	await("sched_yield", schedYield),
	call("random_get", randomGet, i32, i32),
	call("sock_accept", sockNone, i32, i32, i32),
	call("sock_recv", sockNone, i32, i32, i32, i32, i32, i32),
	call("sock_send", sockNone, i32, i32, i32, i32, i32),
	call("sock_shutdown", sockNone, i32, i32),
}}
