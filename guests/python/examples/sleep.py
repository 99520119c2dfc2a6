"""Ticks. It doesn't matter where it sleeps, and whether the machine is up meanwhile."""

import durun

for i in range(1, 4):
    print("tick", i)
    durun.sleep(0.1).result()
