"""``save``: a model as a checked ONNX file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.api.opsets import at_opset
from netferry.api.reading import StrPath
from netferry.api.run_budget import run_budget
from netferry.errors import UsageError, quoted

if TYPE_CHECKING:
    from netferry.schemas.model import Model


def save(
    model: Model,
    target: StrPath,
    *,
    opset: int | None = None,
    ir_version: int | None = None,
    external_data: bool | None = None,
    check: str = "auto",
    allow_placeholders: bool = False,
    before_publishing: Callable[..., Any] | None = None,
    limits: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Write a model as ONNX, after checking it; the file appears whole or not at all.

    Args:
        model: the model.
        target: the file to write.
        opset: 11 to 26; the graph's own by default, with a note where it is not: 21 where no runtime of today reads
            it (below 7, or with operators of 2017 that are gone), 18 where the model was no ONNX file and holds
            average pools that onnxruntime computes slowly from 19 on.
        ir_version: the lowest that carries the content by default.
        external_data: weights in a second file: True, False, or None for "where the file would pass 1.8 GB".
        check: ``structure`` (full check and strict shape inference), ``run`` (also loaded and run by onnxruntime at
            batch 1 and 3), or ``auto``: run where an onnxruntime is installed.
        allow_placeholders: write layers nobody could read under netferry's own domain.
        before_publishing: called after the run check with the finished file (a large one's structure as bytes, and
            ``weights_folder``) before it takes its place; what it raises keeps the file from appearing.
        limits: other bounds on a run of the check than the defaults (``run_bytes``, ``run_seconds``). One that takes
            more is told as a warning, or where ``check`` is ``run`` as an error.

    Returns:
        What was written and checked: files with sizes, checks with outcome, timings in seconds.

    Raises:
        NetferryError: nothing is written then.
    """
    from netferry import __version__
    from netferry.api.cutting import see_outputs
    from netferry.converters.onnx.write import write
    from netferry.schemas.model import Note

    if check not in ("auto", "structure", "run"):
        raise UsageError(f"check is auto, structure or run, not {check!r}")
    raised = at_opset(model, opset)
    run = _run_check(model, check, allow_placeholders, limits)
    if run is not None and model.source.format == "onnx" and (seen := see_outputs(model, limits)):
        shown = ", ".join(map(quoted, seen))
        model.notes.append(Note("warning", f"the rank of {shown}, which the file does not tell, was seen in a run"))
    if run is not None and check == "auto" and not raised:
        run = _or_like_source(run, model)
    return write(
        model,
        Path(target),
        ir_version=ir_version,
        external="auto" if external_data is None else external_data,
        run_check=run,
        gate=before_publishing,
        allow_placeholders=allow_placeholders,
        producer_version=__version__,
    )


def _run_check(model: Model, check: str, allow_placeholders: bool, limits: Mapping[str, int] | None) -> Any:
    if check == "structure" or (allow_placeholders and model.placeholders()):
        return None
    from importlib.util import find_spec

    if check == "auto" and find_spec("onnxruntime") is None:
        return None
    from threading import Thread

    from netferry.runtime.verify import run_check
    from netferry.runtime.vocabulary import declared

    budget = run_budget(limits)
    Thread(target=_import_runtime).start()  # while the weights are written
    return partial(run_check, budget=budget, insist=check == "run", declare=partial(declared, model=model))


def _or_like_source(run: Callable[..., dict[str, Any]], model: Model) -> Callable[..., dict[str, Any]]:
    """A run check that lets pass, with a warning, what onnxruntime does not run in the ONNX source either.

    Operators that it has no kernel for and custom domains go through untouched; ``check="run"`` insists.
    """
    from netferry.errors import CheckFailed, MalformedFile, NetferryError
    from netferry.schemas.model import Note

    def checked(file: Any, **where: Any) -> dict[str, Any]:
        try:
            return run(file, **where)
        except (CheckFailed, MalformedFile) as error:
            if model.source.format != "onnx" or not model.source.files:
                raise
            try:
                run(model.source.files[0])
            except NetferryError:
                text = f"onnxruntime does not run the source either: {error.reason}"
                model.notes.append(Note("warning", text))
                return {"runs": [], "warnings": [text]}
            raise

    return checked


def _import_runtime() -> None:
    from contextlib import suppress

    with suppress(Exception):  # the check itself says what is missing
        import_module("onnxruntime")
