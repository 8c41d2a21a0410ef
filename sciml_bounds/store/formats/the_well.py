"""Export a data set to a folder in the format of The Well.

The folder contains `data/{train,valid,test}/RECIPE.hdf5` and `stats.yaml`. Each file passes the checker of The Well,
loads in `the_well.data.WellDataset`, and is a netCDF-4 file that xarray opens too. A steady problem has one frame: load
it with `n_steps_input=0, n_steps_output=1`; its inputs are the constant fields, its targets the output fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from sciml_bounds.errors import InputError
from sciml_bounds.store.datasets.dataset_source import open_source
from sciml_bounds.store.formats.the_well_check import check_the_well
from sciml_bounds.store.formats.the_well_layout import WellLayout, lay_out, make_file, put_sample
from sciml_bounds.store.formats.the_well_stats import FieldStatistics, format_statistics
from sciml_bounds.store.reading.readers import one_sentence
from sciml_bounds.store.safety.folders import check_new_folder, making_folder
from sciml_bounds.store.safety.hdf5_output import Hdf5Output

__all__ = ["export_the_well"]

#: Names of our splits in The Well, in the order of `SPLITS`.
FOLDERS = ("train", "valid", "test")


def export_the_well(
    path: Path | str, folder: Path | str, *, callback: Callable[[int, int], None] | None = None
) -> Path:
    """Export a data set to the layout of The Well; the folder is written atomically.

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
        If the file is not a data set, has no training samples, has fields that The Well cannot represent, or contains
        NaN or infinity, or if the folder already exists or cannot be written.

    Notes
    -----
    The Well has one grid per file. If a data set has fields on cells and at nodes, the nodal fields are averaged to the
    cells, which for a bilinear solution is exactly its value at the centres; the original nodal values are kept in the
    group `sciml_bounds`, together with the certified label errors. Fields are float32. The Well has only the boundary
    conditions WALL, OPEN and PERIODIC: a Dirichlet or Neumann condition becomes a WALL, whose attribute `stated` has
    the original condition. Statistics are over the training samples; for steady fields the statistics of changes are
    those of the field itself. A split without samples has no folder.
    """
    target = check_new_folder(folder)
    source = open_source(path)
    with one_sentence(f"the data set {path}"):
        layout = lay_out(source)
        if not (source.splits == 0).any():
            raise InputError("it has no training samples for the statistics of The Well; export a whole data set.")
    with making_folder(target) as part:
        statistics = _write_files(part, layout, callback)
        (part / "stats.yaml").write_text(format_statistics(statistics))
        check_the_well(part)
    return target


def _write_files(
    part: Path, layout: WellLayout, callback: Callable[[int, int], None] | None
) -> Mapping[str, FieldStatistics]:
    source = layout.source
    statistics = {name: FieldStatistics() for name in source.fields}
    filled = [0] * len(FOLDERS)
    with ExitStack() as files:
        outputs = {split: _open_output(part, layout, split, files) for split in np.unique(source.splits).tolist()}
        walk = files.enter_context(closing(source.walk(tuple(source.header.variables))))
        for done, (sample, split, rows) in enumerate(walk, 1):
            with one_sentence(f"sample {sample} of the data set {source.path}"):
                fields = {name: layout.field(name, rows[name]) for name in source.fields}
            with outputs[split].step() as file:
                put_sample(file, layout, filled[split], sample, fields, rows)
            filled[split] += 1
            for name in source.fields if split == 0 else ():
                statistics[name].add(fields[name], frames=layout.varies_in_time(name))
            if callback is not None:
                callback(done, len(source.samples))
        for output in outputs.values():
            output.finish()
    return statistics


def _open_output(part: Path, layout: WellLayout, split: int, files: ExitStack) -> Hdf5Output:
    place = part / "data" / FOLDERS[split] / f"{layout.source.header.recipe}.hdf5"
    place.parent.mkdir(parents=True, exist_ok=True)
    output = files.enter_context(closing(Hdf5Output(place)))
    with output.step() as file:
        make_file(file, layout, int((layout.source.splits == split).sum()))
    return output
