"""Flow on the torus: exact solutions, balances, the order in time, and the scheme of the published data."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from refusals import refused

from sciml_bounds.errors import ConvergenceError
from sciml_bounds.evolution.navier_stokes import CFL, NavierStokes, crank_nicolson_euler, diagonal_forcing


def points(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = 2.0 * math.pi * torch.arange(n, dtype=torch.float64) / n
    return torch.meshgrid(x, x, indexing="ij")


def smooth_vorticity(n: int, *batch: int, seed: int = 0) -> torch.Tensor:
    """Draw a field of waves up to 4, the same function at every n, of size about 2."""
    generator = torch.Generator().manual_seed(seed)
    x, y = points(n)
    field = torch.zeros(*batch, n, n, dtype=torch.float64)
    for a in range(-4, 5):
        for b in range(5):
            if (a, b) != (0, 0):
                size, phase = torch.randn(2, *batch, generator=generator, dtype=torch.float64)[..., None, None]
                field += size / (a**2 + b**2) * torch.cos(a * x + b * y + 6.0 * phase)
    return field


def error(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


# --- exact solutions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("waves", [(1, 1), (2, 2), (3, 4)], ids=str)
def test_a_vortex_of_taylor_and_green_decays_exactly(waves):
    """The transport of a single eigenvalue of the Laplacian vanishes, so round-off is the only error."""
    x, y = points(32)
    a, b = waves
    vortex = 5.0 * torch.cos(a * x) * torch.cos(b * y)
    later = NavierStokes(32, 0.01).evolve(vortex, [0.3, 1.0])
    for time, frame in zip((0.3, 1.0), later):
        decay = math.exp(-4.0 * math.pi**2 * (a**2 + b**2) * 0.01 * time)
        assert torch.allclose(frame, decay * vortex, rtol=0, atol=1e-12)


@pytest.mark.parametrize("viscosity", [0.0, 1e-5, 1e-1])
def test_a_forced_shear_flow_is_exact_with_any_step(viscosity):
    """Forcing and viscosity are integrated exactly: (1 - exp(-lambda t)) / lambda f does not transport itself."""
    flow = NavierStokes(16, viscosity, diagonal_forcing)
    (later,) = flow.evolve(torch.zeros(16, 16, dtype=torch.float64), [3.0])
    rate = 8.0 * math.pi**2 * viscosity
    growth = -math.expm1(-3.0 * rate) / rate if rate else 3.0
    assert torch.allclose(later, growth * flow.forcing, rtol=0, atol=1e-13)


def test_a_shear_without_viscosity_is_steady():
    """Any w(x) moves along its own lines of equal vorticity."""
    x, _ = points(48)
    steady = 3.0 * torch.sin(x) + torch.cos(5 * x)
    (later,) = NavierStokes(48, 0.0).evolve(steady, [2.0])
    assert torch.allclose(later, steady, rtol=0, atol=1e-12)


def test_the_velocity_has_the_vorticity_and_no_divergence():
    n = 32
    flow = NavierStokes(n, 0.0)
    w = smooth_vorticity(n)
    u, v = (torch.fft.fft2(part) for part in flow.velocity(w))
    k = 2.0 * math.pi * torch.fft.fftfreq(n, 1.0 / n, dtype=torch.float64)
    curl = torch.fft.ifft2(1j * k[:, None] * v - 1j * k * u).real
    divergence = torch.fft.ifft2(1j * k[:, None] * u + 1j * k * v).real
    assert torch.allclose(curl, w, rtol=0, atol=1e-12)
    assert float(divergence.abs().max()) < 1e-12


# --- the order, and the published scheme ------------------------------------------------------------------------------


def test_the_error_falls_with_the_fourth_power_of_the_step():
    w = 10.0 * smooth_vorticity(24)
    reference, *tries = (
        NavierStokes(24, 1e-3, diagonal_forcing, cfl=cfl).evolve(w, [0.1])[0] for cfl in (0.1, 0.5, 1.0)
    )
    fine, coarse = (error(frame, reference) for frame in tries)
    # the step of each time is a fraction of what is left, so its ratio is 2 up to rounding
    assert 3.6 < math.log2(coarse / fine) < 4.6


def test_a_forced_flow_from_rest_is_exact_to_fourth_order_too():
    """At zero velocity the forcing determines the step, which scales with cfl as well."""
    x, y = points(24)
    forcing = torch.cos(x) * torch.cos(2 * y) + torch.sin(y)
    rest = torch.zeros_like(x)
    reference, *tries = (NavierStokes(24, 1e-3, forcing, cfl=cfl).evolve(rest, [0.5])[0] for cfl in (0.05, 0.3, 0.6))
    fine, coarse = (error(frame, reference) for frame in tries)
    assert 3.6 < math.log2(coarse / fine) < 4.6


def test_waves_that_viscosity_damps_do_not_shorten_the_steps():
    """Waves beyond 40 or so are damped faster than they move here; a rough flow stays exact all the same."""
    rough = 12.0 * torch.randn(160, 160, dtype=torch.float64)
    flow, careful = (NavierStokes(160, 1e-3, cfl=cfl) for cfl in (CFL, CFL / 8.0))
    speed = float(sum(part.abs() for part in flow.velocity(rough)).max())
    assert speed / (2.0 * math.pi * 1e-3) < 0.8 * flow.max_wavenumber
    assert error(flow.evolve(rough, [0.1])[0], careful.evolve(rough, [0.1])[0]) < 1e-3


def test_the_published_scheme_tends_to_the_same_flow_with_first_order():
    w = smooth_vorticity(32, 2)
    flow = NavierStokes(32, 1e-3, diagonal_forcing, cfl=0.5)
    exact = flow.evolve(w, [0.25])[:, 0]
    coarse, fine = (error(crank_nicolson_euler(flow, w, 0.25, step), exact) for step in (1 / 400, 1 / 800))
    assert fine < 1e-3
    assert 1.9 < coarse / fine < 2.1


def test_at_its_rule_of_steps_the_error_is_below_that_of_the_published_scheme():
    """The latter's error is of first order, so one tenth of it at step 1e-3 is that at 1e-4."""
    w = smooth_vorticity(32)
    flow, careful = (NavierStokes(32, 1e-4, diagonal_forcing, cfl=cfl) for cfl in (CFL, 0.2))
    exact = careful.evolve(w, [0.5])[0]
    published = error(crank_nicolson_euler(flow, w, 0.5, 1e-3), exact) / 10.0
    assert error(flow.evolve(w, [0.5])[0], exact) < published


