"""Predictions of models: nodal values, and a flux if the model predicts one.

A model needs no base class. It has the method `predict(problem)`, and optionally `predict_flux(problem)`; or it has
`predict_with_flux(problem)`, which returns both.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from sciml_bounds.errors import InputError
from sciml_bounds.problems.diffusion import Diffusion

__all__ = ["Prediction", "is_model", "prediction_of"]


class Prediction(NamedTuple):
    """Prediction of a model for a problem.

    Attributes
    ----------
    values : array, shape (batch..., nodes)
        Predicted values.
    flux : tuple of array, one face field per axis, or None
        Predicted flux; None if the model does not predict one.
    """

    values: Any
    flux: tuple[Any, ...] | None


def is_model(candidate: Any) -> bool:
    """Return whether an object has methods that predict values or fluxes for a problem."""
    return any(hasattr(candidate, name) for name in ("predict", "predict_flux", "predict_with_flux"))


def prediction_of(model: Any, problem: Diffusion, *, with_flux: bool = True) -> Prediction:
    """Predict the values for a problem, and the flux if the model has one and `with_flux` is true, without gradients.

    Raises
    ------
    InputError
        If the model predicts a flux only, or `predict_with_flux` does not return a pair.
    """
    with torch.no_grad():
        if hasattr(model, "predict_with_flux") and (with_flux or not hasattr(model, "predict")):
            both = model.predict_with_flux(problem)
            if not isinstance(both, tuple | list) or len(both) != 2:
                raise InputError(
                    f"predict_with_flux of {type(model).__name__} must return the pair (values, flux), but it returned "
                    f"an object of type {type(both).__name__}; return the nodal values and a tuple of face fields."
                )
            return Prediction(both[0], both[1] if with_flux else None)
        if not hasattr(model, "predict"):
            raise InputError(
                f"{type(model).__name__} predicts a flux but no values; give it a method predict(problem), or pass "
                "values and its flux: certify(problem, values, flux=model.predict_flux(problem))."
            )
        has_flux = with_flux and hasattr(model, "predict_flux")
        return Prediction(model.predict(problem), model.predict_flux(problem) if has_flux else None)
