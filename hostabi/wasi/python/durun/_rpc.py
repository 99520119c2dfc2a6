"""The files under /durun, as durun gives them to a program: requests and responses."""

from __future__ import annotations

import os
import sys
import traceback
from asyncio import CancelledError
from types import TracebackType

__all__ = ["Cancelled", "OperationError", "OperationTimeout", "ask", "escape"]

Cancelled = CancelledError

# Whether the coroutine has been told that it is to be cancelled.
_cancelled = False

try:
    _fd = os.open("/durun/rpc", os.O_RDWR)
except OSError as e:
    raise ImportError(
        "durun: there is no /durun/rpc. This module works in a program that durun runs, as in "
        "`durun run --env PYTHONPATH=/durun/lib/python python.wasm program.py`"
    ) from e

_CHUNK = 1 << 16


class OperationError(Exception):
    """An operation failed, or what was asked for can't be done.

    code says why, in a word of durun's ABI: "denied" (the run was given no handler of that name), "failed" (the handler says
    that it is of no use to try again, or a child failed), "exhausted" (all attempts failed), "timeout", "cancelled", "limit",
    "invalid", "unknown". message is for people; it may be empty.
    """

    __module__ = "durun"  # as programs and tracebacks name it

    def __init__(self, code: str, message: str = "", what: str = "") -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.what = what  # which operation it was, for people

    def __str__(self) -> str:
        return ": ".join(part for part in (self.what, self.code, self.message) if part)


class OperationTimeout(OperationError, TimeoutError):
    """An operation's own time was up: a handler's, say. It is a TimeoutError too."""

    __module__ = "durun"


def ask(line: str, body: bytes = b"") -> bytes:
    """Make a request and return what it is answered. Raises OperationError; of requests to wait also Cancelled."""
    request = line.encode() + b"\n" + body
    while request:
        request = request[os.write(_fd, request) :]
    parts = []
    while True:
        part = os.read(_fd, _CHUNK)
        parts.append(part)
        if len(part) < _CHUNK:
            break
    head, _, payload = b"".join(parts).partition(b"\n")
    if head == b"ok":
        return payload
    _, _, code = head.decode().split(" ")
    message = payload.decode()
    if code == "timeout":
        raise OperationTimeout(code, message)
    if code == "cancelled" and line.startswith("wait "):
        global _cancelled
        _cancelled = True
        raise Cancelled("the coroutine is to be cancelled")
    raise OperationError(code, message)


def escape(text: str) -> str:
    """Return text as a word of a request's line, percent-encoded."""
    if text.isascii() and text.replace("_", "").replace("-", "").replace(".", "").isalnum():
        return text
    return "".join(f"%{byte:02X}" for byte in text.encode())


_excepthook = sys.excepthook

# How many characters of why it ends with an exception a child tells at most; durun keeps no more.
_REPORT = 1 << 14


def _end(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    """Print what the program ends with, unless it does what it was told: to be cancelled is no error of its.

    A child puts out what it is, too, without where: so its parent is told.
    """
    if _cancelled and isinstance(error, Cancelled):
        return
    _excepthook(kind, error, where)
    if os.environ.get("DURUN_PARENT"):
        why = "".join(traceback.format_exception_only(kind, error)).strip()
        ask("output", why[:_REPORT].encode(errors="backslashreplace"))


sys.excepthook = _end
