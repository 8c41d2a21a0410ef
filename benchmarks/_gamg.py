"""Times PETSc's GAMG on the ranks it is started on; `speed.py` starts it: mpiexec -n 2 python _gamg.py system.npz.

Prints one JSON line a repeat: seconds of set-up and solve, iterations, and the residual of the answer.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np

from sciml_bounds.fem import require_dolfinx

require_dolfinx()

from mpi4py import MPI
from petsc4py import PETSc


def main(path: str, rtol: float, repeats: int) -> None:
    comm = MPI.COMM_WORLD
    system = np.load(path)
    indptr, indices, data, rhs = (system[name] for name in ("indptr", "indices", "data", "rhs"))
    n = len(rhs)
    first, last = n * comm.rank // comm.size, n * (comm.rank + 1) // comm.size
    part = slice(indptr[first], indptr[last])
    rows = indptr[first : last + 1] - indptr[first]
    size = ((last - first, n), (last - first, n))
    for _ in range(repeats):
        matrix = PETSc.Mat().createAIJ(size=size, csr=(rows, indices[part], data[part]), comm=comm)
        matrix.setOption(PETSc.Mat.Option.SPD, True)
        matrix.assemble()
        b, x = matrix.createVecs()
        b.setArray(rhs[first:last])
        solver = PETSc.KSP().create(comm)
        solver.setOperators(matrix)
        solver.setType(PETSc.KSP.Type.CG)
        solver.setNormType(PETSc.KSP.NormType.UNPRECONDITIONED)
        solver.getPC().setType(PETSc.PC.Type.GAMG)
        solver.setTolerances(rtol=rtol, atol=0.0, max_it=200)
        comm.Barrier()
        start = time.perf_counter()
        solver.setUp()
        comm.Barrier()
        middle = time.perf_counter()
        solver.solve(b, x)
        comm.Barrier()
        end = time.perf_counter()
        residual = b - matrix * x
        relative = residual.norm() / b.norm()
        if comm.rank == 0:
            record = {"setup": middle - start, "solve": end - middle, "iterations": solver.getIterationNumber()}
            print(json.dumps(record | {"residual": relative}), flush=True)
        for item in (solver, matrix, b, x):
            item.destroy()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
