"""The project around the code: what an import costs, what a wheel holds, what the files beside the code promise."""

from __future__ import annotations

import doctest
import importlib
import inspect
import json
import os
import pydoc
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import grimp
import networkx
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import sciml_bounds

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "sciml_bounds").rglob("*.py")
    if ">>> " in path.read_text()
)


def run_python(code: str, **options: object) -> str:
    """Run code in a process of its own and return what it printed."""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **options)
    assert run.returncode == 0, run.stderr
    return run.stdout


# --- imports ----------------------------------------------------------------------------------------------------------


def loaded_after(code: str) -> set[str]:
    """Top-level modules in memory after some code ran in a fresh interpreter."""
    report = "import sys, json; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    return set(json.loads(run_python(f"{code}\n{report}")))


def test_import_loads_none_of_the_dependencies():
    names = {Requirement(line).name for line in PROJECT["dependencies"]}
    assert names & loaded_after("import sciml_bounds") == {"lazy_loader"}


def test_describing_a_problem_loads_no_compiler():
    loaded = loaded_after("import sciml_bounds as sb; sb.Diffusion(sb.Grid((4, 4)), source=1.0)")
    assert "torch" in loaded
    assert "triton" not in loaded


def test_solving_and_certifying_load_no_more_than_they_need():
    code = "import sciml_bounds as sb; p = sb.Diffusion(sb.Grid((4, 4)), source=1.0); sb.certify(p, sb.solve(p))"
    loaded = loaded_after(code)
    assert {"torch", "numpy"} <= loaded
    assert not loaded & {"pyamg", "h5py", "h5netcdf", "xarray", "matplotlib", "typer", "rich", "safetensors", "dolfinx"}


CHAPTERS = [
    "barron", "bounds", "control", "data", "fem", "krylov", "multigrid", "network_solvers", "operators", "optimize",
    "results", "scipy_api", "simulation", "sketching", "training", "variational",
]  # fmt: skip


def test_every_public_name_is_there_and_has_a_sentence():
    assert len(sciml_bounds.__all__) <= 40 + len(CHAPTERS)
    assert set(CHAPTERS) <= set(sciml_bounds.__all__)
    for name in sciml_bounds.__all__:
        assert getattr(sciml_bounds, name) is not None
    for chapter in CHAPTERS:
        module = getattr(sciml_bounds, chapter)
        for name in module.__all__:
            assert name.isupper() or inspect.getdoc(getattr(module, name)), name
        assert all(name in pydoc.render_doc(module, renderer=pydoc.plaintext) for name in module.__all__)


# --- layout -----------------------------------------------------------------------------------------------------------

#: Two sides of a pair: a kernel and what calls it, an equation and its data set, a function and its command.
PAIRS = {"certify", "helmholtz", "majorant", "navier_stokes", "pressure", "solve"}


def test_files_that_are_not_the_same_thing_have_names_of_their_own():
    names = [path.stem.lstrip("_") for path in (ROOT / "sciml_bounds").rglob("*.py") if path.stem != "__init__"]
    assert {name for name in names if names.count(name) > 1} == PAIRS


def test_no_module_imports_itself_by_way_of_others():
    """Imports inside functions and of type checkers count."""
    graph = grimp.build_graph("sciml_bounds", exclude_type_checking_imports=False, cache_dir=None)
    imports = networkx.DiGraph((m, n) for m in graph.modules for n in graph.find_modules_directly_imported_by(m))
    assert [part for part in networkx.strongly_connected_components(imports) if len(part) > 1] == []


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings(name):
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted > 0
    assert results.failed == 0


def test_versions_are_printed(capsys):
    sciml_bounds.show_versions()
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["sciml_bounds"] == sciml_bounds.__version__
    assert {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]} <= set(rows)


# --- files beside the code --------------------------------------------------------------------------------------------


