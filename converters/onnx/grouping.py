"""Nodes of a foreign ONNX file grouped into the layers that its exporter wrote them for.

A layer is a module that holds no other module (torch), a Keras layer (tf2onnx, Keras), or one node where the file
tells nothing. What only prepares a layer's weights or sizes (Constant, Identity, Transpose of a weight, Shape and the
arithmetic on it) belongs to the layer that reads it. A convolution, its batch norm and its activation stay three
layers.
"""

from __future__ import annotations

from collections import defaultdict

from netferry.converters.onnx.scopes import MOVERS, Scope, is_made, parameter_name, scopes_of
from netferry.schemas.ir import ir
from netferry.schemas.layers import LAYER, LAYER_TYPE, layer_of, read_by
from netferry.schemas.model import Model, Note
from netferry.schemas.ties import read_by_several, shared_parameters, told
from netferry.schemas.walk import bodies_of

_SIZES = frozenset((
    "Shape", "Size", "Gather", "Unsqueeze", "Squeeze", "Concat", "Cast", "Slice", "Add", "Sub", "Mul", "Div", "Floor",
    "Ceil", "Mod", "Equal", "Where", "ConstantOfShape", "Range", "Expand", "ReduceProd", "Min", "Max", "Reshape",
    "Identity", "Neg", "Sign", "Abs", "Less", "Greater", "And", "Or", "Not", "If",
))  # fmt: skip
"""operators of the arithmetic on sizes"""
_WHOLES = (
    ({"ReduceMean", "Sqrt", "Div"}, "LayerNormalization"), ({"ReduceMean", "Sqrt", "Mul"}, "LayerNormalization"),
    ({"MatMul", "Softmax"}, "Attention"), ({"Erf", "Mul"}, "Gelu"), ({"Clip", "Mul", "Add"}, "HardSwish"),
    ({"Sigmoid", "Mul"}, "Swish"), ({"Softplus", "Tanh", "Mul"}, "Mish"),
)  # fmt: skip
"""operators that together are a layer with a name"""
_AROUND = (*MOVERS, "Flatten", "Squeeze")
"""what only brings a value into the form that a layer reads or gives"""
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN", "Einsum", "Gather")


def group(model: Model) -> None:
    """Stamp the nodes of the main graph with the layers that they belong to, where those are not the nodes themselves.

    Nothing is done to a file that netferry wrote: it tells its layers. Ties and equal copies are noted.
    """
    if "origin" in model.source.details:
        return
    model.notes.extend(Note("assumed", text) for text in told(shared_parameters(model.graph)))
    nodes = list(model.graph)
    scopes, holders = scopes_of(model.graph)
    helpers = _helpers(nodes)
    groups = _groups(nodes, scopes, holders, helpers)
    _join_made(nodes, groups)
    _join_bias(nodes, groups)
    _join_movers(nodes, groups)
    _split_calls(nodes, groups)
    _attach(nodes, groups, helpers, scopes)
    members: dict[str, list[ir.Node]] = defaultdict(list)
    for node in nodes:
        if node in groups:
            members[groups[node]].append(node)
    for name, own in members.items():
        working = [n for n in own if n not in helpers] or own
        _stamp(own, name, _kind(working, {n: scopes[n] for n in working if n in scopes}, holders))
    model.notes.extend(Note("assumed", text) for text in read_by_several(model.graph))


def _groups(
    nodes: list[ir.Node], scopes: dict[ir.Node, Scope], holders: set[str], helpers: set[ir.Node]
) -> dict[ir.Node, str]:
    """The layer of every node that has a scope; of helpers only where their module is no holder."""
    groups: dict[ir.Node, str] = {}
    for node in nodes:
        scope = scopes.get(node)
        if scope is None:
            continue
        if scope.family == "parameter" or scope.module not in holders:
            groups[node] = scope.module
        elif node not in helpers:
            groups[node] = _inside(scope)
    return groups


def _inside(scope: Scope) -> str:
    """The name of an operation of a module that holds others."""
    return f"{scope.module}/{scope.call}" if scope.module else scope.call


def _helpers(nodes: list[ir.Node]) -> set[ir.Node]:
    """Nodes that compute nothing from the data: constants, weights on their way, sizes."""
    fixed: set[ir.Value] = set()
    sizes: set[ir.Value] = set()
    helpers: set[ir.Node] = set()
    for node in nodes:
        if node.attributes.data and bodies_of(node):
            continue
        op, read = node.op_type, [v for v in node.inputs if v is not None and v not in fixed and not v.is_initializer()]
        if not read:
            if op.startswith("Random") or any(v.is_graph_output() for v in node.outputs):
                continue
            fixed.update(node.outputs)
        elif op in ("Shape", "Size") or (op in _SIZES and all(v in sizes for v in read)):
            if any(v.is_graph_output() for v in node.outputs):
                continue
            sizes.update(node.outputs)
        else:
            continue
        helpers.add(node)
    return helpers


def _join_made(nodes: list[ir.Node], groups: dict[ir.Node, str]) -> None:
    """What tf2onnx put in between, and named after a layer that another one absorbed, goes to the layer behind it."""
    at_work = {name for node, name in groups.items() if not is_made(node)}
    for node in reversed(nodes):
        if node in groups and groups[node] not in at_work and is_made(node):
            behind = {groups.get(use.node) for use in node.outputs[0].uses()}
            name = behind.pop() if len(behind) == 1 else None
            if name is not None:
                groups[node] = name


