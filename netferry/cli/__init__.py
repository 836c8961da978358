"""The command line: the verbs of netferry.api. Everything heavy is imported by the verb that needs it."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from importlib import import_module
from typing import NoReturn

import typer

from netferry.cli.app import app, report
from netferry.errors import LimitExceeded, NetferryError

_COMMANDS = (  # one module per family of commands, in the order of --help
    "convert",
    "export",
    "rebatch",
    "verify",
    "inspect",
    "diff",
    "view",
    "scan",
    "predict",
    "quantize",
    "features",
    "heads",
    "data",
    "retrain",
    "package",
    "evaluate",
    "compare",
    "visualize",
    "run",
    "zoo",
    "zoo_sounds",
)
for _module in _COMMANDS:
    import_module(f"netferry.cli.{_module}")


def _terminated(_signal: int, _frame: object) -> NoReturn:
    raise SystemExit(143)


def main() -> None:
    """Run the command line; every error ends in one message on stderr and its exit code."""
    signal.signal(signal.SIGTERM, _terminated)
    gc.set_threshold(50_000, 20, 20)  # a command lives shortly: collecting while it imports costs a tenth of its start
    atexit.register(gc.freeze)  # and a fifth at its end, where the interpreter collects all modules once more
    try:
        code = app(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except NetferryError as error:
        if os.environ.get("NETFERRY_DEBUG"):
            raise
        sys.exit(report(error))
    except typer.Abort:
        sys.exit(130)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except MemoryError:
        if os.environ.get("NETFERRY_DEBUG"):
            raise
        sys.exit(report(LimitExceeded("the memory that is allowed is used up (--sandbox-limit memory=GIB)")))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        usage_exit = _usage_exit(error)
        if usage_exit is not None:
            sys.exit(usage_exit)
        if os.environ.get("NETFERRY_DEBUG"):
            raise
        print(f"error: internal: {type(error).__name__}: {' '.join(str(error).split())[:300]}", file=sys.stderr)
        print("hint: this is a bug of netferry; netferry --debug … shows where", file=sys.stderr)
        sys.exit(1)


def _usage_exit(error: Exception) -> int | None:
    """Show click's own usage errors as it does, and return their exit code."""
    show, code = getattr(error, "show", None), getattr(error, "exit_code", None)
    if show is None or not isinstance(code, int):
        return None
    show()
    return code
