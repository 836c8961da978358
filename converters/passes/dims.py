"""What is known of the shapes in a graph, and of the numbers that are computed from shapes.

Nothing that a file declares about values inside the graph is believed: exporters write there the sizes of the one
run that they traced. Shapes are inferred from the graph's inputs and weights; a dynamic dimension stays a symbol.
Names of dimensions count where the graph's inputs carry them; elsewhere a dimension is one of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from netferry.converters.passes.dims_rules import DATA, SHAPES, Known
from netferry.converters.passes.polynomials import Poly, number, symbol
from netferry.errors import NONSENSE
from netferry.schemas.copying import copied
from netferry.schemas.inference import infer_shapes
from netferry.schemas.ir import ir
from netferry.schemas.messages import to_model
from netferry.schemas.tensors import array_of, filler_of

_SMALL = 256
_MOST = 64
"""elements of an integer vector whose values are followed"""


class Dims(Known):
    """Shapes and integer vectors of a model, symbolic; valid until the model is changed."""

    def __init__(self, model: ir.Model) -> None:
        super().__init__()
        self.names: set[str] = set()
        for value in model.graph.inputs:
            for dim in value.shape or ():
                if not isinstance(dim, int) and dim.value is not None:
                    self.names.add(dim.value)
        inferred = _inferred(model)
        for value in model.graph.inputs:
            self._from(value, value)
        for node in model.graph.all_nodes():
            self._node(node, inferred)

    def static(self, value: ir.Value) -> tuple[int | None, ...] | None:
        """Known sizes, None for what is dynamic; None for an unknown rank."""
        dims = self.shape(value)
        return None if dims is None else tuple(d.number for d in dims)

    def shape(self, value: ir.Value) -> tuple[Poly, ...] | None:
        """Sizes of a value; None for an unknown rank."""
        known = self.dims.get(value)
        if known is None and value.is_initializer():
            self._from(value, value)
            known = self.dims.get(value)
        return known

    def numbers(self, value: ir.Value) -> tuple[Poly, ...] | None:
        """Elements of an integer (or boolean) scalar or vector; None where they are not known."""
        known = self.data.get(value)
        if known is None and value.is_initializer() and not value.is_graph_input():
            tensor = value.const_value
            if tensor is None or tensor.size > _MOST or len(tensor.shape) > 1 or filler_of(tensor) is not None:
                return None
            if tensor.dtype not in (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL):
                return None
            array = array_of(tensor)
            if array is not None:
                known = self.data[value] = tuple(number(int(x)) for x in array.reshape(-1))
        return known

    def same(self, new: ir.Value, old: ir.Value) -> None:
        """Note that ``new`` has the shape and the numbers of ``old``."""
        if new not in self.dims and old in self.dims:
            self.dims[new] = self.dims[old]
        if new not in self.data and old in self.data:
            self.data[new] = self.data[old]

    def turned(self, new: ir.Value, old: ir.Value, perm: Sequence[int]) -> None:
        """Note that ``new`` is (or ``old`` itself becomes) the transposition of ``old``."""
        known = self.shape(old)
        if known is not None and len(known) == len(perm):
            self.dims[new] = tuple(known[i] for i in perm)

    def forget(self, value: ir.Value) -> None:
        """A constant has another shape now."""
        self.dims.pop(value, None)
        self.data.pop(value, None)

    def _node(self, node: ir.Node, inferred: dict[ir.Value, ir.Value]) -> None:
        standard = node.domain in ("", "ai.onnx")
        found = self._followed(SHAPES, node) if standard else None
        for i, value in enumerate(node.outputs):
            exact = found[i] if found is not None and i < len(found) else None
            twin = inferred.get(value)
            if twin is not None:
                self._from(value, twin)
            if exact is not None:
                old = self.dims.get(value)
                if old is not None and len(old) == len(exact):
                    exact = tuple(
                        n if e.number is None and n.number is not None else e for e, n in zip(exact, old, strict=True)
                    )
                self.dims[value] = exact
        if standard and len(node.outputs) == 1:
            numbers = self._followed(DATA, node)
            if numbers is not None and len(numbers) <= _MOST:
                self.data[node.outputs[0]] = numbers

    def _followed(self, rules: Mapping[str, Callable[[Any, ir.Node], Any]], node: ir.Node) -> Any:
        """What a rule tells of a node; nothing of one that contradicts its operator."""
        rule = rules.get(node.op_type)
        try:
            return None if rule is None else rule(self, node)
        except NONSENSE:
            return None

    def _from(self, value: ir.Value, source: ir.Value) -> None:
        if source.is_initializer() and source.const_value is not None:
            self.dims[value] = tuple(number(int(d)) for d in source.const_value.shape.numpy())
            return
        if source.shape is None:
            return
        dims: list[Poly] = []
        for axis, dim in enumerate(source.shape):
            if isinstance(dim, int):
                dims.append(number(dim))
            elif dim.value is not None and dim.value in self.names:
                dims.append(symbol(dim.value))
            else:
                dims.append(symbol(f"?{value.name}:{axis}"))
        self.dims[value] = tuple(dims)


def _inferred(model: ir.Model) -> dict[ir.Value, ir.Value]:
    """Values that nodes make, and their like as ONNX's inference sees them when nothing inside is declared.

    Outputs of operators that inference does not know keep what is declared: there is no other source.
    """
    copy = copied(model)
    for graph in [copy.graph, *copy.graph.subgraphs()]:
        for name, value in list(graph.initializers.items()):
            tensor = value.const_value
            if tensor is not None and graph is copy.graph and (filler_of(tensor) is not None or tensor.nbytes > _SMALL):
                graph.initializers.pop(name)
                value.const_value = None
                value.type, value.shape = ir.TensorType(tensor.dtype), ir.Shape(tensor.shape.numpy())
                if not value.is_graph_input():
                    graph.inputs.append(value)
    for node in copy.graph.all_nodes():
        if node.domain in ("", "ai.onnx"):
            for value in node.outputs:
                value.shape = None
                if not value.is_graph_output():
                    value.type = None
        node.metadata_props.clear()
    try:
        proto = infer_shapes(ir.to_proto(copy))
    except Exception:  # a graph that no inference understands: then nothing is known
        return {}
    pairs = zip(model.graph.all_nodes(), to_model(proto).graph.all_nodes(), strict=True)
    return {mine: its for a, b in pairs for mine, its in zip(a.outputs, b.outputs, strict=True)}