def test_one_published_step_agrees_with_a_plain_numpy_one():
    """Complex transforms throughout, as it was published; K is the largest whole number below n / 3."""
    n, nu, dt = 16, 1e-2, 1e-2
    flow = NavierStokes(n, nu, diagonal_forcing)
    w = smooth_vorticity(n)
    k = np.fft.fftfreq(n, 1.0 / n)
    kx, ky = k[:, None], k[None, :]
    kept = (abs(kx) <= 5) & (abs(ky) <= 5)
    lap = 4.0 * np.pi**2 * (kx**2 + ky**2)
    what = np.fft.fft2(w.numpy()) * kept
    psi = what / np.where(lap == 0, 1.0, lap)
    u, v, wx, wy = (np.fft.ifft2(2j * np.pi * factor).real for factor in (ky * psi, -kx * psi, kx * what, ky * what))
    transport = kept * np.fft.fft2(u * wx + v * wy)
    right = (1.0 - 0.5 * dt * nu * lap) * what + dt * (np.fft.fft2(flow.forcing.numpy()) - transport)
    expected = np.fft.ifft2(right / (1.0 + 0.5 * dt * nu * lap)).real
    np.testing.assert_allclose(crank_nicolson_euler(flow, w, dt, dt).numpy(), expected, rtol=0, atol=1e-13)


# --- balances ---------------------------------------------------------------------------------------------------------


def test_the_mean_of_the_vorticity_never_changes():
    w = smooth_vorticity(32) + 0.7
    frames = NavierStokes(32, 1e-3, diagonal_forcing).evolve(w, [0.5, 1.0])
    assert torch.allclose(frames.mean((1, 2)), torch.full((2,), 0.7, dtype=torch.float64), rtol=0, atol=1e-14)


