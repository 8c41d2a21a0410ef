"""Incompressible flow on the torus (0, 1)^2 in vorticity form: pseudo-spectral in space, fourth order in time.

The equation for the vorticity w is w_t + u . grad w = nu Laplace w + f, with the velocity u = (d psi/dy, -d psi/dx) of
the stream function psi, -Laplace psi = w. Fields are given at the points (i/n, j/n), with axes (x, y). Modes with
wavenumbers |k| <= K along each axis are retained, where K is the largest integer with 3K < n (the 2/3 rule: products of
two retained modes cause no aliasing among them).

Internally a flow is given by its Fourier coefficients, complex (b, n, K + 1): all k_x in FFT order and 0 <= k_y <= K,
since all other coefficients are complex conjugates of these. They are divided by n^2, so that they do not depend on the
grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from sciml_bounds.arrays import Field, check_device, convert, require_finite, require_instance, require_number
from sciml_bounds.errors import ConvergenceError, InputError
from sciml_bounds.memory import require_memory

__all__ = ["NavierStokes", "crank_nicolson_euler", "diagonal_forcing"]

#: Largest phase change of the fastest Fourier mode in a step, in radians. The Runge-Kutta scheme is stable up to 2.8.
#: On the grids of the published data, its error at this value is below the error of their scheme with its step 1e-4
#: (`benchmarks/navier_stokes.py`). On 64 x 64 points with viscosity 1e-5 it is twice as large, 1e-5 to 4e-5.
CFL = 1.2

#: Smallest wavenumber in the rule for the step size; smaller values would be stable but inaccurate.
MIN_WAVENUMBER = 20

#: Largest step times the square root of the largest forcing, for accuracy.
MAX_FORCED_STEP = 0.1

#: Maximum number of steps to the next requested time; a flow that needs more is refused.
MAX_STEPS = 10**8

#: Relative tolerance within which a duration is a multiple of the step.
MULTIPLE_TOL = 1e-6

#: Memory for the evolution of one sample, in real fields of the whole grid.
FIELDS_AT_WORK = 30

#: Number of values that fit into the cache of a CPU core; larger batches are processed in pieces.
CACHE_VALUES = 2**16


def diagonal_forcing(x: Tensor, y: Tensor) -> Tensor:
    """Return the forcing of the data of Li et al. (2021): 0.1 (sin 2 pi (x + y) + cos 2 pi (x + y))."""
    phase = 2.0 * math.pi * (x + y)
    return 0.1 * (torch.sin(phase) + torch.cos(phase))


class NavierStokes:
    """Incompressible flow on the torus (0, 1)^2, which can be evolved from any vorticity.

    Viscosity and forcing are integrated exactly, and the transport term by the classical Runge-Kutta scheme of order 4
    with an integrating factor (Lawson, SIAM J. Numer. Anal. 4, 1967). Each sample has its own step size, so a sample
    does not depend on the rest of the batch. The step h satisfies h * 2 pi K' * s <= cfl with the speed s = max(|u| +
    |v|). Here K' is the smaller of the largest retained wavenumber K and s / (2 pi nu), above which viscosity is faster
    than transport; for accuracy, K' is at least 20.

    Parameters
    ----------
    resolution : int
        Number n of points along each axis, even and at least 8.
    viscosity : float
        Viscosity nu >= 0.
    forcing : array (n, n) or callable, optional
        Forcing f at the points, or as a function of x and y. By default there is no forcing.
    device : torch.device or str
        Device of the computation.
    dtype : torch.dtype
        Precision of the computation, float32 or float64.
    cfl : float
        Largest phase change of the fastest Fourier mode in a step, in radians; the error is proportional to cfl^4.

    Raises
    ------
    InputError
        If a number is out of range, the device is not available, or the forcing is not a finite field of shape (n, n).

    Examples
    --------
    A Taylor-Green vortex decays like exp(-8 pi^2 nu t):

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
        require_number(viscosity, "viscosity", least=0)
        require_number(cfl, "cfl", positive=True)
        if dtype not in (torch.float32, torch.float64):
            raise InputError(f"dtype is {dtype}; use torch.float32 or torch.float64.")
        self.resolution = int(resolution)
        self.viscosity = float(viscosity)
        self.device = check_device(device)
        self.dtype = dtype
        self.cfl = float(cfl)
        self.max_wavenumber = (self.resolution - 1) // 3
        self._build(forcing)

    def _build(self, forcing: Field | None) -> None:
        """Compute the Fourier multipliers, which do not depend on the flow."""
        n, largest = self.resolution, self.max_wavenumber
        k = torch.fft.fftfreq(n, 1.0 / n, dtype=torch.float64)
        kx, ky = k[:, None], k[: largest + 1]
        kept = (kx.abs() <= largest).to(torch.float64)
        k2 = kx**2 + ky**2
        inverse = kept / (2.0 * math.pi * k2.clamp(min=1.0))  # the mean of the vorticity induces no velocity
        self._to_velocity = self._factor(torch.stack((1j * ky * inverse, -1j * kx * inverse))[:, None])
        # u . grad w = (d_xx - d_yy)(u v) + d_xy (v^2 - u^2) needs only two inverse and two forward transforms
        scale = 4.0 * math.pi**2 * kept / n**2
        self._from_products = self._factor(torch.stack((scale * (kx**2 - ky**2), scale * kx * ky))[:, None])
        self._kept = self._factor(kept / n**2)
        self._decay_x, self._decay_y = (
            (-self.viscosity * 4.0 * math.pi**2 * q**2).to(self.device, self.dtype) for q in (k, k[: largest + 1])
        )
        self.forcing = _forcing_field(forcing, n, self.dtype, self.device)
        self._set_forced_modes(4.0 * math.pi**2 * k2)

    def _factor(self, values: Tensor) -> Tensor:
        return values.to(self.device, torch.promote_types(self.dtype, torch.complex32))

    def _set_forced_modes(self, laplacian: Tensor) -> None:
        """Store coefficients and damping of the nonzero Fourier modes of the forcing, which are usually few."""
        coefficients = self._transform(self.forcing[None]).flatten()
        size = float(coefficients.abs().max())
        self._forced = torch.nonzero(coefficients.abs() > 8 * torch.finfo(self.dtype).eps * size).flatten()
        self._forces = coefficients[self._forced]
        self._damping = self.viscosity * laplacian.to(self.device, self.dtype).flatten()[self._forced]
        largest = float(self.forcing.abs().max())
        self._longest_step = MAX_FORCED_STEP / math.sqrt(largest) if largest > 0.0 else math.inf

    # --- public methods -----------------------------------------------------------------------------------------------

    def evolve(self, vorticity: Field, times: Sequence[float] | Tensor) -> Tensor:
        """Evolve a vorticity from time 0, and return the vorticity at the given times.

        Fourier modes with wavenumbers above K (see `NavierStokes`) are removed from the initial vorticity.

        Parameters
        ----------
        vorticity : array (batch..., n, n)
            Initial vorticity at the points (i/n, j/n).
        times : sequence of float
            Increasing times, not negative.

        Returns
        -------
        Tensor (batch..., time, n, n)
            Vorticity at the given times, in the dtype and on the device of the flow.

        Raises
        ------
        InputError
            If the vorticity is not a finite field of shape (batch..., n, n), or the times do not increase.
        ConvergenceError
            If the flow overflows, or becomes so fast that it needs too many steps.
        """
        initial = self._initial(vorticity)
        instants = _instants(times)
        flat = initial.reshape(-1, *initial.shape[-2:])
        # pieces of a batch fit into the cache of a core; a GPU is fastest with the whole batch; results are the same
        piece = max(1, CACHE_VALUES // self.resolution**2) if self.device.type == "cpu" else len(flat)
        frames = torch.cat([self._evolve(part, instants) for part in flat.split(piece)])
        return frames.reshape(*initial.shape[:-2], len(instants), *initial.shape[-2:])

    def velocity(self, vorticity: Field) -> tuple[Tensor, Tensor]:
        """Return the components of the velocity for a vorticity, each of shape (batch..., n, n) and with zero mean.

        Raises
        ------
        InputError
            If the vorticity is not a finite field of shape (batch..., n, n).
        """
        initial = self._initial(vorticity)
        u, v = self._velocity(self._transform(initial.reshape(-1, *initial.shape[-2:])))
        return u.reshape(initial.shape), v.reshape(initial.shape)

    def _initial(self, vorticity: Field) -> Tensor:
        initial = convert(vorticity, "vorticity", self.dtype, self.device).detach()
        n = self.resolution
        if initial.ndim < 2 or tuple(initial.shape[-2:]) != (n, n) or initial.numel() == 0:
            raise InputError(
                f"vorticity has shape {tuple(initial.shape)}, which is not (batch..., {n}, {n}); give one value per "
                "point, and at least one sample."
            )
        require_finite(initial, "vorticity")
        return initial

    # --- transforms ---------------------------------------------------------------------------------------------------

    def _transform(self, values: Tensor) -> Tensor:
        """Return the Fourier coefficients (b, n, K + 1) of values (b, n, n), without wavenumbers above K."""
        return self._kept * self._raw_transform(values)

    def _raw_transform(self, values: Tensor) -> Tensor:
        along_y = torch.fft.rfft(values)[..., : self.max_wavenumber + 1]  # only the retained columns
        coefficients: Tensor = torch.fft.fft(along_y, dim=-2)
        return coefficients

    def _values(self, coefficients: Tensor) -> Tensor:
        along_x = torch.fft.ifft(coefficients, dim=-2, norm="forward")
        values: Tensor = torch.fft.irfft(along_x, n=self.resolution, norm="forward")
        return values

    def _velocity(self, flow: Tensor) -> Tensor:
        """Return the components of the velocity, shape (2, b, n, n)."""
        return self._values(self._to_velocity * flow)

    def _transport(self, velocity: Tensor) -> Tensor:
        """Return the Fourier coefficients of -u . grad w, computed from the products u v and v^2 - u^2."""
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
        """Advance every sample by `duration` with its own steps; samples that are done take steps of length zero."""
        left = [duration] * len(flow)
        while any(left):
            velocity = self._velocity(flow)
            speeds = (velocity[0].abs() + velocity[1].abs()).amax((1, 2)).tolist()
            steps = [self._step_size(*pair) for pair in zip(left, speeds)]
            flow = self._step(flow, self._transport(velocity), torch.tensor(steps, dtype=self.dtype))
            left = [rest - step for rest, step in zip(left, steps)]
        return flow

    def _step_size(self, left: float, speed: float) -> float:
        """Return the step size: the remaining time divided into equal steps, as long as the rules allow."""
        if not math.isfinite(speed):
            raise ConvergenceError(
                f"the flow overflowed in {str(self.dtype).removeprefix('torch.')}; start from a smaller vorticity, or "
                "use float64."
            )
        # viscosity damps short modes faster than they move: |R(i q)| exp(-q) < 1 for all q, so every step is stable
        moving = speed / (2.0 * math.pi * self.viscosity) if self.viscosity > 0.0 else math.inf
        turning = 2.0 * math.pi * max(min(self.max_wavenumber, moving), MIN_WAVENUMBER) * speed
        longest = min(self.cfl / turning if turning > 0.0 else math.inf, self._longest_step * self.cfl / CFL)
        if left > MAX_STEPS * longest:
            raise ConvergenceError(
                f"the flow reached speed {speed:.3g}, so it needs more than {MAX_STEPS:.0e} steps for the remaining "
                f"time {left:.3g}; choose a smaller vorticity or earlier times."
            )
        # the last step takes all the remaining time, so that round-off leaves no remainder
        return left / max(1, math.ceil(left / longest * (1.0 - 1e-9)))

    def _step(self, flow: Tensor, first: Tensor, steps: Tensor) -> Tensor:
        """Advance by one integrating-factor Runge-Kutta step; `first` is the transport term of `flow`."""
        h = steps.to(self.device)[:, None]
        decay = (torch.exp(0.5 * h * self._decay_x)[:, :, None] * torch.exp(0.5 * h * self._decay_y)[:, None, :]).to(
            flow.dtype
        )
        gain = self._forcing_gain(0.5 * h)
        h = h[:, :, None].to(flow.dtype)
        half = self._add_forcing(decay * flow, gain)  # after half a step, without transport
        first = decay * first
        second = self._transport(self._velocity(torch.addcmul(half, first, h, value=0.5)))
        third = self._transport(self._velocity(torch.addcmul(half, second, h, value=0.5)))
        last = self._add_forcing(decay * torch.addcmul(half, third, h), gain)
        fourth = self._transport(self._velocity(last))
        inner = first.add_(second.add_(third), alpha=2.0)
        flow = self._add_forcing(decay * torch.addcmul(half, inner, h, value=1.0 / 6.0), gain)
        return flow.addcmul_(fourth, h, value=1.0 / 6.0)

    def _forcing_gain(self, duration: Tensor) -> Tensor:
        """Return the integral of forcing times viscous decay over times (b, 1), for the forced modes (b, m)."""
        exponent = self._damping * duration
        damped = exponent > 0.0
        mean_decay = torch.where(damped, -torch.expm1(-exponent) / torch.where(damped, exponent, 1.0), 1.0)
        return self._forces * (duration * mean_decay)

    def _add_forcing(self, flow: Tensor, gain: Tensor) -> Tensor:
        flow.view(len(flow), -1)[:, self._forced] += gain
        return flow


# --- the published scheme ---------------------------------------------------------------------------------------------


def crank_nicolson_euler(flow: NavierStokes, vorticity: Field, duration: float, step: float = 1e-4) -> Tensor:
    """Evolve a vorticity by the first-order scheme of the published data sets, for comparison.

    The scheme is Crank-Nicolson for viscosity and explicit Euler for transport (in the form u . grad w) and forcing, as
    in `ns_2d.py` of Li et al., "Fourier neural operator for parametric partial differential equations", ICLR 2021, but
    with real transforms. Its step 1e-4 means 10,000 steps per unit of time.

    Parameters
    ----------
    flow : NavierStokes
        Resolution, viscosity, forcing, dtype and device.
    vorticity : array (batch..., n, n)
        Initial vorticity; wavenumbers above K are removed, as in `NavierStokes.evolve`.
    duration : float
        Time to evolve, a multiple of the step up to round-off.
    step : float
        Time step.

    Returns
    -------
    Tensor (batch..., n, n)
        The vorticity at the end.

    Raises
    ------
    InputError
        If the vorticity is not a finite field of shape (batch..., n, n), a time is not positive, or the duration is not
        a multiple of the step.
    """
    require_instance(flow, "the flow", NavierStokes, "an sb.simulation.NavierStokes")
    require_number(duration, "duration", positive=True)
    require_number(step, "step", positive=True)
    steps = round(duration / step)
    if abs(steps * step - duration) > MULTIPLE_TOL * duration:
        raise InputError(
            f"duration is {duration:g}, which is {duration / step:g} steps of {step:g}; give a multiple of step."
        )
    w = flow._initial(vorticity)
    n = flow.resolution
    k = torch.fft.fftfreq(n, 1.0 / n, dtype=flow.dtype, device=flow.device)
    kx, ky = k[:, None], k[: n // 2 + 1].abs()
    laplacian = 4.0 * math.pi**2 * (kx**2 + ky**2)
    kept = ((kx.abs() <= flow.max_wavenumber) & (ky <= flow.max_wavenumber)).to(flow.dtype)
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
        raise InputError(f"resolution is {resolution!r}; give an even integer that is at least 8.")


def _instants(times: Sequence[float] | Tensor) -> list[float]:
    instants = convert(times, "times", torch.float64, torch.device("cpu"))
    if instants.ndim != 1 or len(instants) == 0:
        raise InputError(f"times has shape {tuple(instants.shape)}; give a list of at least one time.")
    require_finite(instants, "times")
    if float(instants[0]) < 0.0:
        raise InputError(
            f"times starts at {float(instants[0]):g}, but the initial vorticity is given at time 0; use times >= 0."
        )
    back = torch.nonzero(instants.diff() <= 0.0).flatten()
    if len(back):
        i = int(back[0])
        raise InputError(
            f"times does not increase from {float(instants[i]):g} to {float(instants[i + 1]):g} "
            f"(entries {i} and {i + 1}); sort the times and remove duplicates."
        )
    return [float(instant) for instant in instants]


def _forcing_field(forcing: Field | None, n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    if forcing is None:
        return torch.zeros(n, n, dtype=dtype, device=device)
    if callable(forcing) and not hasattr(forcing, "dtype"):
        forcing = _sampled(forcing, n)
    field = convert(forcing, "forcing", dtype, device).detach()
    if tuple(field.shape) != (n, n):
        raise InputError(f"forcing has shape {tuple(field.shape)}; give shape ({n}, {n}), one value per point.")
    require_finite(field, "forcing")
    return field


def _sampled(function: Callable[..., Any], n: int) -> Any:
    points = torch.arange(n, dtype=torch.float64) / n
    return function(*torch.meshgrid(points, points, indexing="ij"))
