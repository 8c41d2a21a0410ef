"""Run a benchmark and keep what it printed, for the page of benchmarks: `python benchmarks/record.py NAME [OPTION...]`.

Writes benchmarks/results/NAME.json: the command, the date, the machine, the versions, the seconds and the output.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parent
PACKAGES = ("torch", "numpy", "scipy", "pyamg", "dolfinx-solver-real")


def processor() -> str:
    """Return the name of the processor, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def versions() -> dict[str, str]:
    """Return the versions of this package and of its peers."""
    found = {"sciml-bounds": importlib.metadata.version("sciml-bounds"), "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def main(name: str, options: list[str]) -> int:
    """Run the benchmark, pass its output on, and keep it unless it fails."""
    script = FOLDER / f"{name}.py"
    if not script.is_file():
        names = ", ".join(sorted(path.stem for path in FOLDER.glob("*.py") if path.stem[0] != "_"))
        print(f"there is no benchmark {name!r}; the benchmarks are {names}.", file=sys.stderr)
        return 2
    start = time.perf_counter()
    lines = []
    with subprocess.Popen([sys.executable, str(script), *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip())
    if process.returncode:
        return process.returncode
    record = {
        "command": " ".join(["python", f"benchmarks/{name}.py", *options]),
        "date": datetime.date.today().isoformat(),
        "machine": f"{processor()}, {os.cpu_count()} cores, {os.environ.get('OMP_NUM_THREADS', 'all')} threads",
        "versions": versions(),
        "seconds": round(time.perf_counter() - start, 1),
        "output": lines,
    }
    target = FOLDER / "results" / f"{name}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
