"""A multigrid V-cycle whose operators, smoothers and transfers are learnt convolutions: a linear map W of lattices.

Axes are (b, channel, x, y, z) with one to three space axes. On level l, f has the width of the data and u that of the
result; A maps u to f, S maps f to u, R restricts f, Pi restricts u, and P prolongs u. With hand-set weights W is the
geometric cycle for Poisson (`poisson_cycle`). Reference: He, Liu, Xu, "MgNO: Efficient parameterization of linear
operators via multigrid", ICLR 2024, arXiv:2310.19809, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sciml_bounds.arrays import require_choice
from sciml_bounds.errors import InputError

__all__ = [
    "BOUNDARIES",
    "ConvolutionCycle",
    "CycleLevel",
    "Prolongation",
    "coarse_size",
    "level_count",
    "per_level",
]

Padding = Literal["zeros", "reflect", "circular"]

#: How values beyond the boundary are made up.
BOUNDARIES: dict[str, Padding] = {"dirichlet": "zeros", "neumann": "reflect", "periodic": "circular"}
#: Padding of restrictions and prolongations. A coarse node lies on fine node 2i ("first"; 2^k + 1 nodes with the
#: boundary, or 2^k around a torus, halve exactly) or on fine node 2i + 1 ("interior"; 2^k - 1 nodes without boundary).
ALIGNMENTS = {"first": 1, "interior": 0}
#: Where the iteration of a coarse level starts: from zero, or from a learnt restriction of u (as published).
COARSE_STARTS = ("zero", "restricted")


class _Conv3d(nn.Conv3d):
    """That of torch, in the precision of the weights on lattices that are thinner than the kernel.

    There, on the CPU and in bfloat16, the gradient of its weights reads memory that was never written (torch 2.14).
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
    """Give the number of nodes along an axis, one level down."""
    return (n + 1) // 2 if alignment == "first" else (n - 1) // 2


def per_level(value: int | Sequence[int], count: int, name: str, least: int) -> tuple[int, ...]:
    """Repeat an integer for each of `count` levels, or check a sequence of as many."""
    if not isinstance(value, int | Sequence):
        raise InputError(f"{name}={value!r} must be an integer, or {count} of them, finest level first.")
    values = (value,) * count if isinstance(value, int) else tuple(value)
    if len(values) != count:
        raise InputError(f"{name} has {len(values)} entries, but {count} are needed, finest level first.")
    if not all(isinstance(v, int) and v >= least for v in values):
        raise InputError(f"{name}={value!r} must be integers of at least {least}.")
    return values


def level_count(levels: int | None, pre: int | Sequence[int] | None) -> int:
    """Give the number of levels: as said, or as many as there are smoothing counts, or 5."""
    count = levels if levels is not None else len(pre) if isinstance(pre, Sequence) else 5
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise InputError(f"levels={levels!r} must be a positive integer.")
    return count


class Prolongation(nn.Module):
    """P: a transposed convolution of stride two, onto whatever size the fine level has."""

    def __init__(self, channels: tuple[int, int], kernel: int, dim: int, alignment: str, ghosts: str) -> None:
        super().__init__()
        self.dim, self.padding, self.ghosts = dim, ALIGNMENTS[alignment], ghosts
        # the module only holds the weights and draws them as torch does
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
    """One level: its smoothing steps before and after the coarse correction, and the way to the level below and back.

    `smoothers` and `operators` are held in the order in which a cycle uses them; shared ones are held once.
    """

    def __init__(self, before: int, after: int, from_zero: bool, residual: bool, shared: bool) -> None:
        super().__init__()
        self.before, self.after, self.shared = before, after, shared
        self.from_zero = from_zero  # whether u does not exist yet when the level is reached
        self.residual = residual and not (from_zero and before == 0)  # without u the residual is f
        self.smoothers, self.operators = nn.ModuleList(), nn.ModuleList()
        self.restriction: nn.Module | None = None
        self.start: nn.Module | None = None
        self.prolongation: Prolongation | None = None
        self.norm: nn.Module | None = None

    def counts(self) -> tuple[int, int]:
        """Numbers of smoothers and of operators that a cycle uses."""
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
        """Take the steps u <- u + S (f - A u) on the way down; the first of all starts from zero."""
        for k in range(self.before):
            if u is None:
                u = self._correction(k, f)
            else:
                u = u + self._correction(k, self._defect(k - self.from_zero, u, f))
        return u

    def restrict(self, u: Tensor | None, f: Tensor) -> tuple[Tensor | None, Tensor]:
        """Give what the level below starts from: u there, and its right-hand side."""
        assert self.restriction is not None
        if u is None:
            return None, self.restriction(f)
        coarse = self.restriction(self._defect(self.before - self.from_zero, u, f) if self.residual else f)
        return (None if self.start is None else self.start(u)), coarse

    def smooth_after(self, u: Tensor | None, coarse: Tensor, f: Tensor) -> Tensor:
        """Add the correction from the level below, and take the steps on the way up."""
        assert self.prolongation is not None
        prolonged = self.prolongation(coarse, f.shape[2:])
        u = prolonged if u is None else u + prolonged
        u = u if self.norm is None else self.norm(u)
        used = max(0, self.before - self.from_zero) + self.residual
        for k in range(self.after):
            u = u + self._correction(self.before + k, self._defect(used + k, u, f))
        return u


