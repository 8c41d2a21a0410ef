"""The metric "bound" for any network: its predictions are certified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sciml_bounds.bounds._certify import certify
from sciml_bounds.bounds._network_predictions import nodal_prediction
from sciml_bounds.errors import InputError
from sciml_bounds.problems.batch_axes import known_batch
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.problem_records import CELL_FIELDS, problem_from_record

__all__ = ["CertifiedBound", "bound_metric"]


class CertifiedBound:
    """Metric that certifies predictions: the guaranteed bound of the energy error, relative to |||target|||.

    Parameters
    ----------
    problem : Diffusion or mapping
        The problem of one sample, or its record in a data set.
    fields : sequence of str
        Names of the input channels; those that are cell fields of a problem replace the fields of `problem`.

    Notes
    -----
    Call as `metric(prediction, target, inputs)` with a prediction (b, 1, *space) at the nodes, the interior nodes or in
    the cells; the result has one value per sample, in float64. Certified is what `sb.training.predict` returns: nodal
    values with the prescribed values on Dirichlet sides. The target only sets the scale.
    """

    __name__ = "bound"

    def __init__(self, problem: Diffusion | Mapping[str, Any], fields: Sequence[str]) -> None:
        self.problem, self.fields = problem, tuple(fields)

    def __call__(self, prediction: Tensor, target: Tensor, inputs: Tensor) -> Tensor:
        """Return the bound of each sample, shape (b,)."""
        if not isinstance(prediction, Tensor) or prediction.ndim < 3 or prediction.shape[1] != 1:
            raise InputError("the metric bound needs predictions with one channel, the solution, shape (b, 1, *space).")
        problem = self._sample_problem(inputs.double())
        values = nodal_prediction(problem, prediction.double())
        scale = certify(problem, nodal_prediction(problem, target.double()), lower=False).energy
        return certify(problem, values, lower=False).upper / scale.clamp_min(torch.finfo(scale.dtype).tiny)

    def _sample_problem(self, inputs: Tensor) -> Diffusion:
        """Return the problems of a batch of inputs (b, channel, *cells)."""
        channels = dict(zip(self.fields, inputs.unbind(1), strict=False))
        fields: dict[str, Tensor] = {name: channels[name] for name in CELL_FIELDS if name in channels}
        if not isinstance(self.problem, Diffusion):
            return problem_from_record(self.problem, tuple(inputs.shape[2:]), fields)
        if "solid" in fields:
            fields["solid"] = fields["solid"] > 0.5
        with known_batch():
            return self.problem.detach().to(torch.float64).to(inputs.device).replace(**fields)


def bound_metric(samples: Any, problem: Diffusion | None) -> CertifiedBound:
    """Return the metric "bound" for a data set.

    Parameters
    ----------
    samples : Samples
        The data set, or a subset of it.
    problem : Diffusion or None
        The problem of one sample; by default the one that the data set records.

    Raises
    ------
    InputError
        If no problem is given or recorded.
    """
    inner = samples
    while hasattr(inner, "dataset"):  # a torch Subset
        inner = inner.dataset
    fields = tuple(getattr(inner, "inputs", ("coefficient",)))
    described = getattr(inner, "parameters", {}).get("problem") if problem is None else problem
    if described is None:
        raise InputError(
            "the metric bound needs the problem of the samples, which this data set does not record; give "
            "problem=sb.Diffusion(...), or record it with sb.data.from_arrays(..., problem=)."
        )
    nodal = [name for name in fields if name in CELL_FIELDS and str(getattr(inner, "layout", "")).startswith("nodes")]
    if nodal:
        raise InputError(
            f"the metric bound needs the {nodal[0]} with one value per cell, but the data set has values at nodes; "
            "make a data set with cell values."
        )
    return CertifiedBound(described, fields)
