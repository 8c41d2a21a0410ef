"""A network as a preconditioner of flexible conjugate gradients.

The network takes the residual as source and predicts the solution. The prediction need not be linear or symmetric:
flexible conjugate gradients (Notay, SIAM J. Sci. Comput. 22 (2000) 1444-1460) take the best step along any direction. A
poor network costs iterations, never accuracy. With smoothing steps, the result is never worse than smoothing alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sciml_bounds.arrays import require_count
from sciml_bounds.errors import InputError
from sciml_bounds.grid import Dirichlet, side_axis
from sciml_bounds.multigrid._chebyshev import chebyshev_weights
from sciml_bounds.operators._lattice_operator import LatticeOperator
from sciml_bounds.operators._linear_operator import LinearOperator
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.discretization import node_system
from sciml_bounds.problems.transfers import node_average, sum_to_nodes, with_periodic_copies

__all__ = ["NetworkPreconditioner", "network_preconditioner"]


def network_preconditioner(model: nn.Module, problem: Any, *, sweeps: int = 1) -> NetworkPreconditioner:
    """Return a network as an approximate inverse of the discrete equations of a problem.

    Parameters
    ----------
    model : torch.nn.Module
        Network whose input includes a right-hand side: an `MgNO` with "source" among its `fields`, or any module that
        maps a nodal field (b, 1, nodes that are not on Dirichlet sides) to a field of the same shape, such as
        `poisson_cycle`.
    problem : Diffusion or Solver
        The problem, or a solver prepared for it.
    sweeps : int
        Number of smoothing steps before and after the network, as around a coarse correction. With at least one, the
        network never makes the result worse than smoothing alone. Use 0 for a network that smooths by itself.

    Returns
    -------
    NetworkPreconditioner
        Preconditioner for `sb.cg(solver.operator, solver.rhs, M=...)`.

    Raises
    ------
    InputError
        If the network does not take a right-hand side, or `problem` is not a `Diffusion` problem or its solver.

    Examples
    --------
    >>> import sciml_bounds as sb
    >>> from sciml_bounds.multigrid._poisson_cycle import poisson_cycle
    >>> solver = sb.prepare(sb.Diffusion(sb.Grid((32, 32)), coefficient=2.0, source=1.0))
    >>> M = network_preconditioner(poisson_cycle(32), solver, sweeps=0)
    >>> sb.cg(solver.operator, solver.rhs[0], M=M).iterations.item() <= 10
    True
    """
    problem = getattr(problem, "problem", problem)
    if not isinstance(problem, Diffusion):
        raise InputError(
            f"problem is a {type(problem).__name__}; give an sb.Diffusion problem or a solver from sb.prepare(problem)."
        )
    require_count(sweeps, "sweeps", 0)
    return NetworkPreconditioner(model, problem, sweeps)


class NetworkPreconditioner(LinearOperator):
    """Two-level preconditioner: smoothing, a network applied to the remaining residual, smoothing.

    The residual is divided by the volume of each node and scaled to a mean square of one, so that the source given to
    the network always has size one.
    """

    symmetric = False
    linear = False
    safeguard = True

    def __init__(self, model: nn.Module, problem: Diffusion, sweeps: int) -> None:
        self.model = model
        self.problem = problem.detach()
        self.fields: tuple[str, ...] = tuple(getattr(model, "fields", ("source",)))
        if "source" not in self.fields:
            raise InputError(
                f"the network takes {', '.join(self.fields)} but not a right-hand side, so it cannot be a "
                "preconditioner; train a network with 'source' among its fields, or use this one for an initial "
                "guess: sb.solve(problem, x0=model)."
            )
        self.on_cells = getattr(model, "layout", "same") == "cells->nodes"
        with torch.no_grad():
            self.operator: LatticeOperator = node_system(self.problem).operator
            self._free = self.problem.free_nodes
            shares = sum_to_nodes(self.problem.fluid.to(self.problem.dtype), self.problem.periodic)
            self._volume = shares * (self.problem.grid.cell_volume / 2**self.problem.grid.dim)
            self._channels = {name: self._channel(name) for name in self.fields if name != "source"}
            self._steps = chebyshev_weights(sweeps) if sweeps else ()
            self._scale = self.operator.absolute_row_sums().flatten(1).reciprocal() if sweeps else None
        self.shape, self.dtype, self.device = self.operator.shape, self.operator.dtype, self.operator.device

    @property
    def batch(self) -> int:
        """Number of operators: 1 or the number of samples."""
        return self.operator.batch

    def matvec(self, x: Tensor) -> Tensor:
        """Apply to residuals `(..., n)`."""
        self._check_batch(x)
        rows = x.reshape(-1, self.shape[0])
        with torch.no_grad():
            size = _root_mean_square(rows)
            r = (rows / torch.where(size > 0, size, 1.0)).contiguous()
            z = self._smooth(torch.zeros_like(r), r)
            remaining = r - self.operator.matvec(z) if self._steps else r
            correction = self._network(remaining)
            if self._steps:
                correction = self._smooth(z + self._best_step(correction, remaining), r)
        return (size * correction).view(x.shape)

    def _best_step(self, d: Tensor, r: Tensor) -> Tensor:
        """Return the multiple of the direction d with the least energy error; zero where the step is not defined."""
        curvature = self.operator.energy_into(d.contiguous(), torch.empty_like(d))
        slope = (d * r).sum(1)
        usable = (curvature > 0) & torch.isfinite(slope / curvature)
        step = torch.where(usable, slope / torch.where(usable, curvature, 1.0), 0.0)
        return torch.where(usable.unsqueeze(1), step.unsqueeze(1) * d, 0.0)

    def _smooth(self, z: Tensor, r: Tensor) -> Tensor:
        for step in self._steps:
            assert self._scale is not None
            z = z + step * self._scale * (r - self.operator.matvec(z))
        return z

    def _network(self, r: Tensor) -> Tensor:
        """Predict the solution whose load vector is r, shape (b, n)."""
        nodes = r.view(-1, *self.problem.node_shape)
        density = torch.where(self._free, nodes / torch.where(self._volume > 0, self._volume, 1.0), 0.0)
        size = _root_mean_square(density)
        source = density / torch.where(size > 0, size, 1.0)
        inputs = self._cells(source) if self.on_cells else self._inner(source)
        channels = [inputs if name == "source" else self._channels[name].expand(inputs.shape) for name in self.fields]
        weight = next(self.model.parameters(), inputs)
        x = torch.stack(channels, 1).to(weight)
        answer = self._evaluate(x)
        expected = (len(x), 1, *(self.problem.node_shape if self.on_cells else inputs.shape[1:]))
        if tuple(answer.shape) != expected:
            raise InputError(
                f"the output of the network has shape {tuple(answer.shape)}; return shape {expected} from its "
                "forward()."
            )
        values = answer[:, 0].to(nodes)
        if not self.on_cells:
            full = torch.zeros_like(nodes)
            self._inner(full).copy_(values)
            values = full
        return torch.where(self._free, size * values, 0.0).reshape(r.shape)

    def _evaluate(self, x: Tensor) -> Tensor:
        training = self.model.training
        try:
            answer: Tensor = self.model.eval()(x)
        finally:
            self.model.train(training)
        return answer

    def _channel(self, name: str) -> Tensor:
        """Return a field of the problem on the cells or nodes of the network's input, shape (1 or b, ...)."""
        if name == "coefficient" and not self.problem.has_scalar_coefficient:
            raise InputError(
                "the network takes a scalar coefficient, but the coefficient of the problem differs between the axes; "
                "use sb.prepare(problem).as_preconditioner()."
            )
        field = self.problem.coefficient[0] if name == "coefficient" else getattr(self.problem, name)
        cells = self.problem.samples(field)
        if self.on_cells:
            return cells
        around = sum_to_nodes(torch.ones_like(cells), self.problem.periodic)
        return self._inner(sum_to_nodes(cells, self.problem.periodic) / around)

    def _cells(self, nodes: Tensor) -> Tensor:
        """Average a nodal field to the cells."""
        return node_average(with_periodic_copies(nodes, self.problem.periodic), tuple(range(1, nodes.ndim)))

    def _inner(self, nodes: Tensor) -> Tensor:
        """Return the nodes that are not on Dirichlet sides (a view)."""
        for side, condition in self.problem.boundary.items():
            if isinstance(condition, Dirichlet):
                axis, end = side_axis(side)
                nodes = nodes.narrow(1 + axis, 0 if end else 1, nodes.shape[1 + axis] - 1)
        return nodes


def _root_mean_square(field: Tensor) -> Tensor:
    """Return the root mean square of each sample, shape (b, 1, ...), without underflow of squares."""
    largest = field.flatten(1).abs().amax(1).view(-1, *(1,) * (field.ndim - 1))
    unit = field / torch.where(largest > 0, largest, 1.0)
    return largest * unit.flatten(1).square().mean(1).sqrt().view(largest.shape)
