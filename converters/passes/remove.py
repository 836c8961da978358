"""Operators that give back what they get, and what nobody reads."""

from __future__ import annotations

from netferry.converters.passes.constants import ints, scalar, setting
from netferry.converters.passes.editing import Edit, attr, drop, given, graph_pass, sole
from netferry.errors import NONSENSE
from netferry.schemas.ir import ir
from netferry.schemas.layers import LAYER, Role, role_of
from netferry.schemas.surgery import detach
from netferry.schemas.tensors import content_of


@graph_pass("listed-weights", "safe")
def unlist_weights(edit: Edit) -> bool:
    """Weights that old files also list among the inputs are listed no more"""
    graph = edit.model.graph
    held = graph.initializers
    listed = [v for v in graph.inputs if v.name in held]
    if not listed:
        return False
    weights = [v for v in held.values() if role_of(v) is not Role.CONSTANT]
    all_of_them = bool(weights) and all(v.is_graph_input() for v in weights)
    if edit.model.ir.ir_version >= 4 and not all_of_them:
        return False  # an input with a default, which a caller may override
    kept = [v for v in graph.inputs if v.name not in held]
    graph.inputs.clear()
    graph.inputs.extend(kept)
    return True


@graph_pass("identity", "safe")
def drop_identity(edit: Edit) -> bool:
    """Identity, and Dropout as it is in inference, are taken out"""
    changed = False
    for node in edit.nodes("Identity", "Dropout"):
        source = given(node, 0)
        if source is None:
            continue
        if node.op_type == "Dropout":
            mode = given(node, 2)
            if mode is not None and scalar_bool(mode) is not False:
                edit.why(node, "may run in training mode")
                continue
            if not sole(node):
                edit.why(node, "its mask is read")
                continue
            made = edit.put(node, source, *node.outputs[1:])
        else:
            made = edit.put(node, source)
        if not made:
            edit.why(node, "stands between an output of the graph and an input, a constant or another output")
        changed |= made
    return changed


def scalar_bool(value: ir.Value) -> bool | None:
    """The truth value that a constant holds."""
    array = setting(value)
    return None if array is None or array.size != 1 else bool(array.reshape(-1)[0])


@graph_pass("no-ops", "safe")
def drop_no_ops(edit: Edit) -> bool:
    """Operators whose settings make them do nothing are taken out (Cast to the same type, Pad by 0, Mul by 1 …)"""
    changed = False
    for node in edit.nodes(*_NO_OPS):
        try:
            source = _NO_OPS[node.op_type](edit, node)
        except NONSENSE:
            continue  # a node that contradicts its operator is told by the check
        if source is None or source.dtype != node.outputs[0].dtype or source is node.outputs[0]:
            continue
        changed |= edit.put(node, source)
    return changed


def _cast(edit: Edit, node: ir.Node) -> ir.Value | None:
    source = given(node, 0)
    same = source is not None and source.dtype is not None and source.dtype.value == attr(node, "to")
    return source if same else None


def _transpose(edit: Edit, node: ir.Node) -> ir.Value | None:
    perm = attr(node, "perm")
    return given(node, 0) if perm is not None and perm == sorted(perm) else None


def _same_shape(edit: Edit, node: ir.Node) -> ir.Value | None:
    source = given(node, 0)
    if source is None:
        return None
    before, after = edit.dims.shape(source), edit.dims.shape(node.outputs[0])
    return source if before is not None and before == after else None


def _expand(edit: Edit, node: ir.Node) -> ir.Value | None:
    wanted = ints(given(node, 1))
    if wanted is not None and all(w == 1 for w in wanted) and (edit.rank(given(node, 0)) or 0) >= len(wanted):
        return given(node, 0)
    return _same_shape(edit, node)


def _slice(edit: Edit, node: ir.Node) -> ir.Value | None:
    starts, ends, steps = ints(given(node, 1)), ints(given(node, 2)), ints(given(node, 4))
    if starts is None or ends is None or (given(node, 4) is not None and (steps is None or any(s != 1 for s in steps))):
        return None
    if all(s == 0 for s in starts) and all(e >= 2**31 - 1 for e in ends):
        return given(node, 0)
    static = edit.shape(given(node, 0))
    axes = ints(given(node, 3)) if given(node, 3) is not None else list(range(len(starts)))
    if static is None or axes is None:
        return None
    sizes = [static[a] for a in axes]
    whole = all(s == 0 and n is not None and e >= n for s, e, n in zip(starts, ends, sizes, strict=True))
    return given(node, 0) if whole else None


def _pad(edit: Edit, node: ir.Node) -> ir.Value | None:
    pads = ints(given(node, 1))
    return given(node, 0) if pads is not None and not any(pads) else None


def _concat(edit: Edit, node: ir.Node) -> ir.Value | None:
    return node.inputs[0] if len(node.inputs) == 1 else None


def _tile(edit: Edit, node: ir.Node) -> ir.Value | None:
    repeats = ints(given(node, 1))
    return given(node, 0) if repeats is not None and all(r == 1 for r in repeats) else None


