"""Hands out the squares of 1 to 5, and adds up the numbers that come in for them."""

import durun

total = 0
for n in range(1, 6):
    total += durun.yield_(n * n) or 0  # the program may rest here for as long as it takes
print("received", total)
