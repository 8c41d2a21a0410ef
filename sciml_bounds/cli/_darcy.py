"""Darcy fields for the demo: the public ones if available, otherwise those that ship with the package."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from sciml_bounds.errors import InputError
from sciml_bounds.samples import load_two_phase
from sciml_bounds.store.reading.torch_files import read_torch

__all__ = ["DarcyFields", "load_fields"]

WHEEL = "neuraloperator-0.3.0-*.whl"
MEMBER = "neuralop/datasets/data/darcy_train_16.pt"
SHA256 = "0be662acdb1dab7dfd1a1da0b140e97f75cc94f98a14edcf768abe6968b3b418"


class DarcyFields(NamedTuple):
    """Two-phase fields (samples, 16, 16), True for a = 12 and False for a = 3, stored answers, and their origin."""

    phases: Tensor
    answers: Tensor
    origin: str


def load_fields(folder: Path, count: int) -> DarcyFields:
    """Return the first `count` fields of the wheel in a folder, or of the shipped sample if there is no wheel.

    Raises
    ------
    InputError
        If there are fewer fields than requested.
    """
    fields = _load_wheel(folder)
    if count > len(fields.phases):
        raise InputError(f"{count} fields were requested, but only {len(fields.phases)} exist ({fields.origin}).")
    return DarcyFields(fields.phases[:count], fields.answers[:count], fields.origin)


def _load_wheel(folder: Path) -> DarcyFields:
    wheels = sorted(folder.glob(WHEEL))
    if not wheels:
        return _shipped_sample(f"there is no {WHEEL} in {folder}")
    try:
        with zipfile.ZipFile(wheels[-1]) as wheel:
            content = wheel.read(MEMBER)
    except (OSError, KeyError, zipfile.BadZipFile):
        return _shipped_sample(f"{wheels[-1]} cannot be read")
    if hashlib.sha256(content).hexdigest() != SHA256:
        return _shipped_sample(f"{MEMBER} in {wheels[-1]} is not the published file")
    data = read_torch(io.BytesIO(content))
    return DarcyFields(data["x"], data["y"].double(), f"public fields, {Path(MEMBER).name} of neuraloperator 0.3.0")


def _shipped_sample(why: str) -> DarcyFields:
    sample = load_two_phase()
    origin = f"the sample that ships with this package, because {why}"
    return DarcyFields(torch.from_numpy(sample.x), torch.from_numpy(sample.y).double(), origin)
