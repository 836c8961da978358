"""What a TensorFlow file is, told from its bytes: a SavedModel, a frozen graph or a TFLite model.

Facts: tensorflow/core/protobuf/saved_model.proto and meta_graph.proto, tensorflow/core/framework/graph.proto and
node_def.proto, the file identifier ``TFL3`` of tensorflow/lite's schema.fbs;
https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from netferry.converters.options import Limits
from netferry.errors import InputError, LimitExceeded, MalformedFile

SAVED_MODEL, GRAPH, TFLITE = "SavedModel", "frozen graph", "TFLite"
_NODE = re.compile(rb"\x0a[\x01-\x7f]([A-Za-z0-9.][A-Za-z0-9_.\\/>-]*)\x12[\x01-\x7f]([A-Z_][A-Za-z0-9_>]*)")
_NEVER_OUTPUTS = {"Const", "Placeholder", "PlaceholderWithDefault", "NoOp", "Assert", "Print", "PrintV2"}


@dataclass
class GraphEnds:
    """Inputs and outputs of a frozen graph, as tensor names (``x:0``)."""

    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)


def kind_of(head: bytes, path: Path) -> str | None:
    """Return which TensorFlow file it is, or None; ``path`` may be a SavedModel's folder (``head`` is empty then)."""
    if os.path.isdir(path):
        return SAVED_MODEL if os.path.isfile(path / "saved_model.pb") else None
    if head[4:8] == b"TFL3":
        return TFLITE
    # ModelProto begins with the same two fields, but its second one is a text, not a message that holds a message
    if head[:3] == b"\x08\x01\x12" and path.name == "saved_model.pb":
        return SAVED_MODEL
    return GRAPH if head[:1] == b"\x0a" and _begins_with_node(head) else None


def _begins_with_node(head: bytes) -> bool:
    """Whether the first field is a message of a name and an operator's name, as NodeDef begins."""
    at = 1
    while at < min(len(head), 11) and head[at] & 0x80:
        at += 1
    inner = head[at + 1 :]
    found = _NODE.match(inner)
    if found is None:
        return False
    return inner[1] == len(found[1]) and inner[found.end(1) + 1] == len(found[2])


def graph_ends(path: Path, limits: Limits) -> GraphEnds:
    """Return the placeholders of a frozen graph and the tensors that no node reads.

    Only names, operators and inputs of the nodes are read; weights are stepped over.

    Raises:
        MalformedFile: not a graph, or truncated.
        LimitExceeded: more nodes or longer names than the limits allow.
    """
    ends = GraphEnds()
    made: list[tuple[str, str]] = []
    read: set[str] = set()
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        while file.tell() < size:
            number, length = field_at(file, size)
            end = file.tell() + length
            if number == 1:
                name, op, inputs = _node(file, end, limits)
                made.append((name, op))
                read.update(i.partition(":")[0] for i in inputs if not i.startswith("^"))  # ^ orders, it reads nothing
                if len(made) > limits.nodes:
                    raise LimitExceeded(f"more than {limits.nodes} nodes (limit nodes)", file=path)
            file.seek(end)
    ends.inputs = [f"{name}:0" for name, op in made if op == "Placeholder"]
    ends.outputs = [f"{name}:0" for name, op in made if name not in read and op not in _NEVER_OUTPUTS]
    if not ends.outputs:
        raise MalformedFile("a graph without outputs: every node is read by another one", file=path)
    return ends


def _node(file: BinaryIO, end: int, limits: Limits) -> tuple[str, str, list[str]]:
    texts: dict[int, list[str]] = {1: [], 2: [], 3: []}
    while file.tell() < end:
        number, length = field_at(file, end)
        if number in texts:
            if length > limits.name_bytes:
                raise LimitExceeded(f"a name of {length} bytes (limit name_bytes={limits.name_bytes})")
            texts[number].append(file.read(length).decode("utf-8", "replace"))
        else:
            file.seek(length, os.SEEK_CUR)
    if len(texts[1]) != 1 or len(texts[2]) != 1:
        raise MalformedFile("a node without a name or an operator", offset=end)
    return texts[1][0], texts[2][0], texts[3]


def field_at(file: BinaryIO, end: int) -> tuple[int, int]:
    """(number, bytes that follow) of a field; the file stands at its content."""
    at = file.tell()
    key = _varint(file)
    wire = key & 7
    if wire == 0:
        start = file.tell()
        _varint(file)
        length = file.tell() - start
        file.seek(start)
    elif wire == 2:
        length = _varint(file)
    elif wire in (1, 5):
        length = 8 if wire == 1 else 4
    else:
        raise MalformedFile("not a TensorFlow graph", offset=at)
    if length > end - file.tell():
        raise MalformedFile("the graph is truncated", offset=at)
    return key >> 3, length


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise MalformedFile("the graph is truncated", offset=file.tell())
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise MalformedFile("a number longer than 64 bits", offset=file.tell())


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"cannot be opened: {error.strerror}", file=path) from None


def files_of(path: Path) -> list[Path]:
    """Return the files of a model: itself, or those of a SavedModel's folder."""
    if path.name == "saved_model.pb":
        path = path.parent
    if not os.path.isdir(path):
        return [path]
    variables = sorted((path / "variables").glob("variables.*"))
    return [path / "saved_model.pb", *(v for v in variables if os.path.isfile(v))]
