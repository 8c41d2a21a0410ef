"""A multigrid V-cycle whose operators, smoothers and transfers are learnt convolutions.

The cycle is a linear map W between fields on a lattice, with axes (b, channel, x, y, z) and one to three space axes. On
each level, f has the channels of the data and u has the channels of the result. The convolution A maps u to f, S (the
smoother) maps f to u, R restricts f, Pi restricts u, and P prolongs u. With suitable fixed weights, W is the geometric
cycle for Poisson's equation (`poisson_cycle`). Reference: He, Liu, Xu, "MgNO: Efficient parameterization of linear
operators via multigrid", ICLR 2024, arXiv:2310.19809, section 3.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sciml_bounds.arrays import require_choice
from sciml_bounds.errors import InputError

__all__ = [
    "BOUNDARIES",
    "ConvolutionCycle",
    "CycleLevel",
    "CycleOptions",
    "Prolongation",
    "coarse_size",
    "cycle_options",
    "level_count",
    "per_level",
]

Padding = Literal["zeros", "reflect", "circular"]

#: Padding mode of the convolutions for each boundary condition.
BOUNDARIES: dict[str, Padding] = {"dirichlet": "zeros", "neumann": "reflect", "periodic": "circular"}
#: Padding of restrictions and prolongations. "first": coarse node i lies on fine node 2i, so that lattices of 2^k + 1
#: nodes with the boundary, or of 2^k periodic nodes, are halved exactly. "interior": it lies on fine node 2i + 1, for
#: 2^k - 1 interior nodes.
ALIGNMENTS = {"first": 1, "interior": 0}
#: Initial guess on a coarse level: zero, or a learnt restriction of u (as in the paper).
COARSE_STARTS = ("zero", "restricted")


class CycleOptions(TypedDict, total=False):
    """Options of a `ConvolutionCycle` that do not depend on its place in a network."""

    levels: int | None
    pre: int | Sequence[int] | None
    post: int | Sequence[int]
    residual: bool
    coarse_start: str
    shared: bool
    bias: bool
    alignment: str
    kernel: int | Sequence[int]
    wrapped: bool


class _Conv3d(nn.Conv3d):
    """`torch.nn.Conv3d` without autocast on lattices that are thinner than the kernel.

    On such lattices, the weight gradient of torch 2.14 on the CPU in bfloat16 reads uninitialised memory.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (b, channels, *lattice)."""
        if x.device.type == "cpu" and min(x.shape[2:]) < self.kernel_size[0] and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.to(self.weight.dtype))
        return super().forward(x)


_CONVOLUTION: dict[int, type[nn.Conv1d | nn.Conv2d | nn.Conv3d]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: _Conv3d}
_TRANSPOSED: dict[int, type[nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d]] = {
    1: nn.ConvTranspose1d,
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
_TRANSPOSE: dict[int, Callable[..., Tensor]] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


def coarse_size(n: int, alignment: str) -> int:
    """Return the number of nodes along an axis on the next coarser level."""
    return (n + 1) // 2 if alignment == "first" else (n - 1) // 2


def per_level(value: int | Sequence[int], count: int, name: str, least: int) -> tuple[int, ...]:
    """Return one integer per level: repeat `value`, or check that it is a sequence of `count` integers >= `least`."""
    if not isinstance(value, int | Sequence):
        raise InputError(
            f"{name}={value!r} is not valid; give an integer, or a sequence of {count} integers, finest level first."
        )
    values = (value,) * count if isinstance(value, int) else tuple(value)
    if len(values) != count:
        raise InputError(f"{name} has {len(values)} entries; give {count}, finest level first.")
    if not all(isinstance(v, int) and v >= least for v in values):
        raise InputError(f"{name}={value!r} is not valid; give integers that are at least {least}.")
    return values


def cycle_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options of cycles: the given ones, and the defaults of the others.

    Raises
    ------
    TypeError
        If an option does not exist.
    """
    unknown = [name for name in given if name not in CycleOptions.__annotations__]
    if unknown:
        raise TypeError(f"unexpected keyword argument {unknown[0]!r}")
    parameters = inspect.signature(ConvolutionCycle).parameters
    return {name: parameters[name].default for name in CycleOptions.__annotations__} | dict(given)


