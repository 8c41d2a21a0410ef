"""What every test shares: threads, seeds, and what is left out where something is missing."""

from __future__ import annotations

import importlib.util
import os
import runpy
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

# Worker processes share the cores. This must stand before the first import of torch.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if WORKERS > 1:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // WORKERS)))
os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
import pytest
import torch
from hypothesis import settings

# A shell ignores interrupts in what it starts in the background, and children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("repeatable", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("repeatable")

#: Marks of tests that need something which may be missing: whether it is there, and what is said where it is not.
NEEDS = {
    "gpu": (torch.cuda.is_available(), "needs a CUDA device"),
    "fem": (importlib.util.find_spec("dolfinx") is not None, "needs DOLFINx: pip install 'sciml-bounds[fem]'"),
    "vtk": (importlib.util.find_spec("pyvista") is not None, "needs pyvista: pip install 'sciml-bounds[vtk]'"),
}


PRETENDED = runpy.run_path(str(Path(__file__).with_name("pretended_device.py")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what cannot run here, and say why; names with addresses differ between the processes that share the work."""
    if not torch.cuda.is_available() and any("device" in getattr(item, "fixturenames", ()) for item in items):
        PRETENDED["register"]()  # before the first gradient is computed: the engine counts the devices then
    named = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if named:
        raise pytest.UsageError(f"the cases of these tests need names of their own (ids=): {named[:3]}")
    for item in items:
        for mark, (present, reason) in NEEDS.items():
            if not present and item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(
    params=[
        pytest.param("pretended", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU takes its place")),
        pytest.param("cuda", marks=pytest.mark.gpu),
    ]
)
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """A device other than the CPU: the pretended one, or a GPU."""
    if request.param == "cuda":
        yield torch.device("cuda", 0)
    else:
        with PRETENDED["present"]() as pretended:
            yield pretended


@pytest.fixture
def waits(device: torch.device) -> list[str]:
    """What made the host wait for the pretended device so far, by name of the operation."""
    if device.type == "cuda":
        pytest.skip("waits are counted on the pretended device")
    found: list[str] = PRETENDED["waits"]
    return found


@pytest.fixture(autouse=True)
def _same_random_numbers_every_time() -> None:
    """Seed the global generators, so that a test draws the same numbers alone and in any order."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - libraries that draw from it, PyAMG among them, take no generator


@pytest.fixture(autouse=True)
def _registrations_end_with_a_test() -> Iterator[None]:
    """Remove recipes and networks that a test or an example has registered."""
    modules = ("sciml_bounds.recipes._registry", "sciml_bounds.store.datasets.network_classes")
    before = {name: dict(sys.modules[name]._REGISTERED) if name in sys.modules else {} for name in modules}
    yield
    for name, registered in before.items():
        if name in sys.modules:
            sys.modules[name]._REGISTERED.clear()
            sys.modules[name]._REGISTERED.update(registered)
