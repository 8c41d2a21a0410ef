"""The hand-written pages in docs/: their examples run and their links lead somewhere."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

import sciml_bounds as sb

ROOT = Path(__file__).resolve().parents[1]
PLACES_OF_GENERATED = [line for line in (ROOT / ".gitignore").read_text().splitlines() if line.startswith("docs/")]


def is_generated(path: Path) -> bool:
    """Whether `make docs` writes this file: Sphinx then checks the links to it."""
    name = path.resolve().relative_to(ROOT).as_posix()
    return any(fnmatch(name, f"{place}*") for place in PLACES_OF_GENERATED)


PAGES = [page for page in sorted((ROOT / "docs").rglob("*.md")) if not is_generated(page)]
WITH_EXAMPLES = [page for page in PAGES if ">>> " in page.read_text()]


#: Pages that need an extra.
MARKS = {"certify_mesh": pytest.mark.fem, "paraview": pytest.mark.vtk, "petsc": pytest.mark.fem}


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=MARKS.get(page.stem, ())) for page in WITH_EXAMPLES],
    ids=[page.relative_to(ROOT / "docs").as_posix() for page in WITH_EXAMPLES],
)
def test_examples_on_pages(page, tmp_path, monkeypatch):
    """All examples of a page share one namespace, as a reader runs them."""
    monkeypatch.chdir(tmp_path)
    text = re.sub(r"^```.*$", "", page.read_text(), flags=re.MULTILINE)  # a fence would count as output
    test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def test_every_theory_page_has_examples_and_a_picture():
    for page in (page for page in PAGES if page.parent.name == "theory" and page.stem != "index"):
        assert page in WITH_EXAMPLES
        assert page.with_name("figures").joinpath(f"{page.stem}.py").exists()
        assert f"figures/{page.stem}.png" in page.read_text()


def test_links_between_pages_lead_somewhere():
    for page in [*PAGES, *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))]:
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)", page.read_text()):
            file = (page.parent / target) if target else page
            if is_generated(file):
                continue
            assert file.exists(), f"{page.name} links to {target}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
                assert anchor[1:] in {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def test_the_example_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "error.png").exists()
    (shown,) = re.findall(r"```text\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    number = r"\d+\.\d+(?:e-?\d+)?"
    printed = capsys.readouterr().out
    assert re.sub(number, "#", printed) == re.sub(number, "#", shown)
    found, written = ([float(n) for n in re.findall(number, text)] for text in (printed, shown))
    assert found == pytest.approx(written, rel=1e-4)  # the solver stops at 1e-8, the flux solve at 1e-3 of its residual


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    assert len(text.split()) <= 900


def test_the_examples_in_docstrings_are_found():
    """They are run by test_project.py; a module that is loaded only is none of them."""
    for name in ("solve", "certify", "cg", "prepare", "Grid", "Diffusion"):
        thing = getattr(sb, name)
        assert ">>> " in (inspect.getdoc(thing) or ""), f"{name} has no example"
        assert doctest.DocTestFinder().find(thing, module=importlib.import_module(thing.__module__))[0].examples
