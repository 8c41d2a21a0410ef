"""Generate data sets from recipes, in chunks, by any number of processes.

The samples of a chunk are generated together. Chunks are aligned to the sample index, and their size depends on the
recipe, never on the machine. Each chunk is written atomically to its own file in the folder `.NAME.parts` next to the
target; in the end all chunks are joined. An interrupted generation therefore resumes bit for bit, with any number of
processes and interruptions.
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
from sciml_bounds.recipes._progress import ReportProgress, progress_display
from sciml_bounds.recipes._recipe import Recipe
from sciml_bounds.recipes._registry import as_recipe, find_recipe, is_known_everywhere
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

#: Files in a folder of parts: the identity of the data set, and the lock of the process that generates it.
_REQUEST, _LOCK = "request.json", "lock"

#: Log message if the requested file exists.
_ALREADY_COMPLETE = "%s already contains the requested data set; nothing to do."

_log = logging.getLogger(__name__)


# --- public functions -------------------------------------------------------------------------------------------------


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

    Sample i depends only on the seed and i (for one recipe, resolution, kind of device and version of this package),
    not on the number of samples, workers or threads. After an interruption, the same call resumes.

    Parameters
    ----------
    recipe : str or Recipe
        Name of a recipe, such as "darcy-rough", location of a recipe, "package.module:NAME", or your own recipe.
    path : Path or str
        File to write, ending in .nc, .h5 or .hdf5. If it already contains the requested data set, nothing is done; any
        other existing file is an error. Finished chunks are kept in the folder `.NAME.parts` next to it until the end,
        when disk space for both is needed.
    samples, resolution : int, optional
        Number of samples and resolution; the published ones by default.
    seed : int, default 0
        Seed of the random numbers, nonnegative.
    workers : int, default 0
        Number of worker processes; 0 runs in this process.
    device : str or torch.device, default "cpu"
        Device of the solvers: "cpu" or "cuda".
    progress : bool, default False
        Show progress on stderr.

    Raises
    ------
    InputError
        If an argument is invalid, or the file cannot be written.
    ConvergenceError
        If an equation was not solved to the accuracy that the recipe requires.

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
    """Generate one of `num_shards` shards of a data set, for cluster jobs; `consolidate` joins them.

    Parameters
    ----------
    shard_index, num_shards : int
        Index of the shard, counted from 0, and number of shards, at most the number of chunks. A shard consists of
        whole chunks; it is a data set whose samples keep their index in the whole data set.
    recipe, path, samples, seed, resolution, workers, device, progress : various
        As in `make_dataset`, for the whole data set; `path` is the file of the shard.

    Raises
    ------
    InputError, ConvergenceError
        As in `make_dataset`.
    """
    job = _make_job(recipe, samples, seed, resolution, device)
    _make(job, path, job.shard(require_integer("the number of shards", num_shards, 1), shard_index), workers, progress)


def consolidate(paths: Sequence[Path | str], out: Path | str, *, progress: bool = False) -> None:
    """Join the shards of a data set, given in any order; the arrays are the same as from a single run.

    Parameters
    ----------
    paths : sequence of Path or str
        Files of `make_shard` that together contain all samples; they are kept.
    out : Path or str
        File to write, as in `make_dataset`.
    progress : bool, default False
        Show progress on stderr.

    Raises
    ------
    InputError
        If shards are damaged, missing, overlapping or from different data sets, or if `out` is another existing file.
    """
    target = check_target(out, SUFFIXES)
    if isinstance(paths, str | Path) or not paths:
        raise InputError("no list of shards was given; give a list with the files of all shards.")
    if Path(out).resolve() in (Path(path).resolve() for path in paths):
        raise InputError(f"{out} is one of the shards, which are not overwritten; choose another name for the output.")
    shards = sorted((_open_shard(Path(path)) for path in paths), key=lambda shard: (shard.indices.start, shard.path))
    _check_shards(shards)
    header = shards[0].header
    whole = range(header.samples)
    if _is_complete(target, header, whole):
        _log.info(_ALREADY_COMPLETE, out)
        return
    with progress_display(header.samples, "joining", enabled=progress) as progressed:
        join([(shard.path, shard.indices) for shard in shards], target, header, whole, on_progress=progressed)


# --- jobs -------------------------------------------------------------------------------------------------------------


def _make_job(
    recipe: str | Recipe, samples: int | None, seed: int, resolution: int | None, device: str | torch.device
) -> Job:
    from sciml_bounds.arrays import check_device

    found = find_recipe(recipe) if isinstance(recipe, str) else as_recipe(recipe, "the recipe")
    size = found.resolution if resolution is None else resolution
    found.check(size)
    return Job(
        recipe=found,
        location=recipe if isinstance(recipe, str) and is_known_everywhere(recipe) else None,
        seed=require_integer("the seed", seed, 0),
        resolution=int(size),
        samples=require_integer("the number of samples", found.samples if samples is None else samples, 1),
        device=str(check_device(device)),
    )


# --- generation -------------------------------------------------------------------------------------------------------


def _make(job: Job, path: Path | str, samples: range, workers: int, progress: bool) -> None:
    workers = require_integer("the number of workers", workers, 0)
    target = check_target(path, SUFFIXES)
    if _is_complete(target, job.header({}), samples):
        _log.info(_ALREADY_COMPLETE, path)
        return
    numbers = range(samples.start // job.chunk, -(-samples.stop // job.chunk))
    with _parts_folder(target, job, numbers) as folder:
        with progress_display(len(samples), job.recipe.name, enabled=progress) as progressed:
            _make_parts(job, folder, numbers, workers, samples, progressed)
        parts = [job.part(folder, number) for number in numbers]
        lengths = stored_lengths(parts[0][0], job.recipe.variables(job.resolution))
        with progress_display(len(samples), "joining", enabled=progress) as progressed:
            join(parts, target, job.header(lengths), samples, on_progress=progressed)


def _make_parts(
    job: Job, folder: Path, numbers: Sequence[int], workers: int, samples: range, progressed: ReportProgress
) -> None:
    """Generate the missing chunks; `Job.generate` skips those that exist."""
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


def _is_complete(target: Path, asked: DatasetHeader, samples: range) -> bool:
    """Return whether a file is the requested data set, checked in full; raise if it is anything else."""
    if not target.exists():
        return False
    try:
        shard = _open_shard(target)
    except InputError as error:
        why = str(error).removeprefix(f"the data set in {target}: ").partition(";")[0].rstrip(".")  # without the remedy
        raise InputError(
            f"{target} already exists and is not a complete data set: {why}; remove it, or choose another name."
        ) from None
    present, wanted = shard.header.identity(), asked.identity()
    differences = [name for name in wanted if present.get(name) != wanted[name]]
    if shard.indices != samples or shard.header.samples != asked.samples:
        differences.append("samples")
    if differences:
        raise InputError(
            f"{target} already contains another data set (different: {', '.join(differences)}); remove it, or choose "
            "another name."
        )
    return True


@contextmanager
def _parts_folder(target: Path, job: Job, numbers: range) -> Iterator[Path]:
    """Lock and yield the folder of finished chunks, which is removed once the data set is complete."""
    import filelock

    folder = target.with_name(f".{target.name}.parts")
    lock = filelock.FileLock(folder / _LOCK, timeout=0)
    try:
        folder.mkdir(exist_ok=True)
        acquired = lock.acquire()
    except filelock.Timeout:
        raise InputError(f"another process is generating {target}; wait until it has finished.") from None
    except OSError as error:
        raise InputError(
            f"the folder {folder} cannot be created: {error.strerror}; choose another folder for the output."
        ) from None
    with acquired:
        _check_request(folder, target, job, numbers)
        try:
            yield folder
        except BaseException:
            _keep_parts(folder, target)
            raise
        shutil.rmtree(folder)


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.nc"))


def _check_request(folder: Path, target: Path, job: Job, numbers: range) -> None:
    """Record the identity of the data set in an empty folder of parts, or compare it with the recorded one."""
    wanted, file = job.header({}).identity(), folder / _REQUEST
    if not _parts(folder):
        with replacing(file) as part:
            part.write_text(json.dumps(wanted))
        return
    try:
        present = json.loads(file.read_text())
        differences = [name for name in wanted if present.get(name) != wanted[name]]
    except (OSError, ValueError, AttributeError):
        differences = [_REQUEST]
    if not set(_parts(folder)) <= {job.part(folder, number)[0] for number in numbers}:
        differences.append("samples")  # the extra parts would be deleted in the end
    if differences:
        raise InputError(
            f"{folder} contains finished parts of another data set named {target.name} (different: "
            f"{', '.join(differences)}); delete that folder, or choose another name for the output."
        )


def _keep_parts(folder: Path, target: Path) -> None:
    """Log how to resume from finished parts, or remove the folder if there are none."""
    if _parts(folder):
        _log.info("finished parts of %s are kept in %s; the same command resumes from them.", target.name, folder)
    else:
        shutil.rmtree(folder, ignore_errors=True)


# --- joining ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shard:
    path: Path
    header: DatasetHeader
    indices: range


def _open_shard(path: Path) -> _Shard:
    """Open a data set and check its whole content."""
    with ExitStack() as files:
        contents = open_file(path, "the data set", files)
        with one_sentence(f"the data set in {path}"):
            check_whole(contents)
            return _Shard(path, DatasetHeader.of(contents), stored_samples(contents))


def _check_shards(shards: Sequence[_Shard]) -> None:
    """Check that shards in ascending order make up one complete data set."""
    first = shards[0]
    wanted = first.header.identity() | {"samples": first.header.samples}
    end, before = 0, first
    for shard in shards:
        its = shard.header.identity() | {"samples": shard.header.samples}
        differences = [name for name in wanted if its[name] != wanted[name]]
        if differences:
            raise InputError(
                f"{shard.path} and {first.path} are shards of different data sets: they differ in "
                f"{', '.join(differences)}; give the shards of one data set."
            )
        if shard.indices.start < end:
            last = min(end, shard.indices.stop) - 1
            raise InputError(
                f"{before.path} and {shard.path} both contain the samples {shard.indices.start} to {last}; leave one "
                "of them out."
            )
        _check_gap(end, shard.indices.start)
        end, before = shard.indices.stop, shard
    _check_gap(end, first.header.samples)


def _check_gap(end: int, start: int) -> None:
    if start > end:
        raise InputError(f"the samples {end} to {start - 1} are missing from the shards; add the shard that has them.")
