"""Models are certified by what they predict: values, and a flux if they have one."""

from __future__ import annotations

import pytest
import torch
from refusals import refused

import sciml_bounds as sb

PROBLEM = sb.Diffusion(sb.Grid((6, 5)), coefficient=lambda x, y: 1 + x + y, source=1.0)


class Values:
    """Predict the discrete solution, 10 % too large, and count the calls."""

    def __init__(self):
        self.calls = []

    def predict(self, problem):
        self.calls.append("predict")
        return 1.1 * sb.solve(problem).values


class Both(Values):
    """Predict a flux, too."""

    def predict_flux(self, problem):
        self.calls.append("predict_flux")
        homogeneous = problem.replace(coefficient=1.0)  # balanced, but the flux of another equation
        return tuple(sb.certify(homogeneous, sb.solve(homogeneous)).flux)


class AtOnce(Both):
    """Predict both in one pass."""

    def predict_with_flux(self, problem):
        self.calls.append("predict_with_flux")
        return Values().predict(problem), Both().predict_flux(problem)


class AtOnceOnly:
    """Predict both in one pass, and neither alone."""

    def predict_with_flux(self, problem):
        return AtOnce().predict_with_flux(problem)


def test_a_model_is_certified_by_its_values():
    certificate, of_values = sb.certify(PROBLEM, Values()), sb.certify(PROBLEM, Values().predict(PROBLEM))
    assert float(certificate.upper) == float(of_values.upper)
    assert float(certificate.lower) == float(of_values.lower) > 0
    assert torch.equal(certificate.values, of_values.values)


@pytest.mark.parametrize(
    ("model", "calls"),
    [(Both(), ["predict", "predict_flux"]), (AtOnce(), ["predict_with_flux"]), (AtOnceOnly(), None)],
    ids=["two methods", "one pass", "one pass only"],
)
def test_a_predicted_flux_is_used(model, calls):
    values, flux = AtOnce().predict_with_flux(PROBLEM)
    certificate = sb.certify(PROBLEM, model)
    assert calls is None or model.calls == calls
    assert float(certificate.upper) == float(sb.certify(PROBLEM, values, flux=flux).upper)
    assert float(certificate.upper) > float(sb.certify(PROBLEM, values).upper)  # the flux is worse than a computed one


@pytest.mark.parametrize("model", [Both(), AtOnce()], ids=["two methods", "one pass"])
def test_a_given_flux_replaces_the_predicted_one(model):
    flux = sb.certify(PROBLEM, torch.zeros(PROBLEM.node_shape)).flux
    certificate = sb.certify(PROBLEM, model, flux=flux)
    assert model.calls == ["predict"]
    assert float(certificate.upper) == float(sb.certify(PROBLEM, Values().predict(PROBLEM), flux=flux).upper)
    assert sb.certify(PROBLEM, AtOnceOnly(), flux=flux).upper == certificate.upper


def test_values_of_other_layouts_are_predicted_too():
    class OnCells:
        def predict(self, problem):
            return torch.ones(1, 1, *problem.grid.shape, dtype=torch.float32)  # as networks return it

    certificate = sb.certify(PROBLEM, OnCells(), layout="cells")
    assert certificate.upper == sb.certify(PROBLEM, torch.ones(6, 5), layout="cells").upper
    refused("layout 'cells'", sb.certify, PROBLEM, OnCells())


def test_predictions_have_no_gradients():
    coefficient = torch.ones(6, 5, dtype=torch.float64, requires_grad=True)
    problem = PROBLEM.replace(coefficient=coefficient)
    model = sb.MgNO(1, 1, dim=2, channels=2, layers=1, levels=2)
    certificate = sb.certify(problem, model)
    assert not certificate.upper.requires_grad
    assert not certificate.energy.requires_grad  # the values depend on the coefficient, which is not differentiated


def test_what_predicts_no_values_is_refused():
    class FluxOnly:
        def predict_flux(self, problem):
            return ()

    class Single:
        def predict_with_flux(self, problem):
            return torch.zeros(problem.node_shape)

    refused("FluxOnly flux predict(problem)", sb.certify, PROBLEM, FluxOnly())
    refused("predict_with_flux Single pair (values, flux) Tensor", sb.certify, PROBLEM, Single())
