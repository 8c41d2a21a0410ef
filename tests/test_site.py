"""The built site in a real browser: `make docs` builds it and runs these tests."""

from __future__ import annotations

import functools
import html
import http.server
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

SITE = Path(__file__).parents[1] / "docs" / "_build"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PAGES = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html") if "_static" not in path.parts)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PAGES, reason="the site is not built: make docs"),
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium"),
]

#: Loads every page in a frame as wide as a phone, and reports what is wrong with it.
CHECK = """<!doctype html><body><iframe id="frame" style="width:390px;height:844px;border:0"></iframe>
<pre id="out"></pre>
<script>
const pages = %s, frame = document.getElementById("frame"), found = {};
const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
async function check(page) {
  await new Promise((resolve) => { frame.onload = resolve; frame.src = "/" + page; });
  const inside = frame.contentWindow, root = inside.document.documentElement;
  const raw = () => inside.document.querySelectorAll(".math:not(:has(mjx-container))").length;
  for (let i = 0; i < 40 && raw(); i++) await wait(250);
  found[page] = {
    title: inside.document.title,
    unrendered: raw(),
    wrong: inside.document.querySelectorAll("mjx-merror, [data-mjx-error]").length,
    wide: root.scrollWidth - root.clientWidth,
    outside: [...inside.document.querySelectorAll("script[src],link[rel=stylesheet],img[src]")]
      .map((node) => node.src || node.href).filter((address) => !address.startsWith(location.origin)),
  };
}
(async () => {
  for (const page of pages) await check(page);
  document.getElementById("out").textContent = "found:" + JSON.stringify(found) + ":end";
})();
</script></body>"""


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves the site, and the page that checks it."""

    def do_GET(self) -> None:
        if not self.path.startswith("/__check__"):
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write((CHECK % json.dumps(PAGES)).encode())

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(SITE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def visit(url: str, budget: int) -> tuple[str, list[str]]:
    """Return the document after its scripts have run, and the errors on the console."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--window-size=1200,900"]
    command = [BROWSER, *options, f"--virtual-time-budget={budget}", "--dump-dom", url]
    run = subprocess.run(command, capture_output=True, text=True)
    errors = [line for line in run.stderr.splitlines() if "CONSOLE" in line and "rror" in line]
    return run.stdout, errors


def test_every_page_loads_renders_its_formulas_and_fits_a_phone(address):
    document, errors = visit(f"{address}/__check__", 1000 * 60 * 30)
    report = re.search(r"found:(\{.*?\}):end", html.unescape(document), re.DOTALL)
    assert report, "the check did not end"
    found = json.loads(report[1])
    assert set(found) == set(PAGES)
    assert errors == []
    for name in ("unrendered", "wrong", "wide", "outside"):
        assert {page: about[name] for page, about in found.items() if about[name]} == {}, name
    assert all(about["title"] for about in found.values())


def test_the_search_finds_a_public_name(address):
    document, errors = visit(f"{address}/search.html?q=certify", 20_000)
    assert errors == []
    results = re.findall(r'<a href="([^"]+)"[^>]*>', document.partition('id="search-results"')[2])
    assert any("certify" in target for target in results)
