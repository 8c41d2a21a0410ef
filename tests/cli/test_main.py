import itertools
import logging
import os
import re
import signal
import subprocess
import sys

import pytest
import torch
from refusals import complaint

import sciml_bounds as sb
from sciml_bounds.cli.main import run

COMMANDS = (
    "solve", "certify", "compare", "generate", "consolidate", "train", "evaluate", "predict", "inspect", "export",
    "import", "demo",
)  # fmt: skip
PROBLEM = ["solve", "--coefficient", "1", "--source", "1", "--shape", "8,8"]


def plain(text: str) -> str:
    """Join the boxes of rich into running text, without colours."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


def test_version(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"sciml-bounds {sb.__version__}\n"


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help(capsys, command):
    assert run([*command, "--help"]) == 0
    out = plain(capsys.readouterr().out)
    assert "Usage: sciml-bounds" in out
    if not command:
        assert "Exit codes: 0 done, 2 bad input or a file that cannot be read or written, 3 not" in out
        for name in COMMANDS:
            assert f" {name} " in out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_flows_and_says_defaults(capsys, monkeypatch, command):
    """Lines are filled up to the end of their paragraph, no flag takes a <bool>, and brackets are no markup."""
    monkeypatch.setenv("COLUMNS", "80")
    assert run([command, "--help"]) == 0
    out = capsys.readouterr().out
    prose = "\n".join(line.strip() for line in out.partition("╭")[0].splitlines())
    for paragraph in prose.split("\n\n"):
        lines = paragraph.strip().splitlines()
        for line, following in itertools.pairwise(lines):
            assert len(line) + 1 + len(following.split()[0]) > 78, (line, following)  # two columns are a margin
    assert "<bool>" not in out
    if command in ("solve", "certify", "compare", "predict"):
        for default in ("f in each cell. [default: 0]", "[default: 1 each]", "[default: all=dirichlet:0]"):
            assert default in plain(out)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["sovle"], "sovle"),
        (["solve"], "--coefficient"),
        (["solve", "--coefficient", "1", "--colour", "red"], "--colour"),
        ([*PROBLEM, "--rtol", "small"], "--rtol"),
        ([*PROBLEM, "--sample", "-1"], "--sample"),
        (["demo", "--fields", "0"], "--fields"),
    ],
)
def test_usage_errors_exit_with_2(capsys, arguments, word):
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert word in plain(captured.err)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")], ids=["host", "device"])
def test_too_little_memory_is_a_sentence(monkeypatch, capsys, error):
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(sb, "solve", fail)
    assert run(PROBLEM) == 2
    complaint(capsys, "memory samples")


def test_a_bug_of_ours_is_a_traceback(monkeypatch):
    """Python turns an exception that leaves `run` into a traceback and exit code 1."""

    def broken(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr(sb, "solve", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        run(PROBLEM)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals(tmp_path, monkeypatch, capsys, number, code):
    """A signal that arrives when the file is written, but not yet in its place."""
    before = signal.getsignal(number)
    monkeypatch.setattr(os, "replace", lambda *_: os.kill(os.getpid(), number))
    assert run([*PROBLEM, "--out", str(tmp_path / "u.nc")]) == code
    sentence = f"sciml-bounds: stopped by {number.name}; no partial file is left."
    assert capsys.readouterr().err.splitlines()[-1] == sentence
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(number) is before


def test_messages_of_the_library_are_lines_on_stderr_while_a_command_runs(monkeypatch, capsys):
    logger = logging.getLogger("sciml_bounds")
    before = (logger.level, list(logger.handlers))
    monkeypatch.setattr(sb, "solve", lambda *_, **__: logger.info("something is compiled") or sys.exit(3))
    assert run(PROBLEM) == 3
    assert capsys.readouterr().err == "sciml-bounds: something is compiled\n"
    assert (logger.level, logger.handlers) == before


def test_the_installed_command(tmp_path):
    """One real process: bad input is one line and no traceback, and asking for help loads nothing heavy."""
    script = (
        "import sys; from sciml_bounds.cli.main import run; code = run(['solve', '--help']);"
        "print(code, sorted({'torch', 'scipy', 'matplotlib', 'xarray'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "0 []"
    command = os.path.join(os.path.dirname(sys.executable), "sciml-bounds")
    done = subprocess.run(
        [command, "solve", "--coefficient", str(tmp_path / "none.npy"), "--source", "1"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("sciml-bounds: the coefficient: ")
    assert f"{tmp_path}/none.npy does not exist" in line
