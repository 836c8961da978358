"""The Darknet importer: cfg, or cfg and weights, to a model."""

from __future__ import annotations

import os
from pathlib import Path

import netferry.converters.darknet.layers  # noqa: F401 -- registers the readers
from netferry.converters.darknet.cfg import parse
from netferry.converters.darknet.network import build
from netferry.converters.darknet.weights import WeightsFile
from netferry.converters.options import Limits, ReadOptions
from netferry.errors import InputError, LimitExceeded, MalformedFile, NetferryError, UsageError
from netferry.schemas.model import Model, Source
from netferry.schemas.model_folder import ModelFolder
from netferry.schemas.opening import missing


def read(path: Path, options: ReadOptions) -> Model:
    """Read a Darknet net.

    Args:
        path: the cfg (or the weights: then ``options.weights`` is the cfg).
        options: see :class:`ReadOptions`.

    Raises:
        NetferryError: with file and layer.
    """
    first, second = _existing(path), None if options.weights is None else _existing(options.weights)
    if not _is_text(first):
        if second is None:
            raise UsageError("a weights file needs its cfg", file=path, hint="netferry convert net.cfg net.weights")
        first, second = second, first
    if not _is_text(first) or (second is not None and _is_text(second)):
        raise MalformedFile("one file should be a cfg (text), the other its weights", file=second or first)
    current = first
    try:
        sections = parse(_text(first, options.limits), options.limits)
        if not sections or sections[0].type not in ("net", "network"):
            raise MalformedFile("a cfg begins with [net]")
        if len(sections) == 1:
            raise MalformedFile("the cfg has no sections behind [net]")
        weights = None if second is None else WeightsFile(second)
        built = build(sections[0], sections[1:], weights, options, ModelFolder(first))
    except NetferryError as error:
        raise error.at(file=current) from None
    built.model.graph.name = first.stem
    details: dict[str, object] = {"layers": dict(sorted(built.layers.items()))}
    if built.classes:
        details["classes"] = built.classes
    return Model(
        built.model,
        source=Source(
            "darknet",
            tuple(str(p.resolve()) for p in (first, second) if p is not None),
            None if weights is None else weights.header.version,
            details,
        ),
        preprocessing=built.preprocessing,
        notes=list(dict.fromkeys(built.notes)),
    )


def _existing(path: Path) -> Path:
    if not os.path.exists(path):
        raise missing(path)
    if not os.path.isfile(path):
        raise InputError("not a regular file", file=path)
    return path


def _is_text(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(4096)
    return bool(head) and not any(b < 9 or 13 < b < 32 for b in head)


def _text(path: Path, limits: Limits) -> str:
    size = path.stat().st_size
    if size > limits.text_bytes:
        raise LimitExceeded(f"a text of {size} bytes (limit text_bytes={limits.text_bytes})")
    return path.read_bytes().decode("utf-8", "backslashreplace")
