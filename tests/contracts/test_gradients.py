"""The contract of everything that is differentiated: gradients are linear in the cotangent, whatever its size.

The scale of a loss is arbitrary, so that a cotangent may have any. A new function with a gradient is entered in
FUNCTIONS and inherits the clauses.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

import sciml_bounds as sb
from sciml_bounds.bounds._flux import equilibrate
from sciml_bounds.krylov._direction_loss import LineSearchLoss, contraction_loss, line_search_loss
from sciml_bounds.krylov._learned_cycle import LearnedCycle, pressure_operator
from sciml_bounds.krylov._multigrid_shaped import AIR, FLUID
from sciml_bounds.multigrid._flux_head import BoundLoss
from sciml_bounds.nn.losses import LOSSES

#: Cotangents are multiplied by powers of two up to these, about 1e30 and 1e250: no rounding in what is linear. Factors
#: of 1e-8 that gradients of these functions have themselves leave them in the range of normal numbers.
EXPONENT = {torch.float32: 100, torch.float64: 830}


class Differentiated(NamedTuple):
    """Outputs, and what gradients flow into."""

    outputs: tuple[Tensor, ...]
    inputs: tuple[Tensor, ...]


class Entry(NamedTuple):
    """A function of a dtype, and the dtypes that it works in."""

    make: Callable[[torch.dtype], Differentiated]
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64)


def _random(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def _leaf(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Positive numbers away from zero."""
    return _random(*shape, dtype=dtype, seed=seed).abs().add(0.5).requires_grad_()


# --- the table --------------------------------------------------------------------------------------------------------


def _solve(method, *, constant: bool = False, prepared: bool = False) -> Entry:
    """Two samples with one coefficient (so that gradients of samples add up), and all other data."""

    def make(dtype: torch.dtype) -> Differentiated:
        f, u = _leaf(2, 13, 11, dtype=dtype), _leaf(12, dtype=dtype)
        a = torch.ones((), dtype=dtype) if constant else _leaf(13, 11, dtype=dtype, seed=1)
        sides = {"x0": sb.Dirichlet(u), "x1": sb.Dirichlet(0.0), "y0": sb.Neumann(), "y1": sb.Neumann()}
        problem = sb.Diffusion(sb.Grid((13, 11)), a, boundary=sides)
        if prepared:
            values = sb.prepare(problem, method=method).solve(source=f).values
        else:
            values = sb.solve(problem.replace(source=f), method=method).values
        return Differentiated((values,), tuple(field for field in (a, f, u) if field.requires_grad))

    return Entry(make)


def _solve_floating(dtype: torch.dtype) -> Differentiated:
    """Reaction in one part, and a part whose level nothing fixes."""
    f, c = _leaf(9, 8, dtype=dtype), _leaf(9, 8, dtype=dtype)
    solid = np.zeros((9, 8), dtype=bool)
    solid[4] = True
    upper = torch.arange(9)[:, None] > 4
    balanced = torch.where(upper, f, f - f[:4].mean())
    problem = sb.Diffusion(sb.Grid((9, 8)), 1.0, balanced, reaction=c * upper, boundary=sb.Neumann(), solid=solid)
    return Differentiated((sb.solve(problem).values,), (f, c))


def _second_derivatives(dtype: torch.dtype) -> Differentiated:
    a, f = _leaf(7, 6, dtype=dtype), _leaf(7, 6, dtype=dtype, seed=1)
    values = sb.solve(sb.Diffusion(sb.Grid((7, 6)), a, f)).values
    probe = _random(*values.shape, dtype=dtype)
    return Differentiated(torch.autograd.grad(values, (a, f), probe, create_graph=True), (a, f))


