"""Reports of the commands: one page with everything inside."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from sciml_bounds.cli.main import run

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page(HTMLParser):
    """Cells of the tables, by rows, and what the page loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.loads: list[str] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.loads += [value for name, value in attrs if name in ("src", "href")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self.inside = tag in ("td", "th")

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += data


COMPARE = ["compare", "--coefficient", "1", "--source", "1", "--shape", "8,8", "--methods", "cg,scipy:spsolve"]
CERTIFY = ["certify", "--coefficient", "1", "--source", "1", "--shape", "8,8", "--values", "0.05"]


@pytest.mark.parametrize("command", [COMPARE, CERTIFY], ids=lambda command: command[0])
def test_a_report_is_one_page_with_everything_inside(command, tmp_path, capsys):
    path = tmp_path / "report.html"
    assert run([*command, "--report", str(path)]) == 0
    text = path.read_text()
    page = Page(text)
    assert all(address.startswith("data:image/png;base64,") for address in page.loads)
    assert len(page.loads) == 1
    assert "torch" in text
    first = [row[0] for row in page.rows]
    assert {"method", "cg", "scipy:spsolve"} <= set(first) or {"quantity", "energy error (bound)"} <= set(first)
    assert len({len(row) for row in page.rows}) == 1


def test_a_report_needs_the_ending_of_a_page(tmp_path, capsys):
    assert run([*CERTIFY, "--report", str(tmp_path / "report.pdf")]) == 2
    assert ".html" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
def test_a_click_on_a_heading_sorts(tmp_path, capsys):
    path = tmp_path / "report.html"
    assert run([*COMPARE, "--report", str(path)]) == 0
    clicks = "<script>for (const i of [0, 0]) document.querySelectorAll('th')[i].click();</script></body>"
    path.write_text(path.read_text().replace("</body>", clicks))
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    done = subprocess.run([*command, path.as_uri()], capture_output=True, text=True)
    assert not re.findall(r"CONSOLE.*rror", done.stderr)
    assert [row[0] for row in Page(done.stdout).rows] == ["method", "scipy:spsolve", "cg"]
