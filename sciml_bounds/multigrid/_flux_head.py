"""Networks whose predictions have a guaranteed error bound: one for the values, one for a stream function.

For -div(a grad u) = f in two dimensions, the flux y_0 is computed from cumulative sums of the source f so that div y_0
= -f on every cell. For any stream function psi at the nodes, y = y_0 + curl psi has the same divergence. So y is
equilibrated for all weights of the networks, and every field v with the prescribed boundary values satisfies (Prager,
Synge, Quart. Appl. Math. 5 (1947) 241-269)

    |||u - v|||^2 = ||a^-1/2 (a grad v - y)||^2 - ||a^-1/2 (a grad u - y)||^2  <=  ||a^-1/2 (a grad v - y)||^2.

where ||| . ||| is the energy norm. No linear system is solved. The right side is a sum over cells of squares of terms
that are linear in v and psi. It also serves as the training loss of both networks, since it has no unknown constant and
no weight to tune.

In three dimensions a divergence-free flux is the curl of a field on edges, which is not implemented.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from sciml_bounds.arrays import require_instance
from sciml_bounds.errors import InputError
from sciml_bounds.grid import Dirichlet
from sciml_bounds.multigrid._mgno import MgNO
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.store.datasets.weights import load_model, save_model

__all__ = ["BoundLoss", "CertifiedMgNO", "CertifiedNetwork", "bound_loss", "flux_of", "flux_term", "particular_flux"]

#: Number of samples per forward pass of the networks.
PREDICT_BATCH_SIZE = 64

_FIELDS = ("coefficient", "source")

#: Input channels of the potential network: a, y_0 (two components) and a grad v - y_0 (two components).
_POTENTIAL_CHANNELS = 5

#: Typical size of a stream function, divided by the side length of the box and the size of the flux.
POTENTIAL_SIZE = 0.2


def particular_flux(source: Tensor, spacing: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Compute a flux y with div y = -f on every cell.

    Half of f flows out along each axis, in equal parts through both ends.

    Parameters
    ----------
    source : Tensor
        Source f, shape (b, n_x, n_y).
    spacing : (float, float)
        h along each axis.

    Returns
    -------
    tuple of Tensor
        Flux y at the face centres, shapes (b, n_x + 1, n_y) and (b, n_x, n_y + 1).
    """
    along_x, along_y = (pad(source.cumsum(1), (0, 0, 1, 0)), pad(source.cumsum(2), (1, 0)))
    return (
        (along_x[:, -1:] / 2 - along_x) * (spacing[0] / 2),
        (along_y[..., -1:] / 2 - along_y) * (spacing[1] / 2),
    )


