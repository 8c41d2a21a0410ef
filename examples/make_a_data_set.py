"""Generate Darcy problems with certified labels, and open the file with xarray alone, without this package.

The relative energy error of each label is below the guaranteed bound that is stored with it, here 12 % at most.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import xarray

import sciml_bounds as sb


def main() -> tuple[dict[str, float], plt.Figure]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "darcy.nc"
        sb.make_dataset("darcy-rough", path, samples=4, seed=0, resolution=64)
        data = xarray.load_dataset(path, engine="h5netcdf")

    figure, panels = plt.subplots(2, 4, figsize=(10, 5), layout="constrained")
    for sample, (above, below) in enumerate(panels.T):
        above.imshow(data.coefficient[sample].T, origin="lower")
        below.imshow(data.solution[sample].T, origin="lower")
        above.set_title(f"label error <= {float(data.label_error[sample]):.1%}")
        for axes in (above, below):
            axes.set(xticks=[], yticks=[])
    return {"samples": data.sizes["sample"], "largest label error": float(data.label_error.max()),
            "largest value on the boundary": float(abs(data.solution[:, 0]).max())}, figure  # fmt: skip


if __name__ == "__main__":
    numbers, figure = main()
    print(*(f"{name}: {value:.5g}" for name, value in numbers.items()), sep="\n")
    figure.savefig("make_a_data_set.png")
