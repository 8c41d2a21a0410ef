"""Norms of two-layer networks on a box, and projections onto balls of these norms.

The spectral Barron norm of f on a box is the smallest m_0 + m_1 among the extensions of f, with
m_k = int |w|^k |F(w)| dw for f = int F(w) exp(i w . x) dw. A ridge function g(w . x + b) has m_k = |w|^k m_k(g), where
it suffices to extend g from the interval of its arguments. All pairs below are (m_0, m_1).
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
    "describe_norm",
    "feature_norms",
    "path_norm",
    "project",
    "projected",
    "require_finite_parameters",
    "upwards",
]


def projected(outer: Tensor, weights: Tensor, bound: float) -> Tensor:
    """Return the Euclidean projection of a (k,) onto {sum_j w_j |a_j| <= bound} with w > 0.

    It is sign(a) max(|a| - z w, 0), where z makes the sum equal to the bound (Karush, Kuhn, Tucker). The nonzero
    entries are those of largest |a| / w, so one sort determines z.
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
    """Compute `BarronNetwork.path_norm`."""
    s = network.activation
    with torch.no_grad():
        reach = _reach(network)
        sizes = reach**s.power if s.name == "relu" else torch.ones_like(reach)
        half, constant = _affine(network)
        own = float(network.outer.abs() @ sizes + network.slope.abs() @ half + constant.abs())
    return own + (0.0 if network.lifting is None else path_norm(network.lifting))


def barron_norm(network: TwoLayer) -> float:
    """Compute `BarronNetwork.barron_norm`."""
    if _has_mixed_norms(network):
        return math.inf
    with torch.no_grad():
        used = network.outer != 0  # neurons of infinite norm with outer weight zero do not count
        own = float(network.outer[used].abs() @ feature_norms(network)[used])
    return own + _affine_and_lifting_norm(network)


def describe_norm(network: TwoLayer) -> str:
    """Format `barron_norm`, with the reason if it is infinite."""
    norm = barron_norm(network)
    return upwards(norm) if math.isfinite(norm) else f"infinite, since {_infinite_norm_reason(network)[0]}"


def _infinite_norm_reason(network: TwoLayer) -> tuple[str, str]:
    """Return the reason for an infinite norm, and the remedy."""
    if _has_mixed_norms(network):
        return "the neurons of the lifting have a different kind of norm", "give a lifting with the same activation"
    if network.activation.is_piecewise and network.dirichlet_sides:
        name = network.activation.name
        return f"{name} networks with Dirichlet sides have no variation norm", "use cosine or tanh"
    return "it overflows in double precision", "give smaller weights"


def project(network: TwoLayer, bound: float) -> None:
    """Perform `BarronNetwork.project_`."""
    require_finite_parameters(network)
    sizes = feature_norms(network).detach()
    if not (math.isfinite(barron_norm(network)) and bool(torch.isfinite(sizes).all())):
        why, remedy = _infinite_norm_reason(network)
        raise InputError(f"the Barron norm is infinite, since {why}; {remedy}.")
    remaining = bound - _affine_and_lifting_norm(network)
    if remaining < 0:
        raise InputError(
            f"bound is {bound:.4g}, but affine part and lifting alone have norm {bound - remaining:.4g}; increase the "
            "bound."
        )
    positive = sizes > 0  # neurons of norm zero need no projection
    with torch.no_grad():
        network.outer[positive] = projected(network.outer[positive], sizes[positive], remaining)


def require_finite_parameters(network: TwoLayer) -> None:
    """Raise if a parameter is NaN or infinite, since norms and bounds are undefined then."""
    for name, values in network.named_parameters():
        require_finite(values, f"the parameter {name} of the network")


def _affine_and_lifting_norm(network: TwoLayer) -> float:
    """Bound the Barron norm of affine part and lifting."""
    return affine_norm(network) + (0.0 if network.lifting is None else barron_norm(network.lifting))


def _has_mixed_norms(network: TwoLayer) -> bool:
    """Check whether the neurons of network and lifting have different kinds of norms."""
    lifting = network.lifting
    if lifting is None or not (lifting.width and network.width):
        return False
    return _kind(lifting) != _kind(network)


def _kind(network: TwoLayer) -> tuple[str, int]:
    """Return the kind of norm that `barron_norm` bounds: the spectral norm, or the variation norm of an activation."""
    s = network.activation
    return (s.name, s.power) if s.is_piecewise else ("spectral", 1)


def upwards(number: float) -> str:
    """Format an upper bound, rounded up."""
    return describe(torch.tensor(number, dtype=torch.float64), rounding=ROUND_CEILING)


def feature_norms(network: TwoLayer) -> Tensor:
    """Compute `BarronNetwork.feature_norms`."""
    s, size = network.activation, network.weights.square().sum(-1).sqrt()
    if s.is_piecewise:
        power = s.power if s.name == "relu" else 0
        return size**power if network.distance is None else torch.full_like(size, math.inf)
    m0, m1 = _profile_moments(network)
    return _with_distance(network, (m0, size * m1))


def affine_norm(network: TwoLayer) -> float:
    """Bound the norm of D (c . x + c_0), split into its value at the centre and a ridge function."""
    with torch.no_grad():
        if network.activation.is_piecewise:
            nonzero = bool(network.slope.any() or network.offset != 0)
            return math.inf if nonzero and network.distance is not None else 0.0
        half, constant = _affine(network)
        m0, m1 = linear_moments(network.slope.abs() @ half)
        whole = (constant.abs() + m0, network.slope.square().sum().sqrt() * m1)
        return float(_with_distance(network, whole))


def _box(network: TwoLayer) -> Pair:
    """Return half side lengths and centre of the box, shape (d,) each."""
    half = network.outer.new_tensor(network.lengths) / 2
    return half, network.outer.new_tensor(network.origin) + half


def _reach(network: TwoLayer) -> Tensor:
    """Return the largest |w . x + b| over the box, shape (k,)."""
    half, centre = _box(network)
    return (network.weights @ centre + network.biases).abs() + network.weights.abs() @ half


def _affine(network: TwoLayer) -> Pair:
    """Return the half side lengths of the box, and the value of the affine part at its centre."""
    half, centre = _box(network)
    return half, network.slope @ centre + network.offset


def _profile_moments(network: TwoLayer) -> Pair:
    """Bound the spectral moments of the activation on the interval of the arguments of each neuron."""
    if network.activation.name == "cosine":
        one = torch.ones_like(network.biases)
        return one, one
    reach = _reach(network)
    if network.activation.name == "tanh":
        return tanh_moments(reach)
    m0, m1 = tanh_moments(reach / 2)  # (1 + tanh(t / 2)) / 2
    return (1 + m0) / 2, m1 / 4


def _with_distance(network: TwoLayer, f: Pair) -> Tensor:
    """Bound m_0 + m_1 of D f, by |v + w| <= |v| + |w|."""
    g = (1.0, 0.0) if network.distance is None else network.distance.moments
    return f[0] * g[0] + f[0] * g[1] + f[1] * g[0]
