"""Variational problems: the function of least energy, int L(x, u, grad u) - f u, with given values on the sides."""

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
from sciml_bounds.problems.declarations import require_balance, require_what_is_declared
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.discretization import nodal_load
from sciml_bounds.problems.elements import GAUSS, Elements, Rule, elements_on
from sciml_bounds.problems.energies import QuadraticEnergy
from sciml_bounds.problems.energy_density import EnergyDensity
from sciml_bounds.problems.fields import cell_field, is_array_free_callable, named_sides, side_values
from sciml_bounds.problems.transfers import fold_periodic_copies, repeat_cells, with_periodic_copies

__all__ = ["VariationalProblem"]

_ZERO = Dirichlet(0.0)

#: Functions on a box are looked at in so many points.
SAMPLES = 256

#: A weight or source: a number, or of points (..., d).
PointField = float | Callable[[Tensor], Tensor]


class VariationalProblem:
    """Minimise J(u) = int L(x, u, grad u) - f u over the functions with given values on Dirichlet sides.

    Parameters
    ----------
    domain
        An `sb.Grid`, on whose cells weights and source are constant, or an `sb.barron.Box` in any dimension, for
        networks.
    density
        L: an `sb.variational.QuadraticEnergy`, `sb.variational.PLaplacian`, `sb.variational.MinimalSurface`,
        `sb.variational.ShearThinning`, `sb.variational.GinzburgLandau`, `sb.variational.IsotropicEnergy`,
        `sb.variational.EnergyDensity`.
    source
        f: on a grid as in `sb.Diffusion`, without batch; on a box a number or a function of points (..., d).
    boundary
        On a grid as in `sb.Diffusion`, without Robin sides. On a box one condition for all sides: `sb.Dirichlet` of a
        number or a function of points, `sb.Neumann(0.0)` or `sb.Periodic()`.

    Attributes
    ----------
    box
        The box, with or without cells.
    grid
        The grid; None on a box.
    density, source, boundary
        As given, on a grid with fields as tensors.
    node_shape
        Shape of a node field, on a grid only.

    Raises
    ------
    InputError
        If data do not fit, the density is declared to be convex or to have a lambda or Lambda and samples show
        otherwise, or nothing fixes the level of u and the sources do not balance (on a box as far as samples show).

    Notes
    -----
    On a grid the data are cellwise: that is the problem which is solved and certified, in float64, on the device of its
    fields. Networks are fitted on the CPU and returned on that device.

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
            raise InputError(f"the domain is a {kind}; give an sb.Grid to be solved on cells, or an sb.barron.Box.")
        if not isinstance(density, EnergyDensity):
            kind = type(density).__name__
            raise InputError(
                f"the energy density is a {kind}; give an sb.variational.QuadraticEnergy or another density, or "
                "sb.variational.EnergyDensity(function) of a function of (x, u, p)."
            )
        self.density = density
        self.grid = domain if isinstance(domain, Grid) else None
        self.box = domain.box if isinstance(domain, Grid) else domain
        self._weights: dict[str, Any] = {}
        if isinstance(domain, Grid):
            self._set_cells(domain, source, boundary)
        else:
            self._set_box(domain, source, boundary)
        require_what_is_declared(self.density, self.sample_points())

    def _set_cells(self, grid: Grid, source: Any, boundary: Any) -> None:
        sides = named_sides(dict(boundary) if isinstance(boundary, Mapping) else boundary, grid)
        _, device = common_dtype_and_device([*self.density.fields.items(), ("source", source), *side_values(sides)])
        for name, value in self.density.fields.items():
            self._weights[name] = _single(cell_field(value, name, grid, torch.float64, device), name, grid)
        _require_signs(self._weights)
        holds = self._weights.get("reaction", torch.ones(grid.shape, dtype=torch.float64, device=device))
        frame = Diffusion(grid, 1.0, source, boundary=boundary, reaction=holds).to(torch.float64).detach()
        if frame.batch_shape:
            raise InputError(
                f"the data have a batch {tuple(frame.batch_shape)}; give one variational problem at a time."
            )
        if any(isinstance(condition, Robin) for condition in frame.boundary.values()):
            raise InputError("a side has a Robin condition; variational problems take Dirichlet, Neumann and Periodic.")
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
                "on a box all sides have one condition, sb.Dirichlet, sb.Neumann(0.0) or sb.Periodic(), not "
                f"{type(boundary).__name__}."
            )
        if isinstance(boundary, Neumann) and not (isinstance(boundary.flux, Real) and boundary.flux == 0):
            raise InputError("on a box the Neumann flux is zero; give sb.Neumann(0.0), or an sb.Grid.")
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

    # --- what is known ------------------------------------------------------------------------------------------------

    @property
    def dim(self) -> int:
        """Number of axes."""
        return self.box.dim

    @property
    def device(self) -> torch.device:
        """Where the fields of the problem are; on a box the CPU."""
        return torch.device("cpu") if self.grid is None else self.frame.device

    @property
    def linear(self) -> bool:
        """Whether it is -div(a grad u) + c u = f: `coefficient_at` and `reaction_at` are a and c then."""
        return isinstance(self.density, QuadraticEnergy) and (
            self.density.linear or (self.grid is not None and not bool(self._weights["reaction"].any()))
        )

    @property
    def convex(self) -> bool:
        """Whether the energy is convex, known or declared: only then is a certificate given."""
        return self.density.convex

    @cached_property
    def ellipticity(self) -> tuple[float, float]:
        """Return lambda and Lambda: the second derivatives of L in the gradient lie between them.

        Where weights are functions on a box they are looked at in samples, which is an estimate.
        """
        if "coefficient" not in self._weights:
            return self.density.lower, self.density.upper
        a = self._weights["coefficient"] if self.grid is not None else self.coefficient_at(self.sample_points())
        return self.density.lower * float(a.min()), self.density.upper * float(a.max())

    # --- at points ----------------------------------------------------------------------------------------------------

    def source_at(self, x: Tensor) -> Tensor:
        """Return f at points (..., d) of the box, shape (...).

        Raises
        ------
        InputError
            Here and for the weights, if points have another number of coordinates.
        """
        x = self._points(x)
        return self._of_cells(self.source, x) if self.grid is not None else _call(self.source, x, "source")

    def coefficient_at(self, x: Tensor) -> Tensor:
        """Return the weight a of an isotropic density at points (..., d), shape (...)."""
        return self._weight_at("coefficient", x)

    def reaction_at(self, x: Tensor) -> Tensor:
        """Return its weight c."""
        return self._weight_at("reaction", x)

    def boundary_at(self, x: Tensor) -> Tensor:
        """Return the Dirichlet value at points (..., d) of a box, shape (...).

        Raises
        ------
        InputError
            If the problem is on a grid, or its sides are no Dirichlet sides.
        """
        if not isinstance(self.boundary, Dirichlet):
            raise InputError("no value is prescribed on all sides of a box; see problem.boundary.")
        return _call(self.boundary.value, self._points(x), "the Dirichlet value")

    def _weight_at(self, name: str, x: Tensor) -> Tensor:
        if name not in self._weights:
            raise InputError(f"a general energy density has no {name}; it is a function of (x, u, p).")
        x, weight = self._points(x), self._weights[name]
        return self._of_cells(weight, x) if self.grid is not None else _call(weight, x, name)

    def _points(self, x: Any) -> Tensor:
        points = x if isinstance(x, Tensor) else convert(x, "x", torch.float64, self.device)
        if points.ndim == 0 or points.shape[-1] != self.dim:
            shape = tuple(points.shape)
            raise InputError(f"x has shape {shape}; points need {self.dim} coordinates in the last axis.")
        return points

    def _of_cells(self, field: Tensor, x: Tensor) -> Tensor:
        """Look up a cell field at points; on faces the cell behind counts."""
        assert self.grid is not None
        index = []
        for axis, (n, h, start) in enumerate(zip(self.grid.shape, self.grid.spacing, self.grid.origin)):
            index.append(((x[..., axis] - start) / h).floor().long().clamp(0, n - 1))
        return field[tuple(index)].to(x.dtype)

    def place(self, x: Tensor) -> Any:
        """Return what the density has to know of points (..., d): its weights there, or the points themselves."""
        if not self._weights:
            return x
        return tuple(self._weight_at(name, x) for name in self._weights)

    def integrand(self, x: Tensor, u: Tensor, p: Tensor) -> Tensor:
        """Return L(x, u, p) - f u at points (..., d), shape (...); J is its integral on a box."""
        if p.ndim == 0 or p.shape[-1] != self.dim:
            raise InputError(f"p has shape {tuple(p.shape)}; gradients need {self.dim} entries in the last axis.")
        return self.density.value(self.place(x), u, p) - self.source_at(x) * u

    # --- on a grid ----------------------------------------------------------------------------------------------------

    @cached_property
    def elements(self) -> Elements:
        """Multilinear elements with two Gauss points an axis.

        Raises
        ------
        InputError
            If the problem is on a box.
        """
        return self.elements_with(GAUSS)

    def elements_with(self, rule: Rule) -> Elements:
        """Return the multilinear elements with another rule."""
        return elements_on(self._require_grid(), rule, self.device)

    @cached_property
    def cell_place(self) -> Any:
        """What the density has to know of the points of `elements`, broadcast to (q, n)."""
        self._require_grid()
        return self.place_in_cells(self.elements)

    def place_in_cells(self, elements: Elements) -> Any:
        """Return the same for other points of the cells."""
        return tuple(self._weights.values()) if self._weights else elements.coordinates()

    @cached_property
    def load(self) -> Tensor:
        """Integrals of source and Neumann data times the nodal functions, shape of a node field."""
        self._require_grid()
        return nodal_load(self.frame)[0]

    def energy(self, values: Any) -> Tensor:
        """Compute J of a node field (see `nodes`), with two Gauss points an axis; exact for linear problems."""
        v = self.nodes(values)
        u, p = self.elements.at(with_periodic_copies(v, self.frame.periodic))
        return self.elements.integrate(self.density.value(self.cell_place, u, p)) - (self.load * v).sum()

    def gradient(self, values: Any) -> Tensor:
        """Compute the derivative of `energy` by the free nodal values, zero at the others; shape of a node field."""
        v = self.nodes(values)
        u, p = self.elements.at(with_periodic_copies(v, self.frame.periodic))
        derivative = self.elements.tested(*self.density.first(self.cell_place, u, p))
        return self.free * (fold_periodic_copies(derivative, self.frame.periodic) - self.load)

    @cached_property
    def free(self) -> Tensor:
        """1 at nodes whose values are free, 0 where they are prescribed; shape of a node field."""
        self._require_grid()
        return (~self.frame.dirichlet_nodes[0]).to(torch.float64)

    def nodes(self, values: Any) -> Tensor:
        """Convert one node field.

        Raises
        ------
        InputError
            If its shape is another, an entry is not finite, or the problem is on a box.
        """
        self._require_grid()
        given = values if isinstance(values, Tensor) else getattr(values, "values", values)  # a solution is taken too
        field = convert(given, "values", torch.float64, self.device)
        if tuple(field.shape) != self.node_shape:
            raise InputError(f"values have shape {tuple(field.shape)}, but a node field here has {self.node_shape}.")
        require_finite(field, "values")
        return field

    def impose_boundary(self, values: Any) -> Tensor:
        """Return a node field with the prescribed values put in where they belong.

        Raises
        ------
        InputError
            If its shape is another, or the problem is on a box.
        """
        self._require_grid()
        return self.frame.impose_boundary(values)

    def _require_grid(self) -> Grid:
        if self.grid is None:
            raise InputError("the problem is posed on a box without cells; give an sb.Grid to work with node fields.")
        return self.grid

    def as_diffusion(self) -> Diffusion:
        """Return a linear problem on a grid as an `sb.Diffusion`.

        Raises
        ------
        InputError
            If it is not linear, or on a box.
        """
        self._require_grid()
        if not self.linear:
            raise InputError("the problem is not linear; an sb.Diffusion is -div(a grad u) + c u = f.")
        return self.frame.replace(coefficient=self._weights["coefficient"], reaction=self._weights["reaction"])

    def refine(self, factor: int = 2) -> VariationalProblem:
        """Return the same problem on the grid with every cell divided: the same data, the same minimiser.

        Raises
        ------
        InputError
            If the factor is no positive integer, or the problem is on a box.
        """
        self._require_grid()
        return self._with(self.frame.refine(factor), lambda weight: repeat_cells(weight, factor, self.dim))

    def to(self, device: torch.device | str) -> VariationalProblem:
        """Return the same problem with its fields on another device; on a box it has none.

        Raises
        ------
        InputError
            If the device is not available.
        """
        return self if self.grid is None else self._with(self.frame.to(device), lambda weight: weight.to(device))

    def _with(self, frame: Diffusion, change: Callable[[Tensor], Tensor]) -> VariationalProblem:
        """Return the same problem with another frame and changed weights."""
        other = object.__new__(VariationalProblem)
        other.density, other.grid, other.box, other.frame = self.density, frame.grid, self.box, frame
        other.source, other.boundary, other.node_shape = frame.source, frame.boundary, frame.node_shape
        other._weights = {name: change(weight) for name, weight in self._weights.items()}
        return other

    def __repr__(self) -> str:
        where = f"{'x'.join(map(str, self.grid.shape))} cells" if self.grid else f"a box in {self.dim} dimensions"
        return f"VariationalProblem({type(self.density).__name__} on {where})"

    def sample_points(self) -> Tensor:
        """Return points that are spread over the box, always the same, shape (m, d)."""
        engine = torch.quasirandom.SobolEngine(self.dim, scramble=True, seed=0)
        return self.box.points(engine.draw(SAMPLES, dtype=torch.float64).to(self.device))


def _single(field: Tensor, name: str, grid: Grid) -> Tensor:
    if field.ndim > grid.dim:
        raise InputError(
            f"{name} has a batch {tuple(field.shape[: -grid.dim])}; give one variational problem at a time."
        )
    return field.detach()


def _require_signs(weights: Mapping[str, Tensor]) -> None:
    if "coefficient" in weights and not bool((weights["coefficient"] > 0).all()):
        raise InputError(f"coefficient must be positive, and its smallest entry is {weights['coefficient'].min():g}.")
    if "reaction" in weights and bool((weights["reaction"] < 0).any()):
        raise InputError(f"reaction must not be negative, and its smallest entry is {weights['reaction'].min():g}.")


def _point_field(value: Any, name: str) -> PointField:
    """Check what is given of a field on a box: a number, or a function of points."""
    if is_array_free_callable(value):
        function: Callable[[Tensor], Tensor] = value
        return function
    try:
        return require_number(value, name)
    except InputError:
        kind = type(value).__name__
        shown = f"of shape {tuple(value.shape)}" if getattr(value, "shape", ()) else repr(value)
        raise InputError(
            f"{name} is {shown} ({kind}); on a box give a number, or a function of points (..., d)."
        ) from None


def _call(value: PointField, x: Tensor, name: str) -> Tensor:
    """Evaluate a field on a box at points (..., d)."""
    if not callable(value):
        return x.new_full(x.shape[:-1], value)
    result = value(x)
    if not isinstance(result, Tensor) or result.shape != x.shape[:-1]:
        kind = f"shape {tuple(result.shape)}" if isinstance(result, Tensor) else f"a {type(result).__name__}"
        raise InputError(
            f"{name} makes {kind} of points {tuple(x.shape)}; let it return one number a point, {tuple(x.shape[:-1])}."
        )
    return result.to(x.dtype)
