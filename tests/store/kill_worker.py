"""Write the same target again and again in forked processes that may be killed: `kill_worker.py TARGET`.

For each line "FIRST" on stdin a child starts to write the numbers FIRST, FIRST + 1, ..., and its process id is printed;
once it is dead, its exit code is printed. With "FIRST wait" it waits before the first file is put in place.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys

import numpy as np
import xarray

import sciml_bounds as sb
from sciml_bounds.store.datasets.saved_results import write

NOISE = np.random.default_rng(0).standard_normal(200_000)  # does not compress: 1.5 MB to write and to sync


def main(target: str) -> None:
    """Answer until stdin ends."""
    xarray.Dataset().to_netcdf(engine="h5netcdf")  # import now what writing needs
    assert sb.data.write is write
    for line in sys.stdin:
        first, *wait = line.split()
        child = os.fork()
        if not child:
            if wait:
                os.replace = lambda *_: signal.pause()
            for number in itertools.count(int(first)):
                write(xarray.Dataset({"noise": (["x"], NOISE + number), "number": ((), number)}), target)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
