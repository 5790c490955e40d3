"""Every measurement, one after the other: `make bench`. Each can be run alone; README.md says what each compares."""

import subprocess
import sys

PIPELINE = ("frames", "rows", "captions", "pipeline", "orchestration", "ordinary")
FLOW = ("training", "speed", "coupling", "sets", "unseen", "students", "likelihood", "solvers", "published",
        "warm_start", "amounts", "others")  # fmt: skip
for name in PIPELINE + FLOW:
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
