"""BatchNormalization, and multiplication and addition per channel, into the Conv, ConvTranspose or Gemm beside them.

All of these are ``scale * x + shift`` with one pair of numbers per channel (axis 1). After a layer that goes into its
kernel's outputs and its bias. Before a layer it goes into the kernel's inputs and, where no padding mixes zeros in that
the shift did not reach, into the bias.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from netferry.converters.passes.constants import fixed, weight
from netferry.converters.passes.editing import (
    Edit,
    attr,
    change_tensor,
    feed,
    given,
    graph_pass,
    made_by,
    only_reader,
    same_graph,
    set_attr,
    sole,
    word,
)
from netferry.schemas.ir import ir
from netferry.schemas.layers import ROLE, Role, role_of

_LAYERS = ("Conv", "ConvTranspose", "Gemm")
_FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


@dataclass
class _Affine:
    """What a node does per channel."""

    data: ir.Value
    scale: np.ndarray
    """float64, one per channel or a single one"""
    shift: np.ndarray


@graph_pass("affine-after", "full")
def fold_after(edit: Edit) -> bool:
    """BatchNormalization, Mul, Add, Sub and Div by constants go into the Conv, ConvTranspose or Gemm before them"""
    changed = False
    for node in edit.nodes("BatchNormalization", "Mul", "Add", "Sub", "Div"):
        found = _affine(edit, node)
        if found is None:
            continue
        layer = made_by(found.data, *_LAYERS)
        if layer is None or not same_graph(layer, node):
            continue
        if only_reader(found.data) is not node:
            edit.why(node, "what it works on is read elsewhere too")
            continue
        if _into_outputs(edit, layer, found):
            edit.put(node, layer.outputs[0])
            changed = True
    return changed


@graph_pass("affine-before", "full")
def fold_before(edit: Edit) -> bool:
    """BatchNormalization, Mul, Add, Sub and Div by constants go into the Conv, ConvTranspose or Gemm after them"""
    changed = False
    for node in edit.nodes("BatchNormalization", "Mul", "Add", "Sub", "Div"):
        layer = only_reader(node.outputs[0])
        if layer is None or layer.op_type not in _LAYERS or layer.domain not in ("", "ai.onnx"):
            continue
        if layer.inputs[0] is not node.outputs[0] or not same_graph(layer, node):
            continue
        found = _affine(edit, node)
        if found is not None and _into_inputs(edit, layer, found):
            edit.put(node, found.data)
            changed = True
    return changed


def _affine(edit: Edit, node: ir.Node) -> _Affine | None:
    if node.outputs[0].dtype not in _FLOATS:
        return None
    if node.op_type == "BatchNormalization":
        return _normalization(edit, node)
    for i in (0, 1):
        data, constant = given(node, i), given(node, 1 - i)
        if data is None or constant is None or not fixed(constant) or fixed(data):
            continue
        if i == 1 and node.op_type == "Div":
            return None  # the constant over the data
        rank, dims = edit.rank(data), edit.shape(data)
        array = weight(constant)
        if rank is None or dims is None or rank < 2 or array is None or array.ndim > rank:
            return None
        shape = (1,) * (rank - array.ndim) + array.shape
        if any(n != 1 for axis, n in enumerate(shape) if axis != 1):
            return None
        if shape[1] != 1 and dims[1] != shape[1]:
            return None
        values = array.reshape(-1).astype(np.float64)
        one, none = np.ones(1), np.zeros(1)
        with np.errstate(divide="ignore"):
            scale, shift = {
                "Mul": (values, none),
                "Div": (1.0 / values, none),
                "Add": (one, values),
                "Sub": (one, -values) if i == 0 else (-one, values),
            }[node.op_type]
        return _Affine(data, scale, shift)
    return None


def _normalization(edit: Edit, node: ir.Node) -> _Affine | None:
    data = given(node, 0)
    if attr(node, "training_mode", 0) or not sole(node) or data is None:
        edit.why(node, "runs in training mode")
        return None
    found = [weight(given(node, i)) for i in range(1, 5)]
    arrays = [a.astype(np.float64) for a in found if a is not None]
    if len(arrays) != 4:
        edit.why(node, "its parameters are computed at run time, or have no values")
        return None
    scale, bias, mean, variance = arrays
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + attr(node, "epsilon", 1e-5))
    return _Affine(data, factor, bias - mean * factor)


def _weights(edit: Edit, layer: ir.Node) -> tuple[ir.Value, np.ndarray, np.ndarray | None] | None:
    """The kernel with its values, and the bias; None where they cannot be changed."""
    kernel, bias = given(layer, 1), given(layer, 2)
    if kernel is None or not fixed(kernel) or (bias is not None and not fixed(bias)):
        edit.why(layer, "its weights are computed at run time, or have no values")
        return None
    if len(kernel.uses()) > 1 or kernel.is_graph_output():
        edit.why(layer, "its kernel is shared")
        return None
    array, added = weight(kernel), weight(bias)
    return None if array is None else (kernel, array, added)


def _into_outputs(edit: Edit, layer: ir.Node, affine: _Affine) -> bool:
    held = _weights(edit, layer)
    if held is None:
        return False
    kernel, array, bias = held
    axis, count = _output_axis(layer, array)
    if affine.scale.size not in (1, count) or affine.shift.size not in (1, count):
        return False
    if bias is not None and layer.op_type == "Gemm" and not _is_bias(bias, count):
        edit.why(layer, "its addend is no bias")
        return False
    base = np.zeros(1) if bias is None else bias.reshape(-1).astype(np.float64) * attr(layer, "beta", 1.0)
    scale, shift = np.broadcast_to(affine.scale, count), np.broadcast_to(affine.shift, count)
    wide = array.astype(np.float64)
    if layer.op_type == "ConvTranspose":
        groups = attr(layer, "group", 1)
        factor = scale.reshape(groups, 1, count // groups, *(1 for _ in range(array.ndim - 2)))
        wide = (wide.reshape(groups, array.shape[0] // groups, *array.shape[1:]) * factor).reshape(array.shape)
    else:
        wide = wide * scale.reshape([-1 if i == axis else 1 for i in range(array.ndim)])
    return _store(edit, layer, kernel, wide, np.broadcast_to(base, count) * scale + shift, bias is not None)


def _is_bias(addend: np.ndarray, count: int) -> bool:
    """Whether what a Gemm adds is one number per column (or one for all)."""
    row = addend.reshape((1,) * (2 - addend.ndim) + addend.shape) if addend.ndim <= 2 else addend
    return row.ndim == 2 and row.shape[0] == 1 and row.shape[1] in (1, count)


def _output_axis(layer: ir.Node, array: np.ndarray) -> tuple[int, int]:
    """Axis of the kernel that runs over the outputs, and how many there are."""
    if layer.op_type == "Conv":
        return 0, array.shape[0]
    if layer.op_type == "ConvTranspose":
        return 1, array.shape[1] * attr(layer, "group", 1)
    axis = 0 if attr(layer, "transB", 0) else 1
    return axis, array.shape[axis]


def _into_inputs(edit: Edit, layer: ir.Node, affine: _Affine) -> bool:
    held = _weights(edit, layer)
    if held is None or (layer.op_type == "Gemm" and attr(layer, "transA", 0)):
        return False
    kernel, array, bias = held
    shifts = bool(np.any(affine.shift != 0))
    groups = attr(layer, "group", 1) if layer.op_type != "Gemm" else 1
    if shifts and layer.op_type == "ConvTranspose":
        edit.why(layer, "at its edges not every part of the kernel sees the shift before it")
        return False
    if shifts and layer.op_type == "Conv" and (any(attr(layer, "pads", [0])) or _same(layer)):
        edit.why(layer, "pads with zeros, which the shift before it does not reach")
        return False
    if bias is not None and layer.op_type == "Gemm" and not _is_bias(bias, bias.shape[-1] if bias.ndim else 1):
        edit.why(layer, "its addend is no bias")
        return False
    wide = array.astype(np.float64)
    if layer.op_type == "Conv":
        inside = array.shape[1] * groups
        shape = (groups, 1, array.shape[1], *(1 for _ in range(array.ndim - 2)))
        split = wide.reshape(groups, array.shape[0] // groups, *array.shape[1:])
        outputs = array.shape[0]
        axes: tuple[int, ...] = tuple(range(2, split.ndim))
    elif layer.op_type == "ConvTranspose":
        inside, shape, split = array.shape[0], (array.shape[0], *(1 for _ in range(array.ndim - 1))), wide
        outputs, axes = array.shape[1] * groups, ()
    else:
        transposed = bool(attr(layer, "transB", 0))
        inside = array.shape[1 if transposed else 0]
        outputs = array.shape[0 if transposed else 1]
        shape, split, axes = ((1, inside) if transposed else (inside, 1)), wide, (1 if transposed else 0,)
    if affine.scale.size not in (1, inside) or affine.shift.size not in (1, inside):
        return False
    scale = np.broadcast_to(affine.scale, inside).reshape(shape)
    shift = np.broadcast_to(affine.shift, inside).reshape(shape)
    base = np.zeros(1) if bias is None else bias.reshape(-1).astype(np.float64) * attr(layer, "beta", 1.0)
    if base.size not in (1, outputs):
        return False
    added = np.broadcast_to(base, outputs)
    if shifts:
        added = added + (split * shift).sum(axis=axes).reshape(-1) * attr(layer, "alpha", 1.0)
    return _store(edit, layer, kernel, (split * scale).reshape(array.shape), added, bias is not None or shifts)


def _same(layer: ir.Node) -> bool:
    return word(layer, "auto_pad", "NOTSET").startswith("SAME")


def _store(edit: Edit, layer: ir.Node, kernel: ir.Value, array: np.ndarray, bias: np.ndarray, had_bias: bool) -> bool:
    """Write kernel and bias, unless a value would leave the range of their type."""
    dtype = kernel.dtype
    if dtype is None:
        return False
    kind = dtype.numpy()
    with np.errstate(all="ignore"):
        if not (
            np.isfinite(array.astype(kind).astype(np.float64)).all()
            and np.isfinite(bias.astype(kind).astype(np.float64)).all()
        ):
            edit.why(layer, f"a folded weight would not be finite in {dtype}")
            return False
    old = given(layer, 2)
    change_tensor(kernel, array)
    if had_bias or bias.any():
        if old is not None and len(old.uses()) == 1 and not old.is_graph_output():
            change_tensor(old, bias)
            old.metadata_props[ROLE] = Role.LEARNABLE.value
        else:
            role = Role.LEARNABLE if role_of(kernel) is Role.LEARNABLE else Role.CONSTANT
            made = edit.at(layer).param("bias", ir.Tensor(bias.astype(kind), dtype=dtype), role=role)
            feed(layer, 2, made)
    if layer.op_type == "Gemm" and attr(layer, "beta", 1.0) != 1.0:
        set_attr(layer, beta=1.0)
    return True
