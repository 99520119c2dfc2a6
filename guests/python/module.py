"""All that the module durun does, in a program that says what went wrong. Handlers: echo, which answers with its argument; fail;
hang, which never answers; stop, which has the coroutine cancelled. Messages: two "word", one "raw", which is not JSON.
"""

import asyncio
import gc
import sys
import time
from importlib.util import spec_from_loader

import durun

failures = 0


def want(got, expected, what):
    global failures
    if got != expected:
        failures += 1
        print(f"{what}: {got!r}, want {expected!r}", file=sys.stderr)


def raised(kind, f, *args, **kwargs):
    """The exception of that kind that f raises."""
    try:
        got = f(*args, **kwargs)
    except kind as e:
        return e
    raise AssertionError(f"{f} returned {got!r}, want {kind.__name__}")


def plain():
    want(durun.id(), "sdk", "id")
    want(durun.parent(), None, "parent")
    want(durun.input(), {"ä": [1, 2.5, None]}, "input")
    want(durun.call("echo", a=1, b="ü\n").result(), {"a": 1, "b": "ü\n"}, "call")
    want(durun.call("echo").result(), {}, "call without arguments")
    want(durun.call("echo", name="x", self=2).result(), {"name": "x", "self": 2}, "call with any names")
    want(durun.call_bytes("echo", b"\x00\xff").result(), b"\x00\xff", "bytes")
    want(durun.call_bytes("echo", b"x" * (1 << 20)).result(), b"x" * (1 << 20), "many bytes")
    want(durun.call_bytes("echo", b"x" * ((1 << 16) - 3)).result(), b"x" * ((1 << 16) - 3), "as many as are read at once")
    op = durun.call("echo", a=1)
    want(repr(op).endswith("call echo, pending>"), True, "repr")
    want(op.done(), False, "done")
    want((op.result(), op.result(5), op.done(), op.exception()), ({"a": 1}, {"a": 1}, True, None), "result, again")
    want(op.cancel(), False, "cancel what has ended")

    e = raised(durun.OperationError, durun.call("fail", why="me").result)
    want((e.code, e.message, str(e)), ("failed", '{"why":"me"}', 'call fail: failed: {"why":"me"}'), "failure")
    e = raised(durun.OperationError, durun.call("no such handler").result)
    want(e.code, "denied", "denied")
    e = raised(durun.OperationError, durun.call, "")
    want((e.code, str(e)), ("invalid", "call: invalid: a call without a name"), "no name")
    raised(ValueError, durun.call, "echo", x=float("nan"))
    raised(ValueError, durun.sleep, float("nan"))
    raised(TypeError, durun.call, "echo", x=object())

    op = durun.call("echo")
    durun._rpc.ask(f"drop {op.number}")
    want((op.done(), op.exception().code), (True, "unknown"), "dropped by somebody else")

    start = time.time()
    want(durun.sleep(0.05).result(), None, "sleep")
    want(0.05 <= time.time() - start < 30, True, "time slept")
    durun.sleep(-1).result()
    hang = durun.call("hang")
    raised(TimeoutError, hang.result, 0.02)
    raised(TimeoutError, hang.result, 0)
    want((hang.cancel(), hang.done(), "failed" in repr(hang)), (True, True, True), "cancel")
    raised(durun.Cancelled, hang.result)
    want(isinstance(hang.exception(), asyncio.CancelledError), True, "exception of what was cancelled")
    want(issubclass(durun.OperationTimeout, TimeoutError) and issubclass(durun.OperationTimeout, durun.OperationError), True, "types")

    want([durun.recv("word").result(), durun.recv("word").result()], ["one", {"two": 2}], "messages")
    want(durun.recv_bytes("raw").result(), b"not JSON", "bytes of a message")
    durun.output_bytes(b"not JSON")
    want(durun.yield_({"n": 1}), {"n": 1}, "yield")
    want(durun.yield_bytes(b"raw"), b"raw", "yield of bytes")
    want(durun.input_bytes(), b"raw", "the current value")
    durun.checkpoint()