def _certificate(dtype: torch.dtype) -> Differentiated:
    """Bound, indicators and energy, where a flux out of balance is corrected by a solve and along trees."""
    solid = np.zeros((6, 5), dtype=bool)
    solid[3:, 2] = True
    a = _leaf(6, 5, dtype=dtype)
    problem = sb.Diffusion(sb.Grid((6, 5)), a, 1.0, solid=solid)
    values = sb.solve(problem.detach()).values.mul(1.1).requires_grad_()
    flux = tuple(_random(*shape).requires_grad_() for shape in ((7, 5), (6, 6)))
    certificate = sb.certify(problem, values, flux=flux)
    outputs = (certificate.upper, certificate.indicators, certificate.energy)
    return Differentiated(outputs, (values, *flux, a))


def _equilibrated(dtype: torch.dtype) -> Differentiated:
    problem = sb.Diffusion(sb.Grid((6, 5)), 1.0, 1.0, boundary={"x0": sb.Dirichlet(0.0), **_WALLS})
    flux = tuple(_random(1, *shape).requires_grad_() for shape in ((7, 5), (6, 6)))
    return Differentiated(equilibrate(problem, flux), flux)


_WALLS = {side: sb.Neumann() for side in ("x1", "y0", "y1")}


def _control(dtype: torch.dtype) -> Differentiated:
    control = sb.control.DistributedControl(
        sb.Diffusion(sb.Grid((6, 5)), 2.0), 1.0, weight=1e-2, nonlinearity=torch.sin
    )
    x = _random(2 * control.n).requires_grad_()
    return Differentiated((control.fun(x), control.equation(x)), (x,))


def _energy(dtype: torch.dtype) -> Differentiated:
    problem = sb.variational.VariationalProblem(sb.Grid((6, 5)), sb.variational.PLaplacian(3), 1.0)
    x, u, p = _random(7, 2), _random(7).requires_grad_(), _random(7, 2, seed=1).requires_grad_()
    return Differentiated((problem.integrand(x, u, p),), (u, p))


def _line_search(dtype: torch.dtype) -> Differentiated:
    q = _leaf(2, 1, 4, 3, dtype=dtype)
    A = torch.diag(1 + torch.arange(12, dtype=dtype))
    return Differentiated((LineSearchLoss(A)(q, _random(2, 1, 4, 3, dtype=dtype)),), (q,))


def _pressure_loss(loss) -> Entry:
    def make(dtype: torch.dtype) -> Differentiated:
        q = _leaf(2, 1, 5, 4, dtype=dtype)
        target = torch.stack([_random(2, 5, 4, dtype=dtype), torch.ones(2, 5, 4, dtype=dtype)], 1)
        return Differentiated((loss(q, target),), (q,))

    return Entry(make)


def _field_loss(name: str) -> Entry:
    def make(dtype: torch.dtype) -> Differentiated:
        q = _leaf(2, 1, 8, 8, dtype=dtype)
        return Differentiated((LOSSES[name](q, _random(2, 1, 8, 8, dtype=dtype), None),), (q,))

    return Entry(make)


def _bound_loss(dtype: torch.dtype) -> Differentiated:
    prediction = _leaf(2, 2, 9, 9, dtype=dtype)
    loss = BoundLoss()(prediction, _random(2, 1, 9, 9, dtype=dtype), _leaf(2, 1, 8, 8, dtype=dtype).detach())
    return Differentiated((loss,), (prediction,))


def _learned_cycle(dtype: torch.dtype) -> Differentiated:
    """The weights are single precision, whatever the cycle computes in."""
    torch.manual_seed(0)
    cycle = LearnedCycle(2).train()
    geometry = torch.full((1, 17, 14), FLUID)
    geometry[:, -1] = AIR
    hierarchy = cycle.hierarchy(pressure_operator(geometry))
    return Differentiated((cycle.along(hierarchy, _random(1, 1, 17, 14)),), tuple(cycle.parameters()))


