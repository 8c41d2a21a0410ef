"""Which source z brings u close to a target? Minimise ||u - target||^2 / 2 + w ||z||^2 / 2 where -Laplace u = z.

The cheaper the source z, the closer u gets; the number of conjugate-gradient steps hardly changes.
"""

import matplotlib.pyplot as plt
import torch

import sciml_bounds as sb


def main() -> tuple[dict[str, float], plt.Figure]:
    def target(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return ((x - 0.5).abs().maximum((y - 0.5).abs()) <= 0.25).double()

    weights, steps, distances = [1e-2, 1e-4, 1e-6], [], []
    figure, panels = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    for axes, weight in zip(panels, weights):
        control = sb.control.DistributedControl(sb.Diffusion(sb.Grid((64, 64))), target, weight=weight)
        result = control.minimize()
        state, source = control.fields(result.x)
        steps.append(sum(step.inner_steps for step in result.history))
        distances.append(2 * result.fun - weight * float((source**2).sum()) / 64**2)  # ||u - target||^2
        figure.colorbar(axes.imshow(state.T, origin="lower", extent=(0, 1, 0, 1)), ax=axes, shrink=0.85)
        axes.set_title(f"state, w = {weight:g}")
    return {"largest number of steps": max(steps), "smallest number of steps": min(steps)} | {
        f"||u - target||, w = {weight:g}": distance**0.5 for weight, distance in zip(weights, distances)
    }, figure


if __name__ == "__main__":
    numbers, figure = main()
    print(*(f"{name}: {value:.5g}" for name, value in numbers.items()), sep="\n")
    figure.savefig("optimal_control.png")
