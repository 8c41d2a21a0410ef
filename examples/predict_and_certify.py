"""A neural operator that ships with the package predicts u for a new medium, and the prediction gets a bound.

`certificate.mesh` encloses the error of the grid, `certificate.model` that of the network on this grid.
"""

import math

import matplotlib.pyplot as plt
import numpy as np
import scipy.fft

import sciml_bounds as sb


def main() -> tuple[dict[str, float], plt.Figure]:
    k = math.pi * np.arange(64)  # the random field of the data set darcy-rough: covariance (-Laplace + 25)^-2
    noise = np.random.default_rng(5).standard_normal((64, 64))
    field = scipy.fft.idctn(noise / (25 + k[:, None] ** 2 + k**2), norm="ortho")
    a = np.where(field > 0, 12.0, 2.0)
    problem = sb.Diffusion(sb.Grid((64, 64)), coefficient=a, source=1.0)
    prediction = sb.MgNO.load("darcy-rough").predict(problem)
    certificate = sb.certify(problem, prediction)

    fields = {"coefficient": a, "prediction": certificate.values, "error indicators": certificate.indicators}
    figure, panels = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    for axes, (title, field) in zip(panels, fields.items()):
        figure.colorbar(axes.imshow(field.T, origin="lower", extent=(0, 1, 0, 1)), ax=axes, shrink=0.85)
        axes.set_title(title)
    return {"relative error, at most": float(certificate.relative_upper), "lower": float(certificate.lower),
            "upper": float(certificate.upper), "of the mesh, at most": float(certificate.mesh.upper),
            "of the network, at least": float(certificate.model.lower)}, figure  # fmt: skip


if __name__ == "__main__":
    numbers, figure = main()
    print(*(f"{name}: {value:.5g}" for name, value in numbers.items()), sep="\n")
    figure.savefig("predict_and_certify.png")