def _network(make_network, *shape: int) -> Entry:
    def make(dtype: torch.dtype) -> Differentiated:
        torch.manual_seed(0)
        network = make_network().to(dtype).eval()
        x = _leaf(2, *shape, dtype=dtype)
        return Differentiated((network(x),), (x, *(p for p in network.parameters() if p.requires_grad)))

    return Entry(make)


FUNCTIONS = {
    **{f"solve, {method}": _solve(method) for method in ("multigrid", "cg", "algebraic", "direct")},
    "solve, cycles alone": _solve(sb.Multigrid(accelerate=False)),
    "solve, transform": _solve("transform", constant=True),
    "solve, prepared": _solve("multigrid", prepared=True),
    "solve, floating part": Entry(_solve_floating),
    "solve, second derivatives": Entry(_second_derivatives),
    "certify": Entry(_certificate, (torch.float64,)),
    "equilibrated flux": Entry(_equilibrated, (torch.float64,)),
    "control": Entry(_control, (torch.float64,)),
    "energy density": Entry(_energy, (torch.float64,)),
    "line search": Entry(_line_search),
    "line search, pressure": _pressure_loss(line_search_loss),
    "contraction": _pressure_loss(contraction_loss),
    **{f"loss {name}": _field_loss(name) for name in LOSSES},
    "bound as a loss": Entry(_bound_loss),
    "learned cycle": Entry(_learned_cycle, (torch.float32,)),
    "MgNO": _network(lambda: sb.MgNO(channels=4, layers=2, levels=2), 1, 8, 8),
    "directions": _network(lambda: sb.LearnedDirections("dcdm", dim=2, channels=4), 1, 8, 8),
    "certified MgNO": _network(lambda: sb.CertifiedMgNO(channels=4, layers=2, levels=2), 1, 8, 8),
}
CASES = [
    pytest.param(entry.make, dtype, id=f"{name}-{str(dtype).removeprefix('torch.')}")
    for name, entry in FUNCTIONS.items()
    for dtype in entry.dtypes
]
each_function = pytest.mark.parametrize(("make", "dtype"), CASES)


def test_every_backward_pass_of_the_package_is_in_the_table():
    """Each `torch.autograd.Function` that the package defines is a node of the graph of some entry."""
    defined = set()
    for module in pkgutil.walk_packages(sb.__path__, "sciml_bounds."):
        if ".kernels._" in module.name or ".cli" in module.name:
            continue
        for name, found in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(found, torch.autograd.Function) and found.__module__ == module.name:
                defined.add(f"{name}Backward")
    assert defined
    seen = set()
    for entry in FUNCTIONS.values():
        nodes = [output.grad_fn for output in entry.make(entry.dtypes[-1]).outputs]
        visited = set()
        while nodes:
            node = nodes.pop()
            if node is not None and node not in visited:
                visited.add(node)
                nodes += [following for following, _ in node.next_functions]
        seen |= {type(node).__name__ for node in visited}
    assert defined <= seen


# --- the clauses ------------------------------------------------------------------------------------------------------


