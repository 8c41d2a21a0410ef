"""Guarded import of DOLFINx."""

from __future__ import annotations

import contextlib
import importlib
from types import ModuleType

from sciml_bounds.errors import MissingExtraError

__all__ = ["require_dolfinx"]


def require_dolfinx() -> ModuleType:
    """Import DOLFINx, after the libraries that must be loaded first.

    Returns
    -------
    module
        `dolfinx`; after this call `mpi4py`, `petsc4py`, `basix` and `ufl` can be imported too.

    Raises
    ------
    MissingExtraError
        If DOLFINx is not installed.
    """
    # PETSc exports its HDF5 to the whole process, so libraries with another version of HDF5 must be loaded before
    # PETSc.
    for name in ("h5py", "netCDF4"):
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)
    try:
        # Only the wheel has this module. It loads the bundled MPI and PETSc, which must be loaded before their
        # bindings.
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module("dolfinx_solver")
        return importlib.import_module("dolfinx")
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "meshes need DOLFINx, which is not installed; run pip install 'sciml-bounds[fem]' on Linux x86-64, "
            "or conda install -c conda-forge fenics-dolfinx elsewhere."
        ) from error
