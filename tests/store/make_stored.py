"""Write the small file by which later versions are held to the format: `python tests/store/make_stored.py [target]`.

Run once a format version; a stored file is never made anew.
"""

from __future__ import annotations

import sys
from pathlib import Path

import sciml_bounds as sb
from sciml_bounds.store.datasets.saved_results import FORMAT_VERSION


def main(target: Path) -> None:
    """Solve -(2 u')' = 2 times 1 and 2 on a small box, and write the certified solutions."""
    sides = {"x0": sb.Dirichlet(0.0), "x1": sb.Neumann([[1.0, 1.0], [2.0, 2.0]]), "y0": sb.Neumann(0.0)}
    grid = sb.Grid((3, 2), lengths=(1.5, 1.0), origin=(0.5, 0.0))
    source = [[[2.0] * 2] * 3, [[4.0] * 2] * 3]
    problem = sb.Diffusion(grid, 2.0, source, boundary=sides | {"y1": sb.Neumann(0.0)})
    solution = sb.solve(problem, method="multigrid", rtol=1e-14, certify=True)
    sb.data.write(solution, target, parameters={"made by": "tests/store/make_stored.py"}, flux=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name(f"format-{FORMAT_VERSION}.nc"))
