"""Has five children square a number each, all at once, and adds up what they found. Each child is a program of its own, with
snapshots of its own: this one, which calls square there.
"""

import durun


async def square(n):
    await durun.sleep(0.05)
    return n * n


async def main():
    squares = await durun.gather(*(durun.spawn(square, n) for n in range(1, 6)))
    print("sum", sum(squares))


durun.run(main())
