# Computes, prints a line, sleeps: what durun is killed in the middle of.
#
#     durun run --id demo --dir guests/python:/src python.wasm /src/demo.py [LINES]
import sys
import time

lines = int(sys.argv[1]) if len(sys.argv) > 1 else 20
total = 0
for i in range(1, lines + 1):
    total += sum(n * n for n in range(i * 1000))
    print(f"{i:3} {total}", flush=True)
    time.sleep(0.2)
sys.exit(7)
