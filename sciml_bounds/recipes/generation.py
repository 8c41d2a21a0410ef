"""Make data sets from recipes: in chunks that are kept as they are finished, by any number of processes.

The samples of a chunk are generated together, and chunks are aligned to the index of the sample: their size comes from
the recipe, never from the machine. Each is written to a file of its own in a folder beside the target (`.NAME.parts`),
whole or not at all, and in the end all are joined. So what is interrupted goes on where it was, and the arrays are the
same to the last bit, however many processes worked and however often they were killed.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sciml_bounds.errors import InputError
from sciml_bounds.recipes import _workers
from sciml_bounds.recipes._job import Job, require_integer
from sciml_bounds.recipes._progress import Shown, shown
from sciml_bounds.recipes._recipe import Recipe
from sciml_bounds.recipes._registry import find_recipe
from sciml_bounds.store.datasets.dataset_files import (
    DatasetHeader,
    check_whole,
    join,
    stored_lengths,
    stored_samples,
)
from sciml_bounds.store.reading.readers import one_sentence, open_file
from sciml_bounds.store.safety.writer import SUFFIXES, check_target, replacing

if TYPE_CHECKING:
    import torch

__all__ = ["consolidate", "make_dataset", "make_shard"]

#: What is in a folder of parts beside them: what they are parts of, and what tells that a process works there.
_REQUEST, _LOCK = "request.json", "lock"

#: What is logged where nothing is left to do.
_THERE = "%s is there already, and is what is asked for."

_log = logging.getLogger(__name__)


# --- what users call --------------------------------------------------------------------------------------------------


def make_dataset(
    recipe: str | Recipe,
    path: Path | str,
    *,
    samples: int | None = None,
    seed: int = 0,
    resolution: int | None = None,
    workers: int = 0,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> None:
    """Generate a data set and write it as netCDF-4 (HDF5).

    Sample i depends on the seed and on i alone (for one recipe, resolution, kind of device and version of this
    package): not on the number of samples, of workers or of threads. What is interrupted or killed goes on when it is
    called again with the same arguments.

    Parameters
    ----------
    recipe
        Its name ("darcy-rough"), or a recipe of your own.
    path
        Where, ending in .nc, .h5 or .hdf5. If it is there and holds what is asked for, nothing is done; anything else
        that is there is refused. While the work goes on, the finished part of it lies in a folder `.NAME.parts` beside
        it; in the end, for a moment, both are there.
    samples, resolution
        As published by default.
    seed
        A non-negative integer; other seeds give other data.
    workers
        How many processes share the work; 0 for this one.
    device
        Where equations are solved: "cpu", "cuda".
    progress
        Whether to show it on stderr.

    Raises
    ------
    InputError
        If an argument is wrong, or the file cannot be written.
    ConvergenceError
        If an equation was not solved as well as the recipe asks.

    Examples
    --------
    >>> import tempfile
    >>> import sciml_bounds as sb
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sb.make_dataset("darcy-rough", f"{folder}/darcy.nc", samples=10, resolution=16)
    ...     with sb.open_dataset(f"{folder}/darcy.nc") as data:
    ...         data.sizes["sample"]
    10
    """
    job = _make_job(recipe, samples, seed, resolution, device)
    _make(job, path, range(job.samples), workers, progress)


def make_shard(
    recipe: str | Recipe,
    path: Path | str,
    *,
    shard_index: int,
    num_shards: int,
    samples: int | None = None,
    seed: int = 0,
    resolution: int | None = None,
    workers: int = 0,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> None:
    """Generate one of `num_shards` parts of a data set, for the jobs of a cluster; `consolidate` joins them.

    Parameters
    ----------
    shard_index, num_shards
        Which part, counted from 0, of how many. A shard holds whole chunks, so that there are no more shards than
        chunks. It is a data set of its own, whose samples have their index in the whole.
    recipe, path, samples, seed, resolution, workers, device, progress
        As in `make_dataset`, of the whole data set; the path is that of the shard.

    Raises
    ------
    InputError, ConvergenceError
        As in `make_dataset`.
    """
    job = _make_job(recipe, samples, seed, resolution, device)
    _make(job, path, job.shard(require_integer("the number of shards", num_shards, 1), shard_index), workers, progress)


def consolidate(paths: Sequence[Path | str], out: Path | str, *, progress: bool = False) -> None:
    """Join the shards of a data set, given in any order; the arrays are those of a data set made in one run.

    Parameters
    ----------
    paths
        Files of `make_shard` that together have all samples.
    out
        Where, as in `make_dataset`. The shards stay.
    progress
        Whether to show it on stderr.

    Raises
    ------
    InputError
        If the shards are damaged, are not of one data set, overlap, or leave a gap, or something else is at `out`.
    """
    target = check_target(out, SUFFIXES)
    if isinstance(paths, str | Path) or not paths:
        raise InputError("there is no shard to join; give the files of all shards.")
    if Path(out).resolve() in (Path(path).resolve() for path in paths):
        raise InputError(f"{out} is one of the shards, which stay as they are; choose another name for the output.")
    shards = sorted((_open_shard(Path(path)) for path in paths), key=lambda shard: (shard.indices.start, shard.path))
    _check_shards(shards)
    header = shards[0].header
    whole = range(header.samples)
    if _is_there(target, header, whole):
        _log.info(_THERE, out)
        return
    with shown(header.samples, "joining", wanted=progress) as progressed:
        join([(shard.path, shard.indices) for shard in shards], target, header, whole, on_progress=progressed)


# --- jobs -------------------------------------------------------------------------------------------------------------


def _make_job(
    recipe: str | Recipe, samples: int | None, seed: int, resolution: int | None, device: str | torch.device
) -> Job:
    from sciml_bounds.arrays import check_device

    found = recipe if isinstance(recipe, Recipe) else find_recipe(recipe)
    size = found.resolution if resolution is None else resolution
    found.check(size)
    return Job(
        recipe=found,
        named=not isinstance(recipe, Recipe),
        seed=require_integer("the seed", seed, 0),
        resolution=int(size),
        samples=require_integer("the number of samples", found.samples if samples is None else samples, 1),
        device=str(check_device(device)),
    )


# --- making -----------------------------------------------------------------------------------------------------------


def _make(job: Job, path: Path | str, samples: range, workers: int, progress: bool) -> None:
    workers = require_integer("the number of workers", workers, 0)
    target = check_target(path, SUFFIXES)
    if _is_there(target, job.header({}), samples):
        _log.info(_THERE, path)
        return
    numbers = range(samples.start // job.chunk, -(-samples.stop // job.chunk))
    with _folder_of_parts(target, job, numbers) as folder:
        with shown(len(samples), job.recipe.name, wanted=progress) as progressed:
            _make_parts(job, folder, numbers, workers, samples, progressed)
        parts = [job.part(folder, number) for number in numbers]
        lengths = stored_lengths(parts[0][0], job.recipe.variables(job.resolution))
        with shown(len(samples), "joining", wanted=progress) as progressed:
            join(parts, target, job.header(lengths), samples, on_progress=progressed)


def _make_parts(
    job: Job, folder: Path, numbers: Sequence[int], workers: int, samples: range, progressed: Shown
) -> None:
    """Generate the chunks that are not there; what is there is looked at by whoever would generate it."""
    done = 0

    def one_more(number: int) -> None:
        nonlocal done
        inside = job.part(folder, number)[1]
        done += min(inside.stop, samples.stop) - inside.start
        progressed(done)

    if workers:
        _workers.run(job, folder, numbers, workers, one_more)
        return
    for number in numbers:
        job.generate(folder, number)
        one_more(number)


def _is_there(target: Path, asked: DatasetHeader, samples: range) -> bool:
    """Tell whether a file is what is asked for already, checked in full; anything else that is there stays."""
    if not target.exists():
        return False
    try:
        shard = _open_shard(target)
    except InputError as error:
        why = str(error).removeprefix(f"the data set in {target}: ").partition(";")[0].rstrip(".")  # without its advice
        raise InputError(
            f"{target} is there already, and is no whole data set: {why}; remove it, or choose another name."
        ) from None
    there, wanted = shard.header.identity(), asked.identity()
    differences = [name for name in wanted if there.get(name) != wanted[name]]
    if shard.indices != samples or shard.header.samples != asked.samples:
        differences.append("samples")
    if differences:
        raise InputError(
            f"{target} holds another data set (it differs in {', '.join(differences)}); remove it, or choose another "
            "name."
        )
    return True


@contextmanager
def _folder_of_parts(target: Path, job: Job, numbers: range) -> Iterator[Path]:
    """Give the folder where finished chunks are kept until the data set is whole."""
    import filelock

    folder = target.with_name(f".{target.name}.parts")
    lock = filelock.FileLock(folder / _LOCK, timeout=0)
    try:
        folder.mkdir(exist_ok=True)
        held = lock.acquire()
    except filelock.Timeout:
        raise InputError(f"another process is generating {target}; wait until it has finished.") from None
    except OSError as error:
        raise InputError(f"{folder} cannot be made: {error.strerror}; choose another folder for the output.") from None
    with held:
        _claim(folder, target, job, numbers)
        try:
            yield folder
        except BaseException:
            _leave(folder, target)
            raise
        shutil.rmtree(folder)


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.nc"))


def _claim(folder: Path, target: Path, job: Job, numbers: range) -> None:
    """Write down what the parts in a folder are parts of, or compare it with what is written there."""
    wanted, file = job.header({}).identity(), folder / _REQUEST
    if not _parts(folder):
        with replacing(file) as part:
            part.write_text(json.dumps(wanted))
        return
    try:
        there = json.loads(file.read_text())
        differences = [name for name in wanted if there.get(name) != wanted[name]]
    except (OSError, ValueError, AttributeError):
        differences = [_REQUEST]
    if not set(_parts(folder)) <= {job.part(folder, number)[0] for number in numbers}:
        differences.append("samples")  # which would be deleted with the rest in the end
    if differences:
        raise InputError(
            f"{folder} holds the finished part of another data set for {target.name} (it differs in "
            f"{', '.join(differences)}); delete that folder, or choose another name for the output."
        )


def _leave(folder: Path, target: Path) -> None:
    """Say what a folder with finished parts is for, and remove one without."""
    if _parts(folder):
        _log.info("what is finished of %s is kept in %s; the same command goes on there.", target.name, folder)
    else:
        shutil.rmtree(folder, ignore_errors=True)


# --- joining ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shard:
    path: Path
    header: DatasetHeader
    indices: range


def _open_shard(path: Path) -> _Shard:
    """Open a data set and check all of it."""
    with ExitStack() as files:
        contents = open_file(path, "the data set", files)
        with one_sentence(f"the data set in {path}"):
            check_whole(contents)
            return _Shard(path, DatasetHeader.of(contents), stored_samples(contents))


def _check_shards(shards: Sequence[_Shard]) -> None:
    """Check that shards in ascending order make one whole data set."""
    first = shards[0]
    wanted = first.header.identity() | {"samples": first.header.samples}
    end, before = 0, first
    for shard in shards:
        its = shard.header.identity() | {"samples": shard.header.samples}
        differences = [name for name in wanted if its[name] != wanted[name]]
        if differences:
            raise InputError(
                f"{shard.path} and {first.path} are not shards of one data set: they differ in "
                f"{', '.join(differences)}; give the shards of one."
            )
        if shard.indices.start < end:
            last = min(end, shard.indices.stop) - 1
            raise InputError(
                f"{before.path} and {shard.path} both hold the samples {shard.indices.start} to {last}; leave one out."
            )
        _check_gap(end, shard.indices.start)
        end, before = shard.indices.stop, shard
    _check_gap(end, first.header.samples)


def _check_gap(end: int, start: int) -> None:
    if start > end:
        raise InputError(f"the samples {end} to {start - 1} are in none of the shards; give the shard that has them.")
