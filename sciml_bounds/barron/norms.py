"""Norms of the parts of a two-layer network on a box, and the projection on balls of such norms.

The spectral Barron norm of f on a box is the smallest m_0 + m_1 of an extension, m_k = int |w|^k |F(w)| dw for
f = int F(w) exp(i w . x) dw. A ridge function g(w . x + b) has m_k = |w|^k m_k(g), where g needs to be extended from
the interval of its arguments only. All pairs below are (m_0, m_1).
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciml_bounds.arrays import require_finite
from sciml_bounds.errors import InputError
from sciml_bounds.reports import describe

if TYPE_CHECKING:
    from sciml_bounds.barron.network import BarronNetwork

__all__ = [
    "Pair",
    "affine_norm",
    "barron_norm",
    "feature_norms",
    "half_moments",
    "linear_moments",
    "parabola_moments",
    "path_norm",
    "project",
    "projected",
    "require_finite_parameters",
    "tanh_moments",
    "upwards",
    "words",
]

Pair = tuple[Tensor, Tensor]

#: t on [-T, T] continued to a wave of period 8 T whose slope is a trapezium: 1 there, falling to -1 on [T, 3 T]. Its
#: slope has coefficients 16 |sin(m pi / 4)| / (pi m)^2 for odd m, which sum up to sqrt 2; those of the wave are these
#: times 4 T / (pi m), with sum over odd m of m^-3 = 7 zeta(3) / 8.
_ODD_CUBES = 7 * 1.2020569031595943 / 8
_LINEAR = (64 / (math.sqrt(2) * math.pi**3) * _ODD_CUBES, math.sqrt(2))

#: 4 x (l - x) / l^2 on [0, l], continued oddly: 32 / pi^3 sum over odd m of sin(m pi x / l) / m^3.
_PARABOLA = 32 / math.pi**3 * _ODD_CUBES

#: Where the waves of tanh with low frequencies end, at most.
_LOW = 0.5


def linear_moments(reach: Tensor) -> Pair:
    """Bound those of t on [-reach, reach]: 1.535 reach and sqrt 2."""
    return _LINEAR[0] * reach, torch.full_like(reach, _LINEAR[1])


def parabola_moments(length: float) -> tuple[float, float]:
    """Bound those of 4 x (l - x) / l^2 on [0, l]: 1.0855 and 4 / l."""
    return _PARABOLA, 4 / length


def half_moments(length: float) -> tuple[float, float]:
    """Bound those of x / l on [0, l]: 1/2 + (x - l / 2) / l."""
    return 0.5 + _LINEAR[0] / 2, _LINEAR[1] / length


def tanh_moments(reach: Tensor) -> Pair:
    """Bound those of tanh on [-reach, reach]; they grow like the logarithm of the reach.

    tanh t = int_0^inf sin(z t) / sinh(pi z / 2) dz, where z < d is too much for a finite norm. There t is replaced by
    the wave of `linear_moments` (p, q), so that m_0 of sin(z t) is at most sinh(z p) and m_1 at most z q cosh(z p), and
    1 / sinh(pi z / 2) <= 2 / (pi z): 2 / pi sinh(d p) and 2 / pi (q / p) sinh(d p) in sum. The rest has
    m_0 = 2 / pi log coth(pi d / 4) and m_1 <= 1.
    """
    p, q = linear_moments(reach)
    low = torch.clamp(math.asinh(1.0) / p.clamp_min(1e-300), max=_LOW)
    grown = torch.sinh(low * p)
    tail = -2 / math.pi * torch.log(torch.tanh(math.pi / 4 * low))
    ratio = torch.where(p > 0, grown / p.clamp_min(1e-300), low)
    return 2 / math.pi * grown + tail, 2 / math.pi * q * ratio + 1


def projected(outer: Tensor, weights: Tensor, bound: float) -> Tensor:
    """Project a (k,) on {sum_j w_j |a_j| <= bound} with w > 0, exactly: the closest point in the Euclidean norm.

    It is sign(a) max(|a| - z w, 0) with the z that makes the sum equal to the bound (Karush, Kuhn, Tucker); the entries
    that stay are those of largest |a| / w, so one sort finds it.
    """
    if float((weights * outer.abs()).sum()) <= bound:
        return outer.clone()
    ratios, order = (outer.abs() / weights).sort(descending=True)
    w = weights[order]
    excess = (w.square() * ratios).cumsum(0) - bound
    candidates = excess / w.square().cumsum(0)
    last = int((ratios > candidates).nonzero().max()) if bool((ratios > candidates).any()) else 0
    return outer.sign() * (outer.abs() - candidates[last] * weights).clamp_min(0)


# --- networks ---------------------------------------------------------------------------------------------------------


def path_norm(network: BarronNetwork) -> float:
    """See `BarronNetwork.path_norm`."""
    s = network.activation
    with torch.no_grad():
        reach = _reach(network)
        sizes = reach**s.power if s.name == "relu" else torch.ones_like(reach)
        half, constant = _affine(network)
        own = float(network.outer.abs() @ sizes + network.slope.abs() @ half + constant.abs())
    return own + (0.0 if network.lifting is None else path_norm(network.lifting))


def barron_norm(network: BarronNetwork) -> float:
    """See `BarronNetwork.barron_norm`."""
    if _is_mixed(network):
        return math.inf
    with torch.no_grad():
        used = network.outer != 0  # neurons of infinite norm that are not used cost nothing
        own = float(network.outer[used].abs() @ feature_norms(network)[used])
    return own + _norm_of_the_rest(network)


def words(network: BarronNetwork) -> str:
    """Write `barron_norm`, and where it is infinite why."""
    norm = barron_norm(network)
    return upwards(norm) if math.isfinite(norm) else f"infinite, since {_obstacle(network)[0]}"


def _obstacle(network: BarronNetwork) -> tuple[str, str]:
    """Say why there is no finite norm, and what to do."""
    if _is_mixed(network):
        return "the neurons of the lifting have another norm", "give a lifting with the same activation"
    if network.activation.is_piecewise and network.held:
        name = network.activation.name
        return f"{name} neurons times a factor (held sides) have no variation norm", "take cosine or tanh"
    return "its numbers are beyond double precision", "give smaller weights"


def project(network: BarronNetwork, bound: float) -> None:
    """See `BarronNetwork.project_`."""
    require_finite_parameters(network)
    sizes = feature_norms(network).detach()
    if not (math.isfinite(barron_norm(network)) and bool(torch.isfinite(sizes).all())):
        why, remedy = _obstacle(network)
        raise InputError(f"The Barron norm is infinite, since {why}; {remedy}.")
    left = bound - _norm_of_the_rest(network)
    if left < 0:
        raise InputError(
            f"bound is {bound:.4g}, and affine part and lifting alone have norm {bound - left:.4g}; give more."
        )
    counted = sizes > 0  # neurons of norm zero are constants to this norm
    with torch.no_grad():
        network.outer[counted] = projected(network.outer[counted], sizes[counted], left)


def require_finite_parameters(network: BarronNetwork) -> None:
    """Refuse networks that hold NaN or infinity: comparisons with bounds of them would say nothing."""
    for name, values in network.named_parameters():
        require_finite(values, f"the parameter {name} of the network")


def _norm_of_the_rest(network: BarronNetwork) -> float:
    """Bound that of affine part and lifting."""
    return affine_norm(network) + (0.0 if network.lifting is None else barron_norm(network.lifting))


def _is_mixed(network: BarronNetwork) -> bool:
    """Whether network and lifting have neurons whose norms are not those of one space."""
    lifting = network.lifting
    if lifting is None or not (lifting.width and network.width):
        return False
    return _kind(lifting) != _kind(network)


def _kind(network: BarronNetwork) -> tuple[str, int]:
    """Which norm `barron_norm` bounds: the spectral one, or that of the neurons of one kind."""
    s = network.activation
    return (s.name, s.power) if s.is_piecewise else ("spectral", 1)


def upwards(number: float) -> str:
    """Write a bound so that it stays one."""
    return describe(torch.tensor(number, dtype=torch.float64), rounding=ROUND_CEILING)


def feature_norms(network: BarronNetwork) -> Tensor:
    """See `BarronNetwork.feature_norms`."""
    s, size = network.activation, network.weights.square().sum(-1).sqrt()
    if s.is_piecewise:
        power = s.power if s.name == "relu" else 0
        return size**power if network.distance is None else torch.full_like(size, math.inf)
    m0, m1 = _profile_moments(network)
    return _with_distance(network, (m0, size * m1))


def affine_norm(network: BarronNetwork) -> float:
    """Bound the norm of D (c . x + c_0), as that of its value at the centre and of a ridge."""
    with torch.no_grad():
        if network.activation.is_piecewise:
            there = bool(network.slope.any() or network.offset != 0)
            return math.inf if there and network.distance is not None else 0.0
        half, constant = _affine(network)
        m0, m1 = linear_moments(network.slope.abs() @ half)
        whole = (constant.abs() + m0, network.slope.square().sum().sqrt() * m1)
        return float(_with_distance(network, whole))


def _box(network: BarronNetwork) -> Pair:
    """Half sides and centre of the box, both (d,)."""
    half = network.outer.new_tensor(network.lengths) / 2
    return half, network.outer.new_tensor(network.origin) + half


def _reach(network: BarronNetwork) -> Tensor:
    """Return the largest |w . x + b| over the box, (k,)."""
    half, centre = _box(network)
    return (network.weights @ centre + network.biases).abs() + network.weights.abs() @ half


def _affine(network: BarronNetwork) -> Pair:
    """Half sides of the box, and the value of the affine part at its centre."""
    half, centre = _box(network)
    return half, network.slope @ centre + network.offset


def _profile_moments(network: BarronNetwork) -> Pair:
    """Bound the spectral moments of the activation over the arguments that occur."""
    if network.activation.name == "cosine":
        one = torch.ones_like(network.biases)
        return one, one
    reach = _reach(network)
    if network.activation.name == "tanh":
        return tanh_moments(reach)
    m0, m1 = tanh_moments(reach / 2)  # (1 + tanh(t / 2)) / 2
    return (1 + m0) / 2, m1 / 4


def _with_distance(network: BarronNetwork, f: Pair) -> Tensor:
    """m_0 + m_1 of D f: |v + w| <= |v| + |w|."""
    g = (1.0, 0.0) if network.distance is None else network.distance.moments
    return f[0] * g[0] + f[0] * g[1] + f[1] * g[0]
