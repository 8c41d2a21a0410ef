"""Random networks sampled from the waves of a function, with an a-priori bound of the mean square error.

The argument is due to Maurey and Barron. Let f = g + E[Y], where g is represented exactly and Y is a random multiple of
one neuron. Then E ||f - g - mean of k draws||^2 = (E ||Y||^2 - ||f - g||^2) / k. A term with coefficient c_j is drawn
with a probability proportional to |c_j| s_j, where |c_j| s_j bounds the root mean square, over the box and the draw, of
c_j times the neuron for that term. The error is then at most M / sqrt k times the square root of the volume of the box,
with M = sum_j |c_j| s_j. Let S = prod_i |sinc(w_i l_i)|, K = (1 + |sinc(2 r)|) / 2 and sinc z = sin z / z (r is defined
in `barron._waves`):

- cosine. The mean of cos^2 over the box is at most (1 + S) / 2. Hence s^2 = (1 + S) / 2 in L2, and
  s^2 = (1 + |w|^2 + |1 - |w|^2| S) / 2 in H1. For whole periods S = 0.
- step, in L2. cos(t + h) = cos h cos r - int_-r^r sin(b + h) (1[t > b] - 1/2) db for |t| <= r. For uniform b, the mean
  of sin^2 is at most K, hence s = r sqrt K.
- sigmoid, in L2. Replacing steps by s(z t) changes them by (2 log 2 - 1) / z, integrated over a line, and the density
  of the arguments in the box is at most 1 / max |w_i| l_i. With the z chosen below, this adds at most 5 % to the error.
- ReLU. cos(t + h) = an affine function - int_-r^r |t - b| / 2 cos(b + h) db, and |t - b| / 2 is a ReLU plus an affine
  function. After subtraction of its mid-range, it is at most r / 2, and its gradient is +-w / 2. Hence
  s = r^2 sqrt K in L2, and s = r sqrt(K (r^2 + |w|^2)) in H1.
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
from sciml_bounds.barron._waves import DrawnWaves, Waves, waves_of
from sciml_bounds.errors import InputError
from sciml_bounds.reports import describe, summary_table

__all__ = ["Norm", "SampledNetwork", "sample_network", "width_for"]

#: "L2": ||f||^2 = int f^2 over the box of the series; "H1": int f^2 + |grad f|^2.
Norm = Literal["L2", "H1"]

#: Fraction that the finite steepness of sigmoids adds to the error bound.
_SIGMOID_EXCESS = 0.05
#: Steepness per neuron that is needed for this fraction.
_STEEPNESS_PER_NEURON = 4 * (2 * math.log(2) - 1) / _SIGMOID_EXCESS**2


@dataclass(frozen=True, repr=False)
class SampledNetwork:
    """A random network that approximates a function, with a bound of the mean error.

    Attributes
    ----------
    network : BarronNetwork
        The network.
    error_bound : float
        Bound of sqrt(E ||error||^2), where the mean is over all draws.
    norm : {"L2", "H1"}
        Norm of the error: an integral over the box, not a mean, so it grows with the square root of the volume.
    kind : {"bound", "estimate"}
        "estimate" if the function was constructed from samples without a decay bound; then `error_bound` is an
        estimate too.
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
    """Return a width that is sufficient to approximate a series with a given error.

    At this width, `error` bounds the root mean square error of `sample_network`, so at least one network of this width
    has an error of at most `error`. The width is (M / error)^2 times the volume of the box, where M is the sum of the
    magnitudes of the terms, each times the size of its neurons (see `barron._sampled_network`). This is Maurey's
    argument in the form of Barron (IEEE Trans. Inf. Theory 39 (1993) 930-945).

    Parameters
    ----------
    function : BarronFunction
        A series, in any dimension.
    error : float
        Absolute error, in the norm over the box of the series.
    norm : {"L2", "H1"}
        Norm of the error; "H1" for cosine and ReLU networks only.
    activation : {"cosine", "relu", "sigmoid", "step"}
        Activation of the network.

    Returns
    -------
    int
        The width.

    Raises
    ------
    InputError
        If the function is not a series, the error is not positive or too small for any representable width, or no
        bound is known for the activation in this norm.

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
            f"error is {error!r}, but the terms of the function sum to {total:.3g}, so the required width overflows "
            "double precision; give a larger error."
        )
    return max(1, math.ceil(root * root))


def sample_network(
    function: Any, width: int, norm: Norm = "L2", activation: str = "cosine", *, seed: int = 0
) -> SampledNetwork:
    """Sample a random network of a given width that approximates a series, with a bound of its mean error.

    The constant term of the series, and for ReLUs an affine function, is represented exactly. Fitting the outer weights
    afterwards by least squares can only lower the error.

    Parameters
    ----------
    function, norm, activation
        As for `width_for`.
    width : int
        Number k of neurons.
    seed : int
        Seed of the draw; the same seed yields the same network.

    Returns
    -------
    SampledNetwork
        The network, on the box of the series, and the bound M sqrt(volume / k) of sqrt(E ||error||^2), where the mean
        is over all draws.

    Raises
    ------
    InputError
        As for `width_for`, or if the width is not positive or the seed is invalid.

    Notes
    -----
    The error refers to the series. For a series from `BarronFunction.sampled`, the interpolation error between the
    samples is additional.

    If a function is the mean over a density of neurons, the mean of k neurons drawn from this density approximates it
    (Barron, IEEE Trans. Inf. Theory 39 (1993) 930-945). The densities and M for each activation are given in
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
    >>> f"{math.sqrt(sum(squares) / 20):.3f}"  # a single draw may be worse than the mean
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
    drawn = waves.draw(shares / shares.sum(), width, generator)
    scale = drawn.signs * shares.sum() / (width * sizes[drawn.terms])  # sign |c| / (k p)
    network = _BUILDERS[activation](waves, drawn, scale, generator)
    return SampledNetwork(network, total / math.sqrt(width), norm, function.kind)