@pytest.mark.parametrize("n", [32, 24])  # 24 is a multiple of 3: aliases of the waves n / 3 fall on themselves
def test_without_viscosity_energy_and_enstrophy_are_conserved(n):
    """The semi-discrete flow conserves both exactly; Runge-Kutta loses the fifth power of the step."""
    w = torch.randn(n, n, dtype=torch.float64)

    def losses(cfl: float) -> tuple[float, float]:
        flow = NavierStokes(n, 0.0, cfl=cfl)
        before, after = flow.evolve(w, [0.0, 1.0])
        energy = [sum(float(part.square().sum()) for part in flow.velocity(frame)) for frame in (before, after)]
        enstrophy = [float(frame.square().sum()) for frame in (before, after)]
        return abs(energy[1] / energy[0] - 1.0), abs(enstrophy[1] / enstrophy[0] - 1.0)

    coarse, fine = losses(0.8), losses(0.2)
    assert max(coarse) < 1e-4
    assert max(fine) < 1e-7


def test_viscosity_takes_twice_the_palinstrophy_from_the_enstrophy():
    """d/dt |w|^2 = -2 nu |grad w|^2 without forcing; by Simpson's rule over a short time."""
    n, nu, t = 48, 1e-2, 0.02
    flow = NavierStokes(n, nu, cfl=0.2)
    frames = flow.evolve(smooth_vorticity(n), [0.0, t / 2, t])
    k = 2.0 * math.pi * torch.fft.fftfreq(n, 1.0 / n, dtype=torch.float64)
    spectra = torch.fft.fft2(frames).abs().square() / n**4
    enstrophy = spectra.sum((1, 2))
    palinstrophy = (spectra * (k[:, None] ** 2 + k**2)).sum((1, 2))
    taken = 2.0 * nu * t / 6.0 * (palinstrophy[0] + 4.0 * palinstrophy[1] + palinstrophy[2])
    assert float(enstrophy[0] - enstrophy[2]) == pytest.approx(float(taken), rel=1e-5)


# --- batches, devices, times ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [16, 96])  # at 96 the batch is cut into pieces
def test_a_sample_does_not_depend_on_its_batch(n):
    """Each sample has steps of its own, though the flows differ in speed by a factor of 30."""
    w = smooth_vorticity(n, 9) * torch.linspace(0.1, 3.0, 9, dtype=torch.float64)[:, None, None]
    flow = NavierStokes(n, 1e-3, diagonal_forcing)
    together = flow.evolve(w.reshape(3, 3, n, n), [0.02, 0.05])
    assert together.shape == (3, 3, 2, n, n)
    for i in range(9):
        assert torch.equal(together[i // 3, i % 3], flow.evolve(w[i], [0.02, 0.05]))


def test_time_zero_gives_the_initial_vorticity_without_the_waves_left_out():
    x, y = points(16)
    kept = torch.cos(5 * x + 2 * y)
    (first,) = NavierStokes(16, 1e-3).evolve(kept + torch.cos(6 * x), [0.0])
    assert torch.allclose(first, kept, rtol=0, atol=1e-14)


def test_stops_on_the_way_change_nothing_but_the_steps():
    w = smooth_vorticity(32)
    flow = NavierStokes(32, 1e-3, diagonal_forcing, cfl=0.4)
    direct, on_the_way = flow.evolve(w, [1.0])[-1], flow.evolve(w, [0.13, 0.4, 0.41, 1.0])[-1]
    assert error(on_the_way, direct) < 1e-7


def test_a_turned_flow_evolves_as_the_turned_one():
    """Exchanging the axes turns vorticity into its negative."""
    w = smooth_vorticity(32)
    flow = NavierStokes(32, 1e-3, cfl=0.4)
    turned = -flow.evolve(-w.T.contiguous(), [0.5])[0].T
    assert torch.allclose(turned, flow.evolve(w, [0.5])[0], rtol=0, atol=1e-11)


def test_single_precision_gives_single_precision():
    w = smooth_vorticity(32)
    exact = NavierStokes(32, 1e-3, diagonal_forcing).evolve(w, [0.5])
    single = NavierStokes(32, 1e-3, diagonal_forcing, dtype=torch.float32).evolve(w, [0.5])
    assert single.dtype == torch.float32
    assert error(single.double(), exact) < 1e-4


def test_every_device_gives_the_same_flow(device):
    w = smooth_vorticity(64, 3)
    here = NavierStokes(64, 1e-3, diagonal_forcing).evolve(w, [0.5])
    there = NavierStokes(64, 1e-3, diagonal_forcing, device=device).evolve(w, [0.5])
    assert there.device == device
    assert torch.allclose(there.cpu(), here, rtol=0, atol=1e-11)


def test_forcing_is_a_function_or_values():
    x, y = points(16)
    values = 0.1 * (torch.sin(x + y) + torch.cos(x + y))
    by_function, by_values = (NavierStokes(16, 1e-3, forcing).forcing for forcing in (diagonal_forcing, values))
    assert torch.allclose(by_function, values, rtol=0, atol=1e-15)
    assert torch.equal(by_values, values)


# --- bad input --------------------------------------------------------------------------------------------------------


def test_a_grid_that_no_memory_holds_is_refused():
    refused("400000 x points GiB memory", NavierStokes, 400_000, 1e-3)


@pytest.mark.parametrize("resolution", [31, 6, 32.0, True, None], ids=str)
def test_a_resolution_is_an_even_integer(resolution):
    refused(f"resolution {resolution} integer 8", NavierStokes, resolution, 1e-3)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"viscosity": -1e-3}, "viscosity -0.001 negative"),
        ({"viscosity": math.nan}, "viscosity nan"),
        ({"viscosity": 1e-3, "cfl": 0.0}, "cfl 0.0 number positive"),
        ({"viscosity": 1e-3, "dtype": torch.float16}, "dtype torch.float16 torch.float32 torch.float64"),
        ({"viscosity": 1e-3, "forcing": np.zeros((16, 8))}, "forcing shape (16, 8) (16, 16)"),
        ({"viscosity": 1e-3, "forcing": np.full((16, 16), np.inf)}, "forcing 256 entries NaN infinite"),
        ({"viscosity": 1e-3, "device": "gpu"}, "device='gpu' device 'cpu' 'cuda'"),
    ],
)
def test_a_flow_that_cannot_be_is_refused(arguments, sentence):
    refused(sentence, NavierStokes, 16, **arguments)


