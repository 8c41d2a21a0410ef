"""Networks that answer a residual with a direction to search along, for conjugate gradients.

Whatever the network, the loop finds the best step in the span of its direction, the residual and the directions before
(`sciml_bounds.krylov._loop`), so that it can be slow and not wrong.
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

#: What so many channels of an input are.
MEANING = {
    1: ': the residual (inputs = ["rhs"] of a data set)',
    2: ': the residual and the geometry (inputs = ["rhs", "geometry"] of a data set)',
}

#: The published networks.
PUBLISHED: dict[str, dict[str, Any]] = {
    "dcdm-64": {"network": "dcdm", "before": 2, "coarse": 3, "after": 2},
    "dcdm-128": {"network": "dcdm", "before": 3, "coarse": 5, "after": 3},
    "multigrid-4": {"network": "multigrid", "levels": 4},
    "multigrid-5": {"network": "multigrid", "levels": 5},
}


class LearnedDirections(nn.Module):
    """A network from a residual to a direction, on lattices of any size.

    Parameters
    ----------
    network
        "dcdm": convolutions on two lattices, of the residual alone (Kaneda et al., ICML 2023). "multigrid": a linear
        map in the shape of a multigrid cycle, whose kernels depend on the geometry around each point (Lan et al., ICML
        2024). "cycle": a multigrid cycle with learned coarse operators and smoothing, symmetric and positive definite
        whatever its weights, so that plain conjugate gradients apply (`sciml_bounds.krylov._learned_cycle`).
    dim
        Number of space axes, 2 or 3.
    **options
        Of "dcdm": `channels=16`, `before=2` pairs of convolutions on the fine lattice, `coarse=3` residual blocks on
        the one with half the points along each axis, `after=2` on the fine one again. Of "multigrid": `levels=4`, how
        often the lattice is halved. Of "cycle": `sweeps=6` smoothing steps, `width=16` of the network that makes coarse
        conductances, and `unrolled=2`, how many iterations of conjugate gradients it does in training mode.

    Attributes
    ----------
    arguments
        The keywords that make this network again.
    in_channels
        1: the residual. 2: the residual and the geometry, 0 where a point is solid, 1 fluid, 2 air (a value of zero is
        prescribed).

    Raises
    ------
    InputError
        If options are unknown or out of range; from `forward`, if the input has another number of axes or channels,
        another dtype or device than the weights, a geometry of other numbers, NaN or infinity (looked for in
        evaluation mode).

    Notes
    -----
    Lattices whose lengths are no multiples of 2 ("dcdm") or 2^levels ("multigrid") are continued by zeros behind their
    last points, without geometry, and the answer is cut; the published codes take multiples only.

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
            raise InputError(f"dim={dim!r} must be 2 or 3.")
        known = {p.name: p.default for p in inspect.signature(kind).parameters.values() if p.name != "dim"}
        for name, value in options.items():
            if name not in known:
                raise InputError(f"the network {network!r} has no option {name!r}; it has {', '.join(known)}.")
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(f"{name}={value!r} must be a positive integer.")
        self.arguments: dict[str, Any] = {"network": network, "dim": dim, **known, **options}
        self.dim = dim
        self.network: Any = kind(dim, **options)
        self.in_channels = 1 if network == "dcdm" else 2

    def forward(self, x: Tensor) -> Tensor:
        """Map x (b, in_channels, *space) to directions (b, 1, *space).

        Raises
        ------
        InputError
            As the class says.
        """
        check_axes(x, self.in_channels, self.dim, MEANING[self.in_channels])
        check_values(x, next(self.parameters()), training=self.training)
        if self.in_channels == 1:
            return self.along(x)
        if len(x) == 0:
            return x[:, :1]
        check_geometry(x[:, 1])
        return self.along(x[:, :1], self.kernels(x[:, 1]))

    def kernels(self, geometry: Tensor) -> Kernels | Hierarchy:
        """Make the kernels or levels of a geometry (b, *space), for networks that take one."""
        if isinstance(self.network, LearnedCycle):
            return self.network.kernels(geometry)
        image = geometry_image(geometry).to(next(self.parameters()))
        found: Kernels = self.network.kernels(self._padded(image))
        return found

    def along(self, r: Tensor, kernels: Kernels | Hierarchy | None = None) -> Tensor:
        """Give directions of residuals (b, 1, *space), without a look at the input."""
        wide = self._padded(r)
        found = self.network(wide) if kernels is None else self.network.along(kernels, wide)
        direction: Tensor = found[(..., *(slice(0, n) for n in r.shape[2:]))]
        return direction

    def as_preconditioner(
        self, problem: Any, *, geometry: Any = None, published: bool = False
    ) -> DirectionPreconditioner | Cycle:
        """Make the network a preconditioner of conjugate gradients.

        `sciml_bounds.krylov._direction_preconditioner` tells more. A "cycle" is made for the operator of a problem, of
        which it sees all that it needs, and is linear, symmetric and positive definite.

        Parameters
        ----------
        problem
            Where the vectors lie: a `Diffusion` problem or a `Solver` that was prepared for one, a `LatticeOperator` or
            its system (as `Smoke.pressure_systems` gives it), or the number of points along each axis (not "cycle").
        geometry
            What each point is, shape (batch..., *space): 0 solid, 1 fluid, 2 air; by default as the problem says. Not
            for "cycle".
        published
            Search along the network's direction and the last two alone, and not along the residual too. Not for
            "cycle".

        Raises
        ------
        InputError
            If the network is for another number of axes or on another device, the geometry does not fit, or there is
            no cycle for the operator.
        """
        from sciml_bounds.krylov._direction_preconditioner import cycle_preconditioner, direction_preconditioner

        if isinstance(self.network, LearnedCycle):
            return cycle_preconditioner(self, problem, geometry=geometry, published=published)
        return direction_preconditioner(self, problem, geometry=geometry, published=published)

    def save(self, path: Path | str, **card: Any) -> None:
        """Write weights and card (what made them: recipe, seed, metrics) to a safetensors file."""
        save_model(self, path, **card)

    @classmethod
    def load(cls, name_or_path: Path | str) -> LearnedDirections:
        """Read a network from a file, or by name one that ships with the package; it comes in evaluation mode.

        Raises
        ------
        InputError
            If there is no such file, or it holds another network.
        """
        model = load_model(name_or_path)
        if not isinstance(model, cls):
            raise InputError(f"{name_or_path} holds a {type(model).__name__}, not a {cls.__name__}.")
        return model.eval()

    @staticmethod
    def published(name: str, dim: int = 3) -> LearnedDirections:
        """Make a published network with new weights: "dcdm-64", "dcdm-128", "multigrid-4" or "multigrid-5".

        They have 97,457, 152,881, 20,582 and 25,174 weights in 3-D; those of dim=2 are the same with kernels of two
        axes.
        """
        return LearnedDirections(**PUBLISHED[require_choice(name, "name", tuple(PUBLISHED))], dim=dim)

    def _padded(self, u: Tensor) -> Tensor:
        """Continue (b, channel, *space) by zeros to lengths that the network can halve."""
        return functional.pad(u, _missing(u.shape[2:], self.network.multiple))


def _missing(space: Sequence[int], multiple: int) -> list[int]:
    """Points that are missing behind each axis, as `pad` wants them: last axis first."""
    return [number for n in reversed(space) for number in (0, -n % multiple)]
