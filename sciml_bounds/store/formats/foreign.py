"""Import published files as data sets of this package."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import batched
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sciml_bounds import __version__
from sciml_bounds.arrays import require_choice
from sciml_bounds.errors import InputError
from sciml_bounds.store.datasets.dataset_files import DatasetHeader, writing_dataset
from sciml_bounds.store.formats.fno_files import describe_fno, describe_neuraloperator, is_fno, is_neuraloperator
from sciml_bounds.store.formats.foreign_layout import ForeignLayout, ForeignVariable
from sciml_bounds.store.formats.pdebench import describe_pdebench, is_pdebench
from sciml_bounds.store.reading.contents import Array, Contents, printable
from sciml_bounds.store.reading.readers import one_sentence, open_file
from sciml_bounds.store.reading.sample_streams import stream_samples
from sciml_bounds.store.safety.writer import SUFFIXES, check_new_file

__all__ = ["KINDS", "import_dataset"]

#: Approximate number of bytes per write.
_WRITE_BYTES = 2**22


class _Kind(NamedTuple):
    what: str
    recognise: Callable[[Contents], bool]
    describe: Callable[[Contents], ForeignLayout]


#: Kinds of files that can be imported.
KINDS = {
    "pdebench": _Kind("flat HDF5 files of PDEBench (tensor, nu, x-coordinate, ...)", is_pdebench, describe_pdebench),
    "fno": _Kind("MATLAB files of the FNO authors (coeff, sol or a, u, t)", is_fno, describe_fno),
    "neuraloperator": _Kind(
        "torch files of neuraloperator (x, y or input, output)", is_neuraloperator, describe_neuraloperator
    ),
}


def import_dataset(
    source: Path | str,
    path: Path | str,
    *,
    kind: str | None = None,
    callback: Callable[[int, int], None] | None = None,
) -> Path:
    """Import a published file as a data set of this package; the data set is written atomically and checked.

    Parameters
    ----------
    source : Path or str
        File of PDEBench (.hdf5, .h5), the FNO authors (.mat of version 5 or 7.3) or neuraloperator (.pt).
    path : Path or str
        Data set to write, ending in .nc, .h5 or .hdf5; it must not exist.
    kind : str, optional
        "pdebench", "fno" or "neuraloperator"; detected from the arrays in the file by default.
    callback : callable, optional
        Called repeatedly with the number of finished samples and the number of all samples.

    Returns
    -------
    Path
        The data set.

    Raises
    ------
    InputError
        If the kind of the file is unknown, an array is missing, shapes disagree, or numbers are not finite.

    Notes
    -----
    The `recipe` is "imported", the `seed` is -1, and `parameters` has the kind, the name and the SHA-256 of the file in
    addition to its own parameters. Samples keep their order, which determines their split (`split_of`). The labels have
    no certified errors. Nothing in the file is executed. Memory does not grow with the file, except that arrays of
    MATLAB files of version 5 are read whole.
    """
    source = Path(source)
    target = check_new_file(path, SUFFIXES)
    if kind is not None:
        require_choice(kind, "kind", KINDS)
    with ExitStack() as files:
        contents = open_file(source, "the file", files)
        with one_sentence(f"the file {source}"):
            chosen = _recognise(contents) if kind is None else kind
            layout = KINDS[chosen].describe(contents)
            count = contents.arrays[next(iter(layout.variables.values())).arrays[0]].shape[0]
    header = _header(layout, count, chosen, source)
    with writing_dataset(target, header, range(count)) as writer:
        done = 0
        for rows in batched(_walk(source, layout, count), _batch(layout)):
            writer.write(done, {name: np.stack([row[name] for row in rows]) for name in layout.variables})
            done += len(rows)
            if callback is not None:
                callback(done, count)
    return target


def _batch(layout: ForeignLayout) -> int:
    """Return the number of samples per write, since writing small samples one by one is slow."""
    size = sum(math.prod(variable.shape) * 8 for variable in layout.variables.values())
    return max(1, _WRITE_BYTES // size)


def _recognise(contents: Contents) -> str:
    matching = [name for name, kind in KINDS.items() if kind.recognise(contents)]
    if len(matching) != 1:
        names = printable(", ".join(list(contents.arrays)[:20])) or "none"
        kinds = "; ".join(f"{name}: {kind.what}" for name, kind in KINDS.items())
        raise InputError(
            f"its kind cannot be detected from its arrays ({names}); supported kinds are {kinds}; for any "
            "other file, name its arrays with sb.data.from_arrays or sciml-bounds import --arrays."
        )
    return matching[0]


def _header(layout: ForeignLayout, count: int, kind: str, source: Path) -> DatasetHeader:
    lengths = {dim: n for variable in layout.variables.values() for dim, n in zip(variable.dims, variable.shape)}
    origin = {"kind": kind, "file": printable(source.name), "sha256": _checksum(source)}
    return DatasetHeader(
        recipe="imported",
        title=layout.title,
        description=f"Imported from {origin['file']}; the labels have no certified errors.",
        reference=layout.reference,
        parameters={**layout.parameters, **origin},
        seed=-1,
        resolution=next(n for dim, n in lengths.items() if dim != "time"),
        device="cpu",
        samples=count,
        inputs=layout.inputs,
        targets=layout.targets,
        layout=layout.layout,
        coordinates=layout.coordinates,
        variables=layout.variables,
        lengths=lengths,
        version=__version__,
    )


def _checksum(source: Path) -> str:
    with source.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _walk(source: Path, layout: ForeignLayout, count: int) -> Iterator[dict[str, Array]]:
    """Yield the variables sample by sample; each array of the file is read once, from front to back."""
    names = dict.fromkeys(name for variable in layout.variables.values() for name in variable.arrays)
    with ExitStack() as files:
        streams = {name: stream_samples(source, name, "the file") for name in names}
        for stream in streams.values():
            files.callback(stream.close)
        for sample in range(count):
            rows = {name: next(stream) for name, stream in streams.items()}
            with one_sentence(f"sample {sample} of the file {source}"):
                yield {name: _variable_sample(name, variable, rows) for name, variable in layout.variables.items()}


def _variable_sample(name: str, variable: ForeignVariable, rows: dict[str, Array]) -> Array:
    sample = np.asarray(variable.make([rows[array] for array in variable.arrays]), variable.dtype)
    if not np.isfinite(sample).all():
        raise InputError(f"{name!r} has NaN or infinite values; remove the sample from the file.")
    return sample
