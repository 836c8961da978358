"""What tells two networks apart: layers, nodes, settings, connections, weights, facts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from netferry.schemas.ir import ir
from netferry.schemas.layers import LayerRow, graphs_of, layer_of, static_shape
from netferry.schemas.matching import matched_nodes
from netferry.schemas.model import Model
from netferry.schemas.tensors import array_of
from netferry.schemas.weights_apart import apart, hash_of

_FEW = 64
Change = dict[str, Any]


@dataclass
class Difference:
    """Changes from a model ``a`` to a model ``b``, each as plain data; empty lists where there are none."""

    ports: list[Change] = field(default_factory=list)
    layers: list[Change] = field(default_factory=list)
    nodes: list[Change] = field(default_factory=list)
    weights: list[Change] = field(default_factory=list)
    renamed: list[Change] = field(default_factory=list)
    metadata: list[Change] = field(default_factory=list)
    weights_equal: int = 0
    weights_close: int = 0

    def same(self, ignore: frozenset[str] = frozenset()) -> bool:
        """Whether nothing differs but what is ignored: ``metadata``, ``names``, ``weights``."""
        rest = [self.ports, self.layers, self.nodes]
        rest += [] if "weights" in ignore else [self.weights]
        rest += [] if "names" in ignore else [self.renamed]
        rest += [] if "metadata" in ignore else [self.metadata]
        return not any(rest)


def difference(a: Model, b: Model, *, tolerance: float = 0.0) -> Difference:
    """Compare two models.

    Args:
        a, b: the models, with types and shapes where those are to be compared.
        tolerance: weights whose largest difference is at most this times their largest magnitude count as close, and
            are not listed.
    """
    out = Difference()
    _ports(a, b, out)
    pairs = matched_nodes(a.graph, b.graph)
    _layers(a.layers, b.layers, pairs, out)
    values = _Values(a.graph, b.graph)
    _nodes(a.graph, b.graph, pairs, values, out, "")
    _weights(values, out, tolerance)
    _metadata(a, b, out)
    return out


class _Values:
    """Which value of ``b`` is which of ``a``; weights are paired by where they are read, then by name."""

    def __init__(self, a: ir.Graph, b: ir.Graph) -> None:
        self.known: dict[ir.Value, ir.Value] = {}
        self.a, self.b = a, b
        theirs = {v.name: v for v in b.inputs}
        for i, value in enumerate(a.inputs):
            other = theirs.get(value.name) or (b.inputs[i] if i < len(b.inputs) else None)
            if other is not None:
                self.known[value] = other
        for name, value in a.initializers.items():
            if name in b.initializers:
                self.known[value] = b.initializers[name]

    def pair(self, mine: ir.Value | None, other: ir.Value | None) -> bool:
        """Whether two values that matched nodes read are the same one; weights become a pair."""
        if mine is None or other is None:
            return mine is other
        if mine in self.known:
            return self.known[mine] is other
        if mine.is_initializer() and other.is_initializer() and other not in self.known.values():
            self.known[mine] = other
            return True
        return False


def _ports(a: Model, b: Model, out: Difference) -> None:
    for side in ("inputs", "outputs"):
        mine = {p.name: p.as_dict() for p in getattr(a, side)}
        theirs = {p.name: p.as_dict() for p in getattr(b, side)}
        for name in dict.fromkeys([*mine, *theirs]):
            if mine.get(name) != theirs.get(name):
                entry = {"kind": side[:-1], "name": name}
                for key, port in (("a", mine.get(name)), ("b", theirs.get(name))):
                    entry[key] = None if port is None else {"dtype": port["dtype"], "shape": port["shape"]}
                out.ports.append(entry)


def _layers(mine: list[LayerRow], theirs: list[LayerRow], pairs: dict[ir.Node, ir.Node], out: Difference) -> None:
    """Layers by name; one whose nodes all have counterparts in one layer of another name is renamed, not new."""
    named_a, named_b = {row.name: row for row in mine}, {row.name: row for row in theirs}
    to = {node: layer_of(other)[0] for node, other in pairs.items()}
    renamed: dict[str, str] = {}
    for name, row in named_a.items():
        if name in named_b or not row.nodes:
            continue
        targets = {to.get(n) for n in row.nodes}
        target = next(iter(targets)) if len(targets) == 1 else None
        if target is not None and target not in named_a and target not in renamed.values():
            renamed[name] = target
            out.renamed.append({"kind": "layer", "a": name, "b": target})
    for name, row in named_a.items():
        other = named_b.get(renamed.get(name, name))
        if other is None:
            out.layers.append({"change": "removed", "name": name, "type": row.type})
            continue
        changes: list[Change] = []
        if row.type != other.type:
            changes.append({"what": "type", "a": row.type, "b": other.type})
        reads = [renamed.get(n, n) for n in row.inputs]
        if sorted(reads) != sorted(other.inputs):
            changes.append({"what": "reads", "a": row.inputs, "b": other.inputs})
        for what in ("learnable_count", "state_count"):
            if getattr(row, what) != getattr(other, what):
                changes.append({"what": what, "a": getattr(row, what), "b": getattr(other, what)})
        if changes:
            out.layers.append({"change": "changed", "name": name, "type": row.type, "changes": changes})
    taken = set(renamed.values())
    for name, row in named_b.items():
        if name not in named_a and name not in taken:
            out.layers.append({"change": "added", "name": name, "type": row.type})


def _nodes(
    a: ir.Graph, b: ir.Graph, pairs: dict[ir.Node, ir.Node], values: _Values, out: Difference, where: str
) -> None:
    for node in a:
        other = pairs.get(node)
        if other is None:
            continue
        for mine, theirs in zip(node.outputs, other.outputs, strict=False):
            values.known[mine] = theirs
    for node in a:
        other = pairs.get(node)
        if other is None:
            out.nodes.append({"change": "removed", **_named(node, where)})
            continue
        changes = [*_settings(node, other), *_reads(node, other, values), *_shapes(node, other)]
        if changes:
            out.nodes.append({"change": "changed", **_named(node, where), "changes": changes})
        if (node.name or "") != (other.name or ""):
            out.renamed.append({"kind": "node", "a": node.name or "", "b": other.name or ""})
        for name, held in node.attributes.items():
            theirs = other.attributes.get(name)
            graphs = zip(graphs_of(held), graphs_of(theirs) if theirs is not None else (), strict=False)
            for mine, inner in graphs:
                _inside(mine, inner, values, out, f"{where}{node.name or node.op_type}/{name}/")
    taken = set(pairs.values())
    for node in b:
        if node not in taken:
            out.nodes.append({"change": "added", **_named(node, where)})
    for i, value in enumerate(a.outputs):
        other = b.outputs[i] if i < len(b.outputs) else None
        if (
            other is not None
            and value in values.known
            and values.known[value] is not other
            and value.name == other.name
        ):
            out.nodes.append({
                "change": "changed", "operator": "output", "name": f"{where}{value.name}",
                "changes": [{"what": "made by", "a": _maker(value), "b": _maker(other)}],
            })  # fmt: skip


def _inside(a: ir.Graph, b: ir.Graph, values: _Values, out: Difference, where: str) -> None:
    """Compare the graphs that two matched nodes hold."""
    for mine, theirs in zip(a.inputs, b.inputs, strict=False):
        values.known[mine] = theirs
    for name, value in a.initializers.items():
        if name in b.initializers:
            values.known[value] = b.initializers[name]
    _nodes(a, b, matched_nodes(a, b), values, out, where)


def _named(node: ir.Node, where: str) -> Change:
    return {"operator": node.op_type, "name": f"{where}{node.name or (node.outputs[0].name if node.outputs else '')}"}


def _maker(value: ir.Value) -> str:
    maker = value.producer()
    return value.name or "" if maker is None else maker.name or (value.name or "")


def _settings(a: ir.Node, b: ir.Node) -> Iterator[Change]:
    for name in dict.fromkeys([*a.attributes, *b.attributes]):
        mine, theirs = a.attributes.get(name), b.attributes.get(name)
        if mine is not None and theirs is not None and graphs_of(mine) and graphs_of(theirs):
            continue
        left, right = (None if held is None else _said(held) for held in (mine, theirs))
        if left != right:
            yield {"what": "attribute", "name": name, "a": left, "b": right}


def _said(held: ir.Attr) -> Any:
    """An attribute's value as JSON can say it."""
    if held.is_ref():
        return f"@{held.ref_attr_name}"
    if held.type == ir.AttributeType.TENSOR:
        array = array_of(held.as_tensor())
        if array is None or array.size > _FEW:
            tensor = held.as_tensor()
            digest = "" if array is None else f" {hash_of(array)}"
            return f"{tensor.dtype.name.lower()} {list(tensor.shape.numpy())}{digest}"
        return str(array.tolist())
    value = held.value
    if isinstance(value, list | tuple):
        return [v if isinstance(v, int | float | str) else str(v) for v in value]
    return value if isinstance(value, int | float | str) else str(value)


