"""The log is one table in two forms."""

import csv
import importlib.util
import json

import pytest

from sciml_bounds.errors import MissingExtraError
from sciml_bounds.training._trainer import train
from sciml_bounds.training._training_log import COLUMNS, TensorBoard, write_log

ROWS = [
    {"epoch": 1, "lr": 1e-3, "loss": 0.5, "validation": 0.25, "gradient_norm": 3.0, "seconds": 1.5},
    {"epoch": 2, "lr": 1e-3, "loss": 0.4, "validation": None, "gradient_norm": 2.0, "seconds": 1.25},
]


def test_both_forms_hold_the_same_numbers(tmp_path):
    write_log(tmp_path, ROWS)
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [{k: float(v) if v else None for k, v in row.items()} for row in rows] == ROWS
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == ROWS


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is not None, reason="TensorBoard is installed")
def test_a_missing_tensorboard_is_one_sentence_before_any_work(tmp_path, make, data):
    with pytest.raises(MissingExtraError, match=r"'sciml-bounds\[tensorboard\]'"):
        train(make(), *data, folder=tmp_path, tensorboard=True, loss="l2", epochs=1)
    assert not (tmp_path / "log.csv").exists()


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="needs pip install tensorboard")
def test_curves_are_written(tmp_path):
    board = TensorBoard(tmp_path)
    board.add(ROWS[0])
    board.close()
    assert any(path.name.startswith("events") for path in tmp_path.iterdir())
