"""The command line, `ssdrt COMMAND ...`: one file a command, imported when it is asked for."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NoReturn

from ssdrt import __version__
from ssdrt.cli.stopping import end_on_signals
from ssdrt.errors import SsdrtError

COMMANDS = {
    "detect": "find objects in photos, folders, videos and web addresses",
    "view": "show detections that were written as JSON lines over their video again, without an engine",
    "inspect": "show what a model is: every value that was recovered from its graph, and the node it came from",
    "check": "compare every engine and precision with the reference, on the same pictures",
    "convert": "write a model as ONNX, TensorFlow or UFF",
    "build": "build a model for this machine, as one .ssdrt file",
    "bench": "measure latency and throughput",
    "eval": "measure accuracy on labelled pictures: AP, what a reduced precision costs, pictures a second",
    "train": "learn to find other objects, from labelled pictures",
    "doctor": "say what can run here, what cannot, and what to type",
    "models": "list the models that are known by name",
}
"""Command -> what it does. The file of the same name has `add_arguments(parser)` and `run(args)`, the exit code."""

FAILED, WRONG_USAGE, INTERNAL_ERROR = 1, 2, 70  # argparse's, and sysexits.h's
INTERRUPTED, PIPE_CLOSED = 130, 141  # 128 + the signal's number, as shells have it


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv: the words after `ssdrt`; None takes those that this process was started with.

    Returns
    -------
    exit code: 0 done; 1 something failed, and the message says what; 2 wrong usage; 70 a mistake of ours;
    130 interrupted by Ctrl-C; 141 the reader of standard output has gone. With the environment variable SSDRT_DEBUG
    set, failures come with a traceback.

    Raises
    ------
    SystemExit: with 143, at SIGTERM.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["detect"]:
        from ssdrt.cli.predecessor import translate

        argv[1:] = translate(argv[1:])
    try:
        parser = _parser(argv)
        args = parser.parse_args(argv)
        if args.command is None:
            parser.print_help(sys.stderr)
            return WRONG_USAGE
        _send_log_to_stderr(args.verbose, args.quiet)
        with ExitStack() as stack:
            end_on_signals(stack)
            status: int = args.run(args)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("ssdrt: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:  # the process's door: nobody above could say it better
        return _report(error)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence; the usage has its own --help."""

    def error(self, message: str) -> NoReturn:
        """End with what is wrong."""
        dashed = [word for word in sys.argv[1:] if word.startswith("-") and os.path.lexists(word)]
        hint = f"; a file of that name is written ./{dashed[0]}" if dashed else ""
        self.exit(WRONG_USAGE, f"ssdrt: {message}{hint}; see {self.prog} --help\n")


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of all commands; only the one that is asked for is imported and gets its arguments."""
    parser = _Parser("ssdrt", description="Reads and runs TensorFlow SSD graphs, without TensorFlow.")
    parser.add_argument("--version", action="version", version=f"ssdrt {__version__}")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    wanted = next((word for word in argv if not word.startswith("-")), "")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False
        )
        if name == wanted:
            module = importlib.import_module(f"ssdrt.cli.{name}")
            module.add_arguments(command)
            loudness = command.add_mutually_exclusive_group()
            loudness.add_argument("-q", "--quiet", action="store_true", help="say nothing but results and errors")
            loudness.add_argument("-v", "--verbose", action="store_true", help="say what is being done")
            command.set_defaults(run=module.run)
    return parser


def _send_log_to_stderr(verbose: bool, quiet: bool) -> None:
    import logging

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("ssdrt: %(message)s"))
    log = logging.getLogger("ssdrt")
    log.handlers = [handler]
    log.setLevel(logging.INFO if verbose else logging.ERROR if quiet else logging.WARNING)


def _report(error: Exception) -> int:
    """Say in one line what failed, and return the exit code."""
    if isinstance(error, BrokenPipeError) or isinstance(error.__cause__, BrokenPipeError):
        # What is still buffered would fail again when Python closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    if os.environ.get("SSDRT_DEBUG"):
        import traceback

        traceback.print_exception(error)
    message = " ".join(str(error).split())
    if isinstance(error, SsdrtError):
        print(f"ssdrt: {message}", file=sys.stderr)
        return FAILED
    hint = "please report it with the traceback that SSDRT_DEBUG=1 shows"
    print(f"ssdrt: internal error: {type(error).__name__}: {message}; {hint}", file=sys.stderr)
    return INTERNAL_ERROR
