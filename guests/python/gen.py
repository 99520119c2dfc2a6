# Generators, recursion, exceptions, closures, contexts and containers, a sleep in the middle of each. What it prints does
# not depend on timing; the exit code is 9.
import collections
import contextlib
import functools
import hashlib
import heapq
import itertools
import json
import random
import re
import sys
import time


def rest():
    time.sleep(0.003)


def numbers(n):
    try:
        for i in range(n):
            rest()
            got = yield i * i
            if got:
                print("sent", got)
    finally:
        rest()
        print("closed at", i)


def tree(depth, path=()):
    if depth == 0:
        rest()
        yield path
        return
    yield from tree(depth - 1, path + ("l",))
    yield from tree(depth - 1, path + ("r",))


def deep(n, acc):
    if n == 0:
        rest()
        return acc
    here = {"n": n, "text": "x" * (n % 7)}
    out = deep(n - 1, acc * 31 % 1000003 + n)
    return out ^ len(here["text"]) ^ here["n"]


class Error(Exception):
    pass


def fail(n):
    try:
        if n == 0:
            rest()
            raise Error("the bottom")
        fail(n - 1)
    except Error as e:
        rest()
        if n == 4:
            raise ValueError(n) from e
        raise
    finally:
        order.append(n)


@contextlib.contextmanager
def noted(name):
    order.append("+" + name)
    rest()
    try:
        yield name.upper()
    finally:
        rest()
        order.append("-" + name)


@functools.lru_cache(maxsize=None)
def fib(n):
    if n % 5 == 0:
        rest()
    return n if n < 2 else fib(n - 1) + fib(n - 2)


g = numbers(10)
print(next(g), next(g), g.send("hello"), next(g))
g.close()

print(sum(hash_ for hash_ in (int(hashlib.sha256("".join(p).encode()).hexdigest()[:8], 16) for p in tree(4))))
print("deep", deep(300, 1))

order = []
try:
    fail(6)
except ValueError as e:
    print("caught", e, "from", repr(e.__cause__), order)

order = []
with noted("a") as a, noted("b") as b, contextlib.suppress(KeyError):
    print(a, b)
    {}["missing"]
print(order)

print("fib", fib(30))

words = "the quick brown fox jumps over the lazy dog while the other dog sleeps".split()
count = collections.Counter()
for w in words:
    count[w] += 1
    if len(w) > 4:
        rest()
print(count.most_common(2), json.dumps({k: v for k, v in sorted(count.items()) if v > 1}))

r = random.Random(42)
heap = []
for _ in range(50):
    heapq.heappush(heap, (r.random(), r.randrange(100)))
    if len(heap) % 10 == 0:
        rest()
state = r.getstate()
print([heapq.heappop(heap)[1] for _ in range(8)], len(state[1]))

key = functools.cmp_to_key(lambda a, b: (time.sleep(0.001), (a > b) - (a < b))[1])
print(sorted(words, key=key)[:5])  # sleeps inside the C function that sorts
print(re.sub(r"\b(\w)(\w+)", lambda m: (rest(), m[2] + m[1])[1], "called from a regular expression"))
print([x for x in map(lambda n: (rest(), n * n)[1], itertools.islice(itertools.count(3), 4))])

big = 1
for i in range(1, 60):
    big *= i * i + 1
    if i % 20 == 0:
        rest()
print(big % (10**30 + 57), big.bit_length())
sys.exit(9)
