"""The pages in docs/: their examples run, every public name has its place, and signatures are those of the code."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest

import sciml_bounds as sb
from sciml_bounds import scipy_api

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
API = "\n".join(page.read_text() for page in PAGES if page.parent.name == "api")
NAMES = [name for name in sb.__all__ if not inspect.ismodule(getattr(sb, name)) and name != "__version__"]
#: What users make by themselves, beside functions: the classes with a signature.
MADE = (
    "Algebraic", "BarronNetwork", "BoundaryFlux", "Box", "CertifiedMgNO", "CoefficientEstimation", "Diffusion",
    "Dirichlet", "DistributedControl", "EffectivePermeability", "EnergyDensity", "GinzburgLandau", "Grid",
    "IsotropicEnergy", "LearnedDirections", "Mean", "MgNO", "MinimalSurface", "Minres", "Multigrid", "Neumann",
    "PLaplacian", "Periodic", "QuadraticEnergy", "Robin", "ShearThinning", "SketchedNewton", "TorchDataset",
    "VariationalProblem",
)  # fmt: skip


def section(name: str) -> str:
    """The text below the heading of a name."""
    found = re.search(rf"^### `{re.escape(name)}`\n(.*?)(?=^### |\Z)", API, re.MULTILINE | re.DOTALL)
    assert found, f"docs/api has no heading ### `{name}`"
    return found[1].strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_on_pages(page):
    """With the examples of a page in one namespace, as a reader runs them."""
    text = re.sub(r"^```.*$", "", page.read_text(), flags=re.MULTILINE)  # a fence would count as output
    test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(test)
    assert runner.summarize(verbose=False).failed == 0
    assert len(test.examples) >= 5


OF_SCIPY = [f"scipy_api.{name}" for name in scipy_api.__all__]


@pytest.mark.parametrize("name", [*NAMES, *OF_SCIPY])
def test_every_public_name_has_a_section(name):
    assert len(section(name)) > 40


@pytest.mark.parametrize("name", [*NAMES, *OF_SCIPY])
def test_signatures_are_those_of_the_code(name):
    thing = getattr(scipy_api, name.removeprefix("scipy_api.")) if name in OF_SCIPY else getattr(sb, name)
    if not inspect.isfunction(thing) and name not in MADE:
        return
    signature = inspect.signature(thing)
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    written = (
        f"{name.removeprefix('scipy_api.')}{signature.replace(parameters=bare, return_annotation=signature.empty)}"
    )
    shown = re.match(r"```\n(.*?)```", section(name), re.DOTALL)
    assert shown, f"the section of {name} does not begin with its signature"
    assert " ".join(shown[1].split()) == written


def test_links_between_pages_lead_somewhere():
    for page in [*PAGES, *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))]:
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)", page.read_text()):
            file = (page.parent / target) if target else page
            assert file.exists(), f"{page.name} links to {target}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
                assert anchor[1:] in {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def test_the_example_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "error.png").exists()
    assert "energy error (bound)" in capsys.readouterr().out


def test_the_examples_in_docstrings_are_found():
    """They are run by test_project.py; a module that is loaded only is none of them."""
    for name in ("solve", "certify", "cg", "prepare", "Grid", "Diffusion"):
        thing = getattr(sb, name)
        assert ">>> " in (inspect.getdoc(thing) or ""), f"{name} has no example"
        assert doctest.DocTestFinder().find(thing, module=importlib.import_module(thing.__module__))[0].examples