def _join_bias(nodes: list[ir.Node], groups: dict[ir.Node, str]) -> None:
    """A product and the sum with its bias are one layer, also where only one of the two tells its name."""
    for node in nodes:
        if node.op_type != "MatMul" or not any(v is not None and v.is_initializer() for v in node.inputs):
            continue
        uses = list(node.outputs[0].uses())
        add = uses[0].node if len(uses) == 1 else None
        if add is None or add.op_type != "Add" or node.outputs[0].is_graph_output():
            continue
        bias = next((v for v in add.inputs if v is not node.outputs[0]), None)
        if bias is None or not bias.is_initializer() or bias.shape is None or len(bias.shape) != 1:
            continue
        if node in groups or add in groups:
            name = groups.get(node) or groups[add]
            if groups.get(add, name) != name:
                continue
            groups[node] = groups[add] = name


def _join_movers(nodes: list[ir.Node], groups: dict[ir.Node, str]) -> None:
    """``fc_Flatten`` before or behind ``fc`` belongs to it: MATLAB names so what a layer needs around its operator."""
    by_name = {node.name: node for node in nodes if node not in groups}
    for node in nodes:
        name = (node.name or "").removesuffix(f"_{node.op_type}")
        layer = by_name.get(name) if node.op_type in _AROUND and node not in groups and node.name != name else None
        if layer is None:
            continue
        uses = [use.node for use in node.outputs[0].uses()]
        if uses == [layer] or (node.inputs and node.inputs[0] in layer.outputs):
            groups[node] = groups[layer] = name


def _split_calls(nodes: list[ir.Node], groups: dict[ir.Node, str]) -> None:
    """A module that is called several times is a layer per call: parts that are alike and not connected."""
    members: dict[str, list[ir.Node]] = defaultdict(list)
    for node in nodes:
        if node in groups:
            members[groups[node]].append(node)
    taken = set(members)
    for name, own in members.items():
        parts = _connected(own) if len(own) > 1 else []
        if len(parts) < 2 or len({tuple(sorted(n.op_type for n in part)) for part in parts}) > 1:
            continue
        for part in parts[1:]:
            fresh = _free(name, taken)
            groups.update(dict.fromkeys(part, fresh))


def _connected(nodes: list[ir.Node]) -> list[list[ir.Node]]:
    """Nodes in parts that values connect, in graph order."""
    part: dict[ir.Node, int] = {}
    inside, merged = set(nodes), dict[int, int]()

    def root(i: int) -> int:
        while merged.get(i, i) != i:
            i = merged[i]
        return i

    for i, node in enumerate(nodes):
        part[node] = merged[i] = i
        for value in node.inputs:
            maker = None if value is None else value.producer()
            if maker in inside and maker in part:
                merged[root(i)] = root(part[maker])
    parts: dict[int, list[ir.Node]] = defaultdict(list)
    for i, node in enumerate(nodes):
        parts[root(i)].append(node)
    return list(parts.values())


def _attach(
    nodes: list[ir.Node], groups: dict[ir.Node, str], helpers: set[ir.Node], scopes: dict[ir.Node, Scope]
) -> None:
    """Helpers join the one layer that reads them; a Constant the first of several."""
    place = {node: i for i, node in enumerate(nodes)}
    readers: dict[ir.Value, list[ir.Node]] = defaultdict(list)
    for node in nodes:
        for value in read_by(node):
            readers[value].append(node)
    for node in reversed(nodes):
        if node not in helpers or node in groups:
            continue
        readers_of = sorted({r for v in node.outputs for r in readers[v]}, key=place.__getitem__)
        names = dict.fromkeys(groups.get(r) or layer_of(r)[0] for r in readers_of)
        if len(names) == 1 or (names and node.op_type == "Constant"):
            name = next(iter(names))
            groups[node] = name
            for reader in readers_of:
                if reader not in groups and layer_of(reader)[0] == name:
                    groups[reader] = name
        elif node in scopes:
            groups[node] = _inside(scopes[node])


def _stamp(nodes: list[ir.Node], name: str, kind: str) -> None:
    for node in nodes:
        if LAYER not in node.metadata_props and (len(nodes) > 1 or layer_of(node) != (name, kind)):
            node.metadata_props[LAYER], node.metadata_props[LAYER_TYPE] = name, kind


def _kind(nodes: list[ir.Node], scopes: dict[ir.Node, Scope], holders: set[str]) -> str:
    """The class that the file tells of a module, else what the operators are together, else the main one."""
    if len(nodes) == 1:
        scope = scopes.get(nodes[0])
        told = None if scope is None or scope.module in holders else scope.kind
        return told or nodes[0].op_type
    kinds = {s.kind for s in scopes.values() if s.module not in holders}
    kind = kinds.pop() if len(kinds) == 1 and len(scopes) == len(nodes) else None
    if kind is not None:
        return kind
    ops = {n.op_type for n in nodes}
    for op in _WEIGHTED:
        if op in ops and any(parameter_name(v) for n in nodes if n.op_type == op for v in n.inputs[:2]):
            return op
    if ops == {"Mul", "Add"}:
        return "Scale"
    return next((whole for parts, whole in _WHOLES if parts <= ops), nodes[-1].op_type)


def _free(name: str, taken: set[str]) -> str:
    i = 1
    while f"{name}_{i}" in taken:
        i += 1
    taken.add(f"{name}_{i}")
    return f"{name}_{i}"
