"""Two-layer networks with exact derivatives, norms, and prescribed values on sides of a box."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sciml_bounds.arrays import convert, require_count, require_finite, require_instance, require_number, require_seed
from sciml_bounds.barron import _norms as norms
from sciml_bounds.barron._activations import checked_activation
from sciml_bounds.barron._barron_function import BarronFunction
from sciml_bounds.barron._box_distance import BoxDistance, checked_sides
from sciml_bounds.barron._cell_bounds import cell_bounds
from sciml_bounds.barron._series import ProductSeries, Sides, checked_lengths
from sciml_bounds.errors import InputError
from sciml_bounds.grid import axis_numbers
from sciml_bounds.reports import summary_table

if TYPE_CHECKING:
    from sciml_bounds.bounds._interpolation_error import CellBounds
    from sciml_bounds.grid import Grid

__all__ = ["BarronNetwork", "require_lifting"]


class BarronNetwork(nn.Module):
    """u(x) = D(x) (sum_j a_j s(w_j . x + b_j)^power + c . x + c_0) + g(x), a function of d variables on a box.

    Without Dirichlet sides, D = 1. Otherwise D is a product of parabolas (`barron._box_distance`) that vanishes on the
    Dirichlet sides, so u equals g there for all weights. Derivatives with respect to x are explicit formulas; all
    results are differentiable with respect to the parameters. Parameters are float64 until changed by `to`. Norms and
    cell bounds refer to the box.

    Parameters
    ----------
    dimension : int
        Number d of variables.
    width : int
        Number k of neurons.
    activation : {"cosine", "relu", "tanh", "sigmoid", "step"}
        Activation s; "step" has no derivatives.
    power : int
        Power of the ReLU.
    lengths, origin : float or sequence of d floats
        Side lengths of the box and its corner of smallest coordinates, one number per axis or one for all axes.
    dirichlet_sides : "all" or list of (axis, end)
        Sides on which u equals g; end is 0 or 1.
    lifting : BarronNetwork, optional
        Function g, a network without Dirichlet sides; a network without neurons is an affine function. It is copied,
        and its parameters are not trained. Zero by default.
    scale : float
        Standard deviation of the entries of w_j times the side lengths at initialisation. ReLU kinks and ridges are
        initialised inside the box.
    seed : int
        Seed of the initialisation, with outer weights of variance 1 / k^2 and no affine part.

    Attributes
    ----------
    weights, biases, outer : Parameter, shapes (k, d), (k,) and (k,)
        w, b and a.
    slope, offset : Parameter, shapes (d,) and ()
        c and c_0.

    Raises
    ------
    InputError
        If activation, box or sides are invalid, or the lifting has another dimension or Dirichlet sides.

    Examples
    --------
    >>> import sciml_bounds as sb
    >>> network = sb.BarronNetwork.of([[3.0, 4.0]], [0.0], [2.0], activation="cosine")
    >>> network([0.0, 0.0]).item(), network.laplacian([0.0, 0.0]).item(), network.barron_norm
    (2.0, -50.0, 12.0)
    """

    #: Marks functions of points (..., d), as in `BarronFunction`.
    of_points = True

    weights: nn.Parameter
    biases: nn.Parameter
    outer: nn.Parameter
    slope: nn.Parameter
    offset: nn.Parameter

    def __init__(
        self,
        dimension: int,
        width: int,
        activation: str = "cosine",
        *,
        power: int = 1,
        lengths: Sides = 1.0,
        origin: Sides = 0.0,
        dirichlet_sides: Any = (),
        lifting: BarronNetwork | None = None,
        scale: float = 4.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        require_count(dimension, "dimension", 1)
        require_count(width, "width", 0)
        scale = require_number(scale, "scale", positive=True)
        seed = require_seed(seed)
        self.activation = checked_activation(activation, power)
        self.lengths = checked_lengths(lengths, dimension, "lengths")
        self.origin = axis_numbers(origin, dimension, "origin")
        sides = checked_sides(dirichlet_sides, dimension)
        self.distance = BoxDistance(self.origin, self.lengths, sides) if sides else None
        self.lifting = None if lifting is None else self._copied_lifting(lifting)
        generator = torch.Generator().manual_seed(seed)
        length, corner = (torch.tensor(v, dtype=torch.float64) for v in (self.lengths, self.origin))
        w = scale * torch.randn((width, dimension), generator=generator, dtype=torch.float64) / length
        points = corner + length * torch.rand((width, dimension), generator=generator, dtype=torch.float64)
        a = torch.randn(width, generator=generator, dtype=torch.float64) / max(width, 1)
        phases = 2 * math.pi * torch.rand(width, generator=generator, dtype=torch.float64)
        b = phases if activation == "cosine" else -(w * points).sum(-1)
        self._set_parameters(w, b, a, torch.zeros(dimension, dtype=torch.float64), torch.zeros((), dtype=torch.float64))

    def _set_parameters(self, *parameters: Tensor) -> None:
        for name, value in zip(("weights", "biases", "outer", "slope", "offset"), parameters):
            setattr(self, name, nn.Parameter(value))

    @classmethod
    def of(
        cls,
        weights: Any,
        biases: Any,
        outer: Any,
        *,
        activation: str = "cosine",
        power: int = 1,
        slope: Any = None,
        offset: float = 0.0,
        lengths: Sides = 1.0,
        origin: Sides = 0.0,
        dirichlet_sides: Any = (),
        lifting: BarronNetwork | None = None,
    ) -> BarronNetwork:
        """Return a network with given parameters.

        Parameters
        ----------
        weights, biases, outer : array, shapes (k, d), (k,) and (k,)
            w, b and a.
        slope : array, shape (d,), optional
            c, zero by default.
        offset : float
            c_0.
        activation, power, lengths, origin, dirichlet_sides, lifting
            As for the class.

        Raises
        ------
        InputError
            If shapes do not fit, or a number is not finite.
        """
        w, b, a = (
            _numbers(value, name) for value, name in ((weights, "weights"), (biases, "biases"), (outer, "outer"))
        )
        if w.ndim != 2 or w.shape[1] == 0:
            raise InputError(f"weights has shape {tuple(w.shape)}; give one row of d numbers per neuron.")
        width, dimension = w.shape
        c = torch.zeros(dimension, dtype=torch.float64) if slope is None else _numbers(slope, "slope")
        for value, name, count in ((b, "biases", width), (a, "outer", width), (c, "slope", dimension)):
            if value.shape != (count,):
                raise InputError(
                    f"{name} has shape {tuple(value.shape)}, but weights of shape {tuple(w.shape)} need ({count},)."
                )
        network = cls(
            dimension,
            width,
            activation,
            power=power,
            lengths=lengths,
            origin=origin,
            dirichlet_sides=dirichlet_sides,
            lifting=lifting,
        )
        c0 = torch.tensor(require_number(offset, "offset"), dtype=torch.float64)
        network._set_parameters(*(value.detach().clone() for value in (w, b, a, c, c0)))
        return network

    @classmethod
    def of_series(cls, function: Any) -> BarronNetwork:
        """Return the cosine network of a series, with one neuron per wave.

        A product of cosines or sines of s variables becomes 2^(s-1) neurons, its reflections. The network of a sine
        series is zero on the sides of its box up to round-off, but only for these weights; with `dirichlet_sides` a
        network is zero there for all weights.

        Parameters
        ----------
        function : BarronFunction
            A series.

        Raises
        ------
        InputError
            If the function is not a series, or has more than 65,536 waves.
        """
        require_instance(function, "function", BarronFunction, "an sb.barron.BarronFunction that is a series")
        series: Any = function.waves().value
        lengths = function.value.lengths if isinstance(function.value, ProductSeries) else series.periods
        return cls.of(*series.cosines(), activation="cosine", offset=series.mean, lengths=lengths)

    # --- evaluation ---------------------------------------------------------------------------------------------------

    @property
    def dimension(self) -> int:
        """Number of variables."""
        return self.weights.shape[1]

    @property
    def width(self) -> int:
        """Number of neurons."""
        return self.weights.shape[0]

    @property
    def dirichlet_sides(self) -> tuple[tuple[int, int], ...]:
        """Sides (axis, end) on which the network equals its lifting."""
        return () if self.distance is None else self.distance.sides

    @property
    def arguments(self) -> dict[str, Any]:
        """Constructor arguments of a network like this one, without its parameters, as JSON values; for `save_model`.

        Raises
        ------
        InputError
            If there is a lifting, whose parameters are not saved.
        """
        if self.lifting is not None:
            raise InputError(
                "networks with a lifting cannot be saved; save the network without it, save the lifting separately, "
                "and combine them after loading."
            )
        return {
            "dimension": self.dimension,
            "width": self.width,
            "activation": self.activation.name,
            "power": self.activation.power,
            "lengths": list(self.lengths),
            "origin": list(self.origin),
            "dirichlet_sides": [list(side) for side in self.dirichlet_sides],
        }

    def forward(self, x: Any) -> Tensor:
        """Evaluate u, shape (...).

        Parameters
        ----------
        x : array or Tensor, shape (..., d)
            Points, as in all methods that evaluate at points.

        Raises
        ------
        InputError
            If the points do not have d coordinates.
        """
        x = self._points(x)
        inner = self._inner(x)
        if self.distance is not None:
            inner = inner * self.distance.factors(x)[0].prod(-1)
        return inner if self.lifting is None else inner + self.lifting.forward(x)

    def gradient(self, x: Any) -> Tensor:
        """Evaluate the gradient of u at points (..., d), shape (..., d).

        Raises
        ------
        InputError
            If the points do not have d coordinates, or the activation does not have this derivative; the same holds for
            all methods that evaluate derivatives.
        """
        x = self._points(x)
        inner = self._inner_gradient(x)
        if self.distance is not None:
            factor, slope, _ = self.distance.jet(x)
            inner = inner * factor[..., None] + self._inner(x)[..., None] * slope
        return inner if self.lifting is None else inner + self.lifting.gradient(x)

    def laplacian(self, x: Any) -> Tensor:
        """Evaluate the Laplacian of u at points (..., d), shape (...).

        It is not available for ReLUs of power 1, whose second derivative is a measure.
        """
        x = self._points(x)
        inner = self._derivative(x, 2) @ (self.outer * self.weights.square().sum(-1))
        if self.distance is not None:
            factor, slope, laplacian = self.distance.jet(x)
            mixed = (self._inner_gradient(x) * slope).sum(-1)
            inner = inner * factor + 2 * mixed + self._inner(x) * laplacian
        return inner if self.lifting is None else inner + self.lifting.laplacian(x)

    def features(self, x: Any) -> Tensor:
        """Evaluate the features D(x) s(w_j . x + b_j)^power at points (..., d), shape (..., k)."""
        x = self._points(x)
        neurons = self.activation(self._arguments(x))
        return neurons if self.distance is None else neurons * self.distance.factors(x)[0].prod(-1, keepdim=True)

    def feature_gradients(self, x: Any) -> Tensor:
        """Evaluate the gradients of the features at points (..., d), shape (..., k, d)."""
        x = self._points(x)
        gradients = self._derivative(x, 1)[..., None] * self.weights
        if self.distance is None:
            return gradients
        factor, slope, _ = self.distance.jet(x)
        neurons = self.activation(self._arguments(x))
        return gradients * factor[..., None, None] + neurons[..., None] * slope[..., None, :]

    def feature_laplacians(self, x: Any) -> Tensor:
        """Evaluate the Laplacians of the features at points (..., d), shape (..., k)."""
        x = self._points(x)
        laplacians = self._derivative(x, 2) * self.weights.square().sum(-1)
        if self.distance is None:
            return laplacians
        factor, slope, laplacian = self.distance.jet(x)
        mixed = self._derivative(x, 1) * (slope @ self.weights.T)
        return laplacians * factor[..., None] + 2 * mixed + self.activation(self._arguments(x)) * laplacian[..., None]

    def cell_bounds(self, grid: Grid) -> CellBounds:
        """Bound value, gradient, second and some third derivatives on every cell of a grid, d <= 3.

        The bounds are guaranteed up to round-off for the weights as float64 numbers; see `barron._cell_bounds`. They
        are not differentiable.

        Parameters
        ----------
        grid : Grid
            A grid of dimension d.

        Raises
        ------
        InputError
            If `grid` is not a grid of dimension d, the activation is "step", or a parameter is not finite.
        """
        return cell_bounds(copy.deepcopy(self).double().cpu(), grid)

    def __repr__(self) -> str:
        activation = self.activation.name + (f"^{self.activation.power}" if self.activation.power > 1 else "")
        rows = {
            "dimension": str(self.dimension),
            "width": str(self.width),
            "activation": activation,
            "path norm": norms.upwards(self.path_norm),
            "Barron norm (bound)": norms.describe_norm(self),
        }
        if self.dirichlet_sides:
            rows["Dirichlet sides"] = (
                "all" if len(self.dirichlet_sides) == 2 * self.dimension else str(self.dirichlet_sides)
            )
        return summary_table("BarronNetwork", rows)

    # --- norms --------------------------------------------------------------------------------------------------------

    @property
    def path_norm(self) -> float:
        """Bound of |u| on the box: sum_j |a_j| r_j + max |c . x + c_0|, plus the path norm of the lifting.

        For ReLUs r_j = (max |w_j . x + b_j| over the box)^power, which on the unit box is at most (|w|_1 + |b|)^power
        of E, Ma and Wu, arXiv:1906.08039. For all other activations r_j = 1.
        """
        return norms.path_norm(self)

    @property
    def barron_norm(self) -> float:
        """Bound of the Barron norm of u on the box: sum_j |a_j| n_j plus the norms of affine part and lifting.

        n_j is `feature_norms`. For cosine, tanh and sigmoid it is the spectral norm, as in `BarronFunction.norm` (see
        `barron._norms`). For ReLU^k and step it is the variation norm for the neurons s(v . x + b) with |v| = 1 (Siegel
        and Xu, arXiv:2106.14997), in which affine parts have norm zero. The variation norm is infinite with Dirichlet
        sides, where u is not a combination of such neurons. The bound is also infinite if the neurons of the lifting
        have a different kind of norm.
        """
        return norms.barron_norm(self)

    def feature_norms(self) -> Tensor:
        """Return the norms of the features: the contribution to `barron_norm` per unit outer weight, shape (k,)."""
        return norms.feature_norms(self)

    def project_(self, bound: float) -> BarronNetwork:
        """Project the outer weights, in place, to the closest ones with `barron_norm` <= bound.

        All other parameters are unchanged.

        Parameters
        ----------
        bound : float
            Upper bound of `barron_norm`.

        Returns
        -------
        BarronNetwork
            This network.

        Raises
        ------
        InputError
            If affine part and lifting exceed the bound, the norm is infinite, or a parameter is not finite.
        """
        norms.project(self, require_number(bound, "bound"))
        return self

    # --- helpers ------------------------------------------------------------------------------------------------------

    def _copied_lifting(self, lifting: Any) -> BarronNetwork:
        """Copy a lifting to the box of this network, with parameters that are not trained."""
        require_lifting(lifting, len(self.lengths))
        if lifting.dirichlet_sides:
            raise InputError("lifting has Dirichlet sides, where it would be zero; give a lifting without them.")
        if lifting.lifting is not None:
            raise InputError("lifting has a lifting itself; give a single network that is their sum.")
        copied: BarronNetwork = copy.deepcopy(lifting).requires_grad_(False)
        copied.lengths, copied.origin = self.lengths, self.origin
        return copied

    def _points(self, x: Any) -> Tensor:
        points = convert(x, "x", self.outer.dtype, self.outer.device)
        if points.ndim == 0 or points.shape[-1] != self.dimension:
            raise InputError(
                f"x has shape {tuple(points.shape)}; points need {self.dimension} coordinates along the last axis."
            )
        return points

    def _arguments(self, x: Tensor) -> Tensor:
        return x @ self.weights.T + self.biases

    def _derivative(self, x: Tensor, order: int) -> Tensor:
        if order > self.activation.smoothness:
            name = f"{self.activation.name} of power {self.activation.power}"
            raise InputError(
                f"a network with activation {name} has no derivatives of order {order}; use a smoother activation."
            )
        return self.activation(self._arguments(x), order)

    def _inner(self, x: Tensor) -> Tensor:
        return self.activation(self._arguments(x)) @ self.outer + x @ self.slope + self.offset

    def _inner_gradient(self, x: Tensor) -> Tensor:
        return (self._derivative(x, 1) * self.outer) @ self.weights + self.slope


def _numbers(value: Any, name: str) -> Tensor:
    tensor = convert(value, name, torch.float64, torch.device("cpu"))
    require_finite(tensor, name)
    return tensor


def require_lifting(lifting: Any, dimension: int) -> None:
    """Check that a lifting is a network of `dimension` variables.

    Raises
    ------
    InputError
        If it is not.
    """
    require_instance(lifting, "lifting", BarronNetwork, "a BarronNetwork, of width 0 for an affine function")
    if lifting.dimension != dimension:
        raise InputError(
            f"lifting has {lifting.dimension} variables, but {dimension} are needed; give another lifting."
        )
