"""Build of the documentation site: `make docs`. Everything comes from packages, so that it works offline."""

import ast
import contextlib
import hashlib
import importlib.metadata
import inspect
import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib

import sciml_bounds as sb

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "docs"

project = "sciml_bounds"
author = "The sciml_bounds developers"
project_copyright = "The sciml_bounds developers"
release = version = importlib.metadata.version("sciml-bounds")

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "jupyter_execute"]
default_role = "py:obj"
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks are committed with their output, which the tests check
autosummary_generate = True
autodoc_typehints = "none"  # docstrings give types, shapes and units
numpydoc_show_class_members = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# --- appearance -------------------------------------------------------------------------------------------------------

templates_path = ["_templates"]
html_theme = "pydata_sphinx_theme"
html_title = "sciml_bounds"
html_theme_options = {
    "logo": {"text": "sciml_bounds"},
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
mathjax_path = "mathjax/tex-chtml.js"

# --- sources that lie elsewhere ---------------------------------------------------------------------------------------


def mathjax_files() -> Path:
    """Return the folder of MathJax in its Python package."""
    entry = next(
        file for file in importlib.metadata.files("sphinx-mathjax-offline") or () if file.name == "tex-chtml.js"
    )
    return Path(str(entry.locate())).parent


def write_chapters() -> None:
    """Write one page for each chapter, with all its public names; those on top have their pages already."""
    folder = SOURCE / "reference" / "chapters"
    for stale in (folder, SOURCE / "reference" / "names"):
        shutil.rmtree(stale, ignore_errors=True)
    folder.mkdir()
    for chapter in (name for name in sb.__all__ if inspect.ismodule(getattr(sb, name))):
        module, title = getattr(sb, chapter), f"sciml_bounds.{chapter}"
        names = [name for name in module.__all__ if not name.isupper()]
        on_top = [name for name in names if getattr(sb, name, None) is getattr(module, name)]
        lines = [title, "=" * len(title), "", f".. automodule:: {title}", "   :no-members:", ""]
        if set(names) - set(on_top):
            lines += [
                f".. currentmodule:: {title}",
                "",
                ".. autosummary::",
                "   :toctree: names",
                "   :nosignatures:",
                "",
            ]
            lines += [f"   {name}" for name in names if name not in on_top]
        if on_top:
            lines += [
                "",
                ".. currentmodule:: sciml_bounds",
                "",
                "On top:",
                "",
                ".. autosummary::",
                "   :nosignatures:",
                "",
            ]
            lines += [f"   {name}" for name in on_top]
        (folder / f"{chapter}.rst").write_text("\n".join(lines) + "\n")


#: The sections of the gallery, and the scripts of `examples/` in each.
GALLERY = {
    "Certificates": (
        "solve_and_certify", "certify_a_wrong_answer", "find_a_fault", "effective_permeability", "convergence_order",
    ),
    "Problems and solvers": (
        "boundary_conditions", "three_dimensions", "batch_of_problems", "heat_equation", "multigrid_iterations",
        "scipy_drop_in",
    ),
    "Neural operators and learned solvers": (
        "predict_and_certify", "bound_without_a_solve", "learned_cycle", "calibrated_error", "make_a_data_set",
    ),
    "Networks and energies": (
        "barron_width", "network_between_nodes", "greedy_network", "p_laplacian",
    ),
    "Optimisation and inverse problems": (
        "inverse_problem", "optimal_control", "coefficient_estimation", "hanging_chain", "sketched_least_squares",
    ),
    "Flows": (
        "solids_and_pressure", "smoke_plume", "vorticity",
    ),
}  # fmt: skip


#: Titles that are not the name of the script.
TITLES = {"p_laplacian": "p-Laplacian", "scipy_drop_in": "In place of SciPy"}


def run_example(script: Path, folder: Path, sources: bytes) -> None:
    """Run a script of the gallery in a process of its own, unless neither it nor the package has changed since."""
    picture, printed, stamp = (folder / f"{script.stem}.{suffix}" for suffix in ("png", "txt", "sha256"))
    digest = hashlib.sha256(sources + script.read_bytes()).hexdigest()
    if picture.exists() and printed.exists() and stamp.exists() and stamp.read_text() == digest:
        return
    settings = {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(sb.__file__).parents[1])}
    run = subprocess.run(
        [sys.executable, script], cwd=folder, env=os.environ | settings, capture_output=True, text=True
    )
    if run.returncode:
        raise RuntimeError(f"examples/{script.name} failed:\n{run.stderr}")
    printed.write_text(run.stdout)
    stamp.write_text(digest)


