"""The metric "bound" certifies what any network predicts: it is above the true error, and that of sb.certify."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from own_networks import CNN
from refusals import refused
from torch.utils.data import Subset, TensorDataset

import sciml_bounds as sb
from sciml_bounds.training import evaluate

BOUNDARY = {"x0": sb.Dirichlet(1.0), "x1": sb.Neumann(0.5), "y0": sb.Neumann(), "y1": sb.Robin(2.0, 1.0)}
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A data set of 20 samples with inhomogeneous data, and its problem."""
    problem = sb.Diffusion(sb.Grid((8, 6), lengths=(2.0, 1.0)), source=2.0, boundary=BOUNDARY)
    a = RNG.uniform(1, 3, (20, 8, 6))
    u = sb.solve(problem.replace(coefficient=a), rtol=1e-12).values
    path = tmp_path_factory.mktemp("own") / "own.nc"
    sb.data.from_arrays({"coefficient": a, "solution": u}, path, problem=problem)
    return path, problem


def bounds(net, samples, **options):
    return evaluate(net, samples, ["bound"], **options).values["bound"]


def test_it_is_the_certificate_of_the_prediction(own):
    path, problem = own
    net = CNN().double()
    samples = sb.TorchDataset(path, "all", dtype=torch.float64)
    found = bounds(net, samples, batch_size=3)
    for index in (0, 7):
        x, y = samples[index]
        sample = problem.replace(coefficient=x[0])
        certificate = sb.certify(sample, sb.training.predict(net, sample))
        scale = sb.certify(sample, y[0]).energy
        assert float(found[index]) == pytest.approx(float(certificate.upper / scale), rel=1e-2)


def test_it_is_above_the_true_error(own):
    """The error is computed on a grid that is eight times finer, by the energy of the difference."""
    path, problem = own
    net = CNN()
    samples = sb.TorchDataset(path, "test")
    found = bounds(net, samples)
    for index, (x, y) in enumerate(samples):
        sample = problem.replace(coefficient=x[0].double())
        a = np.kron(x[0].double().numpy(), np.ones((8, 8)))
        fine = sb.Diffusion(problem.grid.refine(8), a, 2.0, boundary=BOUNDARY)
        values = sb.training.predict(net, sample)
        lower = sb.certify(fine, values, layout="coarse").lower
        assert float(lower) <= float(found[index] * sb.certify(sample, y[0].double()).energy) * (1 + 1e-6)
        assert float(lower) > 0.1 * float(found[index] * sb.certify(sample, y[0].double()).energy)


def test_recipes_record_their_problem(tmp_path):
    for recipe in ("darcy-rough", "poisson"):
        path = tmp_path / f"{recipe}.nc"
        sb.make_dataset(recipe, path, samples=10, resolution=8)
        samples = sb.TorchDataset(path, "all")
        name = samples.inputs[0]
        problem = sb.Diffusion(sb.Grid((8, 8)), **({name: 1.0} | ({"source": 1.0} if name == "coefficient" else {})))
        net = CNN(2)
        recorded, given = bounds(net, samples), bounds(net, samples, problem=problem)
        assert torch.equal(recorded, given)


def test_a_subset_and_plain_tensors(own):
    path, problem = own
    net = CNN()
    samples = sb.TorchDataset(path, "all")
    whole = bounds(net, samples)
    torch.testing.assert_close(bounds(net, Subset(samples, [4, 2])), whole[[4, 2]], rtol=1e-3, atol=0)
    x, y = (torch.stack(parts) for parts in zip(*samples))
    torch.testing.assert_close(bounds(net, TensorDataset(x, y), problem=problem), whole, rtol=1e-3, atol=0)


def test_a_coarser_grid_is_certified_there(own):
    samples = sb.TorchDataset(own[0], "all", subsample=2)
    assert bool((bounds(CNN(), samples) > 0).all())


def test_an_mgno_too(own, tmp_path):
    path = tmp_path / "darcy.nc"
    sb.make_dataset("darcy-rough", path, samples=10, resolution=16)
    samples = sb.TorchDataset(path, "test")
    net = sb.MgNO(channels=2, layers=1, levels=2)
    problem = sb.Diffusion(sb.Grid((16, 16)), coefficient=samples[0][0][0].double(), source=1.0)
    expected = sb.certify(problem, net.predict(problem)).upper / sb.certify(problem, samples[0][1][0].double()).energy
    assert float(bounds(net, samples)[0]) == pytest.approx(float(expected), rel=1e-2)


def test_what_cannot_be_certified_is_refused(own, tmp_path):
    path, problem = own
    plain = TensorDataset(torch.ones(2, 1, 8, 6), torch.ones(2, 1, 9, 7))
    refused("problem from_arrays", bounds, CNN(), plain)
    refused("one channel", bounds, torch.nn.Conv2d(1, 2, 2, padding=1), plain, problem=problem)
    with sb.open_dataset(path) as data:
        arrays = {"coefficient": data["solution"].values + 3, "solution": data["solution"].values}
    nodal = sb.data.from_arrays(arrays, tmp_path / "nodal.nc", grid=problem.grid)
    samples = sb.TorchDataset(nodal, "test")
    refused("coefficient per cell nodes", bounds, torch.nn.Conv2d(1, 1, 1), samples, problem=problem)
    varying = problem.replace(source=RNG.random((8, 6)))
    own_arrays = {"coefficient": np.ones((10, 8, 6)), "solution": np.ones((10, 9, 7))}
    samples = sb.TorchDataset(sb.data.from_arrays(own_arrays, tmp_path / "v.nc", problem=varying), "test")
    refused("record source problem=", bounds, CNN(), samples)
    assert bool((bounds(CNN(), samples, problem=varying) > 0).all())
