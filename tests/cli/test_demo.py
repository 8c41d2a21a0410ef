import hashlib
import io
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from refusals import complaint, refused

from sciml_bounds.cli import _darcy, _study
from sciml_bounds.cli._demo_figure import _percent
from sciml_bounds.cli._study import darcy_problem, reference_intervals, run_study
from sciml_bounds.cli.main import run
from sciml_bounds.samples import load_two_phase
from sciml_bounds.store.datasets.weights import find_weights, read_weights


def sample(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    fields = load_two_phase()
    return torch.from_numpy(fields.x[:count]), torch.from_numpy(fields.y[:count]).double()


def write_wheel(folder: Path, content: bytes) -> None:
    with zipfile.ZipFile(folder / "neuraloperator-0.3.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(_darcy.MEMBER, content)


# --- the fields ---


def test_fields_of_the_wheel(tmp_path, monkeypatch):
    x = np.random.default_rng(0).random((5, 16, 16)) > 0.5
    stream = io.BytesIO()
    torch.save({"x": torch.from_numpy(x), "y": torch.rand(5, 16, 16)}, stream)
    write_wheel(tmp_path, stream.getvalue())
    monkeypatch.setattr(_darcy, "SHA256", hashlib.sha256(stream.getvalue()).hexdigest())
    fields = _darcy.load_fields(tmp_path, 3)
    np.testing.assert_array_equal(fields.phases, x[:3])
    assert fields.answers.shape == (3, 16, 16)
    assert fields.answers.dtype == torch.float64
    assert "public fields" in fields.origin
    refused("6 fields 5", _darcy.load_fields, tmp_path, 6)


def test_without_the_published_file_our_sample_serves_and_says_why(tmp_path):
    def reason() -> str:
        fields = _darcy.load_fields(tmp_path, 2)
        np.testing.assert_array_equal(fields.phases, load_two_phase().x[:2])
        assert "the sample that ships with this package" in fields.origin
        return fields.origin

    assert "there is no neuraloperator-0.3.0" in reason()
    write_wheel(tmp_path, b"something else")
    assert "is not the published file" in reason()
    (tmp_path / "neuraloperator-0.3.0-py3-none-any.whl").write_bytes(b"cut")
    assert "cannot be read" in reason()


# --- the reference ---


def square_energy() -> float:
    """|||u|||^2 for -12 div grad u = 1 on the unit square: the integral of u, by its double sine series."""
    m = np.arange(1.0, 2000.0, 2.0)
    terms = 1 / (m[:, None] ** 2 * m**2 * (m[:, None] ** 2 + m**2))
    return 64 / np.pi**6 * terms.sum() / 12  # the rest of the series is below 1e-10 of it


def test_reference_intervals_enclose_what_is_known():
    """On the square with a = 12, |||u|||^2 is a series, |||u - c||| = |||u||| for a constant c, wrong on the boundary,
    and |||u - v|||^2 = |||u|||^2 - 2 int v + |||v|||^2 for v that vanishes there."""
    problem = darcy_problem(torch.ones(1, 4, 4, dtype=torch.bool), 4)
    n = 16
    hat = torch.zeros(17, 17, dtype=torch.float64)
    hat[8, 8] = 0.004  # integral h^2 and energy a 8 / 3 of the unit nodal function
    fields = torch.stack([torch.zeros_like(hat), torch.full_like(hat, 0.003), hat]).unsqueeze(1)
    square = square_energy()
    known = [square, square, square - 2 * 0.004 / n**2 + 12 * 8 / 3 * 0.004**2]
    for refinement, width in ((2, 0.02), (8, 0.0015)):
        for interval, value in zip(reference_intervals(problem, fields, refinement), known):
            lower, upper = float(interval.lower), float(interval.upper)
            assert lower <= value**0.5 <= upper
            assert upper - lower < width * value**0.5  # second order in h without a jump in boundary data


@pytest.mark.slow
def test_the_study():
    phases, stored = sample(2)
    study = run_study(phases, stored, split=4, refinement=2)
    answers = {answer.name: answer for answer in study.answers}
    assert list(answers) == ["our solution", "network prediction", "spoilt solution", "stored answer"]
    for answer in study.answers:
        certificate = answer.certificate
        # Both are guaranteed intervals of the same number, so they overlap.
        assert bool((certificate.lower <= answer.error.upper).all())
        assert bool((answer.error.lower <= certificate.upper).all())
        exact = answer.name != "stored answer"
        assert bool((certificate.boundary_part == 0).all()) == exact
    # The planted error is large against that of the solution, so the largest indicator is in its disc.
    spoilt = answers["spoilt solution"].certificate.indicators
    for field in spoilt:
        i, j = divmod(int(field.argmax()), field.shape[1])
        assert np.hypot((i + 0.5) / 64 - 0.7, (j + 0.5) / 64 - 0.3) < 0.08 + 1 / 64
    # The network has not seen a = 3, so it is worse than the solver, and better than no answer.
    network, solver = (study.relative(answers[name].bounds) for name in ("network prediction", "our solution"))
    assert bool((solver.upper < network.lower).all())
    assert bool((network.upper < 0.5).all())


def test_the_network_predicts_on_the_grid_that_it_was_trained_on():
    card = read_weights(find_weights(_study.NETWORK))[1]
    assert card["data"]["train"]["resolution"] == _study.TRAINED_CELLS


def test_bounds_in_the_picture_are_rounded_outwards():
    assert (_percent(0.01239, math.floor), _percent(0.02231, math.ceil)) == ("1.23 %", "2.24 %")
    assert (_percent(0.4199, math.floor), _percent(0.8971, math.ceil)) == ("41.9 %", "89.8 %")


# --- the command ---


@pytest.mark.slow
def test_the_command(tmp_path, capsys):
    out = tmp_path / "new" / "demo"
    assert run(["demo", "--data", str(tmp_path / "none"), "--out", str(out), "--fields", "1", "--split", "4"]) == 0
    printed = capsys.readouterr().out
    assert "Fields: the sample that ships with this package, because there is no neuraloperator-0.3.0" in printed
    assert "64 x 64 cells" in printed
    assert "True error between its bounds: 4 of 4" in printed
    for name in ("our solution", "network prediction", "spoilt solution", "stored answer"):
        row = next(line for line in printed.splitlines() if line.startswith(name))
        lower, upper, ratio, true, _, spread, index, _ = (float(word.replace("±", "0")) for word in row.split()[2:])
        assert lower <= true <= upper
        assert spread < 0.1 * true
        # The table rounds to two places.
        assert ratio == pytest.approx(upper / lower, abs=0.01)
        assert index == pytest.approx(upper / true, abs=0.01)
    assert f"Figure: {out}/demo.png" in printed
    assert [file.name for file in out.iterdir()] == ["demo.png"]
    assert imread(out / "demo.png").shape[1] > 1500


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--split", "6"], "6 multiple 4"),
        (["--fields", "9"], "9 fields 8"),
        (["--out", "file/demo"], "Not directory"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, capsys, options, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert run(["demo", "--data", "none", *options]) == 2
    complaint(capsys, sentence)
