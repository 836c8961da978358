"""Does a node fit its operator's schema? Inputs and outputs that must be there, and types of attributes."""

from __future__ import annotations

import functools

import onnx

from netferry.converters.onnx.words import check_words
from netferry.errors import MalformedFile

_NEWEST = 1 << 20
"""a version of which onnx gives the last form of an operator"""
_KINDS = onnx.AttributeProto
_MESSAGES = {
    _KINDS.TENSOR: "t", _KINDS.GRAPH: "g", _KINDS.SPARSE_TENSOR: "sparse_tensor", _KINDS.TYPE_PROTO: "tp",
}  # fmt: skip
"""types of attributes whose value is a message, and the field that it lies in"""
_TYPES = frozenset(onnx.TensorProto.DataType.values())
_TYPED = frozenset({"to", "dtype", "output_dtype", "output_datatype", "precision", "softmax_precision", "stash_type"})
"""attributes that name an element type"""
_MOST_AXES = 64
"""beyond which onnx's inference reads what is not there"""
_LARGEST = (1 << 31) - 1
"""as of a dimension: onnx's inference adds and multiplies such numbers, and does not see when they overflow"""
_AXES = ("axes", "axis", "batch_axis", "perm", "scan_input_axes", "scan_output_axes", "time_axis")
_SIZES = (
    "block_size", "blocksize", "chunk_size", "dilations", "group", "hidden_size", "kernel_shape", "kv_num_heads",
    "num_groups", "num_heads", "offset_group", "output_height", "output_padding", "output_shape", "output_width",
    "paddings", "pads", "pooled_shape", "q_num_heads", "rotary_embedding_dim", "sample_size", "shape", "strides",
)  # fmt: skip
_BOUNDS: dict[str, int] = {**dict.fromkeys(_AXES, _MOST_AXES), **dict.fromkeys(_SIZES, _LARGEST)}
"""attributes that count axes, places or elements, and how far from 0 they may be"""


def check_schema(node: onnx.NodeProto, opset: int) -> None:
    """Raise where a node of one of ONNX's own domains does not fit its operator, in whatever version up to ``opset``.

    Raises:
        MalformedFile: too many or too few inputs or outputs, one that is needed has no name, an attribute of another
            type, one that is needed and lacks, an element type that there is not.
    """
    domain = "" if node.domain == "ai.onnx" else node.domain
    inputs, outputs = node.input, node.output
    opset, takes, (needed, types, given_up) = _rules(node.op_type, domain, opset, len(inputs), len(outputs))
    if not takes:
        _check_count(node, domain, opset)
    if needed or node.attribute:
        _check_attributes(node, needed, types, given_up)
        if domain == "":
            check_words(node)
    if "" in inputs or "" in outputs:
        _check_left_out(node, domain, opset)


def is_empty(attribute: onnx.AttributeProto) -> bool:
    """Whether an attribute says that it holds a message and holds none."""
    field = _MESSAGES.get(attribute.type)
    return field is not None and not attribute.HasField(field) and not attribute.ref_attr_name


@functools.lru_cache(4096)
def _rules(
    op: str, domain: str, opset: int, inputs: int, outputs: int
) -> tuple[int, bool, tuple[frozenset[str], dict[str, set[int]], frozenset[str]]]:
    """The opset that a node is judged at, whether it may have so many inputs and outputs, and its attributes."""
    opset = _judged_at(op, opset) if domain == "" else _NEWEST
    return opset, _takes(op, domain, opset, inputs, outputs), _attributes(op, domain, opset)


@functools.lru_cache(4096)
def _judged_at(op: str, opset: int) -> int:
    """The opset, or the first that has the operator: what a file is too old for is taken for what came later."""
    if onnx.defs.has(op, opset):
        return opset
    first, version = opset, _NEWEST
    while version > 0 and onnx.defs.has(op, version):
        first = onnx.defs.get_schema(op, version).since_version
        version = first - 1
    return first


@functools.lru_cache(4096)
def _takes(op: str, domain: str, opset: int, inputs: int, outputs: int) -> bool:
    """Whether the operator has so many inputs and outputs, at the opset or (old files are behind theirs) before."""
    known = False
    while opset > 0:
        try:
            schema = onnx.defs.get_schema(op, opset, domain)
        except onnx.defs.SchemaError:
            return not known  # not ONNX's, or not yet: told elsewhere
        known = True
        takes = schema.min_input <= inputs <= schema.max_input
        if takes and schema.min_output <= outputs <= schema.max_output:
            return True
        opset = schema.since_version - 1
        if opset == 0:
            return False
    return True


