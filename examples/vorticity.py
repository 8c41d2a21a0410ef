"""Two-dimensional turbulence on the torus: vortices merge, and the kinetic energy E obeys dE/dt = -nu int w^2."""

import matplotlib.pyplot as plt
import torch

import sciml_bounds as sb


def main() -> tuple[dict[str, float], plt.Figure]:
    n, nu = 128, 1e-3
    k = torch.fft.fftfreq(n, 1 / n, dtype=torch.float64)
    size = torch.hypot(k[:, None], k)
    noise = torch.randn(n, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start = torch.fft.ifft2(torch.fft.fft2(noise) * ((size > 3) & (size < 8))).real
    start *= 10 / start.std()
    flow = sb.simulation.NavierStokes(n, viscosity=nu)
    times = torch.linspace(0, 1, 51, dtype=torch.float64)
    frames = torch.cat([start[None], flow.evolve(start, times[1:])])
    energies = torch.stack([sum((part**2).mean() for part in flow.velocity(w)) / 2 for w in frames])
    lost = nu * torch.trapezoid((frames**2).mean((1, 2)), times)

    figure, panels = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    for axes, index in zip(panels, (0, 10, 50)):
        axes.imshow(frames[index].T, origin="lower", extent=(0, 1, 0, 1), cmap="RdBu_r")
        axes.set_title(f"vorticity at t = {times[index]:g}")
    return {"energy lost": float(energies[0] - energies[-1]), "nu x integral of w^2": float(lost),
            "share of the energy": float(1 - energies[-1] / energies[0])}, figure  # fmt: skip


if __name__ == "__main__":
    numbers, figure = main()
    print(*(f"{name}: {value:.5g}" for name, value in numbers.items()), sep="\n")
    figure.savefig("vorticity.png")