# --- sizes of terms ---------------------------------------------------------------------------------------------------


def _total(waves: Waves, norm: Norm, activation: str) -> float:
    """Return M times the square root of the volume of the box."""
    require_choice(norm, "norm", get_args(Norm))
    require_choice(activation, "activation", _BUILDERS)
    if norm == "H1" and activation in ("step", "sigmoid"):
        raise InputError(
            f"networks with activation={activation!r} are sampled in the L2 norm only; use 'cosine' or 'relu' for H1."
        )
    return float(waves.coefficients.abs() @ _sizes(waves, norm, activation)) * math.sqrt(math.prod(waves.lengths))


def _sizes(waves: Waves, norm: Norm, activation: str) -> Tensor:
    """Return the size s of the neurons of every term, shape (m,)."""
    w, r = waves.frequencies, waves.reach
    squares = w.square().sum(-1)
    if activation == "cosine":
        S = _sinc(w * 2 * waves.centre).prod(-1)
        return ((1 + S) / 2 if norm == "L2" else (1 + squares + (1 - squares).abs() * S) / 2).sqrt()
    root = ((1 + _sinc(2 * r)) / 2).sqrt()  # sqrt K
    if activation == "relu":
        return r * root * (r if norm == "L2" else (r.square() + squares).sqrt())
    return r * root * (1 + _SIGMOID_EXCESS if activation == "sigmoid" else 1.0)


def _sinc(z: Tensor) -> Tensor:
    """Return |sin z / z|."""
    return torch.sinc(z / math.pi).abs()


# --- networks ---------------------------------------------------------------------------------------------------------


def _cosine(waves: Waves, drawn: DrawnWaves, scale: Tensor, generator: torch.Generator) -> BarronNetwork:
    """Return the cosine network whose neurons are the drawn waves."""
    biases = drawn.phases - drawn.frequencies @ waves.centre
    return BarronNetwork.of(drawn.frequencies, biases, scale, offset=waves.mean, lengths=waves.lengths)


def _draw_kinks(waves: Waves, drawn: DrawnWaves, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw b uniformly between -r and r; return r and b, both (k,)."""
    reach = waves.reach[drawn.terms]
    return reach, reach * (2 * torch.rand(len(reach), generator=generator, dtype=torch.float64) - 1)


def _step(
    waves: Waves, drawn: DrawnWaves, scale: Tensor, generator: torch.Generator, activation: str = "step"
) -> BarronNetwork:
    """Return the network of steps, or of steep sigmoids, at random kinks b."""
    reach, b = _draw_kinks(waves, drawn, generator)
    outer = -2 * reach * scale * torch.sin(b + drawn.phases)
    values, _ = waves.at_centre()
    offset = waves.mean + float(values @ waves.reach.cos()) - float(outer.sum()) / 2
    w, biases = drawn.frequencies, -(drawn.frequencies @ waves.centre) - b
    if activation == "sigmoid":
        steepness = _STEEPNESS_PER_NEURON * len(b) / (w.abs() * 2 * waves.centre).amax(-1)
        w, biases = steepness[:, None] * w, steepness * biases
    return BarronNetwork.of(w, biases, outer, activation=activation, offset=offset, lengths=waves.lengths)


def _sigmoid(waves: Waves, drawn: DrawnWaves, scale: Tensor, generator: torch.Generator) -> BarronNetwork:
    """Return the network of steep sigmoids at random kinks."""
    return _step(waves, drawn, scale, generator, "sigmoid")


def _relu(waves: Waves, drawn: DrawnWaves, scale: Tensor, generator: torch.Generator) -> BarronNetwork:
    """Return the network of ReLUs |t - b| / 2 - (r + |b|) / 4 at random kinks b, with an exact affine part.

    |t - b| / 2 = max(t - b, 0) - (t - b) / 2, and (r + |b|) / 4 is its mid-range. Integration by parts yields
    cos(t + h) + int_-r^r (|t - b| / 2 - (r + |b|) / 4) cos(b + h) db = cos h (1 + cos r) / 2 - t sin h cos r. For a
    term f_j, the right-hand side is f_j(x_0) (1 + cos r) / 2 + grad f_j(x_0) . (x - x_0) cos r.
    """
    reach, b = _draw_kinks(waves, drawn, generator)
    w, r, centre = drawn.frequencies, waves.reach, waves.centre
    outer = -2 * reach * scale * torch.cos(b + drawn.phases)
    values, slopes = waves.at_centre()
    slope = r.cos() @ slopes - outer @ w / 2
    at_centre = values @ (1 + r.cos()) / 2 + outer @ (b / 2 - (reach + b.abs()) / 4)
    offset = waves.mean + float(at_centre - slope @ centre)
    return BarronNetwork.of(
        w, -(w @ centre) - b, outer, activation="relu", slope=slope, offset=offset, lengths=waves.lengths
    )


_BUILDERS: dict[str, Callable[[Waves, DrawnWaves, Tensor, torch.Generator], BarronNetwork]] = {
    "cosine": _cosine,
    "relu": _relu,
    "sigmoid": _sigmoid,
    "step": _step,
}
