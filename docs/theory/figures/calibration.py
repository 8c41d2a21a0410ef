"""Share of new units that a calibrated level covers, over many calibration sets, with and without exchangeability."""

from pathlib import Path

import matplotlib.pyplot as plt
import torch

import sciml_bounds as sb

plt.style.use(Path(__file__).with_name("pictures.mplstyle"))
COVERAGE, SETS = 0.9, 400
generator = torch.Generator().manual_seed(0)


def scores(count, shift=1.0):
    """Log-normal errors, larger by a factor."""
    return shift * torch.randn(count, generator=generator, dtype=torch.float64).exp()


figure, (left, right) = plt.subplots(1, 2, sharey=True)
units = (10, 20, 50, 100, 300, 1000)
print("units  mean coverage, 5 % and 95 % of the sets")
shares = []
for count in units:
    covered = torch.stack(
        [sb.calibrate(scores(count), coverage=COVERAGE).coverage_on(scores(2000)) for _ in range(SETS)]
    )
    shares.append((float(covered.mean()), *covered.quantile(torch.tensor([0.05, 0.95]).double()).tolist()))
    print(f"{count:5d}  {shares[-1][0]:.3f}  {shares[-1][1]:.3f}  {shares[-1][2]:.3f}")
mean, low, high = zip(*shares)
left.plot(units, mean, "o-", label="mean over calibration sets")
left.fill_between(units, low, high, alpha=0.3, label="5 % to 95 % of the sets")
left.set(xscale="log", xlabel="units in the calibration set", ylabel="share of new units covered", title="exchangeable")
left.legend(loc="lower right")

shifts = (1.0, 1.2, 1.5, 2.0, 3.0)
print("new units larger by  mean coverage")
means = []
for shift in shifts:
    covered = [sb.calibrate(scores(300), coverage=COVERAGE).coverage_on(scores(2000, shift)) for _ in range(SETS)]
    means.append(float(torch.stack(covered).mean()))
    print(f"{shift:19.1f}  {means[-1]:.3f}")
right.plot(shifts, means, "o-")
right.set(xlabel="errors of new units larger by a factor", title="drawn otherwise than the calibration set")
for panel in (left, right):
    panel.axhline(COVERAGE, color="black", linewidth=0.8)
figure.savefig(Path(__file__).with_suffix(".png"))
