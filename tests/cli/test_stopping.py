"""Signals that come where a lock is being taken."""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from types import SimpleNamespace

import pytest

from ssdrt import cli
from ssdrt.cli import models
from ssdrt.cli.stopping import TERMINATED, end_on_signals


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_lock_that_was_just_taken_is_given_back(number, raised):
    """The signal comes inside `Condition.__enter__`, behind the call that takes the lock."""
    said = []
    lock = SimpleNamespace(acquire=None, release=None, __enter__=partial(signal.raise_signal, number),
                           __exit__=lambda *_: said.append("given back"))  # fmt: skip

    def take():
        with ExitStack() as stack:
            end_on_signals(stack)
            with threading.Condition(lock):
                said.append("taken")
                threading.Event().wait(20)

    with pytest.raises(raised) as told:
        take()
    assert said == ["taken", "given back"]
    assert getattr(told.value, "code", TERMINATED) == TERMINATED


def test_what_was_there_before_is_there_again():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with ExitStack() as stack:
        end_on_signals(stack)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_every_command_ends_by_sigterm_as_by_ctrl_c(monkeypatch):
    closed = []

    def run(_):
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            closed.append("outputs")

    monkeypatch.setattr(models, "run", run)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as told:
        cli.main(["models"])
    assert (told.value.code, closed, signal.getsignal(signal.SIGTERM)) == (TERMINATED, ["outputs"], before)


def test_commands_run_in_other_threads_too(capsys):
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(cli.main, ["models"]).result(60) == 0
    assert "person-hand" in capsys.readouterr().out
