"""Export a data set to the folder and the files of The Well.

The folder is `data/{train,valid,test}/RECIPE.hdf5` and `stats.yaml`. Each file passes the checker of The Well, loads in
`the_well.data.WellDataset`, and is a netCDF-4 file that xarray opens too. A steady problem has one frame: it loads with
`n_steps_input=0, n_steps_output=1`, its inputs are the constant fields, and its targets the output fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sciml_bounds.errors import InputError
from sciml_bounds.store.contents import Array
from sciml_bounds.store.dataset_header import DatasetHeader, read_header
from sciml_bounds.store.folders import check_new_folder, making_folder, require_space
from sciml_bounds.store.readers import one_sentence
from sciml_bounds.store.the_well_check import check_the_well
from sciml_bounds.store.the_well_layout import WellLayout, lay_out, make_file, put_sample
from sciml_bounds.store.the_well_stats import FieldStatistics, format_statistics

if TYPE_CHECKING:
    import h5py

__all__ = ["export_the_well"]

#: What The Well calls our splits, in the order of `SPLITS`.
FOLDERS = ("train", "valid", "test")


def export_the_well(
    path: Path | str, folder: Path | str, *, callback: Callable[[int, int], None] | None = None
) -> Path:
    """Export a data set to the layout of The Well; the folder appears whole or not at all.

    Parameters
    ----------
    path
        A data-set file of this package.
    folder
        The folder to be made.
    callback
        Told after each sample how many are done, and how many there are.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        If the file is no data set, has no training samples or fields that The Well has no place for, holds numbers that
        are not finite, or the folder exists already or cannot be written.

    Notes
    -----
    The Well has one grid a file. Fields at nodes beside fields on cells are averaged to the cells, which for a bilinear
    solution is its value at their centres, exactly; they are kept as they were in the group `sciml_bounds`, with the
    certified label errors. The fields are float32. The Well knows the boundary conditions WALL, OPEN and PERIODIC only:
    a Dirichlet or Neumann condition is a WALL, and its attribute `stated` says what the data set says. The statistics are
    those of the training samples; where nothing varies in time, those of a change are those of the field itself.
    """
    target = check_new_folder(folder)
    header = read_header(path)
    with one_sentence(f"the data set {path}"):
        layout = lay_out(header)
        if not (header.splits == 0).any():
            raise InputError(
                "it has no training sample, so The Well's statistics cannot be computed; export all shards."
            )
    require_space(target.parent, _largest_size(header))
    with making_folder(target) as part:
        statistics = _write_files(part, layout, callback)
        (part / "stats.yaml").write_text(format_statistics(statistics))
        check_the_well(part)
    return target


def _largest_size(header: DatasetHeader) -> int:
    """Count the bytes of all that is written, as if nothing could be compressed."""
    count = len(header.samples)
    numbers = sum(int(np.prod(header.shape(name), dtype=np.int64)) * 12 for name in header.variables)
    return count * (numbers + 64) + 2**20


def _write_files(
    part: Path, layout: WellLayout, callback: Callable[[int, int], None] | None
) -> Mapping[str, FieldStatistics]:
    header = layout.header
    statistics = {name: FieldStatistics() for name in header.fields}
    filled = [0, 0, 0]
    with ExitStack() as files:
        outputs = {split: _open_output(part, layout, split, files) for split in np.unique(header.splits).tolist()}
        for done, (sample, split, rows) in enumerate(_walk(header, files)):
            with one_sentence(f"sample {sample} of the data set {header.path}"):
                put_sample(outputs[split], layout, filled[split], sample, rows)
                for name in header.fields if split == 0 else ():
                    statistics[name].add(layout.field(name, rows[name]), frames=layout.varies_in_time(name))
            filled[split] += 1
            if callback is not None:
                callback(done + 1, len(header.samples))
    return statistics


def _open_output(part: Path, layout: WellLayout, split: int, files: ExitStack) -> h5py.File:
    import h5py

    place = part / "data" / FOLDERS[split] / f"{layout.header.recipe}.hdf5"
    place.parent.mkdir(parents=True, exist_ok=True)
    file = files.enter_context(h5py.File(place, "w", track_order=True))
    make_file(file, layout, int((layout.header.splits == split).sum()))
    return file


def _walk(header: DatasetHeader, files: ExitStack) -> Iterator[tuple[int, int, dict[str, Array]]]:
    """Give index, split and variables of one sample after the other; each variable has a stream of its own."""
    streams = {name: files.enter_context(closing(header.stream(name))) for name in header.variables}
    for sample, split in zip(header.samples.tolist(), header.splits.tolist()):
        yield sample, split, {name: next(stream) for name, stream in streams.items()}
