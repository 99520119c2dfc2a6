"""The event loop: asyncio's own, but that it waits by durun's operations."""

from __future__ import annotations

import asyncio
import importlib
import sys
import warnings
from collections.abc import Callable, Coroutine, Generator
from typing import Any, NoReturn

from . import _operations
from ._operations import Join, Operation, _request, output, sleep
from ._rpc import Cancelled

# How many rounds without a wait the loop goes before it asks whether operations have ended.
_ROUNDS = 64


def _lacks(what: str, instead: str) -> Callable[..., NoReturn]:
    def method(self: EventLoop, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises NotImplementedError."""
        raise NotImplementedError(f"there are no {what} in a WebAssembly program: {instead}")

    return method


class EventLoop(asyncio.BaseEventLoop):
    """An asyncio event loop in which operations can be awaited.

    When nothing is left to do it makes one request to wait, for all operations and the next timer, at which the coroutine can be
    captured. There are no sockets, subprocesses, signals and threads in it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._selector = self  # what BaseEventLoop asks for events
        self._waiting: dict[Join, asyncio.Future[None]] = {}
        self._main: asyncio.Future[Any] | None = None
        self._rounds = 0
        self._ends = 0

    def select(self, timeout: float | None) -> list[Any]:
        """Wait for the first operation, at most that long. BaseEventLoop calls it once a round, with 0 if there is work."""
        if self._wake():
            return []
        if timeout is not None and timeout <= 0:
            self._rounds += 1
            if self._rounds < _ROUNDS or not self._waiting:
                return []
            timeout = 0
        self._rounds = 0
        joins: list[Join] = list(self._waiting)
        if not joins:
            if timeout is None:
                raise RuntimeError("deadlock: each task waits for another, and there is no operation that could end")
            joins = [Join([sleep(timeout)], 1)]
            timeout = None
        try:
            _request(joins, timeout)
        except Cancelled:
            if self._main is None or self._main.done():
                raise
            self._main.cancel("the coroutine is to be cancelled")
        self._wake()
        return []

    def _wake(self) -> bool:
        """Have those go on whose waits are over, if any operation has ended since the last time."""
        if self._ends == _operations._ends:
            return False
        self._ends = _operations._ends
        woken = False
        for join, future in self._waiting.items():
            if not future.done() and not join._left():
                future.set_result(None)
                woken = True
        return woken

    def _process_events(self, events: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass  # there is one thread

    def _wait_for(self, join: Join) -> Generator[Any, None, None]:
        future = self.create_future()
        self._waiting[join] = future
        timer = None
        if join._limit is not None:
            timer = self.call_later(join._limit, lambda: future.done() or future.set_result(None))
        try:
            yield from future
        except asyncio.CancelledError:
            if join._limit is None:
                for op in join._pending().values():
                    op.cancel()
            raise
        finally:
            del self._waiting[join]
            if timer is not None:
                timer.cancel()

    def create_task(self, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
        """As asyncio's, but it takes an operation, too."""
        if isinstance(coro, (Operation, Join)):
            coro = _result_of(coro)
        return super().create_task(coro, **kwargs)

    def run_until_complete(self, future: Any) -> Any:
        """Run until it is done. If the coroutine is to be cancelled, this is what is.

        In a child that was spawned for a function, it calls that instead and exits; see spawn.
        """
        if assignment := _assigned():
            if asyncio.iscoroutine(future):
                future.close()
            _carry_out(assignment, self.get_debug())
        future = asyncio.ensure_future(future, loop=self)
        before, self._main = self._main, future
        try:
            return super().run_until_complete(future)
        finally:
            self._main = before

    run_in_executor = _lacks("threads", "call the function, or durun.spawn it")
    create_connection = create_server = create_datagram_endpoint = getaddrinfo = _lacks("sockets", "durun.call a handler that has them")
    subprocess_exec = subprocess_shell = _lacks("processes", "durun.call a handler that starts them")
    add_signal_handler = _lacks("signals", "`durun cancel` raises durun.Cancelled")
    add_reader = add_writer = connect_read_pipe = connect_write_pipe = _lacks("pipes", "what is read or written waits, and all tasks with it")


async def _result_of(awaitable: Any) -> Any:
    return await awaitable


def run(main: Coroutine[Any, Any, Any], *, debug: bool | None = None) -> Any:
    """Run a coroutine of Python's in an EventLoop, and return its result. It is asyncio.run, whatever loop that has.

    In a child that was spawned for a function, it calls that instead and exits; see spawn.
    """
    with asyncio.Runner(debug=debug, loop_factory=EventLoop) as runner:
        return runner.run(main)


def main() -> None:
    """In a child that was spawned for a function: call that, and exit. In other programs it does nothing."""
    if assignment := _assigned():
        _carry_out(assignment, None)


def _assigned() -> _operations._Assignment | None:
    """The function that this child was spawned for, as long as it was not called."""
    assignment = _operations._assignment
    return None if assignment is None or assignment.begun else assignment


def _carry_out(assignment: _operations._Assignment, debug: bool | None) -> NoReturn:
    assignment.begun = True
    module = importlib.import_module(assignment.module)
    result = getattr(module, assignment.function)(*assignment.args, **assignment.kwargs)
    if asyncio.iscoroutine(result):
        result = run(result, debug=debug)
    output(result)
    sys.exit()


class EventLoopPolicy(asyncio.DefaultEventLoopPolicy):
    """Has asyncio.run, and whatever else asks for a loop, make an EventLoop. It is set when durun is imported."""

    _loop_factory = EventLoop


def _install() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of 3.14, which has no other way yet
        asyncio.set_event_loop_policy(EventLoopPolicy())
