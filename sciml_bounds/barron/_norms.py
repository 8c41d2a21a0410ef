"""Norms of the parts of a two-layer network on a box, and the projection on balls of such norms.

The spectral Barron norm of f on a box is the smallest m_0 + m_1 of an extension, m_k = int |w|^k |F(w)| dw for
f = int F(w) exp(i w . x) dw. A ridge function g(w . x + b) has m_k = |w|^k m_k(g), where g needs to be extended from
the interval of its arguments only. All pairs below are (m_0, m_1).
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING

import torch
from torch import Tensor

from sciml_bounds.arrays import require_finite
from sciml_bounds.barron._interval_moments import Pair, linear_moments, tanh_moments
from sciml_bounds.barron._two_layer import TwoLayer
from sciml_bounds.errors import InputError
from sciml_bounds.reports import describe

__all__ = [
    "affine_norm",
    "barron_norm",
    "feature_norms",
    "path_norm",
    "project",
    "projected",
    "require_finite_parameters",
    "upwards",
    "words",
]


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


def path_norm(network: TwoLayer) -> float:
    """See `BarronNetwork.path_norm`."""
    s = network.activation
    with torch.no_grad():
        reach = _reach(network)
        sizes = reach**s.power if s.name == "relu" else torch.ones_like(reach)
        half, constant = _affine(network)
        own = float(network.outer.abs() @ sizes + network.slope.abs() @ half + constant.abs())
    return own + (0.0 if network.lifting is None else path_norm(network.lifting))


def barron_norm(network: TwoLayer) -> float:
    """See `BarronNetwork.barron_norm`."""
    if _is_mixed(network):
        return math.inf
    with torch.no_grad():
        used = network.outer != 0  # neurons of infinite norm that are not used cost nothing
        own = float(network.outer[used].abs() @ feature_norms(network)[used])
    return own + _norm_of_the_rest(network)


def words(network: TwoLayer) -> str:
    """Write `barron_norm`, and where it is infinite why."""
    norm = barron_norm(network)
    return upwards(norm) if math.isfinite(norm) else f"infinite, since {_obstacle(network)[0]}"


def _obstacle(network: TwoLayer) -> tuple[str, str]:
    """Say why there is no finite norm, and what to do."""
    if _is_mixed(network):
        return "the neurons of the lifting have another norm", "give a lifting with the same activation"
    if network.activation.is_piecewise and network.dirichlet_sides:
        name = network.activation.name
        return f"{name} neurons times a factor (Dirichlet sides) have no variation norm", "take cosine or tanh"
    return "its numbers are beyond double precision", "give smaller weights"


def project(network: TwoLayer, bound: float) -> None:
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


def require_finite_parameters(network: TwoLayer) -> None:
    """Refuse networks that hold NaN or infinity: comparisons with bounds of them would say nothing."""
    for name, values in network.named_parameters():
        require_finite(values, f"the parameter {name} of the network")


def _norm_of_the_rest(network: TwoLayer) -> float:
    """Bound that of affine part and lifting."""
    return affine_norm(network) + (0.0 if network.lifting is None else barron_norm(network.lifting))


def _is_mixed(network: TwoLayer) -> bool:
    """Whether network and lifting have neurons whose norms are not those of one space."""
    lifting = network.lifting
    if lifting is None or not (lifting.width and network.width):
        return False
    return _kind(lifting) != _kind(network)


def _kind(network: TwoLayer) -> tuple[str, int]:
    """Which norm `barron_norm` bounds: the spectral one, or that of the neurons of one kind."""
    s = network.activation
    return (s.name, s.power) if s.is_piecewise else ("spectral", 1)


def upwards(number: float) -> str:
    """Write a bound so that it stays one."""
    return describe(torch.tensor(number, dtype=torch.float64), rounding=ROUND_CEILING)


def feature_norms(network: TwoLayer) -> Tensor:
    """See `BarronNetwork.feature_norms`."""
    s, size = network.activation, network.weights.square().sum(-1).sqrt()
    if s.is_piecewise:
        power = s.power if s.name == "relu" else 0
        return size**power if network.distance is None else torch.full_like(size, math.inf)
    m0, m1 = _profile_moments(network)
    return _with_distance(network, (m0, size * m1))


def affine_norm(network: TwoLayer) -> float:
    """Bound the norm of D (c . x + c_0), as that of its value at the centre and of a ridge."""
    with torch.no_grad():
        if network.activation.is_piecewise:
            there = bool(network.slope.any() or network.offset != 0)
            return math.inf if there and network.distance is not None else 0.0
        half, constant = _affine(network)
        m0, m1 = linear_moments(network.slope.abs() @ half)
        whole = (constant.abs() + m0, network.slope.square().sum().sqrt() * m1)
        return float(_with_distance(network, whole))


def _box(network: TwoLayer) -> Pair:
    """Half sides and centre of the box, both (d,)."""
    half = network.outer.new_tensor(network.lengths) / 2
    return half, network.outer.new_tensor(network.origin) + half


def _reach(network: TwoLayer) -> Tensor:
    """Return the largest |w . x + b| over the box, (k,)."""
    half, centre = _box(network)
    return (network.weights @ centre + network.biases).abs() + network.weights.abs() @ half


def _affine(network: TwoLayer) -> Pair:
    """Half sides of the box, and the value of the affine part at its centre."""
    half, centre = _box(network)
    return half, network.slope @ centre + network.offset


def _profile_moments(network: TwoLayer) -> Pair:
    """Bound the spectral moments of the activation over the arguments that occur."""
    if network.activation.name == "cosine":
        one = torch.ones_like(network.biases)
        return one, one
    reach = _reach(network)
    if network.activation.name == "tanh":
        return tanh_moments(reach)
    m0, m1 = tanh_moments(reach / 2)  # (1 + tanh(t / 2)) / 2
    return (1 + m0) / 2, m1 / 4


def _with_distance(network: TwoLayer, f: Pair) -> Tensor:
    """m_0 + m_1 of D f: |v + w| <= |v| + |w|."""
    g = (1.0, 0.0) if network.distance is None else network.distance.moments
    return f[0] * g[0] + f[0] * g[1] + f[1] * g[0]
