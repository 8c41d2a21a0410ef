"""Without a terminal, one line per epoch shows the remaining time."""

import re

from sciml_bounds.training._display import _duration
from sciml_bounds.training._trainer import train


def test_lines_on_stderr_only_when_asked(make, data, capsys):
    train(make(), *data, loss="l2", epochs=3)
    assert capsys.readouterr() == ("", "")
    train(make(), *data, loss="l2", epochs=3, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 3
    pattern = r"loss [\d.]+, validation [\d.]+ in epoch {} of 3, \d+:\d\d:\d\d left"
    assert all(re.fullmatch(pattern.format(i + 1), line) for i, line in enumerate(lines))
    assert lines[-1].endswith("0:00:00 left")


def test_a_bar_on_a_terminal(make, data, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    train(make(), *data, loss="l2", epochs=2, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "100%" in err


def test_durations():
    assert [_duration(t) for t in (0, 59.6, 3600, 100000)] == ["0:00:00", "0:01:00", "1:00:00", "27:46:40"]