def _reads(a: ir.Node, b: ir.Node, values: _Values) -> Iterator[Change]:
    for i in range(max(len(a.inputs), len(b.inputs))):
        mine = a.inputs[i] if i < len(a.inputs) else None
        theirs = b.inputs[i] if i < len(b.inputs) else None
        if not values.pair(mine, theirs):
            left, right = (None if v is None else v.name for v in (mine, theirs))
            yield {"what": "input", "name": str(i), "a": left, "b": right}


def _shapes(a: ir.Node, b: ir.Node) -> Iterator[Change]:
    for i, (mine, theirs) in enumerate(zip(a.outputs, b.outputs, strict=False)):
        if mine.dtype is not None and theirs.dtype is not None and mine.dtype != theirs.dtype:
            yield {"what": "output type", "name": str(i), "a": mine.dtype.name, "b": theirs.dtype.name}
        if mine.shape is None or theirs.shape is None:
            continue
        left, right = ([d if isinstance(d, int) else None for d in v.shape or ()] for v in (mine, theirs))
        if left != right:
            yield {"what": "output shape", "name": str(i), "a": left, "b": right}


# weights -------------------------------------------------------------------------------------------------------


def _weights(values: _Values, out: Difference, tolerance: float) -> None:
    pairs = {v: w for v, w in values.known.items() if v.const_value is not None and w.const_value is not None}
    mine = dict.fromkeys([*values.a.initializers.values(), *pairs])
    theirs = dict.fromkeys([*values.b.initializers.values(), *pairs.values()])
    for value in mine:
        other = pairs.get(value)
        if other is None:
            out.weights.append({"change": "removed", "name": value.name, "shape": list(static_shape(value))})
            continue
        if (value.name or "") != (other.name or ""):
            out.renamed.append({"kind": "weight", "a": value.name, "b": other.name})
        found = apart(value, other)
        if found is None:
            out.weights_equal += 1
        elif found.get("max_rel") is not None and found["max_rel"] <= tolerance and "dtype" not in found:
            out.weights_close += 1
        else:
            out.weights.append({"change": "changed", "name": value.name, **found})
    taken = set(pairs.values())
    for value in theirs:
        if value not in taken:
            out.weights.append({"change": "added", "name": value.name, "shape": list(static_shape(value))})


