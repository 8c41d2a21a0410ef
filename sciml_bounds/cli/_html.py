"""Reports as one self-contained HTML page: tables that sort, pictures, versions and the command."""

from __future__ import annotations

import base64
import datetime
import html
import io
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Table", "check_report", "write_report"]

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { cursor: pointer; background: #f4f4f4; }
img { max-width: 100%; }
footer { color: #555; font-size: .9rem; margin-top: 2rem; border-top: 1px solid #ddd; }
code { background: #f4f4f4; padding: .1rem .3rem; overflow-wrap: anywhere; }
"""

_SCRIPT = """
for (const head of document.querySelectorAll("th")) head.addEventListener("click", () => {
  const column = head.cellIndex, body = head.closest("table").tBodies[0], rising = head.dataset.order !== "rising";
  for (const other of head.parentNode.cells) delete other.dataset.order;
  head.dataset.order = rising ? "rising" : "falling";
  const key = (row) => {
    const text = row.cells[column].textContent, n = parseFloat(text);
    return isNaN(n) ? text : n;
  };
  const order = (a, b) => typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;
  const rows = [...body.rows].sort((a, b) => order(key(a), key(b)) * (rising ? 1 : -1));
  body.append(...rows);
});
"""


@dataclass(frozen=True)
class Table:
    """A table of a report: caption, headings and rows of text."""

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


def check_report(path: Path | None) -> None:
    """Raise unless a report can be written to the path; None is no report.

    Raises
    ------
    InputError
        If the name does not end in .html, or the folder does not exist.
    """
    from sciml_bounds.store.safety.writer import check_target

    if path is not None:
        check_target(path, (".html",))


def write_report(path: Path, title: str, tables: Sequence[Table], figures: Mapping[str, Figure]) -> None:
    """Write a page that needs nothing outside: styles, scripts and pictures are inside.

    Parameters
    ----------
    path
        Where, ending in .html; the old file stays until the new one is complete.
    title
        Heading of the page.
    tables
        Shown in order; a click on a heading sorts.
    figures
        Pictures by their captions.
    """
    from sciml_bounds.store.safety.writer import replacing

    parts = [_table(table) for table in tables]
    parts += [f"<h2>{html.escape(caption)}</h2>{_image(figure, caption)}" for caption, figure in figures.items()]
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head>\n<body><h1>{html.escape(title)}</h1>\n"
        + "\n".join(parts)
        + f"\n<footer>{_origin()}</footer><script>{_SCRIPT}</script></body></html>\n"
    )
    with replacing(path) as part:
        part.write_text(page, encoding="utf-8")


def _table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.headings)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    caption = f"<caption>{html.escape(table.caption)}</caption>"
    return f'<div class="scroll"><table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _image(figure: Figure, caption: str) -> str:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    data = base64.b64encode(content.getvalue()).decode()
    return f'<img alt="{html.escape(caption)}" src="data:image/png;base64,{data}">'


def _origin() -> str:
    """Return command, date, versions and machine."""
    import torch

    import sciml_bounds

    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    versions = f"sciml_bounds {sciml_bounds.__version__}, torch {torch.__version__}, Python {platform.python_version()}"
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    threads = f"{torch.get_num_threads()} threads"
    return f"<p><code>{html.escape(command)}</code></p><p>{date}; {versions}; {platform.platform()}, {threads}.</p>"
