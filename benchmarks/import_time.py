"""What importing costs: seconds of a new process, medians of several runs in turn.

    python benchmarks/import_time.py [--runs 9]

Bar: `import sciml_bounds` takes less than 0.3 s beyond `import torch`. Names are loaded when they are first used; the
last row says what loading those of a solve takes.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

PROGRAMS = {
    "python": "",
    "numpy, scipy": "import numpy, scipy.sparse.linalg",
    "torch": "import torch",
    "torch, sciml_bounds": "import torch, sciml_bounds",
    "torch, sciml_bounds, first names": "import torch; from sciml_bounds import Diffusion, Grid, certify, solve",
}
BAR = 0.3


def seconds(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9)
    runs = parser.parse_args().runs
    taken: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(runs):
        for name, code in PROGRAMS.items():
            taken[name].append(seconds(code))
    medians = {name: statistics.median(times) for name, times in taken.items()}
    for name, median in medians.items():
        print(f"{name:<34}{median:6.2f} s")
    more = medians["torch, sciml_bounds"] - medians["torch"]
    verdict = "PASS" if more < BAR else "MISS"
    print(f"  {verdict}  import of sciml_bounds beyond torch: {more:.2f} s (bar: < {BAR})")


if __name__ == "__main__":
    main()
