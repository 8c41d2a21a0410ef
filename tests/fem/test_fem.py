"""The guarded import of DOLFINx, and that what stands behind it works on more than one process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sciml_bounds.errors import MissingExtraError
from sciml_bounds.fem import require_dolfinx


@pytest.fixture
def without_dolfinx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the import system say that DOLFINx is not installed."""
    for name in ("dolfinx_solver", "dolfinx"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("without_dolfinx")
def test_missing_dolfinx_is_one_sentence_with_the_command():
    with pytest.raises(MissingExtraError, match=r"'sciml-bounds\[fem\]'") as caught:
        require_dolfinx()
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")


@pytest.mark.fem
def test_import_gives_dolfinx_with_real_petsc():
    """In a process of its own, where nothing has loaded MPI before."""
    code = "from sciml_bounds.fem import require_dolfinx as r; print(r().__name__, r().default_scalar_type.__name__)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["dolfinx", "float64"]


@pytest.mark.fem
@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_files_can_be_read_after_petsc_is_loaded(engine, tmp_path):
    """PETSc brings an HDF5 of its own; in a process of its own, where nothing has loaded another one before."""
    if engine == "netcdf4":
        pytest.importorskip("netCDF4")
    code = (
        "import sys, xarray; from sciml_bounds.fem import require_dolfinx as load; load(); import dolfinx.fem.petsc\n"
        "path, engine = sys.argv[1:]; xarray.Dataset({'a': ('x', [1.0, 2.0])}).to_netcdf(path, engine=engine)\n"
        "print(xarray.open_dataset(path, engine=engine)['a'].values.tolist())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.nc"), engine]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.stdout.strip() == "[1.0, 2.0]", run.stderr


@pytest.mark.fem
def test_poisson_on_two_processes():
    """Linear elements converge with order two in L2; the iterations of multigrid do not grow with the mesh."""
    mpiexec = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
    assert mpiexec, "DOLFINx is installed without mpiexec"
    command = [mpiexec, "-n", "2", sys.executable, str(Path(__file__).with_name("poisson.py"))]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["processes"] == 2
    coarse, fine = found["errors"]
    assert 3.8 < coarse / fine < 4.2  # the next term of the expansion is of relative size h^2 ~ 0.004
    assert max(found["iterations"]) <= 15  # 10 decades at a rate of 0.2
