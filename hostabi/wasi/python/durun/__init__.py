"""Durable programs in Python.

What a program waits for is an operation: a call of a handler outside, a timer, a message, a child. It is begun by call, sleep,
recv or spawn, and waited for with await in async code, with result() in plain code:

    import durun

    async def notify_users(opid, emails):
        results = await durun.gather(*(durun.call("send_email", to=e) for e in emails))
        await durun.call("store_results", opid=opid, results=results)

    durun.run(notify_users("op-1", ["ada@example.org"]))

Wherever it waits, durun has all of the program in its store, and goes on from there if the machine dies. asyncio works as ever,
in an event loop of durun's, which it has as soon as durun is imported: tasks, gather, sleep, wait_for, timeout, queues. So does
time.sleep.
"""

from ._loop import EventLoop, EventLoopPolicy, _install, main, run
from ._operations import (
    Join,
    Operation,
    call,
    call_bytes,
    checkpoint,
    gather,
    id,
    input,
    input_bytes,
    output,
    output_bytes,
    parent,
    race,
    recv,
    recv_bytes,
    sleep,
    some,
    spawn,
    spawn_bytes,
    wait,
    yield_,
    yield_bytes,
)
from ._operations import any_ as any
from ._rpc import Cancelled, OperationError, OperationTimeout

__all__ = [
    "Cancelled",
    "EventLoop",
    "EventLoopPolicy",
    "Join",
    "Operation",
    "OperationError",
    "OperationTimeout",
    "any",
    "call",
    "call_bytes",
    "checkpoint",
    "gather",
    "id",
    "input",
    "input_bytes",
    "main",
    "output",
    "output_bytes",
    "parent",
    "race",
    "recv",
    "recv_bytes",
    "run",
    "sleep",
    "some",
    "spawn",
    "spawn_bytes",
    "wait",
    "yield_",
    "yield_bytes",
]

_install()
