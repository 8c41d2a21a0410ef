"""The tutorials run, say what is true, and lie beside notebooks with the same cells.

`python tests/test_tutorials.py` executes the sources anew and writes the notebooks.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import jupytext
import matplotlib.pyplot as plt
import nbformat
import pytest
import torch

TUTORIALS = Path(__file__).parents[1] / "tutorials"
SOURCES = sorted(TUTORIALS.glob("*.py"))


def solve_and_certify(names: dict[str, Any]) -> None:
    sweep, errors, sizes, certificate = (names[name] for name in ("sweep", "errors", "sizes", "certificate"))
    assert bool((sweep.lower <= errors * (1 + 1e-3)).all())  # the fine solution is not the exact one
    assert bool((errors <= sweep.upper).all())
    assert bool((sweep.upper / sweep.lower)[sizes > 0.3].max() < 1.02)  # "the bounds close on it"
    lower, energy = certificate.lower.item(), certificate.energy.item()
    relative = [lower / (energy + lower), certificate.relative_upper.item()]  # |||u||| is at most energy + error
    assert relative == pytest.approx([0.07, 0.12], abs=0.005)  # "seven to twelve per cent"
    place = [names["grid"].centers(axis)[cell].item() for axis, cell in enumerate(names["worst"])]
    assert place == pytest.approx([0.7, 0.3], abs=0.02)  # "the indicators point at it"
    mean, faulty = (names[name].goal(names["sb"].Mean()) for name in ("certificate", "found"))
    assert float((mean.upper - mean.lower) / mean.upper) < 0.1 * relative[1]  # "ten times narrower"
    assert float((faulty.upper - faulty.lower) / (mean.upper - mean.lower)) < 1.2  # "hardly wider"
    assert names["derivative"][names["cell"]].item() == pytest.approx(names["quotient"].item(), rel=1e-5)
    assert names["shares"].sum().item() == pytest.approx(1.0, abs=1e-6)


def generate_a_data_set(names: dict[str, Any]) -> None:
    assert names["same"]  # "the same to the last bit"
    coarse, middle, fine = names["bounds"]
    assert coarse > middle > fine  # "on a finer grid have better labels"
    train, validation, test = (len(names[name]) for name in ("train", "validation", "test"))
    assert (train, validation) == (8 * test, test)
    assert bool((names["data"].label_error < 1).all())


def train_an_operator(names: dict[str, Any]) -> None:
    assert int(names["violations"].sum()) == 0
    assert names["distance"] < 1e-6  # "a wrong network costs iterations, never correctness"
    known, strange = names["relative"]
    assert known < 0.5 * strange  # "the certificate says so"


def learned_directions(names: dict[str, Any]) -> None:
    runs, wrong, outside = (names[name] for name in ("runs", "wrong", "outside"))
    plain, multigrid, learned, cycle = (
        runs[name]["iterations"] for name in ("conjugate gradients", "multigrid", "learned directions", "learned cycle")
    )
    assert learned < 0.7 * plain  # "a fraction"; a fifth after the longer training
    assert multigrid < 0.2 * learned  # "fewer by far"
    assert cycle <= multigrid + 1
    for name in ("learned directions", "learned cycle"):  # "much of the gain is gone"
        assert outside[name]["iterations"] > 1.3 * runs[name]["iterations"]  # after the short training
    for run in (*runs.values(), *wrong.values(), *outside.values()):
        assert run["true"] <= 1e-6 * (1 + 1e-3)  # "every true residual"; summed in another order
        assert (
            run["apart"] < 1e-4
        )  # "every answer agrees": the smallest eigenvalue is above a thousandth of the largest
        energies = torch.tensor(run["energies"])
        assert bool((energies.diff() <= 1e-9 * energies[0]).all())  # "never rise"
    for name in ("zeros", "NaN"):
        assert wrong[name]["dropped"] == wrong[name]["iterations"]
        assert abs(wrong[name]["iterations"] - plain) <= 0.02 * plain  # "what remains is conjugate gradients"
    assert wrong["trained"]["dropped"] == 0
    assert abs(wrong["sign flipped"]["iterations"] - learned) <= 1  # "changes nothing"
    assert wrong["random weights"]["iterations"] == max(run["iterations"] for run in wrong.values())
    smokes = names["smokes"]
    assert all(float((smoke - smokes["multigrid"]).abs().max()) < 1e-7 for smoke in smokes.values())


def constrained_optimisation(names: dict[str, Any]) -> None:
    auto = names["results"]["auto"]
    assert auto.fun == pytest.approx(-(3**0.5), abs=1e-8)
    for r in names["sketched"].values():
        assert max(step.inner_steps for step in r.history) > 10_000  # "tens of thousands of steps"
    assert str(names["hopeless"].reason) == "constraints cannot be met near x"


def pde_control(names: dict[str, Any]) -> None:
    assert names["smallest"].fun / 0.25 == pytest.approx(9.64444205, abs=1e-7)
    distances = [
        float((control.split(names["optimal"][weight].x)[0] - control.target).norm())
        for weight, control in names["controls"].items()
    ]
    assert distances == sorted(distances, reverse=True)  # "the smaller the weight, the closer"
    assert max(names["steps"].values()) <= 1.7 * min(names["steps"].values())  # "hardly depends on the mesh"
    assert names["balance"] < 1e-5  # "weight z = l", to the tolerance
    adaptive, exact, minres = (
        sum(step.inner_steps for step in names["accuracy"][name].history)
        for name in ("adaptive", "MINRES, exact", "MINRES, adaptive")
    )
    assert minres < 0.65 * exact  # "less than half of the steps"
    assert adaptive < 0.6 * minres  # "MINRES needs more"
    values = [r.fun for r in names["accuracy"].values()]
    assert max(values) - min(values) < 1e-7 * values[0]  # "the same optimum"
    a = names["coefficient"]
    n = len(a)
    assert float(a[round(0.6 * n), n // 2]) > 2.0 > 1.4 > float(a[n // 8, n // 2])  # "the disc is found"


def barron_networks(names: dict[str, Any]) -> None:
    errors, bounds, spans = (names[name] for name in ("errors", "bounds", "spans"))
    # the mean square of 20 draws, whose own spread is about a third of it for so many neurons, at four widths
    assert all(error < 1.15 * bound for error, bound in zip(errors, bounds))
    assert errors[0] / errors[-1] == pytest.approx(8, rel=0.25)  # "falls like 1/k", squared, from 16 to 1024
    assert spans[1.0].dimension < 20  # "a few dimensions"
    assert names["square"].tightened().norm < names["square"].norm < names["f"].norm ** 2
    uppers = [float(certificate.upper) for certificate in names["solved"].values()]
    assert uppers == sorted(uppers, reverse=True)
    assert all(certificate.lower <= certificate.upper for certificate in names["solved"].values())
    assert names["newton"].converged
    assert names["certificate_of_energy"].kind == names["of_network"].kind == "bound"
    assert names["relative"] < 0.05


#: What the text of each tutorial claims, checked with the names that it leaves behind.
CLAIMS = {
    "01_solve_and_certify": solve_and_certify,
    "02_generate_a_data_set": generate_a_data_set,
    "03_train_an_operator": train_an_operator,
    "04_learned_directions": learned_directions,
    "05_constrained_optimisation": constrained_optimisation,
    "06_pde_control": pde_control,
    "07_barron_networks": barron_networks,
}


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_tutorial_runs_and_says_what_is_true(source, monkeypatch):
    monkeypatch.setenv("SCIML_BOUNDS_QUICK", "1")  # fewer samples than the notebook that lies beside it
    names = runpy.run_path(str(source))
    plt.close("all")
    CLAIMS[source.stem](names)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_notebook_is_the_executed_source(source):
    path = source.with_suffix(".ipynb")
    assert path.stat().st_size <= 300_000
    notebook = nbformat.read(path, as_version=4)
    cells = [(cell.cell_type, cell.source) for cell in notebook.cells]
    assert cells == [(cell.cell_type, cell.source) for cell in jupytext.read(source).cells]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]


def write_notebook(source: Path) -> None:
    """Execute a source and write the notebook beside it."""
    from nbclient import NotebookClient

    notebook = jupytext.read(source)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"  # the same at every run
    NotebookClient(
        notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": str(TUTORIALS)}}
    ).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times
    nbformat.write(notebook, source.with_suffix(".ipynb"))


if __name__ == "__main__":
    torch.set_num_threads(2)
    for source in [Path(name) for name in sys.argv[1:]] or SOURCES:
        write_notebook(source)
