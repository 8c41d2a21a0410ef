"""Export a data set to a folder of VTK files for ParaView."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciml_bounds.store.datasets.dataset_source import DatasetSource, open_source
from sciml_bounds.store.datasets.vtk_series import write_collection, write_image, write_series
from sciml_bounds.store.reading.readers import one_sentence
from sciml_bounds.store.safety.folders import check_new_folder, making_folder
from sciml_bounds.vtk_images import make_image, require_pyvista

if TYPE_CHECKING:
    import pyvista

__all__ = ["export_vtk"]


def export_vtk(path: Path | str, folder: Path | str, *, callback: Callable[[int, int], None] | None = None) -> Path:
    """Export a data set to a folder of VTK files for ParaView; the folder is written atomically.

    A steady sample is one image, `sample_0000.vti`; `samples.pvd` shows the samples one after the other. A sample in
    time is `sample_0000.pvd` with one image per time.

    Parameters
    ----------
    path : Path or str
        Data set file of this package.
    folder : Path or str
        Folder to create.
    callback : callable, optional
        Called after each sample with the number of finished samples and the number of all samples.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        If the file is not a data set, its fields do not fit into images, or the folder exists or cannot be written.
    MissingExtraError
        If pyvista is not installed.
    """
    require_pyvista()
    target = check_new_folder(folder)
    source = open_source(path)
    names = tuple(source.header.variables)
    entries = []
    with making_folder(target) as part, closing(source.walk(names)) as walk:
        for done, (sample, _, rows) in enumerate(walk, 1):
            with one_sentence(f"sample {sample} of the data set {path}"):
                entries.append((float(sample), _export_sample(part, source, sample, rows)))
            if callback is not None:
                callback(done, len(source.samples))
        if all(name.endswith(".vti") for _, name in entries):
            write_collection(part / "samples.pvd", entries)
    return target


def _export_sample(part: Path, source: DatasetSource, sample: int, rows: dict[str, Any]) -> str:
    """Write one sample, and return the name of its file."""
    fields = {name: (source.dims(name), rows[name]) for name in rows}
    spatial = [dim for dims, _ in fields.values() for dim in dims if dim != "time"]
    sizes = {dim: source.header.lengths[dim] for dim in spatial}
    positions = {dim: source.positions(dim) for dim in sizes if dim in source.header.coordinates}
    name = f"sample_{sample:04d}"
    if all("time" not in dims for dims, _ in fields.values()):
        write_image(part / f"{name}.vti", make_image(sizes, positions, fields))
        return f"{name}.vti"

    def frame(number: int) -> pyvista.ImageData:
        now = {name: (_without_time(dims), _at_time(dims, row, number)) for name, (dims, row) in fields.items()}
        return make_image(sizes, positions, now)

    write_series(part / f"{name}.pvd", source.positions("time").astype(float).tolist(), frame)
    return f"{name}.pvd"


def _without_time(dims: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dim for dim in dims if dim != "time")


def _at_time(dims: tuple[str, ...], row: Any, number: int) -> Any:
    return row.take(number, axis=dims.index("time")) if "time" in dims else row
