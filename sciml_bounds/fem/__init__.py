"""Finite elements on meshes, by DOLFINx and PETSc (extra `fem`)."""

from __future__ import annotations

import contextlib
import importlib
from types import ModuleType

from sciml_bounds.errors import MissingExtraError

__all__ = ["require_dolfinx"]


def require_dolfinx() -> ModuleType:
    """Import DOLFINx with the libraries it needs, in the order it needs them.

    Returns
    -------
    module
        `dolfinx`; after this call `mpi4py`, `petsc4py`, `basix` and `ufl` can be imported too.

    Raises
    ------
    MissingExtraError
        If DOLFINx is not installed.
    """
    # PETSc shows its HDF5 to the whole process; libraries that bring another version must have bound to theirs before.
    for name in ("h5py", "netCDF4"):
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)
    try:
        # The wheel keeps MPI and PETSc inside and must load them before any binding; other builds have no such module.
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module("dolfinx_solver")
        return importlib.import_module("dolfinx")
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "meshes need DOLFINx, which is not installed: pip install 'sciml-bounds[fem]' on Linux x86-64, "
            "elsewhere conda install -c conda-forge fenics-dolfinx."
        ) from error
