"""A hanging chain of 20 links: minimise the height of its joints under 20 equality constraints, the link lengths.

In equilibrium the horizontal tension is constant, so that the slope grows by the same amount from link to link.
"""

import matplotlib.pyplot as plt
import torch

import sciml_bounds as sb

LINKS, LENGTH = 20, 1.5
ENDS = torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64)


def chain(unknowns: torch.Tensor) -> torch.Tensor:
    return torch.cat([ENDS[:1], unknowns.view(-1, 2), ENDS[1:]])


def main() -> tuple[dict[str, float], plt.Figure]:
    x = torch.linspace(0, 1, LINKS + 1, dtype=torch.float64)[1:-1]
    start = torch.stack([x, -x * (1 - x)], 1).flatten()
    result = sb.minimize(
        lambda z: chain(z)[:, 1].sum() / LINKS,
        start,
        constraints=lambda z: chain(z).diff(dim=0).square().sum(1) * (LINKS / LENGTH) ** 2 - 1,
    )
    joints = chain(result.x)
    slopes = joints.diff(dim=0)[:, 1] / joints.diff(dim=0)[:, 0]

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.plot(*chain(start).T, ".:", label="start")
    axes.plot(*joints.T, "o-", ms=4, label=f"minimum, {result.nit} iterations")
    axes.set_aspect("equal")
    axes.legend(frameon=False)
    return {"change of slope per link": float(slopes.diff().mean()), "spread": float(slopes.diff().std()),
            "constraint violation": float(result.constraint_violation)}, figure  # fmt: skip


if __name__ == "__main__":
    numbers, figure = main()
    print(*(f"{name}: {value:.5g}" for name, value in numbers.items()), sep="\n")
    figure.savefig("hanging_chain.png")
