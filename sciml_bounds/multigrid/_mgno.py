"""MgNO, a neural operator whose linear maps are multigrid cycles of convolutions.

A layer is u <- sigma(W u + K u + b) with W a `ConvolutionCycle`, K a product with a matrix at each node, and sigma the
GELU; the last map is linear. Axes are (b, channel, *space). Reference: He, Liu, Xu, "MgNO: Efficient parameterization
of linear operators via multigrid", ICLR 2024, arXiv:2310.19809, equations 1 to 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sciml_bounds.arrays import require_choice
from sciml_bounds.errors import InputError
from sciml_bounds.multigrid._convolution_cycle import ConvolutionCycle, level_count, per_level
from sciml_bounds.multigrid._node_lattice import average_to_interior_nodes, interior_of, with_zero_boundary
from sciml_bounds.nn.network_input import check_axes, check_values
from sciml_bounds.nn.normalizer import Normalizer
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.store.datasets.weights import load_model, save_model

if TYPE_CHECKING:
    from sciml_bounds.multigrid._learned_preconditioner import NetworkPreconditioner

__all__ = ["MgNO"]

#: Where the input lies, and where the output: on one lattice, or on the n cells and n + 1 nodes of a box.
LAYOUTS = ("cells->nodes", "same")
#: What is normalised over the lattice, with weights for each node: nothing, u on each level, or each layer.
NORMS = ("none", "levels", "layers")
#: The last linear map: a product at each node, or a cycle.
HEADS = ("linear", "cycle")
#: Fields of a diffusion problem that can be an input.
FIELDS = ("coefficient", "source", "reaction")
#: What prolongs.
_TRANSPOSED = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
#: Samples that `predict` puts through the network at once.
TOGETHER = 32


class _Layer(nn.Module):
    """sigma(norm(W u) + K u + b)."""

    def __init__(self, cycle: ConvolutionCycle, local: nn.Module | None, norm: nn.Module | None) -> None:
        super().__init__()
        self.cycle, self.local, self.norm = cycle, local, norm

    def forward(self, u: Tensor) -> Tensor:
        w: Tensor = self.cycle(u)
        w = w if self.norm is None else self.norm(w)
        return functional.gelu(w if self.local is None else w + self.local(u))


class MgNO(nn.Module):
    """A map of functions on a lattice, made of multigrid cycles; no weight depends on the lattice.

    Parameters
    ----------
    in_channels, out_channels
        Channels of input and output.
    dim
        Number of space axes, 1 to 3.
    boundary
        "dirichlet", "neumann" or "periodic": how convolutions continue fields beyond the boundary.
    channels
        Channels of the layers, the same on all levels or one a level (finest first).
    layers
        Number of nonlinear layers.
    levels, pre, post, residual, coarse_start, shared, bias, alignment, kernel, wrapped
        Of every cycle, see `ConvolutionCycle`.
    layout
        "cells->nodes": the input is given on n cells along each axis and averaged to the n - 1 interior nodes, and the
        output stands on all n + 1 nodes, exactly zero on the boundary (the default with "dirichlet"). "same": the
        output stands where the input does.
    increment
        Whether the network gives the change of the last `out_channels` input channels (for time steps).
    fields
        What `predict` puts into the input channels, in order: "coefficient", "source", "reaction".
    normalization
        Of input and target, each "scalar" (a mean and a deviation a channel), "pointwise" (a channel and node) or
        "none"; the identity until `fit_normalizer`.
    local
        Whether layers have K and b.
    gain
        Standard deviation of the weights of layers at first, times the root of how many numbers they sum up. "torch":
        as torch draws them (as published), which is 0.58, and 0.29 for prolongations: then what passes the coarsest
        level is a thousandth of the rest at first, and far points learn slowly to depend on each other.
    norm, size, head, idle_operator
        For the published networks: layer norms over one lattice ("levels", "layers"), that lattice, the last linear map
        ("linear" or "cycle"), and whether cycles hold an operator that they never use.

    Attributes
    ----------
    arguments
        The keywords that make this network again.

    Raises
    ------
    InputError
        If options are unknown or contradict each other; from `forward`, if the input has another number of axes or
        channels, another dtype or device than the weights, a lattice that is too small, NaN or infinity (looked for
        in evaluation mode).

    Notes
    -----
    The published networks restrict the raw data and start coarse levels from a learnt restriction of u. The default
    starts them from zero, which needs fewer weights and less time, and was more accurate when measured.

    Examples
    --------
    >>> import torch
    >>> model = MgNO(channels=8, layers=2, levels=3)
    >>> u = model(torch.rand(2, 1, 16, 16)).detach()
    >>> u.shape, float(u[..., 0, :].abs().max())
    (torch.Size([2, 1, 17, 17]), 0.0)
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        *,
        dim: int = 2,
        boundary: str = "dirichlet",
        channels: int | Sequence[int] = 24,
        layers: int = 4,
        levels: int | None = None,
        pre: int | Sequence[int] | None = None,
        post: int | Sequence[int] = 0,
        residual: bool = False,
        coarse_start: str = "zero",
        shared: bool = False,
        bias: bool = False,
        alignment: str = "first",
        kernel: int | Sequence[int] = 4,
        wrapped: bool = True,
        layout: str | None = None,
        increment: bool = False,
        fields: Sequence[str] = ("coefficient",),
        normalization: Sequence[str] = ("scalar", "scalar"),
        local: bool = True,
        norm: str = "none",
        size: Sequence[int] | None = None,
        head: str = "linear",
        gain: float | str = 0.8,
        idle_operator: bool = False,
    ) -> None:
        super().__init__()
        options = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        self.arguments: dict[str, Any] = {name: _jsonable(value) for name, value in options.items()}
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels), ("layers", layers)):
            if not isinstance(value, int) or value < 1:
                raise InputError(f"{name}={value!r} must be a positive integer.")
        default_layout = "cells->nodes" if boundary == "dirichlet" else "same"
        self.layout = default_layout if layout is None else require_choice(layout, "layout", LAYOUTS)
        if self.layout == "cells->nodes" and boundary != "dirichlet":
            raise InputError(f"layout 'cells->nodes' puts zeros on the boundary; with {boundary!r} use 'same'.")
        if increment and (self.layout != "same" or in_channels < out_channels):
            raise InputError("increment=True adds input channels to the output: use layout='same', out <= in_channels.")
        number = isinstance(gain, int | float) and not isinstance(gain, bool) and 0 < gain < float("inf")
        if gain != "torch" and not number:
            raise InputError(f"gain={gain!r} must be a positive number, or 'torch'.")
        require_choice(norm, "norm", NORMS)
        if size is None and (norm != "none" or "pointwise" in normalization):
            raise InputError("norms over the lattice and pointwise statistics belong to one lattice; give its size.")
        if size is not None and (not isinstance(size, Sequence) or len(size) != dim or min(size) < 2):
            raise InputError(f"size={size!r} must name at least 2 points along each of {dim} axes.")
        require_choice(head, "head", HEADS)
        if isinstance(fields, str):
            raise InputError(f"fields={fields!r} is one name; give a list of them: [{fields!r}].")
        for field in fields:
            require_choice(field, "fields", FIELDS)
        if len(normalization) != 2:
            raise InputError(f"normalization={normalization!r} must name two kinds, for input and target.")
        self.in_channels, self.out_channels, self.dim = in_channels, out_channels, dim
        self.increment, self.fields = increment, tuple(fields)
        self.size = None if size is None else tuple(size)

        depth = level_count(levels, pre)
        widths = per_level(channels, depth, "channels", 1)
        growth = [width / widths[0] for width in widths]  # the data of a layer widen as its result does

        def cycle(width: int, out: int) -> ConvolutionCycle:
            return ConvolutionCycle(
                tuple(max(1, round(width * g)) for g in growth),
                tuple(max(1, round(out * g)) for g in growth),
                dim=dim,
                boundary=boundary,
                levels=depth,
                pre=pre,
                post=post,
                residual=residual,
                coarse_start=coarse_start,
                shared=shared,
                bias=bias,
                alignment=alignment,
                kernel=kernel,
                wrapped=wrapped,
                norm_shape=self._lattice() if norm == "levels" else None,
                idle_operator=idle_operator,
            )

        self.layers = nn.ModuleList()
        for width in [in_channels, *[widths[0]] * (layers - 1)]:
            first = cycle(width, widths[0])
            matrix = _matrix(width, widths[0], dim, bias=True) if local else None
            over = nn.LayerNorm([widths[0], *self._lattice()]) if norm == "layers" else None
            self.layers.append(_Layer(first, matrix, over))
        if isinstance(gain, int | float):
            _draw(self.layers, gain)
        last = cycle(widths[0], out_channels) if head == "cycle" else None
        self.head: nn.Module = _matrix(widths[0], out_channels, dim, bias=False) if last is None else last
        given = self.size or (1,) * dim
        self.input_normalizer = Normalizer(in_channels, given, normalization[0])
        self.target_normalizer = Normalizer(out_channels, self._lattice(), normalization[1])
        self._store_channels_last()

    def forward(self, x: Tensor) -> Tensor:
        """Map x (b, in_channels, *space) to (b, out_channels, *space), with n + 1 nodes for n cells along each axis."""
        self._check(x)
        u = self.input_normalizer.encode(x)
        if self.layout == "cells->nodes":
            u = average_to_interior_nodes(u, self.dim)
        for layer in self.layers:
            u = layer(u)
        u = self.target_normalizer.decode(self.head(u))
        if self.layout == "cells->nodes":
            return with_zero_boundary(u, self.dim)
        return u + x[:, -self.out_channels :] if self.increment else u

    def fit_normalizer(self, x: Tensor, y: Tensor) -> None:
        """Take means and deviations from the inputs and targets of the training split (and of no other)."""
        for fields, channels, name in ((x, self.in_channels, "inputs"), (y, self.out_channels, "targets")):
            if fields.ndim != self.dim + 2 or fields.shape[1] != channels:
                raise InputError(
                    f"{name} of shape {tuple(fields.shape)} do not fit; give (samples, {channels}, {self.dim} axes)."
                )
        if self.layout == "cells->nodes":
            y = interior_of(y, self.dim)
        elif self.increment:
            y = y - x[:, -self.out_channels :]
        self.input_normalizer.fit(x)
        self.target_normalizer.fit(y)

    @torch.no_grad()
    def predict(self, problem: Diffusion) -> Tensor:
        """Give nodal values of the solution of a diffusion problem, (batch..., n + 1), in float64.

        The values that the problem prescribes are put onto its Dirichlet sides, so that the result can be certified.
        All else that is not among `fields` the network takes to be as in its training: a source, the size of the box,
        the boundary data. Where they differ the answer is wrong, which `sb.certify` tells.
        """
        weight = next(self.parameters())
        x = self._input(problem).to(dtype=weight.dtype, device=weight.device)
        training = self.training
        try:
            self.eval()
            nodes = torch.cat([self(part) for part in x.split(TOGETHER)])
        finally:
            self.train(training)
        if nodes.shape[1] != 1 or nodes.shape[2:] != problem.node_shape:
            found, needed = tuple(nodes.shape[1:]), (1, *problem.node_shape)
            raise InputError(f"the network gives {found} values, and nodal values of the problem are {needed}.")
        values = nodes.to(dtype=torch.float64, device=problem.device).reshape(*problem.batch_shape, *problem.node_shape)
        return problem.to(torch.float64).impose_boundary(values)

    def as_preconditioner(self, problem: Any, *, sweeps: int = 1) -> NetworkPreconditioner:
        """Make the network a preconditioner of flexible conjugate gradients, see `network_preconditioner`."""
        from sciml_bounds.multigrid._learned_preconditioner import network_preconditioner

        return network_preconditioner(self, problem, sweeps=sweeps)

    def save(self, path: Path | str, **card: Any) -> None:
        """Write weights and card (what made them: recipe, seed, metrics) to a safetensors file."""
        save_model(self, path, **card)

    @classmethod
    def load(cls, name_or_path: Path | str) -> MgNO:
        """Read a network from a file, or by name one that ships with the package; it comes in evaluation mode."""
        model = load_model(name_or_path)
        if not isinstance(model, cls):
            raise InputError(f"{name_or_path} holds a {type(model).__name__}, not a {cls.__name__}.")
        return model.eval()

    @staticmethod
    def published(name: str) -> MgNO:
        """Make one of the published networks, with new weights: "darcy-rough", "darcy-multiscale", "darcy-smooth", ...

        Each is for its published lattice only. See `sciml_bounds.multigrid._published_mgno`.
        """
        from sciml_bounds.multigrid._published_mgno import published_arguments

        return MgNO(**published_arguments(name))

    def _store_channels_last(self) -> None:
        """Keep kernels with channels last, which convolutions follow: a fifth less time on a CPU."""
        if self.dim > 1:
            order = torch.channels_last if self.dim == 2 else torch.channels_last_3d
            for parameter in self.parameters():
                if parameter.ndim == self.dim + 2:
                    parameter.data = parameter.data.contiguous(memory_format=order)

    def _lattice(self) -> tuple[int, ...]:
        """Lattice of the layers, if the network is for one size."""
        size = self.size or (1,) * self.dim
        return tuple(n - 1 for n in size) if self.layout == "cells->nodes" else size

    def _input(self, problem: Diffusion) -> Tensor:
        """Fields of a problem as (b, channel, *cells)."""
        if not isinstance(problem, Diffusion):
            raise InputError(f"a prediction needs a Diffusion problem, not an object of type {type(problem).__name__}.")
        if problem.grid.dim != self.dim:
            raise InputError(f"the problem has {problem.grid.dim} axes and the network is for {self.dim}.")
        if len(self.fields) != self.in_channels:
            raise InputError(f"fields={self.fields} name {len(self.fields)} of {self.in_channels} input channels.")
        if "coefficient" in self.fields and not problem.has_scalar_coefficient:
            raise InputError("the network takes one coefficient for all axes, and the problem has one for each.")
        cells = (*problem.batch_shape, *problem.grid.shape)
        parts = [problem.coefficient[0] if name == "coefficient" else getattr(problem, name) for name in self.fields]
        return torch.stack([part.expand(cells).reshape(-1, *problem.grid.shape) for part in parts], 1)

    def _check(self, x: Tensor) -> None:
        check_axes(x, self.in_channels, self.dim)
        if self.size is not None and tuple(x.shape[2:]) != self.size:
            raise InputError(
                f"the network is for a lattice of {'x'.join(map(str, self.size))} only, and the input has "
                f"{'x'.join(map(str, x.shape[2:]))}; a network made without size takes any."
            )
        if self.layout == "cells->nodes":
            self._check_cells(min(x.shape[2:]))
        check_values(x, next(self.parameters()), training=self.training)

    def _check_cells(self, cells: int) -> None:
        """Refuse a grid that is too coarse in terms of its cells, and not of the interior nodes of the cycles."""
        cycle: Any = self.layers[0].cycle
        if cells > cycle.smallest(cycle.depth):
            return
        levels = [depth for depth in range(1, cycle.depth) if cells > cycle.smallest(depth)]
        fewer = f"give levels={levels[-1]} or fewer, or" if levels else "give"
        raise InputError(
            f"{cells} cells along an axis are too few for {cycle.depth} levels; {fewer} at least "
            f"{cycle.smallest(cycle.depth) + 1} cells."
        )


def _matrix(channels: int, out: int, dim: int, *, bias: bool) -> nn.Module:
    kinds = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
    return kinds[dim](channels, out, 1, bias=bias)


@torch.no_grad()
def _draw(layers: nn.Module, gain: float) -> None:
    """Draw the weights of all convolutions anew, such that each gives fields of about `gain` times the size it gets."""
    for module in layers.modules():
        if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | _TRANSPOSED):
            continue
        weight = module.weight
        summed: float = weight[0].numel()
        if isinstance(module, _TRANSPOSED):  # with a stride of two, which divides each axis of a kernel
            summed = len(weight) * weight[0, 0].numel() / 2 ** (weight.ndim - 2)
        bound = gain * (3 / summed) ** 0.5
        weight.uniform_(-bound, bound)


def _jsonable(value: Any) -> Any:
    """Turn tuples into lists, as reading JSON gives them."""
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
