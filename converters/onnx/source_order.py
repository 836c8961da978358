"""Values of a file as the source's framework gives them, where they lie in another order."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

from netferry.schemas.layers import LIES
from netferry.schemas.metadata import NAMES


@dataclass(frozen=True)
class Tap:
    """A layer that was asked for, and the value that it gives."""

    asked: str
    layer: str
    type: str
    value: str
    channels_last: bool = False
    """of a value of rank 3 (batch, steps, channels), as transformers have it; others are channels-first"""
    output: str = ""
    """the model's output that gives the value, its axes in the source's order"""
    any_rank: bool = False
    """``channels_last`` is known from the source, and holds for values of any rank"""


def names_of(proto: onnx.ModelProto, key: str) -> dict[str, Any]:
    """What files whose nodes have no metadata say of them by name."""
    text = next((p.value for p in proto.metadata_props if p.key == NAMES), "{}")
    try:
        found = json.loads(text)[key]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def lies_of(proto: onnx.ModelProto, value: str) -> dict[str, Any] | None:
    """Return how a value lies, as its node says (netferry.schemas.layers.LIES); None where it says nothing sensible."""
    node = next((n for n in proto.graph.node if value in n.output[:1]), None)
    if node is None:
        return None
    text = next((p.value for p in node.metadata_props if p.key == LIES), names_of(proto, "lies").get(node.name))
    try:
        raw = json.loads(text) if text is not None else None
        if raw is None or not _is_order(raw["order"]) or len(raw["order"]) > 8:
            return None
        flat = raw.get("flat")
        if flat is not None and (not _is_order(flat["order"]) or not all(0 < s < 1 << 31 for s in flat["sizes"])):
            return None
        return {"order": raw["order"], "flat": flat, "last": raw.get("channels") == "last"}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _is_order(order: list[int]) -> bool:
    return sorted(order) == list(range(len(order)))


def in_source_order(graph: onnx.GraphProto, tap: Tap, lies: dict[str, Any] | None) -> Tap:
    """Let the model give a value as the source has it, by a Transpose at its end where it lies otherwise."""
    plain = tap.value if any(o.name == tap.value for o in graph.output) else f"{tap.value}@output"
    if lies is None:
        return replace(tap, output=plain)
    tap = replace(tap, channels_last=lies["last"], any_rank=True)
    order, flat = lies["order"], lies["flat"]
    name = f"{tap.value}@source"
    if any(o.name == name for o in graph.output):  # asked for twice
        return replace(tap, output=name)
    output = next((o for o in graph.output if o.name == tap.value), None)
    dims = list(output.type.tensor_type.shape.dim) if output is not None else []
    if output is None or len(dims) != len(order) or (flat is None and order == sorted(order)):
        return replace(tap, output=plain)
    if flat is not None:
        sizes, axes = flat["sizes"], flat["order"]
        if len(sizes) != len(axes) or math.prod(sizes) != dims[-1].dim_value:
            return replace(tap, output=plain)
        for end, shape in (("lying", [-1, *(sizes[axis] for axis in axes)]), ("flat", [-1, math.prod(sizes)])):
            graph.initializer.append(onnx.numpy_helper.from_array(np.array(shape, np.int64), f"{name}/{end}"))
        back = [0, *(1 + axes.index(axis) for axis in range(len(axes)))]
        graph.node.extend([
            onnx.helper.make_node("Reshape", [tap.value, f"{name}/lying"], [f"{name}/1"]),
            onnx.helper.make_node("Transpose", [f"{name}/1"], [f"{name}/2"], perm=back),
            onnx.helper.make_node("Reshape", [f"{name}/2", f"{name}/flat"], [name]),
        ])  # fmt: skip
    else:
        perm = [order.index(axis) for axis in range(len(order))]
        graph.node.append(onnx.helper.make_node("Transpose", [tap.value], [name], perm=perm))
        turned = [onnx.TensorShapeProto.Dimension.FromString(dims[place].SerializeToString()) for place in perm]
        del output.type.tensor_type.shape.dim[:]
        output.type.tensor_type.shape.dim.extend(turned)
    output.name = name
    return replace(tap, output=name)