def joins():
    echo = [durun.call("echo", n=n) for n in range(3)]
    want(durun.gather(*echo).result(), [{"n": 0}, {"n": 1}, {"n": 2}], "gather")
    want(durun.gather(echo[0], echo[0]).result(0), [{"n": 0}, {"n": 0}], "gather of one twice")
    want(durun.gather().result(), [], "gather of none")
    hang, fail = durun.call("hang"), durun.call("fail")
    raised(durun.OperationError, durun.gather(hang, fail).result)
    fine = durun.call("echo")
    got = durun.gather(fail, fine, return_exceptions=True).result()
    want((type(got[0]), got[1]), (durun.OperationError, {}), "gather with exceptions")
    raised(TimeoutError, durun.gather(hang, fine).result, 0.02)
    want(durun.any(hang, fail, durun.call("echo", n=1)).result(), {"n": 1}, "any")
    e = raised(ExceptionGroup, durun.any(fail, durun.call("no such handler")).result)
    want([x.code for x in e.exceptions], ["failed", "denied"], "any of failures")
    want(durun.race(hang, durun.sleep(0)).result(), None, "race")
    raised(durun.OperationError, durun.race(hang, fail).result)
    soon, later = durun.sleep(0.01), durun.sleep(0.02)
    want(durun.some(2, hang, soon, later).result(), [soon, later], "some")
    want(durun.some(9, soon, later).result(), [soon, later], "some of fewer")
    done, pending = durun.wait(soon, hang, timeout=0.02).result()
    want((done, pending), ([soon], [hang]), "wait")
    want(durun.wait(soon, later).result(), ([soon, later], []), "wait for all")
    raised(ValueError, durun.any)
    raised(TypeError, durun.race, 1)
    coroutine = asyncio.sleep(0)
    want("in plain code" in str(raised(RuntimeError, durun.gather, coroutine)), True, "gather of a coroutine in plain code")
    coroutine.close()


def site():
    """Another sitecustomize than durun's is run, too."""

    class Hidden:
        def find_spec(self, name, path=None, target=None):
            return spec_from_loader(name, self) if name == "sitecustomize" else None

        def create_module(self, spec):
            return None

        def exec_module(self, module):
            module.ran = True

    want("sitecustomize" in sys.modules, True, "durun's sitecustomize")
    sys.meta_path.append(Hidden())
    path = "/durun/lib/python/sitecustomize.py"
    with open(path) as f:
        exec(f.read(), {"__name__": "sitecustomize", "__file__": path})
    want(getattr(sys.modules["sitecustomize"], "ran", False), True, "another sitecustomize")


def forgotten():
    """What nobody refers to is dropped, so that it doesn't add up."""
    for _ in range(3):
        durun.recv("never")
        durun.sleep(1000)
    gc.collect()
    durun.sleep(0).result()
    # The calls are for what they do, and go on.
    left = [n for n in durun._rpc.ask("operations").split() if int(n) not in durun._operations._unattended]
    want(left, [], "operations left")