def level_count(levels: int | None, pre: int | Sequence[int] | None) -> int:
    """Return the number of levels: `levels` if given, else the length of `pre` if it is a sequence, else 5."""
    count = levels if levels is not None else len(pre) if isinstance(pre, Sequence) else 5
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise InputError(f"levels={levels!r} must be a positive integer.")
    return count


class Prolongation(nn.Module):
    """The prolongation P: a transposed convolution of stride two onto a fine lattice of any size."""

    def __init__(self, channels: tuple[int, int], kernel: int, dim: int, alignment: str, ghosts: str) -> None:
        super().__init__()
        self.dim, self.padding, self.ghosts = dim, ALIGNMENTS[alignment], ghosts
        # used for its weights and their initialisation only
        self.kernel = _TRANSPOSED[dim](*channels, kernel, bias=False)

    def forward(self, u: Tensor, size: torch.Size) -> Tensor:
        """Prolong u onto a lattice of `size`."""
        padding = self.padding
        if self.ghosts != "zeros":  # a transposed convolution pads with zeros only
            u = functional.pad(u, (1, 1) * self.dim, mode=self.ghosts)
            padding += 2
        width = self.kernel.kernel_size[0]
        reached = [2 * (n - 1) - 2 * padding + width for n in u.shape[2:]]
        missing = [max(0, n - m) for n, m in zip(size, reached)]
        fine = _TRANSPOSE[self.dim](u, self.kernel.weight, None, 2, padding, missing)
        for axis, n in enumerate(size, 2):
            fine = fine.narrow(axis, 0, n)
        return fine


