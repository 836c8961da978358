"""What a model says of itself: its netferry metadata, and which input and output make it a picture classifier."""

from __future__ import annotations

import json
from typing import Any

from netferry.errors import MalformedFile, UsageError, quoted
from netferry.runtime.session import Port, Session
from netferry.schemas.sound import SOUND_KEY

PREPROCESSING_KEY, LABELS_KEY, SOURCE_KEY = "netferry.preprocessing", "netferry.labels", "netferry.source"
TASKS_KEY = "netferry.tasks"
"""Keys of the model's metadata: JSON objects, input name -> recipe, output name -> list of labels, or task."""
PICTURE_TYPES = ("float", "double", "float16", "uint8")


def metadata_of(session: Session, key: str) -> dict[str, Any]:
    """Return a JSON object of the model's metadata; empty where there is none.

    Raises:
        MalformedFile: it is no JSON object.
    """
    text = session.metadata.get(key)
    if text is None:
        return {}
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedFile(f"the metadata {key} is no JSON: {quoted(error)[1:-1]}", file=session.file) from None
    if not isinstance(raw, dict):
        raise MalformedFile(f"the metadata {key} is no JSON object", file=session.file)
    return raw


def _no_classifier(session: Session, why: str) -> UsageError:
    ports = "; ".join(str(p) for p in session.inputs), "; ".join(str(p) for p in session.outputs)
    if SOUND_KEY in session.metadata:
        return UsageError(
            f"the model is no classifier of sounds: {why} (inputs {ports[0]}; outputs {ports[1]})",
            file=session.file,
            hint="netferry features takes the embedding of a network that gives one; train-head puts classes behind it",
        )
    return UsageError(
        f"the model is no picture classifier: {why} (inputs {ports[0]}; outputs {ports[1]})",
        file=session.file,
        hint="predict wants one picture in (N x C x H x W or N x H x W x C) and one score per class out",
    )


def picture_input(session: Session, recipes: dict[str, Any]) -> Port:
    """Return the input that takes pictures; UsageError where the model is no picture classifier."""
    if len(session.inputs) != 1:
        raise _no_classifier(session, f"it has {len(session.inputs)} inputs")
    port = session.inputs[0]
    if len(port.shape) != 4 or port.dtype not in PICTURE_TYPES:
        raise _no_classifier(session, f"input {quoted(port.name)} is no picture")
    channels = {d for d in (port.shape[1], port.shape[3]) if not isinstance(d, int) or d in (1, 3)}
    if not channels and port.name not in recipes:
        raise _no_classifier(session, f"input {quoted(port.name)} has neither 1 nor 3 channels")
    return port


def score_output(session: Session, labels: dict[str, Any], name: str | None = None) -> Port:
    """Return the output that holds class scores: the one called ``name``, the one with labels, or the only fitting.

    Raises:
        UsageError: no such output, or several may be class scores.
    """
    if name is not None:
        named = [p for p in session.outputs if p.name == name]
        if not named:
            there = ", ".join(quoted(p.name) for p in session.outputs)
            raise UsageError(f"no output {quoted(name)}, there are {there}", file=session.file)
        return named[0]
    rows = [p for p in session.outputs if p.dtype in ("float", "double", "float16") and _may_be_scores(p.shape)]
    named_rows = [p for p in rows if p.name in labels]
    if len(named_rows) == 1:
        return named_rows[0]
    if len(rows) != 1:
        raise _no_classifier(session, f"{len(rows) or 'none'} of its outputs may be class scores")
    return rows[0]


def _may_be_scores(shape: tuple[int | str | None, ...]) -> bool:
    """(N, C), (N, C, 1, 1), (N, 1, 1, C), or unknown dimensions that may turn out so."""
    if len(shape) == 0:
        return True
    wide = [d for d in shape[1:] if isinstance(d, int) and d != 1]
    return len(shape) in (2, 4) and len(wide) <= 1


def size_of(port: Port, layout: str) -> tuple[int | None, int | None]:
    """Return height and width of a picture input, None where dynamic."""
    height, width = port.shape[1:3] if layout == "NHWC" else port.shape[2:4]
    return (height if isinstance(height, int) else None, width if isinstance(width, int) else None)
