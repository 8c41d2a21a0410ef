"""Hessians from samples and sketches: right on average, close in one draw, and good for Newton's method."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from refusals import refusals

import sciml_bounds as sb
from sciml_bounds.sketching._sampled_hessians import SampledHessian, SketchedHessian
from sciml_bounds.sketching._sketches.count_sketch import CountSketch
from sciml_bounds.sketching._sketches.gaussian_block import GaussianBlock
from sciml_bounds.sketching._sketches.sparse_sign import SparseSign
from sciml_bounds.sketching._sketches.srht import SRHT

SAMPLES, UNKNOWNS = 2000, 6
GENERATOR = torch.Generator().manual_seed(0)
Z = torch.randn((SAMPLES, UNKNOWNS), generator=GENERATOR, dtype=torch.float64)
Y = torch.sign(Z @ torch.linspace(-1, 1, UNKNOWNS).double() + torch.randn(SAMPLES, generator=GENERATOR).double())
START = torch.ones(UNKNOWNS, dtype=torch.float64)


def mean(x, terms=slice(None)):
    """Logistic loss."""
    return torch.nn.functional.softplus(-Y[terms] * (Z[terms] @ x)).mean()


def root(x):
    p = torch.sigmoid(Y * (Z @ x))
    return (p * (1 - p) / SAMPLES).sqrt().unsqueeze(1) * Z


def constraints(x):
    return torch.stack([x @ x - 1, x[0] + x[1]])


EXACT = root(START).T @ root(START)
HESSIANS = {
    "sampled": lambda seed: SampledHessian(mean, SAMPLES, 200, seed=seed),
    "count sketch": lambda seed: SketchedHessian(root, CountSketch(200), seed),
    "sparse sign": lambda seed: SketchedHessian(root, SparseSign(200, 4), seed),
    "srht": lambda seed: SketchedHessian(root, SRHT(200), seed),
}


def relative_error(H):
    """||E^-1/2 H E^-1/2 - I||, E the exact Hessian: what Newton steps with H leave of an error."""
    inverse_root = torch.linalg.inv(torch.linalg.cholesky(EXACT))
    return float(torch.linalg.matrix_norm(inverse_root @ H @ inverse_root.T - torch.eye(UNKNOWNS), ord=2))


def test_hessians_by_hand_are_taken_of_the_same_samples():
    def by_hand(x, terms):
        rows = root(x)[terms]
        return rows.T @ rows * (SAMPLES / len(terms))

    H = SampledHessian(mean, SAMPLES, 200, hess=by_hand)(START)
    torch.testing.assert_close(H, SampledHessian(mean, SAMPLES, 200)(START), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", HESSIANS)
def test_they_are_right_on_average_and_close_each(name):
    """e is about 2 sqrt(n / size) = 0.35 for one (twice that is allowed), and 1 / sqrt(200) of it for the mean."""
    drawn = [HESSIANS[name](seed)(START) for seed in range(200)]
    errors = [relative_error(H) for H in drawn]
    assert 0.1 < float(np.median(errors)) < 0.7
    assert relative_error(torch.stack(drawn).mean(0)) < 0.1
    assert all(torch.equal(H, H.mT) for H in drawn)


@pytest.mark.parametrize("name", HESSIANS)
def test_minima_are_found_in_a_few_more_steps(name):
    exact = sb.minimize(mean, START, constraints=constraints)
    result = sb.minimize(mean, START, hess=HESSIANS[name](0), constraints=constraints)
    assert result.success
    torch.testing.assert_close(result.x, exact.x, rtol=0, atol=1e-6)
    # ln(1e-10) / ln(0.5): from 1 to 1e-10 or less, with errors that are below 1/2 mostly
    assert exact.nit < result.nit <= exact.nit + 35


@pytest.mark.parametrize("name", HESSIANS)
def test_draws_depend_on_seed_and_point_alone(name):
    hess = HESSIANS[name](3)
    first = hess(START)
    assert torch.equal(hess(START), first)
    assert torch.equal(HESSIANS[name](3)(START), first)
    assert not torch.equal(HESSIANS[name](4)(START), first)
    moved = START.clone()
    moved[0] += 1e-15
    assert float((hess(moved) - first).norm()) > 1e-3 * float(first.norm())


@pytest.mark.parametrize("name", HESSIANS)
def test_arrays_do_too(name):
    """With an objective of numpy, whose gradient is given."""

    def fun(x):
        return float(mean(torch.from_numpy(x)))

    def jac(x):
        point = torch.from_numpy(x).requires_grad_()
        return torch.autograd.grad(mean(point), point)[0].numpy()

    result = sb.minimize(fun, START.numpy(), jac=jac, hess=HESSIANS[name](0))
    assert result.success
    assert isinstance(result.x, np.ndarray)


def test_a_sample_of_all_terms_and_the_root_are_exact():
    torch.testing.assert_close(torch.autograd.functional.hessian(mean, START), EXACT, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(SampledHessian(mean, SAMPLES, SAMPLES)(START), EXACT, rtol=1e-10, atol=1e-14)


test_bad_input_is_refused = refusals(
    ("size=11 count=10", lambda: SampledHessian(mean, 10, 11)),
    ("size 0", lambda: SampledHessian(mean, 10, 0)),
    ("lengths average", lambda: SketchedHessian(root, GaussianBlock(20))),
    ("shape (2000,) tensor 6)", lambda: SketchedHessian(lambda x: root(x)[:, 0], CountSketch(20))(START)),
    ("ndarray", lambda: SketchedHessian(lambda x: root(x).numpy(), CountSketch(20))(START)),
    ("shape (6,)", lambda: SampledHessian(lambda x, terms: x, 5, 2)(START)),
    ("NoneType", lambda: SampledHessian(lambda x, terms: None, 5, 2)(START)),
    ("mean 3", lambda: SampledHessian(3, 5, 2)),
    ("hess 3 function", lambda: SampledHessian(mean, 5, 2, hess=3)),
    ("root Hessian None", lambda: SketchedHessian(None, CountSketch(20))),
)
