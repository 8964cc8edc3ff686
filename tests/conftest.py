"""What all tests need of the processes that they run in."""

import logging
import os
import shutil
import signal
import tempfile

import pytest

from recorded import BUNDLES

# A shell that starts a job in the background has it ignore Ctrl-C, and so would every process that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config):
    """Where several processes run the tests, they inherit this folder from the one that starts them."""
    if not hasattr(config, "workerinput"):
        os.environ[BUNDLES] = tempfile.mkdtemp(prefix="ssdrt-tests-")
        config.add_cleanup(lambda: shutil.rmtree(os.environ[BUNDLES], ignore_errors=True))


@pytest.fixture(autouse=True)
def _log_level():
    """A command line that was quiet leaves no quiet log to the tests behind it."""
    log = logging.getLogger("ssdrt")
    level = log.level
    yield
    log.setLevel(level)
