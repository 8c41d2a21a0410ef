"""Root mean square error of sampled networks over ten draws, beside the bound M / sqrt k, in 5 and in 50 dimensions."""

from pathlib import Path

import matplotlib.pyplot as plt
import torch

import sciml_bounds as sb

plt.style.use(Path(__file__).with_name("pictures.mplstyle"))
WIDTHS, DRAWS, POINTS = (16, 64, 256), 10, 1000

figure, panels = plt.subplots(1, 2, sharey=True)
print("dimension  activation  width  bound    root mean square error")
for panel, dimension in zip(panels, (5, 50)):
    generator = torch.Generator().manual_seed(dimension)
    modes = torch.zeros(40, dimension, dtype=torch.int64)
    for row in modes:
        row[torch.randperm(dimension, generator=generator)[:2]] = torch.randint(1, 3, (2,), generator=generator)
    f = sb.barron.BarronFunction.cosine(modes, torch.full((40,), 1 / 40))
    x = torch.rand(POINTS, dimension, generator=generator, dtype=torch.float64)
    values = f(x)
    for activation in ("cosine", "step", "relu"):
        bounds, errors = [], []
        for width in WIDTHS:
            squares = []
            for seed in range(DRAWS):
                drawn = sb.barron.sample_network(f, width, activation=activation, seed=seed)
                with torch.no_grad():
                    squares.append(float((drawn.network(x) - values).square().mean()))
            bounds.append(drawn.error_bound)
            errors.append((sum(squares) / DRAWS) ** 0.5)
            print(f"{dimension:9d}  {activation:10s}  {width:5d}  {bounds[-1]:.4f}  {errors[-1]:.4f}")
        (line,) = panel.plot(WIDTHS, errors, "o", label=f"{activation}, drawn")
        panel.plot(WIDTHS, bounds, "-", color=line.get_color(), label=f"{activation}, bound")
    panel.set(xscale="log", yscale="log", xlabel="width k", title=f"{dimension} dimensions")
    panel.set_xticks(WIDTHS, labels=WIDTHS)
    panel.minorticks_off()
panels[0].set(ylim=(None, 20))
panels[0].set_ylabel("L2 error")
panels[0].legend(ncols=2, fontsize=7)
figure.savefig(Path(__file__).with_suffix(".png"))
