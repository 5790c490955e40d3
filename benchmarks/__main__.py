"""Every measurement, one after the other: `make bench`. Each is a module of its own and can be run alone."""

import subprocess
import sys

for name in (
    *("frames", "captions", "training", "pipeline", "speed", "coupling", "sets", "unseen", "students"),
    *("likelihood", "solvers", "published"),
):
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
