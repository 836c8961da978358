"""Which opset's form a node has, and whether runtimes of today read it there."""

from __future__ import annotations

import functools
import importlib
import pkgutil

from netferry.converters import passes
from netferry.converters.passes.opset_rules import LOWER, REMOVED
from netferry.converters.passes.opset_schema import raw_schema
from netferry.schemas.ir import ir
from netferry.schemas.model import Model
from netferry.schemas.walk import nodes_of

RUNS_FROM = 7
"""the least opset that runtimes of today read"""

for _module in pkgutil.iter_modules(passes.__path__):
    if _module.name.startswith(("opset_down_", "opset_up_")):
        importlib.import_module(f"{passes.__name__}.{_module.name}")  # the rules register themselves


def level_of(node: ir.Node, opset: int) -> int | None:
    """The opset whose form a node has: its graph's, or the nearest one below that knows the node's attributes.

    Files of 2017 to 2019 carry attributes that their opset had given up (``is_test``, ``broadcast``, ``spatial``).
    None stands for an experimental operator that is gone.
    """
    if node.domain not in ("", "ai.onnx"):
        return opset
    return _level(node.op_type, frozenset(node.attributes), len(node.inputs), opset)


@functools.lru_cache(4096)
def _level(op: str, attributes: frozenset[str], inputs: int, opset: int) -> int | None:
    schema = raw_schema(op, opset)
    if op in REMOVED and schema is None:
        return None
    unknown = [name for name in attributes if schema is not None and name not in schema.attributes]
    # inputs may be missing that were attributes before (all attributes of a Reshape 1 are its shape)
    if schema is None or not (unknown or inputs < schema.min_input) or unknown == ["consumed_inputs"]:
        return opset
    while schema is not None and schema.since_version > 1:
        older = schema.since_version - 1
        schema = raw_schema(op, older)
        if schema is not None and attributes <= {*schema.attributes, "consumed_inputs"}:
            return older
    return opset


def born_deprecated(node: ir.Node, opset: int) -> int | None:
    """The opset that brought a node's form where that form is deprecated and can be said without it, else None.

    ONNX's check refuses such a node, GroupNormalization of 18 to 20.
    """
    return _deprecated(node.op_type, opset) if node.domain in ("", "ai.onnx") else None


@functools.lru_cache(4096)
def _deprecated(op: str, opset: int) -> int | None:
    schema = raw_schema(op, opset)
    known = schema is not None and schema.deprecated and (op, schema.since_version) in LOWER
    return schema.since_version if schema is not None and known else None


def unreadable(model: Model) -> str | None:
    """Why runtimes of today do not read the model at its own opset, or None where they do."""
    opset = model.opset
    for root in (model.graph, *model.ir.functions.values()):
        own = root.opset_imports.get("", opset)
        for node in nodes_of(root):
            if (since := born_deprecated(node, own)) is not None:
                return f"{node.op_type} in the form of opset {since}"
    if not any(node.domain in ("", "ai.onnx") for node in nodes_of(model.graph)):
        return None
    if opset < RUNS_FROM:
        return f"opset {opset}"
    for node in nodes_of(model.graph):
        level = level_of(node, opset)
        if level is None:
            return f"the operator {node.op_type}, which is gone"
        if level != opset or "consumed_inputs" in node.attributes:
            return f"{node.op_type} in the form of opset {min(level, opset - 1)}"
        mode = node.attributes.get("mode")
        if node.op_type == "Upsample" and mode is not None and mode.value == "bilinear":
            return "Upsample with mode=bilinear"
    return None
