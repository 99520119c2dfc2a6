"""Operations: what a program begins, and waits for."""

from __future__ import annotations

import asyncio
import json
import math
import os
import sys
from collections.abc import Awaitable, Callable, Generator, Iterable
from typing import Any

from ._rpc import Cancelled, OperationError, ask, escape

# What operations that nobody refers to any more leave to do: numbers to drop, and numbers to drop once they have ended.
# Operation.__del__ may run in the middle of a request, so it only takes notes here.
_unused: list[int] = []
_unattended: list[int] = []
_MANY = 256

# How many operations have been seen to end: so that the event loop notices those that it has not waited for itself.
_ends = 0


def _encode(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _decode(data: bytes) -> Any:
    return json.loads(data) if data else None


def _nanoseconds(seconds: float) -> int:
    if math.isnan(seconds):
        raise ValueError("a time that is not a number")
    return min(max(math.ceil(seconds * 1e9), 0), (1 << 63) - 1) if seconds < 1e10 else (1 << 63) - 1


class Operation:
    """Something that was begun and goes on outside of the program: a call, a timer, a child, or the wait for a message.

    It begins when the object is made, and durun starts it at the program's next wait. In async code await it, in plain code
    ask for result(). It goes on, and its result is kept, wherever the program is taken in between.

    An operation that nobody refers to any more is forgotten: a timer or a wait for a message at once, a call or a child, which
    may be wanted for what it does, when it has ended. What nobody waits for may not happen before the program ends.
    """

    __slots__ = ("__weakref__", "_cancelled", "_convert", "_data", "_ended", "_error", "kind", "name", "number")

    def __init__(self, kind: str, name: str, line: str, body: bytes, convert: Callable[[bytes], Any]) -> None:
        self.number = 0
        self._ended = False
        self._cancelled = False
        self._data = b""
        self._error: BaseException | None = None
        self._convert = convert
        self.kind = kind
        self.name = name
        _tidy()
        try:
            self.number = int(ask(line, body))
        except OperationError as e:
            e.what = self._describe()
            raise

    def __repr__(self) -> str:
        state = "pending" if not self._ended else "failed" if self._error else "ended"
        return f"<durun.Operation {self.number} {self._describe()}, {state}>"

    def _describe(self) -> str:
        return f"{self.kind} {self.name}".strip()

    def __del__(self) -> None:
        if self._ended or not self.number:
            return
        if self.kind in ("call", "spawn") and not self._cancelled:
            _unattended.append(self.number)
        else:
            _unused.append(self.number)

    def done(self) -> bool:
        """Whether it has ended, well or not. It doesn't wait."""
        if not self._ended:
            self._settle()
        return self._ended

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the end, and return the result or raise why there is none.

        With a timeout, in seconds, a TimeoutError says that it has not ended in that time. It goes on then, and can be asked
        again. In async code everything else stands still meanwhile: await it there.
        """
        self._wait(timeout)
        return self._get()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the end, as result does, and return why there is no result; None if it ended well."""
        self._wait(timeout)
        return self._error

    def _wait(self, timeout: float | None) -> None:
        if not self._ended:
            _request([Join([self], 1)], timeout)
            if not self._ended:
                raise TimeoutError(f"{self._describe()} has not ended after {timeout} s")

    def cancel(self) -> bool:
        """Give it up, if it has not ended: then result raises Cancelled. A child is asked to end, and ends in its own time."""
        if self.done():
            return False
        self._cancelled = True
        ask(f"cancel {self.number}")
        self._settle()
        return True

    def __await__(self) -> Generator[Any, None, Any]:
        if not self._ended:
            yield from _await(Join([self], 1))
        return self._get()

    def _settle(self) -> None:
        """Take over how it ended, if it has."""
        global _ends
        try:
            self._data = ask(f"result {self.number}")
        except OperationError as e:
            if e.code == "pending":
                return
            e.what = self._describe()
            self._error = e
            if e.code == "cancelled" and self._cancelled:
                self._error = Cancelled(f"{self._describe()} was cancelled")
        self._ended = True
        _ends += 1
        if not (isinstance(self._error, OperationError) and self._error.code == "unknown"):  # others drop what isn't theirs
            ask(f"drop {self.number}")

    def _get(self) -> Any:
        if self._error is not None:
            raise self._error
        try:
            return self._convert(self._data)
        except ValueError as e:
            raise ValueError(f"{self._describe()}: the result is not JSON; durun.{self.kind}_bytes takes any bytes: {self._data[:100]!r}") from e


def _tidy() -> None:
    """Do what is to be done for operations that nobody refers to any more."""
    while _unused:
        ask(f"drop {_unused.pop()}")
    if len(_unattended) < _MANY:
        return
    going_on = []
    while _unattended:
        number = _unattended.pop()
        try:
            ask(f"result {number}")
        except OperationError as e:
            if e.code == "pending":
                going_on.append(number)
                continue
        ask(f"drop {number}")
    _unattended.extend(going_on)


class Join:
    """Several operations that are waited for together: await it in async code, ask for result() in plain code."""

    def __init__(
        self,
        operations: Iterable[Operation],
        need: int,
        success: bool = False,
        make: Callable[[Join], Any] = lambda join: None,
        limit: float | None = None,
    ) -> None:
        self.operations = list(operations)
        for op in self.operations:
            if not isinstance(op, Operation):
                raise TypeError(f"{op!r} is no durun.Operation")
        # As a host counts: each once, however often it is named.
        self._distinct = {op.number: op for op in self.operations}
        self._need = min(need, len(self._distinct))
        self._success = success
        self._make = make
        self._limit = limit  # seconds after which the wait is over in any case, and there is a result

    def _pending(self) -> dict[int, Operation]:
        return {number: op for number, op in self._distinct.items() if not op._ended}

    def _left(self) -> int:
        """How many have still to end, or to end well; none if the wait is over."""
        ended = [op for op in self._distinct.values() if op._ended]
        failed = sum(op._error is not None for op in ended) if self._success else 0
        if self._success and len(self._distinct) - failed < self._need:
            return 0
        return max(0, self._need - len(ended) + failed)

    def result(self, timeout: float | None = None) -> Any:
        """Wait, at most for a time in seconds, then TimeoutError says that it is up; the operations go on."""
        if self._left():
            _request([self], timeout if self._limit is None else self._limit if timeout is None else min(timeout, self._limit))
            if self._left() and self._limit is None:
                raise TimeoutError(f"{len(self._pending())} of {len(self._distinct)} operations have not ended after {timeout} s")
        return self._make(self)

    def __await__(self) -> Generator[Any, None, Any]:
        if self._left():
            yield from _await(self)
        return self._make(self)


def _request(joins: Iterable[Join], timeout: float | None) -> None:
    """Wait for the join to be over, or, of several, for any of their operations to end; take over what has ended."""
    joins = list(joins)
    pending: dict[int, Operation] = {}
    for join in joins:
        pending.update(join._pending())
    need, flag = 1, ""
    if len(joins) == 1:
        need, flag = joins[0]._left(), "+" if joins[0]._success else ""
    line = f"wait {flag}{need} {'-' if timeout is None else _nanoseconds(timeout)}"
    _tidy()
    for word in ask(" ".join([line, *map(str, pending)])).split():
        pending[int(word)]._settle()


def _await(join: Join) -> Generator[Any, None, None]:
    from ._loop import EventLoop

    loop = asyncio.get_running_loop()
    if not isinstance(loop, EventLoop):
        raise RuntimeError("operations can be awaited in durun's event loop only: use durun.run, or asyncio.run")
    yield from loop._wait_for(join)


def call(name: str, /, **kwargs: Any) -> Operation:
    """Call the handler of that name, outside. The keyword arguments are its JSON object; its result is JSON, too."""
    return Operation("call", name, f"begin call {escape(name)}", _encode(kwargs), _decode)


def call_bytes(name: str, body: bytes = b"") -> Operation:
    """Call the handler of that name with bytes; its result is bytes."""
    return Operation("call", name, f"begin call {escape(name)}", bytes(body), bytes)


def sleep(seconds: float) -> Operation:
    """A timer, which ends after that many seconds on the wall clock. Its result is None."""
    return Operation("timer", "", f"begin timer {_nanoseconds(seconds)}", b"", lambda data: None)


def recv(name: str) -> Operation:
    """The next message of that name that has not been received yet. Its result is the message, from JSON."""
    return Operation("recv", name, f"begin recv {escape(name)}", b"", _decode)


def recv_bytes(name: str) -> Operation:
    """As recv, but the result is the message's bytes."""
    return Operation("recv", name, f"begin recv {escape(name)}", b"", bytes)


def spawn(target: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Operation:
    """Start a child: a coroutine of its own, with snapshots of its own. Its result is what it puts out, from JSON.

    target is a function, sync or async, at the top level of a module: the child runs this program again, with the same
    arguments, and where that calls durun.run, asyncio.run or durun.main, it calls the function with args and kwargs, which travel
    as JSON, and puts out what it returns. So what stands before runs in the child, too: mind `if __name__ == "__main__"`, under which
    it does, and use durun.main() at the end of definitions to keep the rest from it.

    target may be a name of durun's instead: an export of this module, or "module:NAME" or "module:NAME/EXPORT" for a module
    that the run was given. args are then the program's arguments, strings, and input= its input: bytes, or else JSON.
    """
    if isinstance(target, str):
        value = kwargs.pop("input", None)
        if kwargs:
            raise TypeError(f"spawn of {target!r} has no argument {next(iter(kwargs))!r}")
        body = value if isinstance(value, bytes) else b"" if value is None else _encode(value)
        return _spawn_program(target, args, body, _decode)
    if _assignment is not None and not _assignment.begun:
        raise RuntimeError(
            "a child may not spawn before it has come to its own work, in durun.run, asyncio.run or durun.main: "
            "have the program call durun.main() before it spawns"
        )
    where, name = getattr(target, "__module__", None), getattr(target, "__qualname__", None)
    if not where or not name or "." in name or getattr(sys.modules.get(where), name, None) is not target:
        raise TypeError(f"a child can't find {target!r}: it has to be a function at the top level of a module")
    body = _encode({"function": name, "module": where, "args": args, "kwargs": kwargs})
    return Operation("spawn", name, "begin spawn", body, _decode)


def spawn_bytes(target: str, /, *args: str, input: bytes = b"") -> Operation:
    """As spawn of a name, but input and result are bytes."""
    return _spawn_program(target, args, bytes(input), bytes)


def _spawn_program(target: str, args: tuple[str, ...], body: bytes, convert: Callable[[bytes], Any]) -> Operation:
    return Operation("spawn", target, " ".join(["begin spawn", *map(escape, (target, *args))]), body, convert)


class _Assignment:
    """What a spawned child has to do."""

    def __init__(self, function: str, module: str, args: list[Any], kwargs: dict[str, Any]) -> None:
        self.function = function
        self.module = module
        self.args = args
        self.kwargs = kwargs
        self.begun = False


def _read_assignment() -> _Assignment | None:
    if not os.environ.get("DURUN_PARENT"):
        return None
    try:
        value = json.loads(input_bytes() or b"null")
    except ValueError:
        return None
    if isinstance(value, dict) and value.keys() == {"function", "module", "args", "kwargs"}:
        return _Assignment(**value)
    return None


def gather(*operations: Operation | Awaitable[Any], return_exceptions: bool = False) -> Join | asyncio.Future[list[Any]]:
    """The results of all, in order. The first failure is raised at once, and the others go on; with return_exceptions failures
    are among the results.

    In async code it takes any awaitables, as asyncio.gather does.
    """
    own = [op for op in operations if isinstance(op, Operation)]
    if len(own) < len(operations):
        if asyncio._get_running_loop() is None:
            raise RuntimeError("in plain code gather takes operations only: others are awaited in async code, see durun.run")
        return asyncio.gather(*operations, return_exceptions=return_exceptions)

    def make(join: Join) -> list[Any]:
        if return_exceptions:
            return [op._error if op._error is not None else op._get() for op in join.operations]
        for op in join.operations:
            if op._error is not None:
                raise op._error
        return [op._get() for op in join.operations]

    return Join(own, len(own), not return_exceptions, make)


def any_(*operations: Operation) -> Join:
    """The result of the first that ends well. If all fail, an ExceptionGroup of why, in order."""

    def make(join: Join) -> Any:
        for op in join.operations:
            if op._ended and op._error is None:
                return op._get()
        raise BaseExceptionGroup("no operation ended well", [op._error for op in join.operations if op._error])

    return Join(_several(operations), 1, True, make)


def race(*operations: Operation) -> Join:
    """The result, or the failure, of the first that ends."""
    return Join(_several(operations), 1, False, lambda join: next(op for op in join.operations if op._ended)._get())


def some(count: int, *operations: Operation) -> Join:
    """Those operations that have ended, once count of them have, or all if there are fewer."""
    return Join(operations, count, False, lambda join: [op for op in join.operations if op._ended])


def wait(*operations: Operation, timeout: float | None = None) -> Join:
    """The operations that have ended, and those that have not, once all have ended or the time, in seconds, is up."""

    def make(join: Join) -> tuple[list[Operation], list[Operation]]:
        return [op for op in operations if op._ended], [op for op in operations if not op._ended]

    return Join(operations, len(operations), False, make, timeout)


def _several(operations: tuple[Operation, ...]) -> tuple[Operation, ...]:
    if not operations:
        raise ValueError("of no operations none will ever end")
    return operations


def yield_(value: Any = None) -> Any:
    """Hand a value to whoever drives the coroutine, and return what comes back, None if that is nothing. Both are JSON."""
    return _decode(yield_bytes(_encode(value)))


def yield_bytes(value: bytes = b"") -> bytes:
    """As yield_, with bytes."""
    return ask("yield", bytes(value))


def input() -> Any:
    """The coroutine's current value, from JSON: its input, and after a yield what that received. None if it is empty."""
    return _decode(input_bytes())


def input_bytes() -> bytes:
    """As input, with bytes."""
    return ask("input")


def output(value: Any) -> None:
    """Set the coroutine's result, as JSON. The last call counts."""
    output_bytes(_encode(value))


def output_bytes(value: bytes) -> None:
    """As output, with bytes."""
    ask("output", bytes(value))


def checkpoint() -> None:
    """Have the coroutine captured here. When it returns, all that came before is durable."""
    ask("checkpoint")


def id() -> str:
    """The coroutine's id, to which others send messages."""
    return ask("id").decode()


def parent() -> str | None:
    """The id of the coroutine that spawned this one, if one did."""
    return os.environ.get("DURUN_PARENT") or None


_assignment = _read_assignment()