def _neutral(number: float, *, right_only: bool) -> object:
    def rule(edit: Edit, node: ir.Node) -> ir.Value | None:
        for i in (1,) if right_only else (1, 0):
            constant, other = given(node, i), given(node, 1 - i)
            if constant is None or other is None or scalar(constant) != number:  # -0.0 is 0.0
                continue
            before, after = edit.dims.shape(other), edit.dims.shape(node.outputs[0])
            if before is not None and before == after:
                return other
        return None

    return rule


def _variadic(edit: Edit, node: ir.Node) -> ir.Value | None:
    return node.inputs[0] if len(node.inputs) == 1 else None


def _split(edit: Edit, node: ir.Node) -> ir.Value | None:
    return _same_shape(edit, node) if len(node.outputs) == 1 else None


def _where(edit: Edit, node: ir.Node) -> ir.Value | None:
    which = setting(given(node, 0))
    if which is None or which.size == 0 or not (which.all() or not which.any()):
        return None
    source = given(node, 1 if which.all() else 2)
    if source is None:
        return None
    before, after = edit.dims.shape(source), edit.dims.shape(node.outputs[0])
    return source if before is not None and before == after else None


_NO_OPS: dict = {
    "Cast": _cast,
    "Transpose": _transpose,
    "Reshape": _same_shape,
    "Flatten": _same_shape,
    "Squeeze": _same_shape,
    "Unsqueeze": _same_shape,
    "Expand": _expand,
    "Slice": _slice,
    "Pad": _pad,
    "Concat": _concat,
    "Tile": _tile,
    "Add": _neutral(0.0, right_only=False),
    "Sub": _neutral(0.0, right_only=True),
    "Mul": _neutral(1.0, right_only=False),
    "Div": _neutral(1.0, right_only=True),
    "Pow": _neutral(1.0, right_only=True),
    "Sum": _variadic,
    "Max": _variadic,
    "Min": _variadic,
    "Mean": _variadic,
    "Split": _split,
    "Where": _where,
}


@graph_pass("dead", "safe")
def drop_dead(edit: Edit) -> bool:
    """Nodes and constants that no output needs are taken out"""
    changed = False
    graphs = [edit.model.graph, *edit.model.graph.subgraphs()]
    for graph in reversed(graphs):
        for node in reversed(list(graph)):
            if any(v.uses() or v.is_graph_output() for v in node.outputs) or _lives(node):
                continue
            detach(node)
            graph.remove(node, safe=True)
            changed = True
    for graph in graphs:
        for value in list(graph.initializers.values()):
            if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
                drop(value)
                changed = True
    return changed


def _lives(node: ir.Node) -> bool:
    """Placeholders stay: export must refuse them by name."""
    return node.domain.startswith("netferry.")


@graph_pass("duplicates", "safe")
def merge_duplicates(edit: Edit) -> bool:
    """Nodes that compute the same from the same are merged, and small equal constants"""
    changed = merge_constants(edit)
    for graph in [edit.model.graph, *edit.model.graph.subgraphs()]:
        seen: dict[object, ir.Node] = {}
        for node in list(graph):
            key = _key(node)
            if key is None:
                continue
            first = seen.setdefault(key, node)
            if first is node:
                continue
            if any(v.is_graph_output() for v in node.outputs):
                edit.why(
                    node, f"gives an output of the graph, the same as {first.metadata_props.get(LAYER) or first.name}"
                )
                continue
            changed |= edit.put(node, *first.outputs)
    return changed


_RANDOM = {
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Bernoulli",
    "Multinomial",
    "Dropout",
}


def _key(node: ir.Node) -> object | None:
    if node.domain not in ("", "ai.onnx") or node.op_type in _RANDOM or attr(node, "training_mode", 0):
        return None
    if node.op_type == "Constant" and not node.attributes:
        return None  # a sparse one: its values are kept beside the graph
    attributes = []
    for name in sorted(node.attributes):
        held = node.attributes[name]
        if held.is_ref() or held.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
            return None
        value = held.value
        if held.type == ir.AttributeType.TENSOR:
            if held.as_tensor().size > 1024:
                return None
            tensor = held.as_tensor()
            value = (str(tensor.dtype), tuple(tensor.shape.numpy()), content_of(tensor))
        elif held.type not in (
            ir.AttributeType.INT, ir.AttributeType.FLOAT, ir.AttributeType.STRING,
            ir.AttributeType.INTS, ir.AttributeType.FLOATS, ir.AttributeType.STRINGS,
        ):  # fmt: skip
            return None
        attributes.append((name, held.type, tuple(value) if isinstance(value, list) else value))
    return (node.op_type, tuple(id(v) for v in node.inputs), tuple(attributes), len(node.outputs))


def merge_constants(edit: Edit) -> bool:
    """Let readers of small equal constants read one."""
    seen: dict[object, ir.Value] = {}
    changed = False
    for value in list(edit.model.graph.initializers.values()):
        tensor = value.const_value
        if tensor is None or value.is_graph_input() or value.is_graph_output() or role_of(value) is not Role.CONSTANT:
            continue
        if setting(value) is None or tensor.dtype == ir.DataType.STRING:
            continue
        first = seen.setdefault((tensor.dtype, tuple(tensor.shape.numpy()), tensor.tobytes()), value)
        if first is not value:
            value.replace_all_uses_with(first)
            drop(value)
            changed = True
    return changed