# facts ---------------------------------------------------------------------------------------------------------


def _metadata(a: Model, b: Model, out: Difference) -> None:
    mine, theirs = _facts(a), _facts(b)
    for name in dict.fromkeys([*mine, *theirs]):
        if mine.get(name) != theirs.get(name):
            out.metadata.append({"name": name, "a": _brief(mine.get(name)), "b": _brief(theirs.get(name))})


def _facts(model: Model) -> dict[str, Any]:
    out: dict[str, Any] = {"name": model.graph.name, "IR version": model.ir.ir_version}
    out |= {f"opset {domain or 'ai.onnx'}": version for domain, version in model.ir.opset_imports.items()}
    out |= {f"labels of {name}": names for name, names in model.labels.items()}
    out |= {f"task of {name}": task for name, task in model.tasks.items()}
    for name, recipe in model.preprocessing.items():
        out |= {f"preprocessing of {name}: {key}": value for key, value in recipe.as_dict().items()}
    out |= {"description": model.ir.doc_string or None, "graph description": model.graph.doc_string or None}
    return out | {f"metadata {key}": value for key, value in model.ir.metadata_props.items()}


def _brief(value: Any) -> Any:
    if isinstance(value, list) and len(value) > _FEW:
        return [*value[:_FEW], f"… {len(value)} in all"]
    text = str(value)
    return value if len(text) <= 2000 else text[:2000] + "…"
