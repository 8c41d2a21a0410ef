"""The same answers on CUDA as on the CPU: solving, certifying, differentiating, end to end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from refusals import refused

import sciml_bounds as sb

pytestmark = pytest.mark.gpu

#: Both devices solve to this relative residual; the condition numbers of these small problems are below 1e4.
RTOL, AGREE = 1e-12, 1e-8


def problem(name: str, device: str) -> sb.Diffusion:
    """Make one of several small problems with all fields on a device."""
    rng = np.random.default_rng(3)

    def field(*shape: int) -> torch.Tensor:
        return torch.as_tensor(np.exp(rng.standard_normal(shape)), device=device)

    if name == "batch":
        return sb.Diffusion(sb.Grid((33, 20)), coefficient=field(3, 33, 20), source=field(33, 20))
    if name == "mixed":
        sides = {
            "x0": sb.Dirichlet(1.0), "x1": sb.Robin(2.0, 0.5), "y0": sb.Neumann(0.3), "y1": sb.Neumann(-0.1),
            "z0": sb.Periodic(), "z1": sb.Periodic(),
        }  # fmt: skip
        parts = tuple(field(9, 8, 7) for _ in range(3))
        return sb.Diffusion(sb.Grid((9, 8, 7)), coefficient=parts, source=1.0, boundary=sides, reaction=field(9, 8, 7))
    if name == "solids":
        solid = torch.as_tensor(rng.random((24, 24)) < 0.2, device=device)
        return sb.Diffusion(sb.Grid((24, 24)), coefficient=field(24, 24), source=1.0, solid=solid, reaction=0.5)
    source = field(16, 16)
    return sb.Diffusion(sb.Grid((16, 16)), field(16, 16), source - source.mean(), boundary=sb.Periodic())


NAMES = ("batch", "mixed", "solids", "periodic")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", ["multigrid", "algebraic", "cg"])
def test_solves_agree(name: str, method: str) -> None:
    here, there = (sb.solve(problem(name, device), rtol=RTOL, method=method) for device in ("cpu", "cuda"))
    assert there.values.device.type == "cuda"
    torch.testing.assert_close(there.values.cpu(), here.values, rtol=AGREE, atol=AGREE)


@pytest.mark.parametrize("name", NAMES)
def test_certificates_agree(name: str) -> None:
    values = sb.solve(problem(name, "cpu"), rtol=RTOL).values + 0.1
    values = problem(name, "cpu").impose_boundary(values)
    here = sb.certify(problem(name, "cpu"), values, improve=2, rtol=RTOL)
    there = sb.certify(problem(name, "cuda"), values.cuda(), improve=2, rtol=RTOL)
    for part in ("upper", "lower", "energy", "indicators"):
        torch.testing.assert_close(getattr(there, part).cpu(), getattr(here, part), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(there.model.upper.cpu(), here.model.upper, rtol=1e-6, atol=1e-9)
    if name != "periodic":  # the mean of a solution without a level is no output
        torch.testing.assert_close(there.goal(sb.Mean()).upper.cpu(), here.goal(sb.Mean()).upper, rtol=1e-6, atol=1e-9)


def test_gradients_agree() -> None:
    gradients = []
    for device in ("cpu", "cuda"):
        a = torch.as_tensor(np.random.default_rng(0).random((12, 12)) + 0.5, device=device).requires_grad_()
        sb.solve(sb.Diffusion(sb.Grid((12, 12)), a, 1.0), rtol=RTOL).values.mean().backward()
        gradients.append(a.grad.cpu())
    torch.testing.assert_close(*gradients, rtol=AGREE, atol=AGREE)


def test_single_precision() -> None:
    solution = sb.solve(sb.Diffusion(sb.Grid((32, 32)), torch.ones(32, 32, device="cuda"), 1.0), certify=True)
    assert solution.values.dtype == torch.float32
    assert bool(solution.converged)
    assert bool(solution.certificate.lower <= solution.certificate.upper)


def test_devices_do_not_mix() -> None:
    refused("device", lambda: sb.certify(problem("batch", "cuda"), torch.zeros(34, 21, dtype=torch.float64)))
    refused("device", lambda: sb.Diffusion(sb.Grid((4, 4)), torch.ones(4, 4, device="cuda"), torch.ones(4, 4)))
