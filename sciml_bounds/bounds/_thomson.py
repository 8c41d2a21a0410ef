"""Bound on the energy error of an iterative solve on a lattice: Thomson's principle on a spanning forest.

Let A e = s with conductances T and absorptions c. Any flow with divergence s that leaves through absorbing points has
at least the energy of e: s.A^-1 s <= sum flow^2 / T + sum absorbed^2 / c. A flow along a tree is computed in one pass.
It overestimates the energy, but s is tiny. No bound on eigenvalues is needed, so solids may have any shape. Reference:
Doyle, Snell, "Random Walks and Electric Networks" (1984), section 1.3.5.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
import torch
from torch import Tensor

from sciml_bounds.operators._lattice_operator import LatticeOperator

__all__ = ["energy_error_bound"]


def energy_error_bound(operator: LatticeOperator, rhs: Tensor, x: Tensor) -> Tensor:
    """Bound ||x - A^-1 rhs||_A for each sample of x (b, n); the conductances must be non-negative."""
    residual = torch.empty_like(x)
    operator.residual_into(x, rhs.expand(len(x), *rhs.shape[1:]).reshape(x.shape).contiguous(), residual)
    size = operator.absolute_row_sums().flatten(1) * x.abs()
    noise = 4 * torch.finfo(x.dtype).eps * (size + rhs.flatten(1).abs())  # round-off of computing each entry
    bounds = []
    for sample, (s, extra) in enumerate(zip(residual, noise)):
        forest = _forest(operator, sample if operator.batch > 1 else 0)
        entries = s.cpu().numpy()
        noise_energy = _flow_energy(*forest, np.abs(extra.cpu().numpy()))  # absolute values cover every choice of signs
        bounds.append(np.sqrt(_flow_energy(*forest, entries)) + np.sqrt(noise_energy))
    return torch.as_tensor(np.array(bounds)).to(x)


def _forest(operator: LatticeOperator, sample: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the points (parents first), their parents (-1 for the ground), and the conductances to the parents."""
    n = operator.shape[0]
    index = np.arange(n).reshape(operator.lattice)
    starts, ends, weights = (
        [np.full(n, n)],
        [np.arange(n)],
        [operator.absorption[sample].detach().cpu().numpy().reshape(-1)],
    )
    for k, offset in enumerate(operator.offsets):
        starts.append(index.reshape(-1))
        ends.append(np.roll(index, tuple(-o for o in offset), (0, 1, 2)).reshape(-1))
        weights.append(operator.conductance[k, sample].detach().cpu().numpy().reshape(-1))
    weight = np.concatenate(weights)
    kept = weight > 0
    pairs = (np.concatenate(starts)[kept], np.concatenate(ends)[kept])
    resistance = scipy.sparse.coo_array((1 / weight[kept], pairs), shape=(n + 1, n + 1)).tocsr()
    tree = scipy.sparse.csgraph.minimum_spanning_tree(resistance)  # paths of large conductance
    tree = (tree + tree.T).tocsr()
    orders, parents = [], np.full(n, -2, dtype=np.int64)
    _, labels = scipy.sparse.csgraph.connected_components(tree, directed=False)
    firsts = np.unique(labels, return_index=True)[1]
    firsts[labels[n]] = n
    for root in firsts:
        order, previous = scipy.sparse.csgraph.breadth_first_order(tree, root, directed=False)
        orders.append(order[order != n])
        inside = order[1:]
        parents[inside] = np.where(previous[inside] == n, -1, previous[inside])
    order = np.concatenate(orders)
    to = np.where(parents == -1, n, parents)
    conductance = np.ones(n)
    has_parent = parents > -2
    rows = np.arange(n)[has_parent]
    conductance[rows] = 1 / np.asarray(tree[rows, to[rows]]).reshape(-1)
    return order, parents, conductance


def _flow_energy(order: np.ndarray, parents: np.ndarray, conductance: np.ndarray, supply: np.ndarray) -> float:
    flow = supply.astype(np.float64).copy()
    for point in order[::-1]:
        if parents[point] >= 0:
            flow[parents[point]] += flow[point]
    has_parent = parents > -2  # roots of floating components have no parent; their flow is zero up to round-off
    return float((flow[has_parent] ** 2 / conductance[has_parent]).sum())
