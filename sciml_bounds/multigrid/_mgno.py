"""MgNO, a neural operator whose linear maps are multigrid cycles of convolutions.

A layer maps u to sigma(W u + K u + b), where W is a `ConvolutionCycle`, K multiplies the channels at each node by a
matrix, b is a bias, and sigma is the GELU function. The last map is linear. Tensors have the axes (b, channel, *space).
Reference: He, Liu, Xu, "MgNO: Efficient parameterization of linear operators via multigrid", ICLR 2024,
arXiv:2310.19809, equations 1 to 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional

from sciml_bounds.arrays import require_choice, require_instance
from sciml_bounds.errors import InputError
from sciml_bounds.multigrid._convolution_cycle import (
    ConvolutionCycle,
    CycleOptions,
    cycle_options,
    level_count,
    per_level,
)
from sciml_bounds.multigrid._node_lattice import average_to_interior_nodes, interior_of, with_zero_boundary
from sciml_bounds.nn.network_input import check_axes, check_values
from sciml_bounds.nn.normalizer import Normalizer
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.store.datasets.weights import load_model, save_model

if TYPE_CHECKING:
    from sciml_bounds.multigrid._learned_preconditioner import NetworkPreconditioner

__all__ = ["MgNO", "jsonable", "require_normalization"]

#: Lattices of input and output: n cells along each axis to n + 1 nodes, or the same lattice.
LAYOUTS = ("cells->nodes", "same")
#: Normalisation with weights that do not depend on the lattice.
NORMALIZATIONS = ("scalar", "none")
#: Fields of a diffusion problem that can be input channels.
FIELDS = ("coefficient", "source", "reaction")
#: Types of the prolongations.
_TRANSPOSED = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
#: Number of samples per forward pass of `predict`.
PREDICT_BATCH_SIZE = 32


class _Layer(nn.Module):
    """One layer, the map u -> sigma(norm(W u) + K u + b)."""

    def __init__(self, cycle: ConvolutionCycle, local: nn.Module | None) -> None:
        super().__init__()
        self.cycle, self.local = cycle, local
        self.norm: nn.Module | None = None

    def forward(self, u: Tensor) -> Tensor:
        w: Tensor = self.cycle(u)
        w = w if self.norm is None else self.norm(w)
        return functional.gelu(w if self.local is None else w + self.local(u))


class MgNO(nn.Module):
    """Multigrid neural operator: a map between functions on a lattice, with weights that do not depend on the lattice.

    Parameters
    ----------
    in_channels, out_channels : int
        Numbers of input and output channels.
    dim : int
        Number of space axes, 1 to 3.
    boundary : str
        Padding of the convolutions: "dirichlet" (zeros), "neumann" (reflection) or "periodic" (wrap around).
    channels : int or sequence of int
        Channels of the layers: one value for all levels, or one per level (finest first).
    layers : int
        Number of nonlinear layers.
    layout : str or None
        "cells->nodes" (the default with "dirichlet"): the input has n cells along each axis and is averaged to the
        n - 1 interior nodes; the output has n + 1 nodes and is exactly zero on the boundary. "same": input and output
        are on the same lattice.
    increment : bool
        Whether the network predicts the change of the last `out_channels` input channels, for time steps.
    fields : sequence of str
        Fields of the problem that `predict` uses as input channels, in order: "coefficient", "source", "reaction".
    normalization : sequence of str
        Normalisation of input and target, each "scalar" (one mean and deviation per channel) or "none". Both are the
        identity until `fit_normalizer` is called.
    local : bool
        Whether layers have the terms K u and b.
    gain : float or str
        Initial standard deviation of the layer weights, multiplied by the square root of the number of terms in each
        sum. "torch" is the default initialisation of torch (as in the paper), equivalent to a gain of 0.58, and of 0.29
        for prolongations. With "torch", the contribution of the coarsest level is initially a thousand times smaller
        than the others, and the network is slow to learn how distant points depend on each other.
    **cycle
        Options of all cycles: `levels`, `pre`, `post`, `residual`, `coarse_start`, `shared`, `bias`, `alignment`,
        `kernel` and `wrapped`, see `ConvolutionCycle`.

    Attributes
    ----------
    arguments : dict
        Keyword arguments that rebuild this network.

    Raises
    ------
    InputError
        If options are unknown or inconsistent; from `forward`, if the number of axes or channels, the dtype or the
        device of the input is wrong, the lattice is too small, or (in evaluation mode) the input has NaN or infinity.

    Notes
    -----
    The published networks (`sb.multigrid.PublishedMgNO`) restrict the raw data and start coarse levels from a learnt
    restriction of u. The default starts them from zero, which needs fewer weights and less time, and was more accurate
    in our measurements.

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
        layout: str | None = None,
        increment: bool = False,
        fields: Sequence[str] = ("coefficient",),
        normalization: Sequence[str] = ("scalar", "scalar"),
        local: bool = True,
        gain: float | str = 0.8,
        **cycle: Unpack[CycleOptions],
    ) -> None:
        super().__init__()
        options = cycle_options(cycle)
        self.arguments: dict[str, Any] = jsonable(
            in_channels=in_channels, out_channels=out_channels, dim=dim, boundary=boundary, channels=channels,
            layers=layers, layout=layout, increment=increment, fields=fields, normalization=normalization, local=local,
            gain=gain, **options,
        )  # fmt: skip
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels), ("layers", layers)):
            if not isinstance(value, int) or value < 1:
                raise InputError(f"{name}={value!r} must be a positive integer.")
        default_layout = "cells->nodes" if boundary == "dirichlet" else "same"
        self.layout = default_layout if layout is None else require_choice(layout, "layout", LAYOUTS)
        if self.layout == "cells->nodes" and boundary != "dirichlet":
            raise InputError(
                f"layout 'cells->nodes' sets zeros on the boundary; with boundary={boundary!r} use layout='same'."
            )
        if increment and (self.layout != "same" or in_channels < out_channels):
            raise InputError(
                "increment=True predicts changes of input channels; use layout='same' and out_channels <= in_channels."
            )
        number = isinstance(gain, int | float) and not isinstance(gain, bool) and 0 < gain < float("inf")
        if gain != "torch" and not number:
            raise InputError(f"gain={gain!r} is not valid; give a positive number, or 'torch'.")
        if isinstance(fields, str):
            raise InputError(f"fields={fields!r} is a single name; give a list: [{fields!r}].")
        for field in fields:
            require_choice(field, "fields", FIELDS)
        require_normalization(normalization, NORMALIZATIONS)
        self.in_channels, self.out_channels, self.dim = in_channels, out_channels, dim
        self.increment, self.fields = increment, tuple(fields)

        depth = level_count(options["levels"], options["pre"])
        self.widths = per_level(channels, depth, "channels", 1)
        self._cycle_options: dict[str, Any] = {**options, "dim": dim, "boundary": boundary, "levels": depth}
        self.layers = nn.ModuleList()
        for width in [in_channels, *[self.widths[0]] * (layers - 1)]:
            first = self._cycle(width, self.widths[0])
            self.layers.append(_Layer(first, _matrix(width, self.widths[0], dim, bias=True) if local else None))
        if isinstance(gain, int | float):
            _draw(self.layers, gain)
        self.head: nn.Module = _matrix(self.widths[0], out_channels, dim, bias=False)
        self.input_normalizer = Normalizer(in_channels, (1,) * dim, normalization[0])
        self.target_normalizer = Normalizer(out_channels, (1,) * dim, normalization[1])
        self._store_channels_last()

    def _cycle(self, channels: int, out: int) -> ConvolutionCycle:
        """Build a cycle; its data and its result widen on coarser levels as the layers do."""
        growth = [width / self.widths[0] for width in self.widths]
        inputs, outputs = (tuple(max(1, round(width * g)) for g in growth) for width in (channels, out))
        return ConvolutionCycle(inputs, outputs, **self._cycle_options)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the network to x, shape (b, in_channels, *space); returns shape (b, out_channels, *space).

        With the layout "cells->nodes", n input cells along an axis give n + 1 output nodes.
        """
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
        """Set means and standard deviations of the normalisers from inputs and targets of the training split only."""
        for fields, channels, name in ((x, self.in_channels, "inputs"), (y, self.out_channels, "targets")):
            if fields.ndim != self.dim + 2 or fields.shape[1] != channels:
                raise InputError(
                    f"{name} have shape {tuple(fields.shape)}; give (samples, {channels} channels, {self.dim} space "
                    "axes)."
                )
        if self.layout == "cells->nodes":
            y = interior_of(y, self.dim)
        elif self.increment:
            y = y - x[:, -self.out_channels :]
        self.input_normalizer.fit(x)
        self.target_normalizer.fit(y)

    @torch.no_grad()
    def predict(self, problem: Diffusion) -> Tensor:
        """Predict the nodal values of the solution of a diffusion problem, shape (batch..., n + 1), in float64.

        Prescribed values are inserted on Dirichlet sides, so that the result can be certified. The network takes only
        `fields` from the problem; it assumes that all other data (source, size of the box, boundary values) are as in
        training. If they differ, the prediction is inaccurate; `sb.certify` bounds its error.
        """
        weight = next(self.parameters())
        x = self._input(problem).to(dtype=weight.dtype, device=weight.device)
        training = self.training
        try:
            self.eval()
            nodes = torch.cat([self(part) for part in x.split(PREDICT_BATCH_SIZE)])
        finally:
            self.train(training)
        if nodes.shape[1] != 1 or nodes.shape[2:] != problem.node_shape:
            found, needed = tuple(nodes.shape[1:]), (1, *problem.node_shape)
            raise InputError(
                f"the network predicts shape {found}, but nodal values of the problem have shape {needed}; use a grid "
                "for which the shapes agree, or another layout of the network."
            )
        values = nodes.to(dtype=torch.float64, device=problem.device).reshape(*problem.batch_shape, *problem.node_shape)
        return problem.to(torch.float64).impose_boundary(values)

    def as_preconditioner(self, problem: Any, *, sweeps: int = 1) -> NetworkPreconditioner:
        """Return the network as a preconditioner of flexible conjugate gradients; see `network_preconditioner`."""
        from sciml_bounds.multigrid._learned_preconditioner import network_preconditioner

        return network_preconditioner(self, problem, sweeps=sweeps)

    def save(self, path: Path | str, **card: Any) -> None:
        """Save the weights and a model card (recipe, seed, metrics) to a safetensors file."""
        save_model(self, path, **card)

    @classmethod
    def load(cls, name_or_path: Path | str) -> MgNO:
        """Load a network in evaluation mode, from a file or by the name of a network that ships with the package."""
        model = load_model(name_or_path)
        if not isinstance(model, cls):
            raise InputError(
                f"{name_or_path} contains a {type(model).__name__}, not a {cls.__name__}; use sb.data.load_model."
            )
        return model.eval()

    def _store_channels_last(self) -> None:
        """Store kernels with channels last, as convolutions then do for fields: 20% less time on a CPU."""
        if self.dim > 1:
            order = torch.channels_last if self.dim == 2 else torch.channels_last_3d
            for parameter in self.parameters():
                if parameter.ndim == self.dim + 2:
                    parameter.data = parameter.data.contiguous(memory_format=order)

    def _input(self, problem: Diffusion) -> Tensor:
        """Return the input fields of a problem, shape (b, channel, *cells)."""
        require_instance(problem, "the problem", Diffusion, "an sb.Diffusion problem")
        if problem.grid.dim != self.dim:
            raise InputError(
                f"the problem has {problem.grid.dim} axes, but the network is for {self.dim}; use a network for "
                f"dim={problem.grid.dim}."
            )
        if len(self.fields) != self.in_channels:
            raise InputError(
                f"fields={self.fields} has {len(self.fields)} names, but the network has {self.in_channels} input "
                "channels; give one name per channel."
            )
        if "coefficient" in self.fields and not problem.has_scalar_coefficient:
            raise InputError(
                "the network takes a scalar coefficient, but the coefficient of the problem differs between the axes; "
                "use sb.solve(problem)."
            )
        cells = (*problem.batch_shape, *problem.grid.shape)
        parts = [problem.coefficient[0] if name == "coefficient" else getattr(problem, name) for name in self.fields]
        return torch.stack([part.expand(cells).reshape(-1, *problem.grid.shape) for part in parts], 1)

    def _check(self, x: Tensor) -> None:
        check_axes(x, self.in_channels, self.dim)
        if self.layout == "cells->nodes":
            self._check_cells(min(x.shape[2:]))
        check_values(x, next(self.parameters()), training=self.training)

    def _check_cells(self, cells: int) -> None:
        """Check that the grid has enough cells; the error message counts cells, not the nodes of the cycles."""
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
    """Redraw the weights of all convolutions such that the output is about `gain` times as large as the input."""
    for module in layers.modules():
        if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | _TRANSPOSED):
            continue
        weight = module.weight
        summed: float = weight[0].numel()
        if isinstance(module, _TRANSPOSED):  # stride two: each output point sees half the kernel per axis
            summed = len(weight) * weight[0, 0].numel() / 2 ** (weight.ndim - 2)
        bound = gain * (3 / summed) ** 0.5
        weight.uniform_(-bound, bound)


def require_normalization(normalization: Sequence[str], kinds: tuple[str, ...]) -> None:
    """Check the normalisation of input and target.

    Raises
    ------
    InputError
        If there are not two kinds, or one is unknown.
    """
    if len(normalization) != 2:
        raise InputError(
            f"normalization={normalization!r} is not valid; give two kinds, one for the input and one for the target."
        )
    for kind in normalization:
        require_choice(kind, "normalization", kinds)


def jsonable(**arguments: Any) -> dict[str, Any]:
    """Return arguments with lists instead of tuples, as JSON has."""
    return {
        name: list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
        for name, value in arguments.items()
    }