def _check_count(node: onnx.NodeProto, domain: str, opset: int) -> None:
    """Raise where a node has too many or too few inputs or outputs, those at the end left out that have no name."""
    counts = []
    for names in (list(node.input), list(node.output)):
        while names and not names[-1]:
            names.pop()
        counts.append(len(names))
    if not _takes(node.op_type, domain, opset, *counts):
        reason = f"{node.op_type} with {counts[0]} inputs and {counts[1]} outputs, which no version of it has"
        raise MalformedFile(reason, layer=node.name or node.op_type)


@functools.lru_cache(4096)
def _required(op: str, domain: str, opset: int) -> tuple[frozenset[int], frozenset[int]]:
    """The places of the inputs and of the outputs that an operator cannot do without."""
    try:
        schema = onnx.defs.get_schema(op, opset, domain)
    except onnx.defs.SchemaError:
        return frozenset(), frozenset()
    single = onnx.defs.OpSchema.FormalParameterOption.Single
    return (
        frozenset(i for i, p in enumerate(schema.inputs) if p.option == single),
        frozenset(i for i, p in enumerate(schema.outputs) if p.option == single),
    )


def _check_left_out(node: onnx.NodeProto, domain: str, opset: int) -> None:
    """Raise where an input or output that the operator needs has no name."""
    needed = _required(node.op_type, domain, opset)
    for places, names, what in zip(needed, (node.input, node.output), ("input", "output"), strict=True):
        for i, name in enumerate(names):
            if not name and i in places:
                raise MalformedFile(f"{node.op_type} needs its {what} {i}", layer=node.name or node.op_type)


def _check_attributes(
    node: onnx.NodeProto, needed: frozenset[str], types: dict[str, set[int]], given_up: frozenset[str]
) -> None:
    """Raise where an attribute has another type than in the operator, or one that is needed lacks."""
    for attribute in node.attribute:
        kind, name = attribute.type, attribute.name
        if kind and name in types and kind not in types[name]:
            reason = f"{node.op_type} has no attribute {name} of type {_KINDS.AttributeType.Name(kind)}"
            raise MalformedFile(reason, layer=node.name or node.op_type)
        if name in _TYPED and kind == _KINDS.INT and attribute.i not in _TYPES:
            raise MalformedFile(f"{name}={attribute.i} is no element type", layer=node.name or node.op_type)
        if (bound := _BOUNDS.get(name)) is not None and kind in (_KINDS.INT, _KINDS.INTS):
            beyond = next((n for n in (attribute.i, *attribute.ints) if not -bound <= n <= bound), None)
            if beyond is not None:
                raise MalformedFile(f"{name} of {beyond}, no more than {bound}", layer=node.name or node.op_type)
    if needed:
        names = {a.name for a in node.attribute}
        missing = needed - names
        if missing and not names & given_up:  # else it is written as an older opset has it, which needs others
            raise MalformedFile(f"{node.op_type} needs {', '.join(sorted(missing))}", layer=node.name or node.op_type)


@functools.lru_cache(1024)
def _attributes(op: str, domain: str, opset: int) -> tuple[frozenset[str], dict[str, set[int]], frozenset[str]]:
    """What an operator needs at an opset, the types of the attributes that it has or had, and those that it gave up."""
    needed: frozenset[str] | None = None
    known, current = frozenset[str](), 0
    types: dict[str, set[int]] = {}
    while opset > 0:
        try:
            schema = onnx.defs.get_schema(op, opset, domain)
        except onnx.defs.SchemaError:
            break
        if needed is None:
            needed = frozenset(name for name, a in schema.attributes.items() if a.required)
            known, current = frozenset(schema.attributes), schema.since_version
        for name, a in schema.attributes.items():
            if name not in known or schema.since_version == current:
                types.setdefault(name, set()).add(int(a.type.value))  # pyright: ignore[reportAttributeAccessIssue]
        opset = schema.since_version - 1
    return needed or frozenset(), types, frozenset(types) - known
