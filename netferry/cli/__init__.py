"""The command line: the verbs of netferry.api. Everything heavy is imported by the verb that needs it."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import typer

from netferry.cli.app import app, report
from netferry.errors import LimitExceeded, NetferryError
from netferry.sandbox import JOURNAL

COMMANDS = {  # each module of commands and the names that it registers, in the order of --help
    "convert": ("convert", "optimize"),
    "export": ("export",),
    "rebatch": ("rebatch",),
    "verify": ("verify",),
    "inspect": ("inspect", "formats", "layers", "doctor"),
    "diff": ("diff",),
    "view": ("view",),
    "scan": ("scan",),
    "predict": ("predict",),
    "quantize": ("quantize",),
    "features": ("features", "merge-features"),
    "heads": ("train-head",),
    "data": ("data",),
    "retrain": ("retrain", "advise"),
    "package": ("package",),
    "evaluate": ("evaluate",),
    "compare": ("compare",),
    "visualize": ("visualize",),
    "run": ("run",),
    "zoo": ("zoo",),
    "zoo_sounds": ("zoo",),
}


def register(command: str | None = None) -> None:
    """Put commands on the root: all of them, or the one that will run, as the others cost a sixth of its start."""
    wanted = [module for module, names in COMMANDS.items() if command in names]
    for module in wanted or COMMANDS:
        import_module(f"netferry.cli.{module}")


def _asked(words: Sequence[str]) -> str | None:
    """The command in a command line, None where it is not plain which: the first word that is no option."""
    options_with_value = ("--sandbox-limit",)
    before = ""
    for word in words:
        if not word.startswith("-") and before not in options_with_value:
            return word
        if word in ("-h", "--help"):
            return None
        before = word
    return None


def _terminated(_signal: int, _frame: object) -> NoReturn:
    raise SystemExit(143)


def _leave(code: int) -> NoReturn:
    """End with an exit code; a confined child at once, as its modules need not be taken apart one by one."""
    if JOURNAL in os.environ:
        threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue] # what the interpreter does first, too
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def main() -> None:
    """Run the command line; every error ends in one message on stderr and its exit code."""
    signal.signal(signal.SIGTERM, _terminated)
    gc.set_threshold(50_000, 20, 20)  # a command lives shortly: collecting while it imports costs a tenth of its start
    atexit.register(gc.freeze)  # and a fifth at its end, where the interpreter collects all modules once more
    try:
        register(None if "_NETFERRY_COMPLETE" in os.environ else _asked(sys.argv[1:]))
        code = app(standalone_mode=False)
        _leave(code if isinstance(code, int) else 0)
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