class CycleLevel(nn.Module):
    """One level of the cycle: pre- and post-smoothing steps, restriction and prolongation.

    `smoothers` and `operators` are listed in the order in which a cycle applies them; modules used repeatedly appear
    once.
    """

    def __init__(self, before: int, after: int, from_zero: bool, residual: bool, shared: bool) -> None:
        super().__init__()
        self.before, self.after, self.shared = before, after, shared
        self.from_zero = from_zero  # u is zero when the level is reached
        self.residual = residual and not (from_zero and before == 0)  # without u the residual is f
        self.smoothers, self.operators = nn.ModuleList(), nn.ModuleList()
        self.restriction: nn.Module | None = None
        self.start: nn.Module | None = None
        self.prolongation: Prolongation | None = None
        self.norm: nn.Module | None = None

    def counts(self) -> tuple[int, int]:
        """Return the numbers of smoothers and of operators that a cycle uses on this level."""
        smoothers = self.before + self.after
        operators = max(0, self.before - self.from_zero) + self.residual + self.after
        return (min(smoothers, 1), min(operators, 1)) if self.shared else (smoothers, operators)

    def _defect(self, k: int, u: Tensor, f: Tensor) -> Tensor:
        defect: Tensor = f - self.operators[0 if self.shared else k](u)
        return defect

    def _correction(self, k: int, f: Tensor) -> Tensor:
        correction: Tensor = self.smoothers[0 if self.shared else k](f)
        return correction

    def smooth_before(self, u: Tensor | None, f: Tensor) -> Tensor | None:
        """Apply the pre-smoothing steps u <- u + S (f - A u); u = None stands for zero."""
        for k in range(self.before):
            if u is None:
                u = self._correction(k, f)
            else:
                u = u + self._correction(k, self._defect(k - self.from_zero, u, f))
        return u

    def restrict(self, u: Tensor | None, f: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return the initial guess (None for zero) and the right-hand side of the next coarser level."""
        assert self.restriction is not None
        if u is None:
            return None, self.restriction(f)
        coarse = self.restriction(self._defect(self.before - self.from_zero, u, f) if self.residual else f)
        return (None if self.start is None else self.start(u)), coarse

    def smooth_after(self, u: Tensor | None, coarse: Tensor, f: Tensor) -> Tensor:
        """Add the prolonged coarse correction, then apply the post-smoothing steps."""
        assert self.prolongation is not None
        prolonged = self.prolongation(coarse, f.shape[2:])
        u = prolonged if u is None else u + prolonged
        u = u if self.norm is None else self.norm(u)
        used = max(0, self.before - self.from_zero) + self.residual
        for k in range(self.after):
            u = u + self._correction(self.before + k, self._defect(used + k, u, f))
        return u


class ConvolutionCycle(nn.Module):
    """A V-cycle of convolutions: a linear map (affine with `bias`) of fields, from `in_channels` to `channels`.

    Parameters
    ----------
    in_channels : int or sequence of int
        Channels of f: one value for all levels, or one per level (finest first).
    channels : int or sequence of int
        Channels of u: one value for all levels, or one per level (finest first).
    dim : int
        Number of space axes, 1 to 3.
    boundary : str
        Padding of the convolutions: "dirichlet" (zeros), "neumann" (reflection) or "periodic" (wrap around).
    levels : int or None
        Number of levels; by default the length of `pre` if that is a sequence, else 5.
    pre : int or sequence of int, optional
        Number of smoothing steps before the coarse correction: one value, or one per level (at least 1 on the
        coarsest). The default is 1, and 2 on the coarsest level.
    post : int or sequence of int
        Number of smoothing steps after the coarse correction: one value, or one per level except the coarsest.
    residual : bool
        If True, restrict the residual f - A u, as in multigrid for A u = f; if False, restrict f itself, as in the
        paper.
    coarse_start : str
        Initial guess on coarse levels: "zero", or "restricted" (a learnt restriction of u, as in the paper).
    shared : bool
        Whether all steps of a level use the same A and the same S.
    bias : bool
        Whether A and S have a bias.
    alignment : str
        "first": coarse nodes lie on the fine nodes 0, 2, ...; "interior": on 1, 3, ....
    kernel : int or sequence of int
        Kernel width of the prolongations, 3 or 4: one value, or one per level except the coarsest.
    wrapped : bool
        If True, prolongations pad u as the other convolutions do. If False, they pad with zeros, as in the paper; this
        leaves a seam in periodic fields.

    Raises
    ------
    InputError
        If an option is unknown, a sequence has the wrong length, or the lattice given to `forward` is too small.

    Notes
    -----
    The weights do not depend on the lattice, except after `add_norms`. Any lattice works that leaves at least two nodes
    per axis on the coarsest level (one for "dirichlet" with "interior").

    Examples
    --------
    >>> import torch
    >>> cycle = ConvolutionCycle(1, 8, dim=2, levels=3)
    >>> cycle(torch.ones(2, 1, 17, 12)).shape
    torch.Size([2, 8, 17, 12])
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        channels: int | Sequence[int],
        *,
        dim: int = 2,
        boundary: str = "dirichlet",
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
    ) -> None:
        super().__init__()
        if not isinstance(dim, int) or dim not in _CONVOLUTION:
            raise InputError(f"dim={dim!r} is not supported; give 1, 2 or 3.")
        count = level_count(levels, pre)
        self.dim, self.depth = dim, count
        self.boundary = require_choice(boundary, "boundary", tuple(BOUNDARIES))
        self.alignment = require_choice(alignment, "alignment", tuple(ALIGNMENTS))
        require_choice(coarse_start, "coarse_start", COARSE_STARTS)
        before = per_level((1,) * (count - 1) + (2,) if pre is None else pre, count, "pre", 0)
        if before[-1] == 0:
            raise InputError(
                "pre is 0 on the coarsest level, so the result would be zero; set pre to at least 1 there."
            )
        after = (*per_level(post, count - 1, "post", 0), 0)
        self.widths_f = per_level(in_channels, count, "in_channels", 1)
        self.widths_u = per_level(channels, count, "channels", 1)
        widths = per_level(kernel, count - 1, "kernel", 3)
        if any(width > 4 for width in widths):
            raise InputError(f"kernel={kernel!r} is not supported; give 3 or 4 for every level.")
        self.norm_shape: tuple[int, ...] | None = None
        self.bias = bias

        padding = BOUNDARIES[self.boundary]
        ghosts = padding if wrapped else "zeros"
        self.levels = nn.ModuleList()
        from_zero = True
        for l in range(count):
            level = CycleLevel(before[l], after[l], from_zero, residual and l < count - 1, shared)
            f, u = self.widths_f[l], self.widths_u[l]
            smoothers, operators = level.counts()
            level.smoothers.extend(self._convolution(f, u, padding, bias) for _ in range(smoothers))
            level.operators.extend(self._convolution(u, f, padding, bias) for _ in range(operators))
            from_zero = coarse_start == "zero" or (from_zero and before[l] == 0)
            if l < count - 1:
                below_f, below_u = self.widths_f[l + 1], self.widths_u[l + 1]
                level.restriction = self._transfer(f, below_f, padding)
                level.start = None if from_zero else self._transfer(u, below_u, padding)
                level.prolongation = Prolongation((below_u, u), widths[l], dim, self.alignment, ghosts)
            self.levels.append(level)
        self.idle_operator: nn.Module | None = None

    def _convolution(self, channels: int, out: int, padding: Padding, bias: bool) -> nn.Module:
        return _CONVOLUTION[self.dim](channels, out, 3, padding=1, padding_mode=padding, bias=bias)

    def _transfer(self, channels: int, out: int, padding: Padding) -> nn.Module:
        width = ALIGNMENTS[self.alignment]
        mode: Padding = padding if width else "zeros"
        return _CONVOLUTION[self.dim](channels, out, 3, stride=2, padding=width, padding_mode=mode, bias=False)

    def add_norms(self, shape: Sequence[int]) -> None:
        """Add layer norms with one weight per node, applied to u on each level after the coarse correction.

        The published Navier-Stokes network has these norms. With them, the cycle works on this lattice only.
        """
        self.norm_shape = tuple(shape)
        shapes = self.level_shapes(shape)
        for level, width, size in zip(self.hierarchy[:-1], self.widths_u, shapes):
            level.norm = nn.LayerNorm([width, *size])

    def add_idle_operator(self) -> None:
        """Add an operator A that is never applied, as in the published Helmholtz network: it only has parameters."""
        padding = BOUNDARIES[self.boundary]
        self.idle_operator = self._convolution(self.widths_u[0], self.widths_f[0], padding, self.bias)

    @property
    def hierarchy(self) -> list[CycleLevel]:
        """The levels, finest first."""
        return cast(list[CycleLevel], list(self.levels))

    def level_shapes(self, shape: Sequence[int]) -> list[tuple[int, ...]]:
        """Return the lattice shapes of all levels, finest first; raise `InputError` if `shape` is too small."""
        assert len(shape) == self.dim
        shapes = [tuple(shape)]
        for _ in range(self.depth - 1):
            shapes.append(tuple(coarse_size(n, self.alignment) for n in shapes[-1]))
        needed = self.smallest(self.depth)
        if min(shape) < needed:
            raise InputError(
                f"a lattice of {'x'.join(map(str, shape))} nodes is too small for {self.depth} levels; use at least "
                f"{needed} nodes along each axis, or fewer levels."
            )
        return shapes

    def smallest(self, depth: int) -> int:
        """Return the smallest number of nodes along an axis for a cycle of `depth` levels."""
        needed = 1 if self.boundary == "dirichlet" and (self.alignment == "interior" or depth == 1) else 2
        for _ in range(depth - 1):
            needed = 2 * needed - 1 if self.alignment == "first" else 2 * needed + 1
        return needed

    def forward(self, f: Tensor) -> Tensor:
        """Apply the cycle to f, shape (b, in_channels, *lattice); returns shape (b, channels, *lattice)."""
        assert self.norm_shape in (None, tuple(f.shape[2:]))
        self.level_shapes(f.shape[2:])
        *upper, coarsest = self.hierarchy
        u: Tensor | None = None
        kept: list[tuple[Tensor | None, Tensor]] = []
        for level in upper:
            u = level.smooth_before(u, f)
            kept.append((u, f))
            u, f = level.restrict(u, f)
        result = cast(Tensor, coarsest.smooth_before(u, f))
        for level, (fine, right) in zip(reversed(upper), reversed(kept)):
            result = level.smooth_after(fine, result, right)
        return result

    def extra_repr(self) -> str:
        """Return the options for the printed form of the module."""
        return f"boundary={self.boundary!r}, alignment={self.alignment!r}, levels={self.depth}"
