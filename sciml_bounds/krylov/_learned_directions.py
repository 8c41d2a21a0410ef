"""Networks that map a residual to a search direction, for conjugate gradients.

Conjugate gradients take the best step in the span of the network's direction, the residual and the previous directions
(`sciml_bounds.krylov._loop`), so a poor network costs iterations, never accuracy.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn import functional

from sciml_bounds.arrays import require_choice
from sciml_bounds.errors import InputError
from sciml_bounds.krylov._dcdm import DirectionNetwork
from sciml_bounds.krylov._learned_cycle import Hierarchy, LearnedCycle
from sciml_bounds.krylov._multigrid_shaped import Kernels, MultigridShapedNetwork, check_geometry, geometry_image
from sciml_bounds.nn.network_input import check_axes, check_values
from sciml_bounds.store.datasets.weights import load_model, save_model

if TYPE_CHECKING:
    from sciml_bounds.krylov._direction_preconditioner import DirectionPreconditioner
    from sciml_bounds.multigrid._cycle import Cycle

__all__ = ["LearnedDirections"]

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "dcdm": DirectionNetwork,
    "multigrid": MultigridShapedNetwork,
    "cycle": LearnedCycle,
}

#: Meaning of the input channels, by their number, for error messages.
CHANNEL_MEANINGS = {
    1: ': the residual (inputs = ["rhs"] of a data set)',
    2: ': the residual and the geometry (inputs = ["rhs", "geometry"] of a data set)',
}

#: Options of the published networks.
PUBLISHED: dict[str, dict[str, Any]] = {
    "dcdm-64": {"network": "dcdm", "before": 2, "coarse": 3, "after": 2},
    "dcdm-128": {"network": "dcdm", "before": 3, "coarse": 5, "after": 3},
    "multigrid-4": {"network": "multigrid", "levels": 4},
    "multigrid-5": {"network": "multigrid", "levels": 5},
}


class LearnedDirections(nn.Module):
    """A network that maps a residual to a search direction for conjugate gradients, on lattices of any size.

    Parameters
    ----------
    network : str
        "dcdm": convolutions of the residual on two lattices (Kaneda et al., ICML 2023). "multigrid": a linear map in
        the shape of a multigrid cycle, whose kernels depend on the geometry around each point (Lan et al., ICML 2024).
        "cycle": a multigrid cycle with learned coarse operators and smoothing; it is symmetric and positive definite
        for all weights, so that plain conjugate gradients apply (`sciml_bounds.krylov._learned_cycle`).
    dim : int
        Number of space axes, 2 or 3.
    **options : int
        For "dcdm": `channels=16`, `before=2` pairs of convolutions on the fine lattice, `coarse=3` residual blocks on
        the lattice with half the points along each axis, and `after=2` residual blocks on the fine lattice. For
        "multigrid": `levels=4` halvings of the lattice. For "cycle": `sweeps=6` smoothing steps, `width=16` of the
        network that computes coarse conductances, and `unrolled=2` conjugate-gradient iterations in training mode.

    Attributes
    ----------
    arguments : dict
        Keyword arguments that rebuild this network.
    in_channels : int
        1 for the residual only; 2 for the residual and the geometry (0 solid, 1 fluid, 2 air, where zero is
        prescribed).

    Raises
    ------
    InputError
        If options are unknown or out of range; from `forward`, if the number of axes or channels, the dtype, the device
        or a value of the geometry is wrong, or (in evaluation mode) the input has NaN or infinity.

    Notes
    -----
    If lattice lengths are not multiples of 2 ("dcdm") or 2^levels ("multigrid"), inputs are padded with zeros after
    their last points and outputs are cropped. The published codes accept multiples only.

    Examples
    --------
    >>> import torch, sciml_bounds as sb
    >>> net = sb.LearnedDirections.published("dcdm-64")
    >>> sum(p.numel() for p in net.parameters())
    97457
    >>> net(torch.rand(2, 1, 7, 8, 9)).shape
    torch.Size([2, 1, 7, 8, 9])
    """

    def __init__(self, network: str = "dcdm", *, dim: int = 3, **options: int) -> None:
        super().__init__()
        kind = NETWORKS[require_choice(network, "network", tuple(NETWORKS))]
        if not isinstance(dim, int) or dim not in (2, 3):
            raise InputError(f"dim={dim!r} is not supported; give 2 or 3.")
        defaults = {p.name: p.default for p in inspect.signature(kind).parameters.values() if p.name != "dim"}
        for name, value in options.items():
            require_choice(name, f"an option of network {network!r}", defaults)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(f"{name}={value!r} must be a positive integer.")
        self.arguments: dict[str, Any] = {"network": network, "dim": dim, **defaults, **options}
        self.dim = dim
        self.network: Any = kind(dim, **options)
        self.in_channels = 1 if network == "dcdm" else 2

    def forward(self, x: Tensor) -> Tensor:
        """Map x (b, in_channels, *space) to directions (b, 1, *space).

        Raises
        ------
        InputError
            If the input does not fit the network (see `LearnedDirections`).
        """
        check_axes(x, self.in_channels, self.dim, CHANNEL_MEANINGS[self.in_channels])
        check_values(x, next(self.parameters()), training=self.training)
        if self.in_channels == 1:
            return self.along(x)
        if len(x) == 0:
            return x[:, :1]
        check_geometry(x[:, 1])
        return self.along(x[:, :1], self.kernels(x[:, 1]))

    def kernels(self, geometry: Tensor) -> Kernels | Hierarchy:
        """Return the kernels or levels that the network computes from a geometry (b, *space)."""
        if isinstance(self.network, LearnedCycle):
            return self.network.kernels(geometry)
        image = geometry_image(geometry).to(next(self.parameters()))
        kernels: Kernels = self.network.kernels(self._padded(image))
        return kernels

    def along(self, r: Tensor, kernels: Kernels | Hierarchy | None = None) -> Tensor:
        """Return directions for residuals (b, 1, *space), without checking the input."""
        wide = self._padded(r)
        padded = self.network(wide) if kernels is None else self.network.along(kernels, wide)
        direction: Tensor = padded[(..., *(slice(0, n) for n in r.shape[2:]))]
        return direction

    def as_preconditioner(
        self, problem: Any, *, geometry: Any = None, published: bool = False
    ) -> DirectionPreconditioner | Cycle:
        """Return the network as preconditioner of conjugate gradients.

        A "cycle" is built from the operator of the problem and is linear, symmetric and positive definite. For other
        networks see `sciml_bounds.krylov._direction_preconditioner`.

        Parameters
        ----------
        problem : Diffusion, Solver, LatticeOperator, LatticeSystem or sequence of int
            Defines the lattice of the vectors: a `Diffusion` problem or a `Solver` prepared for it, a `LatticeOperator`
            or its system (see `Smoke.pressure_systems`), or the number of points along each axis (not for "cycle").
        geometry : array or Tensor, shape (batch..., *space), optional
            Type of each point: 0 solid, 1 fluid, 2 air; by default the geometry of the problem. Not for "cycle".
        published : bool
            If True, search along the network's direction and the last two directions only, without the residual. Not
            for "cycle".

        Returns
        -------
        DirectionPreconditioner or Cycle
            Preconditioner for `sb.cg(..., M=...)`.

        Raises
        ------
        InputError
            If the network has another number of axes than the lattice or is on another device than the problem, the
            geometry has the wrong shape or values, or the "cycle" does not support the operator.
        """
        from sciml_bounds.krylov._direction_preconditioner import cycle_preconditioner, direction_preconditioner

        if isinstance(self.network, LearnedCycle):
            return cycle_preconditioner(self, problem, geometry=geometry, published=published)
        return direction_preconditioner(self, problem, geometry=geometry, published=published)

    def save(self, path: Path | str, **card: Any) -> None:
        """Save the weights and a model card (recipe, seed, metrics) to a safetensors file."""
        save_model(self, path, **card)

    @classmethod
    def load(cls, name_or_path: Path | str) -> LearnedDirections:
        """Load a network in evaluation mode, from a file or by the name of a network that ships with the package.

        Raises
        ------
        InputError
            If the file does not exist, or contains another kind of network.
        """
        model = load_model(name_or_path)
        if not isinstance(model, cls):
            raise InputError(
                f"{name_or_path} contains a {type(model).__name__}, not a {cls.__name__}; use sb.data.load_model."
            )
        return model.eval()

    @staticmethod
    def published(name: str, dim: int = 3) -> LearnedDirections:
        """Return a published network with random weights: "dcdm-64", "dcdm-128", "multigrid-4" or "multigrid-5".

        In 3-D, these have 97,457, 152,881, 20,582 and 25,174 weights. With dim=2 they have two-dimensional kernels.
        """
        return LearnedDirections(**PUBLISHED[require_choice(name, "name", tuple(PUBLISHED))], dim=dim)

    def _padded(self, u: Tensor) -> Tensor:
        """Pad (b, channel, *space) with zeros to the multiples of points that the network requires."""
        return functional.pad(u, _padding(u.shape[2:], self.network.multiple))


def _padding(space: Sequence[int], multiple: int) -> list[int]:
    """Return the padding at the end of each axis in the format of `pad`, last axis first."""
    return [number for n in reversed(space) for number in (0, -n % multiple)]
