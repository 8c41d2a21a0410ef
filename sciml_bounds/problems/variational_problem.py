"""Variational problems: minimise the integral of L(x, u, grad u) - f u subject to boundary conditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from sciml_bounds.arrays import Field, common_dtype_and_device, convert, require_finite, require_number
from sciml_bounds.errors import InputError
from sciml_bounds.grid import Boundary, Box, Dirichlet, Grid, Neumann, Periodic, Robin
from sciml_bounds.problems.declarations import check_declarations, require_balance
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.discretization import nodal_load
from sciml_bounds.problems.elements import GAUSS, Elements, Rule, elements_on
from sciml_bounds.problems.energies import QuadraticEnergy
from sciml_bounds.problems.energy_density import EnergyDensity
from sciml_bounds.problems.fields import cell_field, is_array_free_callable, named_sides, side_values
from sciml_bounds.problems.transfers import fold_periodic_copies, repeat_cells, with_periodic_copies

__all__ = ["VariationalProblem"]

_ZERO = Dirichlet(0.0)

#: Number of points at which functions on a box are tested.
SAMPLE_COUNT = 256

#: Weight or source on a box: a number, or a function of points (..., d).
PointField = float | Callable[[Tensor], Tensor]


class VariationalProblem:
    """Minimise J(u) = int L(x, u, grad u) - f u over the functions u with prescribed values on Dirichlet sides.

    Parameters
    ----------
    domain : Grid or Box
        An `sb.Grid`, on whose cells weights and source are constant, or an `sb.barron.Box` in any number of dimensions,
        on which the unknown functions are networks.
    density : EnergyDensity
        Energy density L: an `sb.variational.QuadraticEnergy`, `sb.variational.PLaplacian`,
        `sb.variational.MinimalSurface`, `sb.variational.ShearThinning`, `sb.variational.GinzburgLandau`,
        `sb.variational.IsotropicEnergy` or `sb.variational.EnergyDensity`.
    source : float, array (nx, ny) or callable
        Source f: on a grid as in `sb.Diffusion`, without batch; on a box a number or a function of points (..., d).
    boundary : Boundary or mapping of str to Boundary
        On a grid as in `sb.Diffusion`, without Robin sides. On a box one condition for all sides: `sb.Dirichlet` of a
        number or a function of points, `sb.Neumann(0.0)` or `sb.Periodic()`.

    Attributes
    ----------
    box : Box
        The domain without its cells.
    grid : Grid or None
        The grid; None on a box.
    density, source, boundary
        As passed by the user; on a grid, data are converted to tensors.
    node_shape : tuple of int
        Shape of a node field (on a grid only).

    Raises
    ------
    InputError
        If data have wrong shapes or values; if samples contradict the declared convexity or ellipticity constants of
        the density; or if nothing fixes the level of u and the mean of the sources is not zero (on a box, tested on
        samples).

    Notes
    -----
    On a grid, the data are constant on each cell. The problem with these cellwise constant data is solved and certified
    in float64, on the device of its fields. Networks are trained on the CPU and then moved to that device.

    Examples
    --------
    >>> import sciml_bounds as sb
    >>> problem = sb.variational.VariationalProblem(sb.Grid((8, 8)), sb.variational.PLaplacian(3), source=1.0)
    >>> problem.linear, problem.convex
    (False, True)
    >>> box, density = sb.barron.Box([1.0] * 10), sb.variational.QuadraticEnergy(reaction=1.0)
    >>> sb.variational.VariationalProblem(box, density, boundary=sb.Neumann(0.0)).linear
    True
    """

    def __init__(
        self,
        domain: Grid | Box,
        density: EnergyDensity,
        source: Field | PointField = 0.0,
        *,
        boundary: Boundary | Mapping[str, Boundary] = _ZERO,
    ) -> None:
        if not isinstance(domain, Grid | Box):
            kind = type(domain).__name__
            raise InputError(f"the domain is a {kind}; give an sb.Grid, or an sb.barron.Box for networks.")
        if not isinstance(density, EnergyDensity):
            kind = type(density).__name__
            raise InputError(
                f"the energy density is a {kind}; pass an sb.variational.QuadraticEnergy or another density, or "
                "sb.variational.EnergyDensity(function) with a function of (x, u, p)."
            )
        self.density = density
        self.grid = domain if isinstance(domain, Grid) else None
        self.box = domain.box if isinstance(domain, Grid) else domain
        self._weights: dict[str, Any] = {}
        if isinstance(domain, Grid):
            self._set_cells(domain, source, boundary)
        else:
            self._set_box(domain, source, boundary)
        check_declarations(self.density, self.sample_points())

    def _set_cells(self, grid: Grid, source: Any, boundary: Any) -> None:
        sides = named_sides(dict(boundary) if isinstance(boundary, Mapping) else boundary, grid)
        _, device = common_dtype_and_device([*self.density.fields.items(), ("source", source), *side_values(sides)])
        for name, value in self.density.fields.items():
            self._weights[name] = _single(cell_field(value, name, grid, torch.float64, device), name, grid)
        _require_signs(self._weights)
        reaction = self._weights.get("reaction", torch.ones(grid.shape, dtype=torch.float64, device=device))
        frame = Diffusion(grid, 1.0, source, boundary=boundary, reaction=reaction).to(torch.float64).detach()
        if frame.batch_shape:
            raise InputError(
                f"the data have the batch shape {tuple(frame.batch_shape)}; solve one variational problem per sample, "
                "without batch axes."
            )
        if any(isinstance(condition, Robin) for condition in frame.boundary.values()):
            raise InputError(
                "a side has a Robin condition; use sb.Dirichlet, sb.Neumann or sb.Periodic in variational problems."
            )
        self.frame = frame
        self.source: Any = frame.source
        self.boundary: Any = frame.boundary
        self.node_shape = frame.node_shape

    def _set_box(self, box: Box, source: Any, boundary: Any) -> None:
        for name, value in {**self.density.fields, "source": source}.items():
            self._weights[name] = _point_field(value, name)
        self.source = self._weights.pop("source")
        if not isinstance(boundary, Dirichlet | Neumann | Periodic):
            raise InputError(
                f"boundary is of type {type(boundary).__name__}; on a box, give one condition for all sides: an "
                "sb.Dirichlet, sb.Neumann(0.0) or sb.Periodic()."
            )
        if isinstance(boundary, Neumann) and not (isinstance(boundary.flux, Real) and boundary.flux == 0):
            raise InputError("on a box, the Neumann flux must be zero; use sb.Neumann(0.0), or an sb.Grid as domain.")
        if isinstance(boundary, Dirichlet):
            boundary = Dirichlet(_point_field(boundary.value, "the Dirichlet value"))
        self.boundary = boundary
        x = self.sample_points()
        weights = {name: self._weight_at(name, x) for name in self._weights}
        for name, samples in {**weights, "source": self.source_at(x)}.items():
            require_finite(samples, f"the {name}")
        _require_signs(weights)
        if not isinstance(boundary, Dirichlet) and "reaction" in weights and not bool(weights["reaction"].any()):
            require_balance(self.source_at, box)

    # --- properties ---------------------------------------------------------------------------------------------------

    @property
    def dim(self) -> int:
        """Number of axes."""
        return self.box.dim

    @property
    def device(self) -> torch.device:
        """Device of the fields of the problem; on a box, the CPU."""
        return torch.device("cpu") if self.grid is None else self.frame.device

    @property
    def linear(self) -> bool:
        """Whether the equation is -div(a grad u) + c u = f, with a and c from `coefficient_at` and `reaction_at`."""
        return isinstance(self.density, QuadraticEnergy) and (
            self.density.linear or (self.grid is not None and not bool(self._weights["reaction"].any()))
        )

    @property
    def convex(self) -> bool:
        """Whether the energy is known or declared to be convex, as certificates require."""
        return self.density.convex

    @cached_property
    def ellipticity(self) -> tuple[float, float]:
        """Ellipticity constants lambda and Lambda: bounds on the second derivative of L with respect to the gradient.

        If weights are functions on a box, the constants are estimated from samples.
        """
        if "coefficient" not in self._weights:
            return self.density.lower, self.density.upper
        a = self._weights["coefficient"] if self.grid is not None else self.coefficient_at(self.sample_points())
        return self.density.lower * float(a.min()), self.density.upper * float(a.max())

    # --- at points ----------------------------------------------------------------------------------------------------

    def source_at(self, x: Tensor) -> Tensor:
        """Return the source f at points (..., d) of the box, shape (...).

        Raises
        ------
        InputError
            If the last axis of x does not have `dim` entries.
        """
        x = self._points(x)
        return self._of_cells(self.source, x) if self.grid is not None else _call(self.source, x, "source")

    def coefficient_at(self, x: Tensor) -> Tensor:
        """Return the weight a of an isotropic density at points (..., d), shape (...)."""
        return self._weight_at("coefficient", x)

    def reaction_at(self, x: Tensor) -> Tensor:
        """Return the weight c of an isotropic density at points (..., d), shape (...)."""
        return self._weight_at("reaction", x)

    def boundary_at(self, x: Tensor) -> Tensor:
        """Return the Dirichlet value at points (..., d) of a box, shape (...).

        Raises
        ------
        InputError
            If the problem is on a grid, or its sides are not Dirichlet sides.
        """
        if not isinstance(self.boundary, Dirichlet):
            raise InputError(
                "boundary_at needs a box with a Dirichlet value on all sides, but this problem has other conditions; "
                "inspect problem.boundary."
            )
        return _call(self.boundary.value, self._points(x), "the Dirichlet value")

    def _weight_at(self, name: str, x: Tensor) -> Tensor:
        if name not in self._weights:
            raise InputError(
                f"a general energy density is a function of (x, u, p) and has no {name}; use an "
                "sb.variational.IsotropicEnergy."
            )
        x, weight = self._points(x), self._weights[name]
        return self._of_cells(weight, x) if self.grid is not None else _call(weight, x, name)

    def _points(self, x: Any) -> Tensor:
        points = x if isinstance(x, Tensor) else convert(x, "x", torch.float64, self.device)
        if points.ndim == 0 or points.shape[-1] != self.dim:
            shape = tuple(points.shape)
            raise InputError(f"x has shape {shape}; give points with {self.dim} coordinates along the last axis.")
        return points

    def _of_cells(self, field: Tensor, x: Tensor) -> Tensor:
        """Return the values of a cell field at points; on a face, the value of the cell on the upper side."""
        assert self.grid is not None
        index = []
        for axis, (n, h, start) in enumerate(zip(self.grid.shape, self.grid.spacing, self.grid.origin)):
            index.append(((x[..., axis] - start) / h).floor().long().clamp(0, n - 1))
        return field[tuple(index)].to(x.dtype)

    def point_data(self, x: Tensor) -> Any:
        """Return the argument `data` of the density at points (..., d): its weights there, or the coordinates."""
        if not self._weights:
            return x
        return tuple(self._weight_at(name, x) for name in self._weights)

    def integrand(self, x: Tensor, u: Tensor, p: Tensor) -> Tensor:
        """Return L(x, u, p) - f u at points (..., d), shape (...); the energy J is its integral."""
        if p.ndim == 0 or p.shape[-1] != self.dim:
            raise InputError(
                f"p has shape {tuple(p.shape)}; give gradients with {self.dim} entries along the last axis."
            )
        return self.density.value(self.point_data(x), u, p) - self.source_at(x) * u

    # --- on a grid ----------------------------------------------------------------------------------------------------

    @cached_property
    def elements(self) -> Elements:
        """Multilinear elements with two Gauss points per axis.

        Raises
        ------
        InputError
            If the problem is on a box.
        """
        return self.elements_with(GAUSS)

    def elements_with(self, rule: Rule) -> Elements:
        """Return the multilinear elements with another quadrature rule."""
        return elements_on(self._require_grid(), rule, self.device)

    @cached_property
    def quadrature_data(self) -> Any:
        """Weights or coordinates at the quadrature points of `elements`, broadcastable to (q, n); see `point_data`."""
        self._require_grid()
        return self.quadrature_data_of(self.elements)

    def quadrature_data_of(self, elements: Elements) -> Any:
        """Return `quadrature_data` for other elements."""
        return tuple(self._weights.values()) if self._weights else elements.coordinates()

    @cached_property
    def load(self) -> Tensor:
        """Integrals of source and Neumann data times the nodal basis functions: a node field."""
        self._require_grid()
        return nodal_load(self.frame)[0]

    def energy(self, values: Any) -> Tensor:
        """Return the energy J of a node field, with two Gauss points per axis; exact for linear problems."""
        v = self.nodes(values)
        u, p = self.elements.at(with_periodic_copies(v, self.frame.periodic))
        return self.elements.integrate(self.density.value(self.quadrature_data, u, p)) - (self.load * v).sum()

    def gradient(self, values: Any) -> Tensor:
        """Return the derivative of `energy` with respect to free nodal values: a node field, zero at other nodes."""
        v = self.nodes(values)
        u, p = self.elements.at(with_periodic_copies(v, self.frame.periodic))
        derivative = self.elements.tested(*self.density.first(self.quadrature_data, u, p))
        return self.free * (fold_periodic_copies(derivative, self.frame.periodic) - self.load)

    @cached_property
    def free(self) -> Tensor:
        """Node field that is 1 at free nodes and 0 where values are prescribed."""
        self._require_grid()
        return (~self.frame.dirichlet_nodes[0]).to(torch.float64)

    def nodes(self, values: Any) -> Tensor:
        """Convert a node field, or the values of a solution, to a tensor.

        Raises
        ------
        InputError
            If the shape is not `node_shape`, an entry is not finite, or the problem is on a box.
        """
        self._require_grid()
        given = values if isinstance(values, Tensor) else getattr(values, "values", values)  # accepts solutions too
        field = convert(given, "values", torch.float64, self.device)
        if tuple(field.shape) != self.node_shape:
            raise InputError(
                f"values have shape {tuple(field.shape)}, but a node field of this problem has shape "
                f"{self.node_shape}; give one value per node."
            )
        require_finite(field, "values")
        return field

    def impose_boundary(self, values: Any) -> Tensor:
        """Return a node field with the prescribed values at Dirichlet nodes.

        Raises
        ------
        InputError
            If the shape is not `node_shape`, or the problem is on a box.
        """
        self._require_grid()
        return self.frame.impose_boundary(values)

    def _require_grid(self) -> Grid:
        if self.grid is None:
            raise InputError(
                "the problem is on a box without cells, so there are no node fields; state it on an sb.Grid."
            )
        return self.grid

    def as_diffusion(self) -> Diffusion:
        """Return a linear problem on a grid as an `sb.Diffusion`.

        Raises
        ------
        InputError
            If the problem is not linear, or on a box.
        """
        self._require_grid()
        if not self.linear:
            raise InputError(
                "the problem is not linear, so it has no equivalent sb.Diffusion; use sb.variational.minimize_energy."
            )
        return self.frame.replace(coefficient=self._weights["coefficient"], reaction=self._weights["reaction"])

    def refine(self, factor: int = 2) -> VariationalProblem:
        """Return the same problem, with the same data and minimiser, on a grid whose cells are divided by `factor`.

        Raises
        ------
        InputError
            If the factor is not a positive integer, or the problem is on a box.
        """
        self._require_grid()
        return self._with(self.frame.refine(factor), lambda weight: repeat_cells(weight, factor, self.dim))

    def to(self, device: torch.device | str) -> VariationalProblem:
        """Return the same problem with its fields on another device; on a box there are no fields to move.

        Raises
        ------
        InputError
            If the device is not available.
        """
        return self if self.grid is None else self._with(self.frame.to(device), lambda weight: weight.to(device))

    def _with(self, frame: Diffusion, change: Callable[[Tensor], Tensor]) -> VariationalProblem:
        """Return the same problem with the data of another diffusion problem and changed weights."""
        other = object.__new__(VariationalProblem)
        other.density, other.grid, other.box, other.frame = self.density, frame.grid, self.box, frame
        other.source, other.boundary, other.node_shape = frame.source, frame.boundary, frame.node_shape
        other._weights = {name: change(weight) for name, weight in self._weights.items()}
        return other

    def __repr__(self) -> str:
        where = f"{'x'.join(map(str, self.grid.shape))} cells" if self.grid else f"a box in {self.dim} dimensions"
        return f"VariationalProblem({type(self.density).__name__} on {where})"

    def sample_points(self) -> Tensor:
        """Return quasi-random points of the box, the same points in every call, shape (m, d)."""
        engine = torch.quasirandom.SobolEngine(self.dim, scramble=True, seed=0)
        return self.box.points(engine.draw(SAMPLE_COUNT, dtype=torch.float64).to(self.device))


def _single(field: Tensor, name: str, grid: Grid) -> Tensor:
    if field.ndim > grid.dim:
        raise InputError(
            f"{name} has the batch shape {tuple(field.shape[: -grid.dim])}; solve one variational problem per sample, "
            "without batch axes."
        )
    return field.detach()


def _require_signs(weights: Mapping[str, Tensor]) -> None:
    if "coefficient" in weights and not bool((weights["coefficient"] > 0).all()):
        low = weights["coefficient"].min()
        raise InputError(f"coefficient must be positive, but its smallest value is {low:g}; check its sign.")
    if "reaction" in weights and bool((weights["reaction"] < 0).any()):
        low = weights["reaction"].min()
        raise InputError(f"reaction must not be negative, but its smallest value is {low:g}; check its sign.")


def _point_field(value: Any, name: str) -> PointField:
    """Return a field on a box if it is a number or a function of points; raise otherwise."""
    if is_array_free_callable(value):
        function: Callable[[Tensor], Tensor] = value
        return function
    try:
        return require_number(value, name)
    except InputError:
        kind = type(value).__name__
        shown = f"of shape {tuple(value.shape)}" if getattr(value, "shape", ()) else repr(value)
        raise InputError(
            f"{name} is {shown} ({kind}); on a box, give a number or a function of points (..., d)."
        ) from None


def _call(value: PointField, x: Tensor, name: str) -> Tensor:
    """Evaluate a field on a box at points (..., d)."""
    if not callable(value):
        return x.new_full(x.shape[:-1], value)
    result = value(x)
    if not isinstance(result, Tensor) or result.shape != x.shape[:-1]:
        kind = f"shape {tuple(result.shape)}" if isinstance(result, Tensor) else f"a {type(result).__name__}"
        raise InputError(
            f"{name} returned {kind} for points of shape {tuple(x.shape)}; let it return one number per point, shape "
            f"{tuple(x.shape[:-1])}."
        )
    return result.to(x.dtype)
