"""Every measurement, one after the other: `make bench`. Each is a module of its own and can be run alone."""

import subprocess
import sys

names = ("frames", "rows", "captions", "training", "pipeline", "speed", "coupling", "sets", "unseen", "students")
for name in names:
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