async def awaited():
    want(await durun.call("echo", a=1), {"a": 1}, "await")
    op = durun.sleep(0.01)
    want((await op, await op), (None, None), "await again")
    want(await durun.gather(*(durun.call("echo", n=n) for n in range(20))), [{"n": n} for n in range(20)], "await gather")
    want(await asyncio.gather(*(durun.call("echo", n=n) for n in range(20))), [{"n": n} for n in range(20)], "asyncio.gather")
    want(await durun.gather(durun.sleep(0.01), asyncio.sleep(0.01, 7)), [None, 7], "gather of all sorts")
    fail, hang = durun.call("fail"), durun.call("hang")
    for awaitable in (fail, durun.gather(hang, fail), durun.race(hang, fail)):
        try:
            await awaitable
            want("no failure", "a failure", repr(awaitable))
        except durun.OperationError as e:
            want(e.code, "failed", "failure")
    want(await durun.any(hang, fail, durun.call("echo", n=1)), {"n": 1}, "any")
    want(await durun.wait(fail, hang, timeout=0.02), ([fail], [hang]), "wait")
    want(hang.done(), False, "wait doesn't cancel")

    try:
        await asyncio.wait_for(hang, 0.02)
        want("in time", "late", "wait_for")
    except TimeoutError:
        pass
    raised(durun.Cancelled, hang.result)
    try:
        async with asyncio.timeout(0.02):
            await durun.recv("never")
            want("in time", "late", "timeout")
    except TimeoutError:
        pass

    order = []

    async def ticker(n, seconds):
        for _ in range(3):
            await durun.sleep(seconds)
            order.append(n)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ticker("a", 0.02))
        tasks.create_task(ticker("b", 0.03))
        tasks.create_task(durun.sleep(0.01))
    want((sorted(order), order[0]), (["a"] * 3 + ["b"] * 3, "a"), "tasks in turns")

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(durun.recv("never"))
            tasks.create_task(durun.call("fail"))
    except* durun.OperationError as group:
        want([e.code for e in group.exceptions], ["failed"], "a group that fails")

    queue, event = asyncio.Queue(1), asyncio.Event()

    async def producer():
        for n in range(3):
            await durun.sleep(0.001)
            await queue.put(n)
        await event.wait()

    task = asyncio.create_task(producer())
    want([await queue.get() for _ in range(3)], [0, 1, 2], "queue")
    event.set()
    await task
    shielded = asyncio.ensure_future(durun.call("echo", s=1))
    want(await asyncio.shield(shielded), {"s": 1}, "shield")

    # A loop that never rests sees what happens outside.
    op = durun.call("echo", busy=1)
    task = asyncio.ensure_future(op)
    rounds = 0
    while not task.done() and rounds < 1_000_000:
        await asyncio.sleep(0)
        rounds += 1
    want(task.done(), True, "done beside a busy task")

    # The task that waits goes on, though another one has asked first.
    op = durun.sleep(0.01)
    task = asyncio.ensure_future(op)
    await asyncio.sleep(0)
    op.result()
    await asyncio.wait_for(task, 5)

    loop = asyncio.get_running_loop()
    raised(NotImplementedError, loop.run_in_executor, None, print)
    for lacks in asyncio.to_thread(print), asyncio.open_connection("127.0.0.1", 80), asyncio.create_subprocess_exec("ls"):
        try:
            await lacks
            want("it works", "NotImplementedError", repr(lacks))
        except NotImplementedError as e:
            want("in a WebAssembly program" in str(e), True, f"what {e!r} says")
    start = loop.time()
    loop.call_later(0.03, order.append, "later")
    await asyncio.sleep(0.05)
    want((order[-1], loop.time() - start >= 0.05), ("later", True), "call_later")
    return "returned"


async def deadlock():
    await asyncio.get_running_loop().create_future()


def square(n, *, plus=0):
    return n * n + plus


async def cube(n):
    await durun.sleep(0.01)
    return n**3


def breaks():
    raise ValueError("broken child \ud800")


def about():
    return [durun.parent(), durun.id()]


async def spawned():
    want(await durun.gather(durun.spawn(square, 3, plus=1), durun.spawn(cube, 2)), [10, 8], "children")
    program = r'open("/durun/output", "wb").write(b"\xff" + open("/durun/input", "rb").read())'
    want(await durun.spawn_bytes("", "-c", program, input=b"\xfe"), b"\xff\xfe", "bytes of a child")
    got = await durun.spawn(about)
    want((got[0], got[1].startswith("sdk.")), ("sdk", True), "who a child is")
    try:
        await durun.spawn(breaks)
        want("no failure", "a failure", "a child that breaks")
    except durun.OperationError as e:
        want(e.code, "failed", "a child that breaks")
        want(e.message.endswith(r": exit code 1: ValueError: broken child \ud800"), True, e.message)
    raised(TypeError, durun.spawn, lambda: 1)
    raised(TypeError, durun.spawn, "x", y=1)


async def cancelled():
    stop = durun.call("stop")
    try:
        await durun.gather(stop, durun.sleep(1000), return_exceptions=True)
        want("no cancellation", "one", "cancelled")
    except asyncio.CancelledError:
        await durun.sleep(0.01)  # it is told once, and may clean up
        raise


durun.main()
site()
plain()
joins()
forgotten()
want(durun.run(awaited()), "returned", "run")
want(asyncio.run(awaited()), "returned", "asyncio.run")
raised(RuntimeError, durun.run, deadlock())
durun.run(spawned())
durun.output({"failures": failures})
print("failures", failures)
try:
    durun.run(cancelled())
except asyncio.CancelledError:
    print("cancelled")
sys.exit(failures > 0)
