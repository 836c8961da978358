"""What is suspicious in an ONNX file, told from its structure; weights stay unread."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx.defs
from google.protobuf.message import DecodeError

from netferry.converters.onnx.sound import check_text
from netferry.converters.onnx.wire import OnnxFile
from netferry.converters.options import Limits
from netferry.errors import MalformedFile, quoted
from netferry.schemas.findings import ODD_SIZE, Finding, Severity, odd_size, reference
from netferry.schemas.messages import Parts
from netferry.schemas.metadata import proto_nodes

_KNOWN = {
    "": "ai.onnx", "ai.onnx": "ai.onnx", "ai.onnx.ml": "ai.onnx.ml", "ai.onnx.preview.training": "training",
    "ai.onnx.training": "training",
}  # fmt: skip
_GONE = {
    "Affine", "ConstantFill", "Crop", "DynamicSlice", "FC", "GRUUnit", "GivenTensorFill", "ImageScaler",
    "ParametricSoftplus", "Scale", "ScaledTanh",
}  # fmt: skip
"""experimental operators of 2017, which converters/passes/opset_up_removed.py says in operators of today"""
_RUNTIMES = ("com.microsoft", "org.pytorch", "pkg.onnxscript", "com.ms", "onnxscript", "netferry")


def scan(path: Path, limits: Limits) -> list[Finding]:
    """Return the findings of an ONNX model.

    Raises:
        NetferryError: the file cannot be read at all.
    """
    token = f"netferry-{secrets.token_hex(16)}"
    with OnnxFile(path, limits) as file:
        structure = file.structure(token)
    try:
        model = onnx.ModelProto.FromString(structure)
    except (DecodeError, UnicodeDecodeError, ValueError):
        raise MalformedFile("not an ONNX model, or damaged", file=path) from None
    places: Counter[str] = Counter()
    try:
        check_text(model, Parts.of(model))
        found = list(_domains(model, {f.domain for f in model.functions}))
        for holder in (model.graph, *model.functions, *(t.algorithm for t in model.training_info)):
            found += _graph(holder, places, token, 0)
    except MalformedFile as error:
        raise error.at(file=path) from None
    for place, count in places.items():
        row = reference("external data", place, None)
        inside = Finding(Severity.NOTE, "external-data", f"{count} tensors lie in {quoted(place)}")
        found.append(inside if row.severity is Severity.WARNING else row)
    return found


def _domains(model: onnx.ModelProto, own: set[str]) -> Iterator[Finding]:
    used: Counter[str] = Counter(node.domain for node in model.graph.node)
    used.update(node.domain for function in model.functions for node in function.node)
    for domain, count in used.items():
        if domain in _KNOWN or domain in own:
            continue
        if domain.startswith(_RUNTIMES):
            yield Finding(Severity.NOTE, "domain", f"{count} operators of {quoted(domain)}, one runtime's own")
        else:
            message = f"{count} operators of the unknown domain {quoted(domain)}: a runtime needs a library for them"
            yield Finding(Severity.WARNING, "domain", message)
    for node in proto_nodes(model):
        if node.domain in ("", "ai.onnx") and not onnx.defs.has(node.op_type) and node.op_type not in _GONE:
            yield Finding(
                Severity.WARNING, "unknown", f"ONNX has no operator {quoted(node.op_type)}", node.name or None
            )


def _graph(
    graph: onnx.GraphProto | onnx.FunctionProto, places: Counter[str], token: str, depth: int
) -> Iterator[Finding]:
    if depth > 100:
        yield Finding(Severity.DANGER, "size", "subgraphs nested more than 100 deep")
        return
    if isinstance(graph, onnx.GraphProto):
        for tensor in graph.initializer:
            yield from _tensor(tensor, places, token)
    for node in graph.node:
        where = node.name or (node.output[0] if node.output else None)
        if node.op_type in ("PyOp", "PythonOp", "PyCustomOp"):
            yield Finding(Severity.DANGER, "code", f"operator {quoted(node.op_type)} runs Python code", where)
        for attribute in node.attribute:
            yield from _attribute(attribute, where, places, token, depth)


def _attribute(
    attribute: onnx.AttributeProto, where: str | None, places: Counter[str], token: str, depth: int
) -> Iterator[Finding]:
    for value in (attribute.i, *attribute.ints):
        if ODD_SIZE < abs(value) < 2**62:  # the largest numbers mean "to the end" in Slice and the like
            yield odd_size(attribute.name, value, where)
    for tensor in ([attribute.t] if attribute.HasField("t") else []) + list(attribute.tensors):
        yield from _tensor(tensor, places, token)
    for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
        yield from _graph(graph, places, token, depth + 1)


def _tensor(tensor: onnx.TensorProto, places: Counter[str], token: str) -> Iterator[Finding]:
    entries = {e.key: e.value for e in tensor.external_data}
    if not all(isinstance(text, str) for entry in entries.items() for text in entry):
        raise MalformedFile("external data at what is not UTF-8")  # protobuf gives bytes for it
    if tensor.data_location == onnx.TensorProto.EXTERNAL and entries.get("location") != token:
        places[entries.get("location", "")] += 1
    for dim in tensor.dims:
        if dim > ODD_SIZE:
            yield odd_size("dimension", dim, tensor.name)
