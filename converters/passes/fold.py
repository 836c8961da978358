"""What does not depend on the inputs, computed once: constants, shape arithmetic, branches whose condition is known."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from netferry.converters.passes import opset
from netferry.converters.passes.constants import fixed, learnable, weight
from netferry.converters.passes.dims_rules import BROADCAST, UNARY
from netferry.converters.passes.editing import Edit, graph_pass
from netferry.errors import UnsupportedError
from netferry.schemas.ir import ir
from netferry.schemas.layers import Role
from netferry.schemas.tensors import constant_tensor

_FOLDED = (UNARY | BROADCAST | frozenset((
    "ArgMax", "ArgMin", "Compress", "Concat", "ConstantOfShape", "CumSum", "DepthToSpace", "Expand", "EyeLike",
    "Flatten", "Gather", "GatherElements", "GatherND", "Gemm", "MatMul", "NonZero", "OneHot", "Pad", "Range",
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare", "Reshape", "ScatterElements", "ScatterND", "Shape", "Size", "Slice", "Softmax",
    "SpaceToDepth", "Split", "Squeeze", "Tile", "TopK", "Transpose", "Trilu", "Unsqueeze", "BitShift",
))) - {"PRelu", "Cast"}  # fmt: skip
"""operators whose result is exact or differs by rounding alone; DequantizeLinear is not among them: a weight in
integers is meant to stay one"""
_CASTS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BOOL, ir.DataType.INT32,
          ir.DataType.INT64, ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16, ir.DataType.UINT16)  # fmt: skip


@graph_pass("constants", "safe")
def lift_constants(edit: Edit) -> bool:
    """Constant nodes become initializers"""
    changed = False
    for node in edit.nodes("Constant"):
        value = node.outputs[0]
        if any(a.is_ref() for a in node.attributes.values()):
            continue
        tensor = constant_tensor(value)
        if tensor is None or value.is_graph_output():
            continue
        if value.type is None:
            value.type = ir.TensorType(tensor.dtype)
        if isinstance(tensor, ir.ExternalTensor):  # large: its values stay in their file
            changed |= edit.tensor(node, tensor, value)
        else:
            changed |= edit.constant(node, tensor.numpy(), value)
    return changed


@graph_pass("folding", "safe")
def fold(edit: Edit) -> bool:
    """Operators on constants alone are computed, within the budget; weights are left alone at level safe"""
    changed = False
    for node in edit.nodes():
        if node.op_type not in _FOLDED and node.op_type != "Cast":
            continue
        read = [v for v in node.inputs if v is not None]
        if not read or not all(fixed(v) for v in read):
            continue
        weights = [v for v in read if learnable(v)]
        if weights and (edit.level == "safe" or any(_kept_by_others(v) for v in weights)):
            edit.why(node, "reads a weight" if edit.level == "safe" else "reads a weight that others read too")
            continue
        if any(v.is_graph_output() for v in node.outputs) or any(a.is_ref() for a in node.attributes.values()):
            continue
        if (reason := _too_large(edit, node, read)) is not None:
            edit.why(node, reason)
            continue
        found = _computed(edit, node, read)
        if isinstance(found, str):
            edit.why(node, found)
            continue
        role = Role.LEARNABLE if weights and len(read) - len(weights) == sum(_plain(v) for v in read) else Role.CONSTANT
        changed |= _settle(edit, node, found, role)
    return changed


def _kept_by_others(value: ir.Value) -> bool:
    """Whether a weight has readers that stay: then a folded copy would untie it."""
    readers = {use.node for use in value.uses()}
    return len(readers) > 1 and not all(
        n.op_type in _FOLDED and all(fixed(v) for v in n.inputs if v is not None) for n in readers
    )


def _plain(value: ir.Value) -> bool:
    return not learnable(value)


def _too_large(edit: Edit, node: ir.Node, read: Sequence[ir.Value]) -> str | None:
    """Why the budget does not allow a node's outputs; they are sized before anything is allocated."""
    total = 0
    for value in node.outputs:
        if not value.uses():
            continue
        shape = edit.shape(value)
        if shape is None or any(d is None for d in shape) or value.dtype is None:
            if node.op_type in ("NonZero", "Compress") and sum(_bytes(v) for v in read) <= edit.budget.grown_bytes:
                continue
            return "the size of its output is not known"
        if value.dtype == ir.DataType.STRING:
            return "its output is text, whose size is not known"
        count = 1
        for d in shape:
            count *= int(d or 0)
        total += -(-count * value.dtype.bitwidth // 8)
    inside = sum(_bytes(v) for v in read)
    if total > edit.budget.folded_bytes:
        return f"its output of {total} bytes is above the budget of {edit.budget.folded_bytes}"
    if total > inside and total > edit.budget.grown_bytes:
        return f"its output of {total} bytes, made from {inside}, is above the budget of {edit.budget.grown_bytes}"
    if edit.added + max(0, total - inside) > edit.budget.total_bytes:
        return f"folding added {edit.added} bytes already, the budget is {edit.budget.total_bytes}"
    edit.added += max(0, total - inside)
    return None


def _bytes(value: ir.Value) -> int:
    return 0 if value.const_value is None else value.const_value.nbytes


def _computed(edit: Edit, node: ir.Node, read: Sequence[ir.Value]) -> list[np.ndarray] | str:
    """The node's outputs by onnx.reference, or why there are none."""
    if node.op_type == "Cast" and not all(v.dtype in _CASTS for v in (*read, *node.outputs)):
        return "casts to or from a type that numpy lacks"
    if any(v.dtype is None or v.dtype not in _CASTS for v in read):
        return "is of a type that numpy lacks"
    feeds = {f"i{i}": weight(v) for i, v in enumerate(node.inputs) if v is not None}
    proto = onnx.NodeProto(op_type=node.op_type)
    proto.input.extend("" if v is None else f"i{i}" for i, v in enumerate(node.inputs))
    proto.output.extend(f"o{i}" for i in range(len(node.outputs)))
    proto.attribute.extend(ir.to_proto(a) for a in node.attributes.values())
    inputs = [
        onnx.helper.make_tensor_value_info(f"i{i}", int(v.dtype or 0), None) for i, v in enumerate(node.inputs) if v
    ]
    outputs = [onnx.helper.make_tensor_value_info(f"o{i}", int(v.dtype or 0), None) for i, v in enumerate(node.outputs)]
    graph = onnx.helper.make_graph([proto], "one", inputs, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", edit.model.opset)])
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            found = ReferenceEvaluator(model).run(None, feeds)
    except Exception as error:  # whatever the values are, onnx's reference may refuse them in any way
        return f"cannot be computed: {type(error).__name__}"
    arrays: list[np.ndarray] = []
    for value, one in zip(node.outputs, found, strict=True):
        array = np.asarray(one)
        if value.dtype is not None and array.dtype != value.dtype.numpy():
            return f"onnx.reference gives {array.dtype}, not {value.dtype}"
        shape = edit.shape(value)
        if shape is not None and (
            len(shape) != array.ndim or any(d not in (None, n) for d, n in zip(shape, array.shape, strict=True))
        ):
            return f"onnx.reference gives shape {list(array.shape)}"
        arrays.append(array)
    return arrays


def _settle(edit: Edit, node: ir.Node, arrays: list[np.ndarray], role: Role) -> bool:
    if len(arrays) == 1:
        return edit.constant(node, arrays[0], node.outputs[0], role=role)
    values = []
    for value, array in zip(node.outputs, arrays, strict=True):
        made = edit.at(node).param(value.name or "const", array, role=role)
        values.append(made)
    return edit.put(node, *values)


@graph_pass("branches", "safe")
def choose_branch(edit: Edit) -> bool:
    """If with a known condition becomes the branch that it takes"""
    changed = False
    for node in edit.nodes("If"):
        condition = weight(node.inputs[0])
        if condition is None or condition.size != 1:
            continue
        held = node.attributes["then_branch" if bool(condition.reshape(-1)[0]) else "else_branch"]
        if held.is_ref():
            continue
        branch = held.as_graph()
        values = list(branch.outputs)
        if len(values) != len(node.outputs):
            edit.why(node, "the branch does not give what the node gives")
            continue
        moved = list(branch)
        inside = all(maker is not None and maker.graph is branch for maker in (v.producer() for v in values))
        if not inside or len(set(values)) < len(values):
            edit.why(node, "the branch gives out a value that it does not make")
            continue
        owner = node.graph
        if owner is None:
            continue
        branch.outputs.clear()
        for name, value in list(branch.initializers.items()):
            branch.initializers.pop(name)
            value.name = edit.names_free(name)
            edit.model.graph.register_initializer(value)
        branch.remove(moved)
        for one in moved:
            for value in one.outputs:
                if value.name:
                    value.name = edit.names_free(value.name)
            one.name = edit.node_name(one.name or one.op_type)
        owner.insert_before(node, moved)
        if not edit.put(node, *values):
            raise AssertionError("values made by nodes can stand for any output")
        changed = True
    return changed


@graph_pass("functions", "full")
def inline_functions(edit: Edit) -> bool:
    """Functions are written out where they are called"""
    try:
        return opset.inline_functions(edit.model)
    except UnsupportedError:
        return False  # they stay
