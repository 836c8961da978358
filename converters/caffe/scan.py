"""What is suspicious in a Caffe network, told from its settings alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from netferry.converters.caffe.fields import decode_net
from netferry.converters.caffe.prototxt import Message, Scalar, parse
from netferry.converters.caffe.read import is_text
from netferry.converters.caffe.wire import WireFile
from netferry.converters.options import Limits
from netferry.errors import LimitExceeded, quoted
from netferry.schemas.findings import ODD_SIZE, Finding, Severity, odd_size, reference

_FILES = {
    "source", "mean_file", "mean_value_file", "root_folder", "output_directory", "label_map_file", "name_size_file",
    "file_name", "shared_memory", "cache_file",
}  # fmt: skip
_CODE = {"Python": "runs the Python class that it names", "PythonLayer": "runs the Python class that it names"}


def scan(path: Path, limits: Limits) -> list[Finding]:
    """Return the findings of a prototxt or caffemodel.

    Raises:
        NetferryError: the file cannot be read at all.
    """
    if not is_text(path):
        with path.open("rb") as file:
            if file.read(4) == b"\x89HDF":
                return []  # a snapshot holds arrays only; opening them is the reader's matter
        with WireFile(path, limits) as wire:
            net = decode_net(wire)
    elif path.stat().st_size > limits.text_bytes:
        raise LimitExceeded(f"a text of {path.stat().st_size} bytes (limit text_bytes={limits.text_bytes})", file=path)
    else:
        net = parse(path.read_bytes().decode("utf-8", "surrogateescape"), limits=limits)
    found: list[Finding] = []
    for message in [*net.messages("layer"), *net.messages("layers")]:
        layer = message.messages("layer")[0] if message.messages("layer") else message  # V0
        found += _layer(layer)
    return found


def _layer(message: Message) -> Iterator[Finding]:
    name, kind = message.text("name") or None, message.text("type")
    if kind in _CODE:
        yield Finding(Severity.DANGER, "code", f"layer type {quoted(kind)} {_CODE[kind]}", name)
    yield from _settings(message, name, 0)


def _settings(message: Message, layer: str | None, depth: int) -> Iterator[Finding]:
    for field in message:
        for value in message.get(field):
            if isinstance(value, Message):
                yield from _settings(value, layer, depth + 1)
            elif isinstance(value, Scalar):
                number = value.as_int()
                if field in _FILES and message.text(field):
                    yield reference(field, message.text(field), layer)
                    break
                if number is not None and abs(number) > ODD_SIZE and "seed" not in field:
                    yield odd_size(field, number, layer)
