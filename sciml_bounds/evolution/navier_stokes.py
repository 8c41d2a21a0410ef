"""Incompressible flow on the torus (0, 1)^2 by its vorticity: pseudo-spectral in space, fourth order in time.

The equation is w_t + u . grad w = nu Laplace w + f, with u = (d psi/dy, -d psi/dx) and -Laplace psi = w. Fields are
values at the points (i/n, j/n), axes (x, y). The waves |k| <= K are kept, K the largest integer with 3K < n (the 2/3
rule: products of two kept waves leave no alias among them).

Inside the package a flow is its Fourier coefficients, (b, n, K + 1) complex: all k_x in the order of the FFT and
0 <= k_y <= K, since the others are conjugates. Divided by n^2, they do not depend on the grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from sciml_bounds.arrays import Field, check_device, convert, require_finite
from sciml_bounds.errors import ConvergenceError, InputError
from sciml_bounds.memory import require_memory

__all__ = ["NavierStokes", "crank_nicolson_euler", "diagonal_forcing"]

#: How far the fastest wave may turn in one step, in radians. The Runge-Kutta scheme is stable up to 2.8; on the grids
#: of the published data its error at this value is below that of their scheme at its step 1e-4
#: (`benchmarks/navier_stokes.py`). On 64 x 64 points with viscosity 1e-5 it is twice as large, 1e-5 to 4e-5.
CFL = 1.2

#: Accuracy asks for steps that stability alone would not: as if there were at least so many waves along an axis, ...
FEWEST_WAVES = 20

#: ... and the forcing must not accelerate the flow for longer than this over the square root of its size.
FORCED = 0.1

#: A flow that needs more steps than this until it is to be seen would never come to an end.
MOST_STEPS = 10**8

#: A duration is a multiple of a step up to this part of it.
WHOLE = 1e-6

#: Real fields of the whole grid that are there while one sample is evolved.
FIELDS_AT_WORK = 30

#: So many numbers at a time stay in the cache of a CPU core; larger batches are cut into pieces.
CACHED = 2**16


def diagonal_forcing(x: Tensor, y: Tensor) -> Tensor:
    """Give the forcing of the published data sets, 0.1 (sin 2 pi (x + y) + cos 2 pi (x + y)) (Li et al., 2021)."""
    phase = 2.0 * math.pi * (x + y)
    return 0.1 * (torch.sin(phase) + torch.cos(phase))


class NavierStokes:
    """A flow on the torus, ready to be evolved from any vorticity.

    Viscosity and forcing are integrated exactly, the transport between them by the classical Runge-Kutta scheme of
    order 4 (integrating factor; Lawson, SIAM J. Numer. Anal. 4, 1967). Each step of each sample is the longest
    that the CFL rule h * 2 pi K' * s <= cfl with s = max(|u| + |v|) allows, so a sample does not depend on the others
    of its batch. K' is the lesser of K and s / (2 pi nu), beyond which viscosity acts faster than transport; but it
    counts as 20 at least, for accuracy.

    Parameters
    ----------
    resolution
        Points along an axis, n: an even integer of at least 8.
    viscosity
        nu, zero or positive.
    forcing
        f, as values (n, n) at the points or as a function of x and y; None for no forcing.
    device, dtype
        Where and in which precision the flow is evolved.
    cfl
        How far the fastest wave may turn in a step; the error falls with its fourth power.

    Raises
    ------
    InputError
        If a number is out of range, the device is not there, or the forcing is not a finite field of the right shape.

    Examples
    --------
    A vortex of Taylor and Green decays like exp(-8 pi^2 nu t):

    >>> import torch
    >>> x = 2 * torch.pi * torch.arange(32, dtype=torch.float64) / 32
    >>> vortex = torch.cos(x)[:, None] * torch.cos(x)
    >>> flow = NavierStokes(32, viscosity=0.01)
    >>> later = flow.evolve(vortex, times=[0.5, 1.0])
    >>> later.shape
    torch.Size([2, 32, 32])
    >>> torch.allclose(later[1], torch.exp(torch.tensor(-0.08 * torch.pi**2)) * vortex)
    True
    """

    def __init__(
        self,
        resolution: int,
        viscosity: float,
        forcing: Field | None = None,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
        cfl: float = CFL,
    ) -> None:
        _require_resolution(resolution)
        require_memory(8 * FIELDS_AT_WORK * int(resolution) ** 2, f"a flow of {resolution} x {resolution} points")
        _require_number(viscosity, "viscosity", zero=True)
        _require_number(cfl, "cfl", zero=False)
        if dtype not in (torch.float32, torch.float64):
            raise InputError(f"dtype is {dtype}; use torch.float32 or torch.float64.")
        self.resolution = int(resolution)
        self.viscosity = float(viscosity)
        self.device = check_device(device)
        self.dtype = dtype
        self.cfl = float(cfl)
        self.waves = (self.resolution - 1) // 3
        self._build(forcing)

    def _build(self, forcing: Field | None) -> None:
        """Compute the factors that do not depend on the flow."""
        n, waves = self.resolution, self.waves
        k = torch.fft.fftfreq(n, 1.0 / n, dtype=torch.float64)
        kx, ky = k[:, None], k[: waves + 1]
        kept = (kx.abs() <= waves).to(torch.float64)
        k2 = kx**2 + ky**2
        inverse = kept / (2.0 * math.pi * k2.clamp(min=1.0))  # the mean of the vorticity moves nothing
        self._to_velocity = self._factor(torch.stack((1j * ky * inverse, -1j * kx * inverse))[:, None])
        # u . grad w = (d_xx - d_yy)(u v) + d_xy (v^2 - u^2), which takes two transforms back and two forth
        scale = 4.0 * math.pi**2 * kept / n**2
        self._from_products = self._factor(torch.stack((scale * (kx**2 - ky**2), scale * kx * ky))[:, None])
        self._kept = self._factor(kept / n**2)
        self._decay_x, self._decay_y = (
            (-self.viscosity * 4.0 * math.pi**2 * q**2).to(self.device, self.dtype) for q in (k, k[: waves + 1])
        )
        self.forcing = _forcing_field(forcing, n, self.dtype, self.device)
        self._force(4.0 * math.pi**2 * k2)

    def _factor(self, values: Tensor) -> Tensor:
        return values.to(self.device, torch.promote_types(self.dtype, torch.complex32))

    def _force(self, laplacian: Tensor) -> None:
        """Keep the waves that the forcing has, which are few as a rule, and what damps them."""
        coefficients = self._transform(self.forcing[None]).flatten()
        size = float(coefficients.abs().max())
        self._forced = torch.nonzero(coefficients.abs() > 8 * torch.finfo(self.dtype).eps * size).flatten()
        self._forces = coefficients[self._forced]
        self._damping = self.viscosity * laplacian.to(self.device, self.dtype).flatten()[self._forced]
        largest = float(self.forcing.abs().max())
        self._longest_step = FORCED / math.sqrt(largest) if largest > 0.0 else math.inf

    # --- the public face ----------------------------------------------------------------------------------------------

    def evolve(self, vorticity: Field, times: Sequence[float] | Tensor) -> Tensor:
        """Evolve from time 0 and return the vorticity at the given times.

        Waves beyond K are left out of the initial vorticity.

        Parameters
        ----------
        vorticity
            (batch..., n, n) at the points (i/n, j/n).
        times
            Increasing, none negative.

        Returns
        -------
        Tensor
            (batch..., time, n, n), in the dtype and on the device of the flow.

        Raises
        ------
        InputError
            If the vorticity is not a finite field of the right shape, or the times are not increasing.
        ConvergenceError
            If the flow leaves the range of its dtype, or is too fast to be followed.
        """
        initial = self._initial(vorticity)
        instants = _instants(times)
        flat = initial.reshape(-1, *initial.shape[-2:])
        # a core works from its cache, a GPU wants everything at once; the numbers are the same
        piece = max(1, CACHED // self.resolution**2) if self.device.type == "cpu" else len(flat)
        frames = torch.cat([self._evolve(part, instants) for part in flat.split(piece)])
        return frames.reshape(*initial.shape[:-2], len(instants), *initial.shape[-2:])

    def velocity(self, vorticity: Field) -> tuple[Tensor, Tensor]:
        """Return the two components of the velocity of a vorticity, each (batch..., n, n); their means are zero.

        Raises
        ------
        InputError
            If the vorticity is not a finite field of the right shape.
        """
        initial = self._initial(vorticity)
        u, v = self._velocity(self._transform(initial.reshape(-1, *initial.shape[-2:])))
        return u.reshape(initial.shape), v.reshape(initial.shape)

    def _initial(self, vorticity: Field) -> Tensor:
        initial = convert(vorticity, "vorticity", self.dtype, self.device).detach()
        n = self.resolution
        if initial.ndim < 2 or tuple(initial.shape[-2:]) != (n, n) or initial.numel() == 0:
            raise InputError(
                f"vorticity has shape {tuple(initial.shape)}, but the flow has (batch..., {n}, {n}); "
                "give one value a point and at least one sample."
            )
        require_finite(initial, "vorticity")
        return initial

    # --- transforms ---------------------------------------------------------------------------------------------------

    def _transform(self, values: Tensor) -> Tensor:
        """Coefficients (b, n, K + 1) of values (b, n, n); what the 2/3 rule leaves out is zero."""
        return self._kept * self._raw_transform(values)

    def _raw_transform(self, values: Tensor) -> Tensor:
        along_y = torch.fft.rfft(values)[..., : self.waves + 1]  # only the kept columns go on
        coefficients: Tensor = torch.fft.fft(along_y, dim=-2)
        return coefficients

    def _values(self, coefficients: Tensor) -> Tensor:
        along_x = torch.fft.ifft(coefficients, dim=-2, norm="forward")
        values: Tensor = torch.fft.irfft(along_x, n=self.resolution, norm="forward")
        return values

    def _velocity(self, flow: Tensor) -> Tensor:
        """Components (2, b, n, n) of the velocity."""
        return self._values(self._to_velocity * flow)

    def _transport(self, velocity: Tensor) -> Tensor:
        """Coefficients of -u . grad w, from the products u v and v^2 - u^2."""
        u, v = velocity
        products = torch.empty_like(velocity)
        torch.mul(u, v, out=products[0])
        torch.mul(v, v, out=products[1]).addcmul_(u, u, value=-1.0)
        spectra = self._raw_transform(products)
        return spectra[0].mul_(self._from_products[0]).addcmul_(spectra[1], self._from_products[1])

    # --- time ---------------------------------------------------------------------------------------------------------

    def _evolve(self, vorticity: Tensor, instants: list[float]) -> Tensor:
        flow = self._transform(vorticity)
        frames = vorticity.new_empty(len(vorticity), len(instants), *vorticity.shape[1:])
        now = 0.0
        for index, instant in enumerate(instants):
            flow = self._advance(flow, instant - now)
            frames[:, index] = self._values(flow)
            now = instant
        return frames

    def _advance(self, flow: Tensor, duration: float) -> Tensor:
        """Advance every sample by the same time in steps of its own; a sample that has arrived takes steps of zero."""
        left = [duration] * len(flow)
        while any(left):
            velocity = self._velocity(flow)
            speeds = (velocity[0].abs() + velocity[1].abs()).amax((1, 2)).tolist()
            steps = [self._step_size(*pair) for pair in zip(left, speeds)]
            flow = self._step(flow, self._transport(velocity), torch.tensor(steps, dtype=self.dtype))
            left = [rest - step for rest, step in zip(left, steps)]
        return flow

    def _step_size(self, left: float, speed: float) -> float:
        """Cut what is left into equal steps of at most the longest one that the rules allow."""
        if not math.isfinite(speed):
            raise ConvergenceError(
                f"the flow left the range of {str(self.dtype).removeprefix('torch.')}; start from a smaller vorticity, "
                "or use float64."
            )
        # viscosity damps shorter waves faster than they move: |R(i q)| exp(-q) < 1 for any q, so any step is stable
        moving = speed / (2.0 * math.pi * self.viscosity) if self.viscosity > 0.0 else math.inf
        turning = 2.0 * math.pi * max(min(self.waves, moving), FEWEST_WAVES) * speed
        longest = min(self.cfl / turning if turning > 0.0 else math.inf, self._longest_step * self.cfl / CFL)
        if left > MOST_STEPS * longest:
            raise ConvergenceError(
                f"the flow reached speed {speed:.3g}, which takes more than {MOST_STEPS:.0e} steps over what is left, "
                f"{left:.3g}; choose a smaller vorticity or earlier times."
            )
        # the last step is all that is left, so that nothing remains of round-off
        return left / max(1, math.ceil(left / longest * (1.0 - 1e-9)))

    def _step(self, flow: Tensor, first: Tensor, steps: Tensor) -> Tensor:
        """One step of integrating-factor Runge-Kutta; `first` is the transport of the flow."""
        h = steps.to(self.device)[:, None]
        decay = (torch.exp(0.5 * h * self._decay_x)[:, :, None] * torch.exp(0.5 * h * self._decay_y)[:, None, :]).to(
            flow.dtype
        )
        push = self._push(0.5 * h)
        h = h[:, :, None].to(flow.dtype)
        half = self._pushed(decay * flow, push)  # after half a step, without transport
        first = decay * first
        second = self._transport(self._velocity(torch.addcmul(half, first, h, value=0.5)))
        third = self._transport(self._velocity(torch.addcmul(half, second, h, value=0.5)))
        last = self._pushed(decay * torch.addcmul(half, third, h), push)
        fourth = self._transport(self._velocity(last))
        inner = first.add_(second.add_(third), alpha=2.0)
        flow = self._pushed(decay * torch.addcmul(half, inner, h, value=1.0 / 6.0), push)
        return flow.addcmul_(fourth, h, value=1.0 / 6.0)

    def _push(self, duration: Tensor) -> Tensor:
        """Integrate forcing against viscous decay over a time (b, 1): what the forced waves (b, m) gain."""
        exponent = self._damping * duration
        damped = exponent > 0.0
        mean_decay = torch.where(damped, -torch.expm1(-exponent) / torch.where(damped, exponent, 1.0), 1.0)
        return self._forces * (duration * mean_decay)

    def _pushed(self, flow: Tensor, push: Tensor) -> Tensor:
        flow.view(len(flow), -1)[:, self._forced] += push
        return flow


# --- the published scheme ---------------------------------------------------------------------------------------------


def crank_nicolson_euler(flow: NavierStokes, vorticity: Field, duration: float, step: float = 1e-4) -> Tensor:
    """Evolve by the scheme that made the published data sets, for comparison: first order, 10,000 steps a time unit.

    Viscosity by Crank and Nicolson, transport (in the form u . grad w) and forcing by explicit Euler (Li et al.,
    Fourier neural operator for parametric partial differential equations, ICLR 2021, their `ns_2d.py`), with real
    transforms.

    Parameters
    ----------
    flow
        Gives resolution, viscosity, forcing, dtype and device.
    vorticity
        (batch..., n, n); waves beyond K are left out, as in `NavierStokes.evolve`.
    duration
        A multiple of the step, to rounding.
    step
        Length of a step.

    Returns
    -------
    Tensor
        (batch..., n, n), the vorticity after that time.

    Raises
    ------
    InputError
        If the vorticity is not a finite field of the right shape, a time is not positive, or the duration no multiple
        of the step.
    """
    if not isinstance(flow, NavierStokes):
        raise InputError(f"the flow is a {type(flow).__name__}; give a NavierStokes.")
    _require_number(duration, "duration", zero=False)
    _require_number(step, "step", zero=False)
    steps = round(duration / step)
    if abs(steps * step - duration) > WHOLE * duration:
        raise InputError(
            f"duration is {duration:g}, which is {duration / step:g} steps of {step:g}; give a multiple of the step."
        )
    w = flow._initial(vorticity)
    n = flow.resolution
    k = torch.fft.fftfreq(n, 1.0 / n, dtype=flow.dtype, device=flow.device)
    kx, ky = k[:, None], k[: n // 2 + 1].abs()
    laplacian = 4.0 * math.pi**2 * (kx**2 + ky**2)
    kept = ((kx.abs() <= flow.waves) & (ky <= flow.waves)).to(flow.dtype)
    streams = kept / laplacian.clamp(min=1.0)
    dx, dy = 2j * math.pi * kx, 2j * math.pi * ky
    factors = torch.stack(torch.broadcast_tensors(dy * streams, -dx * streams, dx * kept, dy * kept))
    shape = (4,) + (1,) * (w.ndim - 2) + tuple(factors.shape[1:])
    factors = factors.reshape(shape)
    kept_step = step * kept
    forced = step * torch.fft.rfft2(flow.forcing) * kept
    explicit = 1.0 - 0.5 * step * flow.viscosity * laplacian
    implicit = 1.0 / (1.0 + 0.5 * step * flow.viscosity * laplacian)
    what = torch.fft.rfft2(w) * kept
    for _ in range(steps):
        u, v, wx, wy = torch.fft.irfft2(factors * what, s=(n, n))
        what = (explicit * what + forced - kept_step * torch.fft.rfft2(u * wx + v * wy)) * implicit
    final: Tensor = torch.fft.irfft2(what, s=(n, n))
    return final


# --- checks -----------------------------------------------------------------------------------------------------------


def _require_resolution(resolution: Any) -> None:
    whole = isinstance(resolution, Integral) and not isinstance(resolution, bool)
    if not whole or resolution < 8 or resolution % 2:
        raise InputError(f"resolution is {resolution!r}; it must be an even integer of at least 8.")


def _require_number(value: Any, name: str, *, zero: bool) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        raise InputError(f"{name} is {value!r}; it must be a finite number, {'zero or ' if zero else ''}positive.")


def _instants(times: Sequence[float] | Tensor) -> list[float]:
    instants = convert(times, "times", torch.float64, torch.device("cpu"))
    if instants.ndim != 1 or len(instants) == 0:
        raise InputError(f"times has shape {tuple(instants.shape)}; give a list of at least one time.")
    require_finite(instants, "times")
    if float(instants[0]) < 0.0:
        raise InputError(f"times starts at {float(instants[0]):g}; the vorticity is given at time 0, so start there.")
    back = torch.nonzero(instants.diff() <= 0.0).flatten()
    if len(back):
        i = int(back[0])
        raise InputError(
            f"times does not increase from {float(instants[i]):g} to {float(instants[i + 1]):g} "
            f"(entries {i} and {i + 1}); sort them, each once."
        )
    return [float(instant) for instant in instants]


def _forcing_field(forcing: Field | None, n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    if forcing is None:
        return torch.zeros(n, n, dtype=dtype, device=device)
    if callable(forcing) and not hasattr(forcing, "dtype"):
        forcing = _sampled(forcing, n)
    field = convert(forcing, "forcing", dtype, device).detach()
    if tuple(field.shape) != (n, n):
        raise InputError(f"forcing has shape {tuple(field.shape)}; the flow takes ({n}, {n}), one value a point.")
    require_finite(field, "forcing")
    return field


def _sampled(function: Callable[..., Any], n: int) -> Any:
    points = torch.arange(n, dtype=torch.float64) / n
    return function(*torch.meshgrid(points, points, indexing="ij"))