def write_if_changed(path: Path, text: str) -> None:
    """Write a page, but keep the time of one that has not changed: Sphinx reads it again only where it has."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def write_gallery() -> None:
    """Make the pictures of the examples, a page for each example, and the index with a card for each."""
    folder = SOURCE / "gallery"
    folder.mkdir(exist_ok=True)
    scripts = {path.stem: path for path in sorted((ROOT / "examples").glob("*.py"))}
    listed = [name for names in GALLERY.values() for name in names]
    if sorted(listed) != list(scripts):
        raise RuntimeError(f"GALLERY in docs/conf.py must list each example once: {set(listed) ^ set(scripts)}")
    package = sorted(path for path in Path(sb.__file__).parent.rglob("*") if path.suffix in {".py", ".cpp", ".hpp"})
    sources = b"".join(path.read_bytes() for path in package)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        list(pool.map(lambda script: run_example(script, folder, sources), scripts.values()))
    index = [
        "# Gallery",
        "Short scripts, one idea each. Each runs in a few seconds on one core, prints a number or two and writes its "
        "picture; the numbers are checked by `tests/test_examples.py`.",
    ]
    for section, names in GALLERY.items():
        index += [f"## {section}", "::::{grid} 1 2 3 3\n:gutter: 3\n"]
        for name in names:
            title = TITLES.get(name, name.replace("_", " ").capitalize())
            text = scripts[name].read_text()
            module = ast.parse(text)
            parts = (ast.get_docstring(module) or "").split("`")
            parts[::2] = [re.sub(r"([*_<])", r"\\\1", part) for part in parts[::2]]  # code stays as it is
            paragraphs = "`".join(parts)
            page = [
                f"# {title}",
                paragraphs,
                f"```{{image}} {name}.png\n:alt: {title}\n:class: gallery-picture\n```",
                f"`python examples/{name}.py` prints",
                f"```{{literalinclude}} {name}.txt\n:language: text\n```",
                f"```{{literalinclude}} ../../examples/{name}.py\n:language: python\n"
                f":lines: {module.body[1].lineno}-\n```",
            ]
            write_if_changed(folder / f"{name}.md", "\n\n".join(page) + "\n")
            index.append(
                f":::{{grid-item-card}} {title}\n:link: {name}\n:link-type: doc\n:img-top: {name}.png\n"
                f":img-alt: {title}\n:class-card: gallery-card\n\n{paragraphs.split('\n\n')[0]}\n:::"
            )
        index.append("::::")
    index.append("```{toctree}\n:hidden:\n\n" + "\n".join(listed) + "\n```")
    write_if_changed(folder / "index.md", "\n\n".join(index) + "\n")


def copy_pages() -> None:
    """Copy notebooks, cards and the list of changes next to the pages."""
    copied = {
        **{path: f"tutorials/{path.name}" for path in (ROOT / "tutorials").glob("*.ipynb")},
        **{path: f"cards/{path.name}" for path in (ROOT / "datasets").glob("*.md") if path.name != "README.md"},
        ROOT / "CHANGELOG.md": "changes.md",
        ROOT / "CONTRIBUTING.md": "contributing.md",
        ROOT / "datasets" / "job_array.sh": "cards/job_array.sh",
    }
    (SOURCE / "cards").mkdir(exist_ok=True)
    for path, name in copied.items():
        if path.suffix == ".md":
            text = path.read_text().replace("](CONTRIBUTING.md)", "](contributing.md)")
            (SOURCE / name).write_text(text.replace("](../CONTRIBUTING.md)", "](../contributing.md)"))
        else:
            shutil.copyfile(path, SOURCE / name)
    index = (ROOT / "datasets" / "README.md").read_text() + "\n```{toctree}\n:hidden:\n:glob:\n\n*\n```\n"
    (SOURCE / "cards" / "index.md").write_text(index)


def write_benchmarks() -> None:
    """Write the page of benchmarks from what `benchmarks/record.py` kept."""
    parts = [
        "# Benchmarks",
        "Every figure was printed by the command above it; losses are printed like wins. `python benchmarks/record.py "
        "NAME` runs a benchmark and replaces its record, and `make bench` does so for all that need no other data. "
        "Seconds compare within one record only.",
    ]
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        record = json.loads(path.read_text())
        about = ast.get_docstring(ast.parse((ROOT / "benchmarks" / f"{path.stem}.py").read_text())) or ""
        known = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
        parts += [
            f"## {path.stem.replace('_', ' ').capitalize()}",
            about.partition("\n\n")[0],
            f"`{record['command']}`, {record['date']}, {record['seconds']:.0f} s; {record['machine']}; {known}.",
            "```text\n" + "\n".join(record["output"]) + "\n```",
        ]
    (SOURCE / "benchmarks.md").write_text("\n\n".join(parts) + "\n")


def draw_figures() -> None:
    """Draw the pictures of the theory pages that are missing or older than their scripts."""
    matplotlib.use("agg")
    for script in sorted((SOURCE / "theory" / "figures").glob("*.py")):
        picture = script.with_suffix(".png")
        if not picture.exists() or picture.stat().st_mtime < script.stat().st_mtime:
            with contextlib.redirect_stdout(io.StringIO()):
                runpy.run_path(str(script))


def copy_mathjax(app) -> None:
    """Copy MathJax and its fonts next to the style sheet."""
    out = Path(app.outdir) / "_static" / "mathjax"
    source = mathjax_files()
    for path in (source / "tex-chtml.js", *(source / "output" / "chtml" / "fonts" / "woff-v2").glob("*.woff")):
        target = out / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


write_chapters()  # now, since Sphinx looks for pages before it emits its first event
write_gallery()
copy_pages()
write_benchmarks()
draw_figures()

# --- docstrings -------------------------------------------------------------------------------------------------------


def escape(text: str) -> str:
    """Escape what reStructuredText would take for markup, outside backticks."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([|*])|(?<=\w)_(?=\W|$)", lambda m: "\\" + m[0], part) for part in parts[::2]]
    return "`".join(parts)


def plain_docstring(app, what, name, obj, options, lines: list[str]) -> None:
    """Show indented formulas as they are, and escape characters that mean something to reStructuredText."""
    result: list[str] = []
    in_formula = False
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        starts = indent >= 4 and not in_formula and number > 0 and not lines[number - 1].strip()
        sections = any(re.fullmatch(r"\s*(-{4,}|:.*)", earlier) for earlier in lines[:number])
        if starts and not sections:
            result += ["::", ""]
            in_formula = True
        if in_formula and line.strip() and indent == 0:
            in_formula = False
        literal = in_formula or line.lstrip().startswith((">>>", "...", ".. ", ":"))
        result.append(line if literal else escape(line))
    lines[:] = result


def setup(app) -> None:
    """Connect the functions above."""
    app.connect("builder-inited", copy_mathjax)
    app.connect("autodoc-process-docstring", plain_docstring, priority=400)
