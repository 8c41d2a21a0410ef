"""Import a published file as a data set of ours."""

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

#: Bytes that are written together.
_TOGETHER = 2**22


class _Kind(NamedTuple):
    what: str
    recognise: Callable[[Contents], bool]
    describe: Callable[[Contents], ForeignLayout]


#: What can be imported.
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
    """Import a published file as a data set of this package; it appears whole and checked, or not at all.

    Parameters
    ----------
    source
        The file: of PDEBench (.hdf5, .h5), the FNO authors (.mat of version 5 or 7.3) or neuraloperator (.pt).
    path
        The data set, ending in .nc, .h5 or .hdf5; an existing file is never overwritten.
    kind
        "pdebench", "fno" or "neuraloperator"; found out from the arrays in the file if left out.
    callback
        Told now and then how many samples are done, and how many there are.

    Returns
    -------
    Path
        The data set.

    Raises
    ------
    InputError
        If the file is of none of these kinds, lacks an array, its shapes disagree, or it holds numbers that are not
        finite.

    Notes
    -----
    Its `recipe` is "imported", its `seed` -1, and its `parameters` hold the kind, the name and the SHA-256 of the file
    beside what the file says. Samples keep their order, and with it their split (`split_of`). Labels of others carry no
    certified error. Nothing in the file is executed; memory does not grow with it, except that an array of a MATLAB
    file of version 5 is read whole.
    """
    source = Path(source)
    target = check_new_file(path, SUFFIXES)
    if kind is not None and kind not in KINDS:
        raise InputError(f"kind={kind!r} is not known; choose one of {', '.join(KINDS)}.")
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
    """Count the samples that are written together: writing many small ones one by one is slow."""
    size = sum(math.prod(variable.shape) * 8 for variable in layout.variables.values())
    return max(1, _TOGETHER // size)


def _recognise(contents: Contents) -> str:
    found = [name for name, kind in KINDS.items() if kind.recognise(contents)]
    if len(found) != 1:
        names = printable(", ".join(list(contents.arrays)[:20])) or "none"
        known = "; ".join(f"{name}: {kind.what}" for name, kind in KINDS.items())
        raise InputError(f"it is not of a kind that is known by its arrays ({names}); known are {known}.")
    return found[0]


def _header(layout: ForeignLayout, count: int, kind: str, source: Path) -> DatasetHeader:
    lengths = {dim: n for variable in layout.variables.values() for dim, n in zip(variable.dims, variable.shape)}
    origin = {"kind": kind, "file": printable(source.name), "sha256": _checksum(source)}
    return DatasetHeader(
        recipe="imported",
        title=layout.title,
        description=f"Imported from {origin['file']}; the labels carry no certified error.",
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
    """Give our variables sample by sample; each array of the file is read once, from front to back."""
    names = dict.fromkeys(name for variable in layout.variables.values() for name in variable.arrays)
    with ExitStack() as files:
        streams = {name: stream_samples(source, name, "the file") for name in names}
        for stream in streams.values():
            files.callback(stream.close)
        for sample in range(count):
            rows = {name: next(stream) for name, stream in streams.items()}
            with one_sentence(f"sample {sample} of the file {source}"):
                yield {name: _made(name, variable, rows) for name, variable in layout.variables.items()}


def _made(name: str, variable: ForeignVariable, rows: dict[str, Array]) -> Array:
    made = np.asarray(variable.make([rows[array] for array in variable.arrays]), variable.dtype)
    if not np.isfinite(made).all():
        raise InputError(f"{name!r} holds NaN or infinite values; leave out the sample.")
    return made