def pinned() -> dict[str, str]:
    """Versions in constraints.txt; every line is name==version and nothing else."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    matches = [re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.!+]+)", line) for line in lines]
    assert all(matches), [line for line, match in zip(lines, matches) if not match]
    return {canonicalize_name(match[1]): match[2] for match in matches}


def test_constraints_pin_every_direct_dependency_to_a_version_that_fits():
    versions = pinned()
    extras = PROJECT["optional-dependencies"]
    for line in PROJECT["dependencies"] + extras["dev"] + extras["docs"] + extras["fem"] + extras["vtk"]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), line


def test_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert citation["version"] == headings[0] == sciml_bounds.__version__


def test_hooks_before_a_commit_are_local():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repository["repo"] for repository in hooks["repos"]] == ["local"]


# --- wheel ------------------------------------------------------------------------------------------------------------


def test_the_package_under_test_is_the_one_that_was_asked_for():
    """`make wheel` names the folder of the installed wheel, for this process and for those that tests start."""
    asked = ROOT / os.environ.get("SCIML_BOUNDS_HOME", "") / "sciml_bounds" / "__init__.py"
    assert Path(sciml_bounds.__file__) == asked
    assert run_python("import sciml_bounds; print(sciml_bounds.__file__)").strip() == str(asked)


@pytest.mark.slow
def test_wheel_holds_the_package_only_and_works(tmp_path):
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    build = subprocess.run(command, capture_output=True, text=True)
    assert build.returncode == 0, build.stdout + build.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path)
    metadata = f"sciml_bounds-{sciml_bounds.__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"sciml_bounds", metadata}
    files = {path.relative_to(ROOT) for path in (ROOT / "sciml_bounds").rglob("*") if path.is_file()}
    sources = {".cpp", ".hpp"}
    expected = {path.as_posix() for path in files if path.parent.name != "__pycache__" and path.suffix not in sources}
    assert {name for name in names if not name.startswith(metadata)} == expected
    assert {"sciml_bounds/py.typed", f"{metadata}/licenses/LICENSE", f"{metadata}/licenses/NOTICE"} <= names
    code = (
        "import sciml_bounds as sb; print(sb.__file__);"
        "p = sb.Diffusion(sb.Grid((4, 4)), source=1.0); print(bool(sb.solve(p, error=0.9).converged))"
    )
    place, converged = run_python(code, cwd=tmp_path).split()  # the folder comes first on the path
    assert Path(place).is_relative_to(tmp_path)
    assert converged == "True"


# --- make -------------------------------------------------------------------------------------------------------------

#: A Python that can make a virtual environment of itself; as its pip it notes what it is asked, and fails on demand.
FAKE_PYTHON = """#!/bin/sh
case "$*" in
    "-c import sys, venv"*) exit 0 ;;
    "-m venv"*) for last; do :; done; mkdir -p "$last/bin"; cp "$0" "$last/bin/python" ;;
    "-m pip install"*) echo "$*" >>installations; [ ! -e no-network ] ;;
    *) exit 1 ;;
esac
"""


class Sandbox:
    """A copy of the set-up with an interpreter that only pretends."""

    def __init__(self, root: Path, interpreter: str | None = "python3.13") -> None:
        self.root = root
        self.programs = root / "programs"
        self.programs.mkdir()
        for name in ("sh", "dirname", "cat", "cksum", "mkdir", "rm", "cp", "tr"):
            (self.programs / name).symlink_to(
                Path("/bin") / name if (Path("/bin") / name).exists() else f"/usr/bin/{name}"
            )
        if interpreter:
            fake = self.programs / interpreter
            fake.write_text(FAKE_PYTHON)
            fake.chmod(0o755)
        (root / "tools").mkdir()
        script = root / "tools" / "environment.sh"
        script.write_bytes((ROOT / "tools" / "environment.sh").read_bytes())
        script.chmod(0o755)
        (root / "pyproject.toml").write_text("one")
        (root / "constraints.txt").write_text("one")

    def set_up(self, *extras: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.root / "tools" / "environment.sh"), *extras]
        return subprocess.run(command, capture_output=True, text=True, env={"PATH": str(self.programs), "CXX": "c++"})

    @property
    def installations(self) -> list[str]:
        """What was installed, in the words of pip."""
        notes = self.root / "installations"
        return [line.rpartition(" ")[2] for line in notes.read_text().splitlines()] if notes.exists() else []


def test_environment_is_made_once_for_each_set_of_extras(tmp_path):
    sandbox = Sandbox(tmp_path)
    for extras in ((), (), ("dev",), ("dev", "fem"), ("dev",), (), ("dev", "fem")):
        assert sandbox.set_up(*extras).returncode == 0
    assert sandbox.installations == [".", ".[dev]", ".[dev,fem]"]


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_environment_follows_the_content_of_its_files_and_not_their_times(tmp_path, name):
    sandbox = Sandbox(tmp_path)
    sandbox.set_up("dev")
    (tmp_path / name).touch()
    sandbox.set_up("dev")
    assert len(sandbox.installations) == 1
    (tmp_path / name).write_text("two")
    sandbox.set_up("dev")
    assert len(sandbox.installations) == 2


def test_failed_installation_is_said_and_repeated(tmp_path):
    sandbox = Sandbox(tmp_path)
    sandbox.set_up("dev")
    (tmp_path / "pyproject.toml").write_text("two")
    (tmp_path / "no-network").touch()
    failed = sandbox.set_up("dev")
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1] == "The installation failed; the messages above say why."
    (tmp_path / "no-network").unlink()
    assert sandbox.set_up("dev").returncode == 0
    assert len(sandbox.installations) == 3


def test_missing_python_is_one_sentence(tmp_path):
    run = Sandbox(tmp_path, interpreter=None).set_up()
    assert run.returncode == 1
    assert run.stderr == "Python 3.12 or newer (with its venv module) is needed, and none was found on the PATH.\n"
    assert not (tmp_path / ".venv").exists()


def test_make_alone_lists_its_targets():
    makefile = (ROOT / "Makefile").read_text()
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = re.findall(r"^make ([\w-]+)", shown, re.MULTILINE)
    assert {"demo", "test", "test-all", "wheel", "lint", "bench", "verify"} <= set(listed)
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in listed)