def flux_of(potential: Tensor, source: Tensor, spacing: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Compute the flux y_0 + curl psi, whose divergence is -f on every cell.

    Parameters
    ----------
    potential : Tensor
        Stream function psi at the nodes, shape (b, n_x + 1, n_y + 1).
    source : Tensor
        Source f on the cells, shape (b, n_x, n_y).
    spacing : (float, float)
        h along each axis.

    Returns
    -------
    tuple of Tensor
        Flux y at the face centres, in the format of `particular_flux`.
    """
    first, second = particular_flux(source, spacing)
    return first + potential.diff(dim=2) / spacing[1], second - potential.diff(dim=1) / spacing[0]


def flux_term(coefficient: Tensor, values: Tensor, flux: tuple[Tensor, Tensor], spacing: tuple[float, float]) -> Tensor:
    """Integrate a^-1 |a grad v - y|^2 exactly over each cell.

    On a cell, a d_x v - y_x is a constant plus a term linear in x and a term linear in y; the terms are orthogonal, and
    the linear functions have mean square 1 / 12.

    Parameters
    ----------
    coefficient : Tensor
        Coefficient a, shape (b, n_x, n_y).
    values : Tensor
        Values of v at the nodes, shape (b, n_x + 1, n_y + 1).
    flux : (Tensor, Tensor)
        Flux y at the face centres, in the format of `particular_flux`.
    spacing : (float, float)
        h along each axis.

    Returns
    -------
    Tensor
        Integral over each cell, shape (b, n_x, n_y).
    """
    hx, hy = spacing
    slope_x, slope_y = values.diff(dim=1), values.diff(dim=2)
    twist = slope_x.diff(dim=2)
    x, y = flux
    squared: Tensor = (
        (_mean(x, 1) - coefficient * _mean(slope_x, 2) / hx) ** 2
        + (_mean(y, 2) - coefficient * _mean(slope_y, 1) / hy) ** 2
        + (x.diff(dim=1) ** 2 + y.diff(dim=2) ** 2 + (1 / hx**2 + 1 / hy**2) * (coefficient * twist) ** 2) / 12
    )
    return squared / coefficient * (hx * hy)


def _mean(field: Tensor, dim: int) -> Tensor:
    n = field.shape[dim] - 1
    return (field.narrow(dim, 0, n) + field.narrow(dim, 1, n)) / 2


class BoundLoss:
    """Loss that is a guaranteed error bound: the bound on |||u - v|||, relative to |||target|||.

    Parameters
    ----------
    fields : sequence of str
        Meaning of the input channels, in order: "coefficient", "source".
    coefficient, source : float
        Constant value of a field that is not an input channel.
    lengths : (float, float)
        Side lengths of the box.

    Notes
    -----
    With v the predicted values and u the exact solution, ||| . ||| is the energy norm. Call the loss as
    `loss(prediction, target, inputs)`. The prediction (b, 2, n_x + 1, n_y + 1) contains the values and the stream
    function, the target has shape (b, 1, n_x + 1, n_y + 1), and the inputs have shape (b, channels, n_x, n_y). The
    result has one value per sample. The target is used for the scale only.
    """

    def __init__(
        self,
        fields: Sequence[str] = ("coefficient",),
        *,
        coefficient: float = 1.0,
        source: float = 1.0,
        lengths: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        self.fields = _checked_fields(fields)
        self.coefficient, self.source, self.lengths = float(coefficient), float(source), lengths

    def __call__(self, prediction: Tensor, target: Tensor, inputs: Tensor) -> Tensor:
        """Compute the relative bound of each sample, shape (b,)."""
        if prediction.ndim != 4 or prediction.shape[1] != 2:
            raise InputError(
                f"the bound loss needs predictions of values and stream function, shape (b, 2, n_x + 1, n_y + 1), but "
                f"the prediction has shape {tuple(prediction.shape)}; train a CertifiedMgNO with this loss."
            )
        exact = torch.promote_types(target.dtype, torch.float32)  # half precision cancels here
        with torch.autocast(target.device.type, enabled=False):
            a, f = _cell_fields(inputs.to(exact), self.fields, self.coefficient, self.source)
            spacing = _spacing(inputs, self.lengths)
            values, potential = prediction.to(exact).unbind(1)
            flux = flux_of(potential, f, spacing)
            squared = flux_term(a, values, flux, spacing).flatten(1).sum(1)
            zero_flux = (torch.zeros_like(flux[0]), torch.zeros_like(flux[1]))
            size = flux_term(a, target[:, 0].to(exact), zero_flux, spacing).flatten(1).sum(1)
        tiny = torch.finfo(exact).tiny
        return squared.clamp_min(tiny).sqrt() / size.clamp_min(tiny).sqrt()


class CertifiedNetwork(nn.Module):
    """Two networks, for values and stream function, that predict a solution with a guaranteed error bound.

    Parameters
    ----------
    values : torch.nn.Module
        Network that maps cell fields (b, fields, n) to nodal values (b, 1, n + 1) that vanish on the boundary.
    potential : torch.nn.Module
        Network that maps nodal fields (b, 5, n + 1) to a stream function (b, 1, n + 1). The five fields are the
        coefficient a, the flux y_0 with div y_0 = -f, and a grad v - y_0 with the predicted values v.
    fields : sequence of str
        Fields of the problem that are input channels, in order: "coefficient", "source".
    source : float
        Constant source in the training data, used if "source" is not an input channel.

    Notes
    -----
    The model is for the unit square with zero boundary values. If the source is constant and the box is a square of
    another size, the prediction is scaled like the solution. For other differences from the training data the bound
    becomes larger, but it stays guaranteed.
    """

    def __init__(
        self,
        values: nn.Module,
        potential: nn.Module,
        *,
        fields: Sequence[str] = ("coefficient",),
        source: float = 1.0,
    ) -> None:
        super().__init__()
        self.fields = _checked_fields(fields)
        self.source = float(source)
        if not math.isfinite(self.source) or self.source == 0:
            raise InputError(f"source={source} cannot scale the predictions; give a finite number that is not zero.")
        self.values, self.potential = values, potential

    def forward(self, inputs: Tensor) -> Tensor:
        """Map cell fields (b, fields, n_x, n_y) to values and stream function, (b, 2, n_x + 1, n_y + 1)."""
        if inputs.ndim != 4 or inputs.shape[1] != len(self.fields):
            raise InputError(
                f"the input has shape {tuple(inputs.shape)}; give shape (b, {len(self.fields)}, n_x, n_y) with the "
                f"channels {', '.join(self.fields)}."
            )
        values = self.values(inputs)
        potential = self.potential(self.potential_inputs(inputs, values.detach()))
        return torch.cat([values, potential], 1)

    def potential_inputs(self, inputs: Tensor, values: Tensor) -> Tensor:
        """Return the inputs (b, 5, n + 1) of the potential network: a, y_0 and a grad v - y_0 at the nodes."""
        a, f = _cell_fields(inputs, self.fields, 1.0, self.source)
        spacing = _spacing(inputs, (1.0, 1.0))
        v = values[:, 0]
        x, y = particular_flux(f, spacing)
        x, y = _mean(x, 1), _mean(y, 2)
        gradient_x, gradient_y = _mean(v.diff(dim=1), 2) / spacing[0], _mean(v.diff(dim=2), 1) / spacing[1]
        return _to_nodes(torch.stack([a, x, y, a * gradient_x - x, a * gradient_y - y], 1))

    def fit_normalizer(self, inputs: Tensor, targets: Tensor) -> None:
        """Fit the normalisers of both networks to training data, for networks that have the method `fit_normalizer`."""
        every = max(1, len(inputs) // PREDICT_BATCH_SIZE)  # a few samples suffice for the inputs of the potential
        seen = self.potential_inputs(inputs[::every], targets[::every])
        for network, data in (
            (self.values, (inputs, targets)),
            (self.potential, (seen, POTENTIAL_SIZE * seen[:, 3:4])),
        ):
            fit: Any = getattr(network, "fit_normalizer", None)
            if fit is not None:
                fit(*data)

    def predict(self, problem: Diffusion) -> Tensor:
        """Predict the solution of a problem.

        Returns nodal values (batch..., nodes) in float64, with the prescribed values on Dirichlet sides.
        """
        return self.predict_with_flux(problem)[0]

    def predict_flux(self, problem: Diffusion) -> tuple[Tensor, Tensor]:
        """Predict a flux y close to a grad u, with div y = -f on every cell.

        Returns one array per axis: values at the face centres, (batch..., n_x + 1, n_y) and (batch..., n_x, n_y + 1).
        """
        return self.predict_with_flux(problem)[1]

    def predict_with_flux(self, problem: Diffusion) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return `predict(problem)` and `predict_flux(problem)`, with one evaluation of the networks.

        `sb.certify(problem, model, lower=False)` bounds the error of the values by the flux, without a linear solve.
        """
        _require_plain(problem)
        exact = problem.detach().to(torch.float64)
        count = exact.batch_shape.numel()
        a, f = (exact.samples(field).expand(count, *exact.grid.shape) for field in (exact.coefficient[0], exact.source))
        channels = {"coefficient": a, "source": f}
        parameter = next(self.parameters(), torch.zeros(()))
        with torch.no_grad():
            inputs = torch.stack([channels[name] for name in self.fields], 1).to(parameter)
            values, potential = (_evaluated(self, inputs).to(a) * self._scale(exact, f)).unbind(1)
            flux = flux_of(potential, f, (exact.grid.spacing[0], exact.grid.spacing[1]))
        batch = exact.batch_shape
        first, second = (face.reshape(*batch, *face.shape[1:]) for face in flux)
        return exact.impose_boundary(values.reshape(*batch, *values.shape[1:])), (first, second)

    def _scale(self, problem: Diffusion, source: Tensor) -> Tensor:
        """Return the ratio of solution and stream function to those on the unit square, shape (b, 1, 1, 1)."""
        area = problem.grid.lengths[0] * problem.grid.lengths[1]
        mean = source.flatten(1).mean(1) / self.source if "source" not in self.fields else source.new_ones(len(source))
        return (mean * area).view(-1, 1, 1, 1)


class CertifiedMgNO(CertifiedNetwork):
    """Two `MgNO` networks, for values and stream function, that predict a solution with a guaranteed error bound.

    Parameters
    ----------
    fields : sequence of str
        Fields of the problem that are input channels, in order: "coefficient", "source".
    source : float
        Constant source in the training data, used if "source" is not an input channel.
    **network
        Options of both `MgNO` networks, such as `channels` and `layers`.

    Examples
    --------
    >>> import sciml_bounds as sb
    >>> model = sb.CertifiedMgNO(channels=4, layers=2, levels=3)
    >>> problem = sb.Diffusion(sb.Grid((16, 16)), coefficient=1.0, source=1.0)
    >>> certificate = sb.certify(problem, model, lower=False)  # large, since the weights are random, but guaranteed
    >>> bool(sb.certify(problem, certificate.values).lower <= certificate.upper)
    True
    """

    def __init__(self, *, fields: Sequence[str] = ("coefficient",), source: float = 1.0, **network: Any) -> None:
        own = [name for name in ("in_channels", "out_channels", "dim", "boundary", "layout") if name in network]
        if own:
            raise InputError(f"{own[0]} has a fixed value in both networks of a CertifiedMgNO; leave it out.")
        values = MgNO(len(fields), 1, dim=2, boundary="dirichlet", layout="cells->nodes", **network)
        potential = MgNO(_POTENTIAL_CHANNELS, 1, dim=2, boundary="neumann", layout="same", **network)
        super().__init__(values, potential, fields=fields, source=source)
        self.arguments: dict[str, Any] = {"fields": list(fields), "source": source, **network}

    def save(self, path: Path | str, **card: Any) -> None:
        """Save the weights and a model card (recipe, seed, metrics) to a safetensors file."""
        save_model(self, path, **card)

    @classmethod
    def load(cls, name_or_path: Path | str) -> CertifiedMgNO:
        """Load a network in evaluation mode, from a file or by the name of a network that ships with the package."""
        model = load_model(name_or_path)
        if not isinstance(model, cls):
            raise InputError(
                f"{name_or_path} contains a {type(model).__name__}, not a {cls.__name__}; use sb.data.load_model."
            )
        return model.eval()


def _evaluated(model: nn.Module, inputs: Tensor) -> Tensor:
    """Apply a network in evaluation mode, and then restore the mode it had."""
    training = model.training
    try:
        model.eval()
        return torch.cat([model(part) for part in inputs.split(PREDICT_BATCH_SIZE)])
    finally:
        model.train(training)


def _to_nodes(cells: Tensor) -> Tensor:
    """Average the cells (b, channel, n_x, n_y) around each node, after repeating boundary cells outwards."""
    wide = pad(cells, (1, 1, 1, 1), mode="replicate")
    return _mean(_mean(wide, 2), 3)


def _checked_fields(fields: Sequence[str]) -> tuple[str, ...]:
    if isinstance(fields, str):
        raise InputError(f"fields={fields!r} is a single name; give a list: [{fields!r}].")
    unknown = [name for name in fields if name not in _FIELDS]
    if unknown or not fields or len(set(fields)) < len(fields):
        raise InputError(f"fields={fields!r} is not valid; give names from {_FIELDS}, each at most once.")
    return tuple(fields)


def _cell_fields(inputs: Tensor, fields: tuple[str, ...], coefficient: float, source: float) -> tuple[Tensor, Tensor]:
    """Return coefficient and source from the input channels, or the given constants for missing channels."""
    if inputs.ndim != 4 or inputs.shape[1] != len(fields):
        raise InputError(
            f"inputs have shape {tuple(inputs.shape)}; give shape (b, {len(fields)}, n_x, n_y), with the channels "
            f"{', '.join(fields)}."
        )
    channels = dict(zip(fields, inputs.unbind(1)))
    a, f = channels.get("coefficient"), channels.get("source")
    like = inputs[:, 0]
    return (
        torch.full_like(like, coefficient) if a is None else a,
        torch.full_like(like, source) if f is None else f,
    )


def _spacing(inputs: Tensor, lengths: tuple[float, float]) -> tuple[float, float]:
    return lengths[0] / inputs.shape[2], lengths[1] / inputs.shape[3]


def _require_plain(problem: Diffusion) -> None:
    """Raise unless the flux is in equilibrium exactly if div y = -f on every cell, and has a stream function."""
    require_instance(problem, "the problem", Diffusion, "an sb.Diffusion problem")
    if problem.grid.dim != 2:
        raise InputError(
            f"the flux head is for two dimensions, but the problem has {problem.grid.dim}; use sb.certify(problem, "
            "values)."
        )
    dirichlet = all(isinstance(condition, Dirichlet) for condition in problem.boundary.values())
    plain = dirichlet and problem.solid is None and not bool(problem.reaction.any()) and problem.has_scalar_coefficient
    if not plain:
        raise InputError(
            "the flux head needs a scalar coefficient and Dirichlet values on all sides, without reaction and solid "
            "cells; certify predictions for other problems with sb.certify(problem, values)."
        )


#: `BoundLoss` for the Darcy recipes: the coefficient is the input, the source is 1, and the box is the unit square.
bound_loss = BoundLoss()
