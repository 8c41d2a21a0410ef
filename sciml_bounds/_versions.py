"""Versions of the package and its dependencies, for bug reports."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys

__all__ = ["show_versions"]

_PACKAGES = (
    "torch", "numpy", "scipy", "filelock", "lazy-loader", "triton", "pyamg", "h5py", "h5netcdf", "xarray",
    "safetensors", "matplotlib", "typer", "rich", "dolfinx-solver-real", "pyvista",
)  # fmt: skip


def show_versions() -> None:
    """Print the versions of this package, Python and the dependencies, and the device."""
    import torch

    import sciml_bounds

    rows = {"sciml_bounds": sciml_bounds.__version__, "python": sys.version.split()[0], "system": platform.platform()}
    rows |= {name: _version(name) for name in _PACKAGES}
    rows["cuda"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    rows["threads"] = f"{torch.get_num_threads()} of {os.cpu_count()}"
    width = max(map(len, rows))
    print("\n".join(f"{name:<{width}}  {value}" for name, value in rows.items()))


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
