"""Networks drawn from the waves of a function, with the mean square of their error known beforehand (Barron, Maurey).

A function f = g + E[Y], with g kept exactly and Y a random multiple of one neuron, has
E ||f - g - mean of k draws||^2 = (E ||Y||^2 - ||f - g||^2) / k. A term with coefficient c_j is drawn with a probability
proportional to |c_j| s_j, where |c_j| s_j bounds the root mean square, over the box and the draw, of c_j times the
neuron that stands for the term; then the error is at most M / sqrt k with M = sum_j |c_j| s_j, times the square root of
the volume of the box. With S = prod_i |sinc(w_i l_i)| and K = (1 + |sinc(2 r)|) / 2, sinc z = sin z / z (for r see
`barron._waves`):

- cosine. Means of cos^2 over the box are at most (1 + S) / 2: in L2 s^2 = (1 + S) / 2, and with gradients
  s^2 = (1 + |w|^2 + |1 - |w|^2| S) / 2. At whole periods S = 0.
- step, in L2. cos(t + h) = cos h cos r - int_-r^r sin(b + h) (1[t > b] - 1/2) db for |t| <= r. With b uniform sin^2 has
  mean at most K, so that s = r sqrt K.
- sigmoid. Steps replaced by s(z t) differ by (2 log 2 - 1) / z over a line, and arguments have a density of at most
  1 / max |w_i| l_i in the box. With z as large as below all of this adds 5 % to the error.
- ReLU. cos(t + h) = an affine function - int_-r^r |t - b| / 2 cos(b + h) db, and |t - b| / 2 is a ReLU but for an
  affine function. Less its mid-range it is at most r / 2, and has the gradient +-w / 2: s = r^2 sqrt K in L2, and
  s = r sqrt(K (r^2 + |w|^2)) with gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_CEILING
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from sciml_bounds.arrays import require_choice, require_count, require_number, require_seed
from sciml_bounds.barron._barron_network import BarronNetwork
from sciml_bounds.barron._waves import Drawn, Waves, waves_of
from sciml_bounds.errors import InputError
from sciml_bounds.reports import describe, summary_table

__all__ = ["Norm", "SampledNetwork", "sample_network", "width_for"]

#: ||f||^2 = int f^2, for "H1" + |grad f|^2, over the box of the series.
Norm = Literal["L2", "H1"]

#: What steepness adds to the error of sigmoids, and the steepness over the width that this needs.
_SIGMOID_PART = 0.05
_STEEPNESS = 4 * (2 * math.log(2) - 1) / _SIGMOID_PART**2


@dataclass(frozen=True, repr=False)
class SampledNetwork:
    """A network drawn from a function.

    Attributes
    ----------
    network
        The network.
    error_bound
        A bound of sqrt(E ||error||^2), the mean taken over all draws.
    norm
        The norm ||.|| of the error, "L2" or "H1": an integral over the box, not a mean, so that it grows with the
        square root of the volume.
    kind
        "bound", or "estimate" where the waves of the function are: then so is `error_bound`.
    """

    network: BarronNetwork
    error_bound: float
    norm: Norm
    kind: Literal["bound", "estimate"]

    def __repr__(self) -> str:
        bound = describe(torch.tensor(self.error_bound, dtype=torch.float64), rounding=ROUND_CEILING)
        rows = {
            "width": str(self.network.width),
            "activation": self.network.activation.name,
            f"{self.norm} norm of the error ({self.kind})": bound,
        }
        return summary_table("SampledNetwork", rows)


def width_for(function: Any, error: float, norm: Norm = "L2", activation: str = "cosine") -> int:
    """Return a width at which some network of this activation comes within an error of a series.

    The width at which `sample_network` has this bound of its mean error, so that some draw is as good: (M / error)^2
    times the volume of the box, M the sum of the magnitudes of the terms, each times a size that the neurons have (see
    `barron._sampled_network`). This is Maurey's argument as Barron has it (IEEE Trans. Inf. Theory 39 (1993) 930-945).

    Parameters
    ----------
    function
        A `BarronFunction` that is a series, in any dimension.
    error
        In the norm over the box of the series; not relative.
    norm
        "L2", or "H1" for cosine and ReLU networks.
    activation
        "cosine", "relu", "sigmoid" or "step".

    Returns
    -------
    int
        The width.

    Raises
    ------
    InputError
        If the function is no series, the error not positive or beyond what a number of neurons can reach, or nothing
        is known of this activation in this norm.

    Examples
    --------
    >>> import sciml_bounds as sb
    >>> f = sb.barron.BarronFunction.cosine([[1, 2, 0], [0, 1, 3]], [1.0, 0.5])
    >>> sb.barron.width_for(f, 0.1), sb.barron.width_for(f, 0.1, norm="H1")
    (113, 7307)
    >>> sb.barron.width_for(f, 0.1, activation="step")
    3085
    """
    error = require_number(error, "error", positive=True)
    waves = waves_of(function)
    total = _total(waves, norm, activation)
    root = total / error
    if not math.isfinite(root * root):
        raise InputError(
            f"error is {error!r}, and the terms of the function add up to {total:.3g}: no width in double "
            "precision is enough; give a larger error."
        )
    return max(1, math.ceil(root * root))


def sample_network(
    function: Any, width: int, norm: Norm = "L2", activation: str = "cosine", *, seed: int = 0
) -> SampledNetwork:
    """Draw a network of a given width that approximates a series, with a bound of its mean error.

    Constants, and for ReLUs an affine function, are kept exactly. Outer weights solved for anew by least squares only
    lower the error.

    Parameters
    ----------
    function, norm, activation
        As for `width_for`.
    width
        Number of neurons, k.
    seed
        Of the draw; the same one gives the same network.

    Returns
    -------
    SampledNetwork
        The network, on the box of the series, and the bound M sqrt(volume / k) of sqrt(E ||error||^2), the mean taken
        over all draws.

    Raises
    ------
    InputError
        As for `width_for`, or if the width is not positive or the seed no seed.

    Notes
    -----
    The error is that against the series; what `BarronFunction.sampled` says of the values between samples comes on top.

    A function that is a mean over a density of neurons is approximated by the mean of k that are drawn from it (Barron,
    IEEE Trans. Inf. Theory 39 (1993) 930-945). The densities and M for each activation are in
    `barron._sampled_network`.

    Examples
    --------
    >>> import math
    >>> import torch
    >>> import sciml_bounds as sb
    >>> f = sb.barron.BarronFunction.cosine([[1, 2, 0], [0, 1, 3]], [1.0, 0.5])
    >>> sampled = sb.barron.sample_network(f, 113)
    >>> round(sampled.error_bound, 4), sampled.network.width
    (0.0998, 113)
    >>> x = torch.rand((10_000, 3), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> draws = [sb.barron.sample_network(f, 113, seed=seed).network for seed in range(20)]
    >>> squares = [(network(x) - f(x)).square().mean().item() for network in draws]
    >>> f"{math.sqrt(sum(squares) / 20):.3f}"  # some draws are worse than the mean, as the first one
    '0.091'
    """
    require_count(width, "width", 1)
    seed = require_seed(seed)
    waves = waves_of(function)
    total = _total(waves, norm, activation)
    if total == 0:  # a constant
        network = BarronNetwork.of(
            torch.zeros((0, len(waves.lengths))),
            [],
            [],
            activation=activation,
            offset=waves.mean,
            lengths=waves.lengths,
        )
        return SampledNetwork(network, 0.0, norm, function.kind)
    generator = torch.Generator().manual_seed(seed)
    sizes = _sizes(waves, norm, activation)
    shares = waves.coefficients.abs() * sizes
    drawn = waves.drawn(shares / shares.sum(), width, generator)
    scale = drawn.signs * shares.sum() / (width * sizes[drawn.terms])  # sign |c| / (k p)
    network = _BUILDERS[activation](waves, drawn, scale, generator)
    return SampledNetwork(network, total / math.sqrt(width), norm, function.kind)


# --- sizes of terms ---------------------------------------------------------------------------------------------------


def _total(waves: Waves, norm: Norm, activation: str) -> float:
    """M times the square root of the volume."""
    require_choice(norm, "norm", get_args(Norm))
    require_choice(activation, "activation", _BUILDERS)
    if norm == "H1" and activation in ("step", "sigmoid"):
        raise InputError(f"Networks of {activation}s are sampled in L2 only; use 'cosine' or 'relu' for H1.")
    return float(waves.coefficients.abs() @ _sizes(waves, norm, activation)) * math.sqrt(math.prod(waves.lengths))


def _sizes(waves: Waves, norm: Norm, activation: str) -> Tensor:
    """Return s of every term, shape (m,)."""
    w, r = waves.frequencies, waves.reach
    squares = w.square().sum(-1)
    if activation == "cosine":
        whole = _sinc(w * 2 * waves.centre).prod(-1)
        return ((1 + whole) / 2 if norm == "L2" else (1 + squares + (1 - squares).abs() * whole) / 2).sqrt()
    spread = ((1 + _sinc(2 * r)) / 2).sqrt()
    if activation == "relu":
        return r * spread * (r if norm == "L2" else (r.square() + squares).sqrt())
    return r * spread * (1 + _SIGMOID_PART if activation == "sigmoid" else 1.0)


def _sinc(z: Tensor) -> Tensor:
    return torch.sinc(z / math.pi).abs()


# --- networks ---------------------------------------------------------------------------------------------------------


def _cosine(waves: Waves, drawn: Drawn, scale: Tensor, generator: torch.Generator) -> BarronNetwork:
    biases = drawn.phases - drawn.frequencies @ waves.centre
    return BarronNetwork.of(drawn.frequencies, biases, scale, offset=waves.mean, lengths=waves.lengths)


def _places(waves: Waves, drawn: Drawn, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw b uniformly between -r and r; return r and b, both (k,)."""
    reach = waves.reach[drawn.terms]
    return reach, reach * (2 * torch.rand(len(reach), generator=generator, dtype=torch.float64) - 1)


def _step(
    waves: Waves, drawn: Drawn, scale: Tensor, generator: torch.Generator, activation: str = "step"
) -> BarronNetwork:
    reach, b = _places(waves, drawn, generator)
    outer = -2 * reach * scale * torch.sin(b + drawn.phases)
    values, _ = waves.at_centre()
    offset = waves.mean + float(values @ waves.reach.cos()) - float(outer.sum()) / 2
    w, biases = drawn.frequencies, -(drawn.frequencies @ waves.centre) - b
    if activation == "sigmoid":
        steepness = _STEEPNESS * len(b) / (w.abs() * 2 * waves.centre).amax(-1)
        w, biases = steepness[:, None] * w, steepness * biases
    return BarronNetwork.of(w, biases, outer, activation=activation, offset=offset, lengths=waves.lengths)


def _sigmoid(waves: Waves, drawn: Drawn, scale: Tensor, generator: torch.Generator) -> BarronNetwork:
    return _step(waves, drawn, scale, generator, "sigmoid")


def _relu(waves: Waves, drawn: Drawn, scale: Tensor, generator: torch.Generator) -> BarronNetwork:
    """Put |t - b| / 2 = max(t - b, 0) - (t - b) / 2, less its mid-range (r + |b|) / 4, for neurons; the rest is exact.

    By parts, cos(t + h) + int_-r^r (|t - b| / 2 - (r + |b|) / 4) cos(b + h) db = cos h (1 + cos r) / 2 - t sin h cos r,
    which for a term f_j is f_j(x_0) (1 + cos r) / 2 + grad f_j(x_0) . (x - x_0) cos r.
    """
    reach, b = _places(waves, drawn, generator)
    w, r, centre = drawn.frequencies, waves.reach, waves.centre
    outer = -2 * reach * scale * torch.cos(b + drawn.phases)
    values, slopes = waves.at_centre()
    slope = r.cos() @ slopes - outer @ w / 2
    at_centre = values @ (1 + r.cos()) / 2 + outer @ (b / 2 - (reach + b.abs()) / 4)
    offset = waves.mean + float(at_centre - slope @ centre)
    return BarronNetwork.of(
        w, -(w @ centre) - b, outer, activation="relu", slope=slope, offset=offset, lengths=waves.lengths
    )


_BUILDERS: dict[str, Callable[[Waves, Drawn, Tensor, torch.Generator], BarronNetwork]] = {
    "cosine": _cosine,
    "relu": _relu,
    "sigmoid": _sigmoid,
    "step": _step,
}
