"""``sandbox=True``: a verb carried out in a confined child process (see netferry/sandbox.py), for Python callers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

from netferry import errors, sandbox
from netferry.errors import NetferryError
from netferry.schemas.publish import JOURNAL

if TYPE_CHECKING:
    from netferry.schemas.model import Model


def call(verb: str, options: Mapping[str, Any], bounds: sandbox.Bounds | None = None) -> Any:
    """Carry out ``netferry.api.<verb>(**options)`` in a confined child and return its result.

    Args:
        verb: the function's name; its options and result must be plain data and paths.
        options: keyword arguments.
        bounds: limits of the child.

    Raises:
        NetferryError: what the verb raised; MalformedFile where a native library crashed, LimitExceeded where the
            child used up what it may.
    """
    bounds = bounds or sandbox.Bounds()
    request = {
        "verb": verb,
        "options": {k: _plain(v) for k, v in options.items()},
        "bounds": {name: getattr(bounds, name) for name in sandbox.Bounds.__dataclass_fields__},
        "path": [os.path.abspath(p) for p in sys.path],
    }
    journal, told = os.pipe()
    answer, ours = os.pipe()
    os.set_blocking(told, False)
    try:
        with subprocess.Popen(
            [sys.executable, "-c", f"import sys; sys.path[:] = {request['path']!r}\n{_CHILD}", str(ours)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=(told, ours),
            env=os.environ | {JOURNAL: str(told)},
        ) as child:
            os.close(told)
            os.close(ours)
            told = ours = -1
            assert child.stdin is not None
            with suppress(BrokenPipeError):
                child.stdin.write(json.dumps(request).encode() + b"\n")
                child.stdin.flush()
            with os.fdopen(answer, "rb") as pipe:  # stdin stays open: its end tells the child that we are gone
                answer = -1
                text = pipe.read()
            code = child.wait()
        if code < 0:
            sandbox.clean(journal)
            files = [str(v) for v in options.values() if isinstance(v, (str, Path))]
            error = sandbox.error_of(-code, bounds, files)
            assert error is not None
            raise error
        if not text:
            raise NetferryError(f"the child process ended with {code} and gave no answer")
        document = json.loads(text)
    finally:
        for descriptor in (journal, told, answer, ours):
            if descriptor >= 0:
                os.close(descriptor)
    if "error" in document:
        raise _raised(document["error"])
    return document["result"]


_CHILD = "from netferry.api.confined import serve; serve()"


def load(options: Mapping[str, Any], bounds: sandbox.Bounds | None = None) -> Model:
    """Read a network in a child, which hands it over as an ONNX file of ours; it is removed with the model."""
    from netferry.api.reading import load as read
    from netferry.schemas.model import Note, Source

    folder = tempfile.mkdtemp(prefix="netferry-")
    try:
        facts = call("load", {**options, "folder": folder}, bounds)
        model = read(Path(folder) / "model.onnx")
    except BaseException:
        rmtree(folder, ignore_errors=True)
        raise
    source = facts["source"]
    model.source = Source(source["format"], tuple(source["files"]), source["version"], source["details"])
    model.notes = [Note(n["kind"], n["message"], n.get("layer")) for n in facts["notes"]]
    model.frozen = set(facts["frozen"])
    weakref.finalize(model.ir, rmtree, folder, ignore_errors=True)
    return model


def serve() -> None:
    """Be the child: take a request from stdin, give the answer to the descriptor named on the command line."""
    request = json.loads(sys.stdin.buffer.readline())
    options = request["options"]
    files = [v for v in options.values() if isinstance(v, str)]
    sandbox.confine(sandbox.Bounds(**request["bounds"]), sandbox.size_of(files), network=_has_url(files))
    threading.Thread(target=sandbox.end_with, args=(sys.stdin.fileno(),), daemon=True).start()
    from netferry import api
    from netferry.schemas.preprocessing import Preprocessing

    try:
        if options.get("preprocessing") is not None:
            options["preprocessing"] = Preprocessing.from_dict(options["preprocessing"])
        result = _hand_over(options) if request["verb"] == "load" else getattr(api, request["verb"])(**options)
        answer: dict[str, Any] = {"result": result}
    except NetferryError as error:
        answer = {"error": _described(error)}
    except MemoryError:
        used_up = errors.LimitExceeded("the memory that is allowed is used up (Bounds.memory)")
        answer = {"error": _described(used_up)}
    except Exception as error:
        answer = {"error": _described(NetferryError(f"internal: {type(error).__name__}: {error}"))}
    with os.fdopen(int(sys.argv[1]), "wb") as pipe:
        pipe.write(json.dumps(answer, default=str).encode())


def _hand_over(options: dict[str, Any]) -> dict[str, Any]:
    from netferry.api.reading import load as read
    from netferry.api.saving import save

    folder = options.pop("folder")
    model = read(**options)
    source = model.source
    details = {k: v for k, v in source.details.items() if isinstance(v, (str, int, float, bool, list, dict))}
    facts = {
        "source": {"format": source.format, "files": source.files, "version": source.version, "details": details},
        "notes": [note.as_dict() for note in model.notes],
        "frozen": sorted(model.frozen),
    }
    save(model, Path(folder) / "model.onnx", check="structure", allow_placeholders=True)
    return facts


def _described(error: NetferryError) -> dict[str, Any]:
    fields = {k: v for k, v in vars(error).items() if isinstance(v, (str, int, list, tuple))}
    return {"class": type(error).__name__, "fields": fields}


def _raised(described: Mapping[str, Any]) -> NetferryError:
    """The error that a child described; the class comes from our own table of errors."""
    kind = vars(errors).get(described["class"])
    if not (isinstance(kind, type) and issubclass(kind, NetferryError)):
        kind = NetferryError
    error = kind.__new__(kind)
    Exception.__init__(error, described["fields"].get("reason", ""))
    error.file = error.layer = error.hint = None
    for name, value in described["fields"].items():
        setattr(error, name, value)
    return error


def _plain(value: Any) -> Any:
    """An option as JSON can carry it."""
    if hasattr(value, "as_dict"):
        return value.as_dict()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def _has_url(texts: list[str]) -> bool:
    return any("://" in text for text in texts)
