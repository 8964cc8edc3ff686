"""Progress that is shown only when it is worth it."""

import io
import logging
import sys

import pytest

from ssdrt import progress as module
from ssdrt.progress import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    monkeypatch.setattr(module, "INTERVAL", 0.0)


def run(**options):
    with progress("detect", options.pop("total", 5), **options) as advance:
        for _ in range(5):
            advance(1)


def test_quick_work_shows_nothing(capsys):
    run()
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("impatient")
def test_lines_on_standard_error(capsys):
    run()
    run(total=None)
    run(total=2_500_000, unit="bytes")
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert lines[0] == "detect: 1 of 5 pictures"
    assert lines[4:6] == ["detect: 5 of 5 pictures", "detect: 1 pictures"]
    assert lines[-1] == "detect: 0.0 of 2.5 MB"


@pytest.mark.usefixtures("impatient")
def test_quiet_shows_nothing(capsys):
    run(quiet=True)
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("impatient")
def test_where_the_log_is_quiet_nothing_is_shown(capsys):
    logging.getLogger("ssdrt").setLevel(logging.ERROR)
    run()
    assert capsys.readouterr() == ("", "")


def test_lines_come_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    run()
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("total", [5, None])
def test_bar_in_a_terminal(monkeypatch, total):
    pytest.importorskip("rich", reason="the extra `progress` is not installed")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    run(total=total)
    assert "detect" in terminal.getvalue()
    assert f"5{' of 5' if total else ''} pictures" in terminal.getvalue()


@pytest.mark.usefixtures("impatient")
def test_errors_of_the_body_pass_and_the_bar_ends(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(ZeroDivisionError), progress("detect", 5) as advance:
        advance(1 // 0)