def _gradients(function: Differentiated, factor: float) -> list[Tensor]:
    cotangents = [factor * _random(*y.shape, dtype=y.dtype, seed=k) for k, y in enumerate(function.outputs)]
    found = torch.autograd.grad(
        function.outputs, function.inputs, cotangents, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return list(found)


@each_function
def test_gradients_are_linear_in_the_cotangent(make, dtype):
    """Powers of two round nothing; a hundred round-offs are for sums whose order depends on where arrays begin."""
    function = make(dtype)
    plain = _gradients(function, 1.0)
    assert any(bool(gradient.any()) for gradient in plain)
    for exponent in (-EXPONENT[dtype], -EXPONENT[dtype] // 2, EXPONENT[dtype] // 2, EXPONENT[dtype]):
        for ours, expected in zip(_gradients(function, 2.0**exponent), plain):
            size = float(expected.abs().max()) if expected.numel() else 0.0
            torch.testing.assert_close(ours / 2.0**exponent, expected, rtol=0, atol=100 * torch.finfo(dtype).eps * size)


@each_function
def test_a_cotangent_of_zeros_gives_gradients_of_zeros(make, dtype):
    assert not any(gradient.any() for gradient in _gradients(make(dtype), 0.0))


@each_function
@pytest.mark.parametrize("factor", [torch.inf, torch.nan], ids=str)
@pytest.mark.filterwarnings("ignore:the adjoint solve did not converge")
def test_a_cotangent_that_is_not_finite_gives_no_number_that_looks_right(make, dtype, factor):
    for gradient, plain in zip(_gradients(make(dtype), factor), _gradients(make(dtype), 1.0)):
        assert not bool(torch.isfinite(gradient[plain != 0]).any())


# --- products of the adjoint and the solution -------------------------------------------------------------------------

#: Exponents of coefficient, source and cotangent, powers of two. The adjoint leaves the range (above 2^1024, or 2^128,
#: and below the inverse of that), and so do gradients in sources; those in coefficients do not.
EDGES = [
    (torch.float64, (-66, -200, 1000)), (torch.float64, (100, 240, -1000)),
    (torch.float32, (-30, -48, 107)), (torch.float32, (20, 46, -115)),
]  # fmt: skip


def _at_the_edge(method, dtype: torch.dtype, exponents: tuple[int, int, int]) -> list[Tensor]:
    """Gradients in the data of a problem where one is linear in each power of two: a, c, alpha, then f, g."""
    of_a, of_f, of_cotangent = (2.0**exponent for exponent in exponents)
    a, c, alpha = (_random(*n, dtype=dtype).abs().add(0.5) * of_a for n in ((7, 6), (7, 6), (6,)))
    f, g = (_random(*n, dtype=dtype, seed=1).abs().add(0.5) * of_f for n in ((2, 7, 6), (6,)))
    data = [field.requires_grad_() for field in (a, c, alpha, f, g)]
    sides = {"x0": sb.Robin(alpha, g), "x1": sb.Dirichlet(0.0), "y0": sb.Neumann(), "y1": sb.Dirichlet(0.0)}
    problem = sb.Diffusion(sb.Grid((7, 6)), a, f, reaction=c, boundary=sides)
    values = sb.solve(problem, method=method).values
    cotangent = _random(*values.shape, dtype=dtype).abs() * of_cotangent
    return list(torch.autograd.grad(values, data, cotangent))


@pytest.mark.parametrize("method", ["multigrid", "cg", "algebraic", "direct"])
@pytest.mark.parametrize(("dtype", "exponents"), EDGES)
def test_gradients_that_are_representable_are_finite_and_others_infinite(method, dtype, exponents):
    """Round-offs as above, and ten of the numbers below the normal ones."""
    of_a, of_f, of_cotangent = exponents
    plain = _at_the_edge(method, dtype, (0, 0, 0))
    for k, (ours, expected) in enumerate(zip(_at_the_edge(method, dtype, exponents), plain)):
        exponent = of_cotangent - of_a + (of_f - of_a if k < 3 else 0)
        expected = (expected.double() * 2.0 ** (exponent // 2) * 2.0 ** (exponent - exponent // 2)).to(dtype)
        limits, size = torch.finfo(dtype), float(expected.nan_to_num(posinf=0.0).abs().max())
        torch.testing.assert_close(ours, expected, rtol=0, atol=limits.eps * (100 * size + 10 * limits.tiny))


def test_gradients_in_the_coefficient_overflow_with_their_sign():
    """More conductance lowers the mean of the solution everywhere."""
    a = torch.full((8,), 1e-10, dtype=torch.float64, requires_grad=True)
    values = sb.solve(sb.Diffusion(sb.Grid((8,)), a, 1.0)).values
    values.backward(torch.full_like(values, 1e300))
    assert (a.grad == -torch.inf).all()
