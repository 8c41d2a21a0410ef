"""The contract that every network keeps, one test a clause; a new one is entered in MODELS and inherits them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from refusals import refused
from torch import Tensor, nn

from sciml_bounds.krylov._learned_directions import LearnedDirections
from sciml_bounds.multigrid._mgno import MgNO
from sciml_bounds.multigrid._published_mgno import PublishedMgNO
from sciml_bounds.store.datasets.weights import load_model, save_model


@dataclass(frozen=True)
class Entry:
    """One network.

    Attributes
    ----------
    make
        The class.
    options
        Its keywords, for a network that is small.
    shape
        Of one sample, (channel, *space).
    small
        A lattice that is too small for it; None if it is for one lattice only, () if any will do.
    scale
        How large outputs are, for tolerances.
    coded
        Whether the last channel is no field, but the code of a geometry.
    """

    make: Callable[..., nn.Module]
    options: dict[str, Any]
    shape: tuple[int, ...]
    small: tuple[int, ...] | None
    scale: float = field(default=1.0)
    coded: bool = False

    def model(self) -> Any:
        torch.manual_seed(0)
        return self.make(**self.options).eval()

    def x(self, count: int = 3) -> Tensor:
        x = 1 + torch.rand(count, *self.shape, generator=torch.Generator().manual_seed(1))
        if self.coded:
            x[:, -1] = (3 * (x[:, -1] - 1)).floor()
        return x


_SMALL = {"channels": 6, "layers": 2, "levels": 3}

# --- the table --------------------------------------------------------------------------------------------------------

MODELS = {
    "1-D Dirichlet": Entry(MgNO, _SMALL | {"dim": 1}, (1, 20), (5,)),
    "2-D Dirichlet": Entry(MgNO, _SMALL, (1, 16, 13), (16, 5)),
    "3-D Dirichlet": Entry(MgNO, _SMALL | {"dim": 3}, (1, 8, 7, 9), (4, 8, 8)),
    "2-D Neumann": Entry(MgNO, _SMALL | {"boundary": "neumann", "bias": True, "post": 1}, (1, 17, 12), (17, 4)),
    "2-D periodic": Entry(
        MgNO,
        _SMALL | {"boundary": "periodic", "increment": True, "in_channels": 3, "out_channels": 2},
        (3, 16, 16),
        (4, 16),
    ),
    "residual": Entry(MgNO, _SMALL | {"residual": True, "shared": True, "post": 1}, (1, 16, 16), (5, 16)),
    "norms on levels": Entry(PublishedMgNO, _SMALL | {"norm": "levels", "size": (12, 12)}, (1, 12, 12), None),
    "norms on layers": Entry(
        PublishedMgNO,
        {"channels": (4, 8), "layers": 2, "pre": (1, 2), "norm": "layers", "head": "cycle", "local": False}
        | {"boundary": "neumann", "alignment": "interior", "size": (11, 11), "normalization": ("pointwise", "scalar")},
        (1, 11, 11),
        None,
    ),
    "2-D directions": Entry(LearnedDirections, {"network": "dcdm", "dim": 2, "channels": 6}, (1, 9, 12), ()),
    "3-D directions": Entry(LearnedDirections, {"network": "dcdm", "dim": 3, "channels": 6}, (1, 6, 5, 4), ()),
    "2-D shaped directions": Entry(
        LearnedDirections, {"network": "multigrid", "dim": 2, "levels": 2}, (2, 9, 12), (), coded=True
    ),
    "3-D shaped directions": Entry(
        LearnedDirections, {"network": "multigrid", "dim": 3, "levels": 2}, (2, 8, 5, 4), (), coded=True
    ),
}

each_model = pytest.mark.parametrize("entry", MODELS.values(), ids=MODELS.keys())


# --- the clauses ------------------------------------------------------------------------------------------------------


@each_model
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_dtypes_are_kept(entry, dtype):
    """Both precisions work, and single agrees with double to its round-off."""
    model = entry.model()
    exact = copy.deepcopy(model).double()(entry.x().double())
    found = model.to(dtype)(entry.x().to(dtype))
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-5 * entry.scale)


@each_model
def test_samples_do_not_see_each_other(entry):
    model, x = entry.model().double(), entry.x().double()
    together = model(x)
    apart = torch.cat([model(sample[None]) for sample in x])
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-13 * entry.scale)


@each_model
def test_the_same_input_gives_the_same_bits(entry):
    model = entry.model()
    assert torch.equal(model(entry.x()), model(entry.x()))


@each_model
def test_the_input_is_left_alone(entry):
    model, x = entry.model(), entry.x()
    model(x)
    assert torch.equal(x, entry.x())


@each_model
def test_arguments_make_the_network_again(entry):
    model = entry.model()
    arguments = json.loads(json.dumps(model.arguments))
    again = entry.make(**arguments)
    again.load_state_dict(model.state_dict())
    assert again.arguments == model.arguments
    assert torch.equal(again.eval()(entry.x()), model(entry.x()))


@each_model
def test_files_bring_it_back(entry, tmp_path):
    model = entry.model()
    save_model(model, tmp_path / "model.safetensors")
    assert torch.equal(load_model(tmp_path / "model.safetensors")(entry.x()), model(entry.x()))


@each_model
def test_every_weight_has_a_gradient(entry):
    model = entry.model().train()
    model(entry.x()).square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert not without


@each_model
def test_gradients_reach_the_input(entry):
    model, x = entry.model().double(), entry.x(1).double().requires_grad_()
    direction = torch.randn_like(x)
    if entry.coded:
        direction[:, -1] = 0.0
    model(x).sum().backward()
    with torch.no_grad():
        step = 1e-5 * direction
        slope = (model(x + step).sum() - model(x - step).sum()) / 2e-5
    torch.testing.assert_close((x.grad * direction).sum(), slope, rtol=1e-5, atol=1e-7)


@each_model
def test_autocast_to_bfloat16_works(entry):
    model, x = entry.model().train(), entry.x()
    exact = model(x).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(x)
    found.float().square().sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
    # eight bits, through some ten roundings
    assert float((found.float() - exact).detach().norm() / exact.norm()) < 0.1


@each_model
def test_it_follows_its_device(entry, device):
    model = entry.model()
    expected = model(entry.x()).detach()
    found = model.to(device)(entry.x().to(device)).detach()
    assert found.device == device
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e-2 * entry.scale)  # convolutions in TF32


@each_model
def test_an_input_elsewhere_is_refused(entry):
    refused("input meta weights cpu", lambda: entry.model()(entry.x().to("meta")))


@each_model
def test_another_dtype_is_refused(entry):
    refused("input torch.float64 weights torch.float32", lambda: entry.model()(entry.x().double()))


@each_model
def test_another_number_of_channels_is_refused(entry):
    x = entry.x()
    refused(f"input {x.shape[1] + 1} channels axis 1", lambda: entry.model()(torch.cat([x, x[:, :1]], 1)))


@each_model
def test_another_number_of_axes_is_refused(entry):
    refused("axes", lambda: entry.model()(entry.x().unsqueeze(-1)))
    refused("axes", lambda: entry.model()(entry.x()[0]))


@each_model
@pytest.mark.parametrize("given", [None, [[1.0]], np.ones((1, 1, 8, 8))], ids=["nothing", "list", "array"])
def test_what_is_no_tensor_is_refused(entry, given):
    refused(f"input {type(given).__name__} tensor batch", lambda: entry.model()(given))


@each_model
def test_a_lattice_without_points_is_refused(entry):
    x = entry.x()
    refused("input shape axis", lambda: entry.model()(x[..., :0]))


@each_model
def test_a_lattice_that_is_too_small_is_refused(entry):
    if entry.small == ():
        pytest.skip("any lattice will do")
    small = entry.small or tuple(n - 1 for n in entry.shape[1:])
    words = "lattice" if entry.small is None else "3 levels"
    refused(words, lambda: entry.model()(torch.rand(2, entry.shape[0], *small)))


@each_model
def test_nan_is_refused(entry):
    x = entry.x()
    x[1].view(-1)[3] = float("nan")
    refused("NaN infinity sample 1", lambda: entry.model()(x))


@each_model
def test_an_empty_batch_gives_an_empty_batch(entry):
    model = entry.model()
    assert model(entry.x()[:0]).shape == (0, *model(entry.x()).shape[1:])


@each_model
@pytest.mark.slow
def test_it_compiles_to_one_graph(entry):
    """`torch.export` traces the whole of it: no branch depends on values."""
    model = entry.model()
    exported = torch.export.export(model.train(), (entry.x(),))
    torch.testing.assert_close(exported.module()(entry.x()), model(entry.x()), rtol=1e-5, atol=1e-6)