@pytest.mark.parametrize(
    ("vorticity", "sentence"),
    [
        (np.zeros((16, 12)), "vorticity shape (16, 12) batch 16 16)"),
        (np.zeros(16), "vorticity shape (16,)"),
        (np.zeros((0, 16, 16)), "sample"),
        (np.pad(np.full((1, 1), np.nan), ((3, 12), (2, 13))), "vorticity 1 index (3, 2)"),
        (np.zeros((16, 16), dtype=int), "vorticity dtype int64 float32 float64"),
    ],
)
def test_a_vorticity_that_does_not_fit_is_refused(vorticity, sentence):
    refused(sentence, lambda: NavierStokes(16, 1e-3).evolve(vorticity, [1.0]))


@pytest.mark.parametrize(
    ("times", "sentence"),
    [
        ([], "list time"),
        ([[1.0]], "times shape (1, 1)"),
        ([-1.0, 1.0], "times -1 time 0"),
        ([1.0, 2.0, 2.0], "times 2 entries 1 2)"),
        ([1.0, math.nan], "times 1 NaN infinite index"),
    ],
)
def test_times_increase_from_zero(times, sentence):
    refused(sentence, lambda: NavierStokes(16, 1e-3).evolve(np.zeros((16, 16)), times))


def test_a_flow_beyond_the_numbers_is_an_error_not_an_endless_loop():
    x, y = points(16)
    with pytest.raises(ConvergenceError, match=r"overflow.*float32"):
        NavierStokes(16, 1e-3, dtype=torch.float32).evolve(1e38 * torch.cos(x + y) + 1e38 * torch.cos(x), [1e-37])
    with pytest.raises(ConvergenceError, match=r"speed .*e\+1\d.*1e\+08 steps"):
        NavierStokes(16, 1e-3).evolve(1e15 * torch.cos(x + y), [1.0])


@pytest.mark.parametrize(
    ("duration", "step", "sentence"),
    [
        (1.5e-4, 1e-4, "duration 0.00015 1.5 steps 0.0001 multiple"),
        (1e-4, 1e-3, "duration 0.0001 0.1 steps 0.001"),
        ("1", 1e-4, "duration '1' number positive"),
        (1.0, 0.0, "step 0.0 number positive"),
    ],
)
def test_the_published_scheme_takes_whole_steps(duration, step, sentence):
    refused(sentence, lambda: crank_nicolson_euler(NavierStokes(16, 1e-3), np.zeros((16, 16)), duration, step))


def test_the_published_scheme_is_for_a_flow():
    refused("flow float NavierStokes", lambda: crank_nicolson_euler(1e-3, np.zeros((16, 16)), 1.0))