class ConvolutionCycle(nn.Module):
    """One V-cycle of convolutions, a linear map (affine with `bias`) from `in_channels` to `channels` on one lattice.

    Parameters
    ----------
    in_channels
        Channels of f, the same on all levels or one a level (finest first).
    channels
        Channels of u, the same on all levels or one a level (finest first).
    dim
        Number of space axes, 1 to 3.
    boundary
        "dirichlet" (zeros beyond the boundary), "neumann" (reflection) or "periodic" (around the torus).
    levels
        Number of levels; as many as `pre` has entries, or 5.
    pre
        Smoothing steps before the coarse correction, one number or one a level; by default one, and two on the
        coarsest level, which needs at least one.
    post
        Smoothing steps after it, one number or one a level but the coarsest.
    residual
        Whether f - A u is restricted, as in multigrid for A u = f, or f itself (as published).
    coarse_start
        "zero", or "restricted": a learnt restriction of u (as published).
    shared
        Whether all steps of a level share one A and one S.
    bias
        Whether A and S have biases.
    alignment
        "first": coarse nodes lie on the fine nodes 0, 2, ...; "interior": on 1, 3, ....
    kernel
        Width of the prolongations, 3 or 4, one number or one a level but the coarsest.
    wrapped
        Whether the prolongation continues u over the boundary as the other convolutions do (reflected, around the
        torus) or by zeros (False, as published: a seam in periodic fields).
    norm_shape
        If given, the only lattice (finest level) on which the cycle works: u is normalised on each level after the
        coarse correction, with weights for each node (as published for Navier-Stokes).
    idle_operator
        Whether the first step holds an A that it never uses, as the published Helmholtz network does; only for exact
        counts of its parameters.

    Raises
    ------
    InputError
        If an option is unknown, numbers of entries differ, or `forward` is given a lattice too small for the levels.

    Notes
    -----
    No weight depends on the lattice unless `norm_shape` is given. Prolongations take the size of the fine level, so any
    lattice will do that leaves two nodes an axis on the coarsest level (one for "dirichlet" with "interior").

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
        norm_shape: Sequence[int] | None = None,
        idle_operator: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(dim, int) or dim not in _CONVOLUTION:
            raise InputError(f"dim={dim!r} must be 1, 2 or 3.")
        count = level_count(levels, pre)
        self.dim, self.depth = dim, count
        self.boundary = require_choice(boundary, "boundary", tuple(BOUNDARIES))
        self.alignment = require_choice(alignment, "alignment", tuple(ALIGNMENTS))
        require_choice(coarse_start, "coarse_start", COARSE_STARTS)
        before = per_level((1,) * (count - 1) + (2,) if pre is None else pre, count, "pre", 0)
        if before[-1] == 0:
            raise InputError("pre is 0 on the coarsest level, which would give nothing; give at least 1 there.")
        after = (*per_level(post, count - 1, "post", 0), 0)
        self.widths_f = per_level(in_channels, count, "in_channels", 1)
        self.widths_u = per_level(channels, count, "channels", 1)
        widths = per_level(kernel, count - 1, "kernel", 3)
        if any(width > 4 for width in widths):
            raise InputError(f"kernel={kernel!r} must be 3 or 4.")
        self.norm_shape = None if norm_shape is None else tuple(norm_shape)

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
        self.idle_operator = (
            self._convolution(self.widths_u[0], self.widths_f[0], padding, bias) if idle_operator else None
        )
        if self.norm_shape is not None:
            self._add_norms(self.norm_shape)

    def _convolution(self, channels: int, out: int, padding: Padding, bias: bool) -> nn.Module:
        return _CONVOLUTION[self.dim](channels, out, 3, padding=1, padding_mode=padding, bias=bias)

    def _transfer(self, channels: int, out: int, padding: Padding) -> nn.Module:
        width = ALIGNMENTS[self.alignment]
        mode: Padding = padding if width else "zeros"
        return _CONVOLUTION[self.dim](channels, out, 3, stride=2, padding=width, padding_mode=mode, bias=False)

    def _add_norms(self, shape: tuple[int, ...]) -> None:
        shapes = self.level_shapes(shape)
        for level, width, size in zip(self.hierarchy[:-1], self.widths_u, shapes):
            level.norm = nn.LayerNorm([width, *size])

    @property
    def hierarchy(self) -> list[CycleLevel]:
        """The levels, finest first."""
        return cast(list[CycleLevel], list(self.levels))

    def level_shapes(self, shape: Sequence[int]) -> list[tuple[int, ...]]:
        """Lattices of all levels, finest first; `InputError` if `shape` cannot be coarsened so often."""
        if len(shape) != self.dim:
            raise InputError(f"a lattice of {len(shape)} axes was given to a cycle of {self.dim} axes.")
        shapes = [tuple(shape)]
        for _ in range(self.depth - 1):
            shapes.append(tuple(coarse_size(n, self.alignment) for n in shapes[-1]))
        needed = self.smallest(self.depth)
        if min(shape) < needed:
            raise InputError(
                f"a lattice of {'x'.join(map(str, shape))} is too small for {self.depth} levels; give at least "
                f"{needed} along each axis, or fewer levels."
            )
        return shapes

    def smallest(self, depth: int) -> int:
        """Give the fewest nodes along an axis that can be coarsened for a cycle of so many levels."""
        needed = 1 if self.boundary == "dirichlet" and (self.alignment == "interior" or depth == 1) else 2
        for _ in range(depth - 1):
            needed = 2 * needed - 1 if self.alignment == "first" else 2 * needed + 1
        return needed

    def forward(self, f: Tensor) -> Tensor:
        """Apply the cycle to f (b, in_channels, *lattice), which gives (b, channels, *lattice)."""
        if self.norm_shape not in (None, tuple(f.shape[2:])):
            raise InputError(
                f"a lattice of {'x'.join(map(str, f.shape[2:]))} was given to a cycle whose norms are for "
                f"{'x'.join(map(str, self.norm_shape or ()))} only."
            )
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
        """Name what the levels do not show."""
        return f"boundary={self.boundary!r}, alignment={self.alignment!r}, levels={self.depth}"
