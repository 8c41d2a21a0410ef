"""Equations on meshes of DOLFINx as constraints: the optima of our grids, and inner steps that no mesh raises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import sciml_bounds as sb


@pytest.mark.fem
@pytest.mark.slow
def test_optimal_controls_on_meshes():
    """Linear elements on right-angled triangles with lumped masses are the five-point equations of a grid.

    In a process of its own, since PETSc brings an HDF5 of its own.
    """
    command = [sys.executable, str(Path(__file__).with_name("control.py"))]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    for one in found.values():
        assert one["success"]
        assert one["products"] == pytest.approx(one["direct"], rel=1e-8)
    for n in (16, 32):
        problem = sb.Diffusion(sb.Grid((n, n)))
        grid = sb.control.DistributedControl(problem, lambda x, y: x * y, weight=1e-4, nonlinearity=lambda u: u**3)
        assert found[f"square {n}"]["direct"] == pytest.approx(grid.minimize(inner="direct").fun, rel=1e-8)
    for shape in ("square", "ring"):
        # steps come whole, four or five a solve; without a cycle they would double
        assert found[f"{shape} 32"]["inner"] <= 1.5 * found[f"{shape} 16"]["inner"]
