"""Copies of graphs: tensors are shared, all else is its own.

onnx_ir's own cloner takes several times as long, and refuses values that nothing in the graph makes; sparse
initializers are such (see converters/onnx/sparse.py), and get values of their own here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from netferry.schemas.ir import ir
from netferry.schemas.layers import graphs_of

Stand = tuple[ir.TensorProtocol, Mapping[str, str]]
"""what stands for the output of a node that is left out: an initializer's tensor and metadata"""


def copied(model: ir.Model, left_out: Mapping[ir.Node, Stand] | None = None) -> ir.Model:
    """Return a copy of a model.

    Args:
        model: the model.
        left_out: nodes of the main graph, of one output each, that the copy is to have as initializers.
    """
    copier = _Copier(left_out or {})
    out = ir.Model(
        copier.graph(model.graph),
        ir_version=model.ir_version,
        producer_name=model.producer_name,
        producer_version=model.producer_version,
        domain=model.domain,
        model_version=model.model_version,
        doc_string=model.doc_string,
        functions=[function.clone() for function in model.functions.values()],
        metadata_props=dict(model.metadata_props),
        device_configurations=model.device_configurations,
    )
    out.meta.update(model.meta)
    return out


class _Copier:
    """Copies one graph with the bodies inside it, in which values of the graphs around are read."""

    def __init__(self, left_out: Mapping[ir.Node, Stand]) -> None:
        self.left_out = left_out
        self.values: dict[ir.Value, ir.Value] = {}
        self._kinds: dict[int, tuple[ir.DataType, ir.Shape]] = {}
        """element type and shape of tensors, by identity: many nodes may hold one, and each is made when asked for"""

    def graph(self, graph: ir.Graph) -> ir.Graph:
        inputs = [self._held(v) for v in graph.inputs]
        initializers = [self._held(v) for v in graph.initializers.values()]
        nodes: list[ir.Node] = []
        for node in graph:
            stand = self.left_out.get(node)
            if stand is None:
                nodes.append(self._node(node))
            else:
                initializers.append(self._stand(node.outputs[0], *stand))
        out = ir.Graph(
            inputs,
            [self._held(v) for v in graph.outputs],
            nodes=nodes,
            initializers=initializers,
            doc_string=graph.doc_string,
            opset_imports=dict(graph.opset_imports),
            name=graph.name,
            metadata_props=dict(graph.metadata_props),
        )
        _take_meta(graph, out)
        return out

    def _held(self, value: ir.Value) -> ir.Value:
        """The copy of a value; one that no node of the copy makes gets its own."""
        made = self.values.get(value)
        if made is None:
            made = self.values[value] = _same(value)
        return made

    def _stand(self, value: ir.Value, tensor: ir.TensorProtocol, metadata: Mapping[str, str]) -> ir.Value:
        kind = self._kinds.get(id(tensor))
        if kind is None:
            shape = tensor.shape
            shape = shape if isinstance(shape, ir.Shape) and shape.frozen else ir.Shape(shape.numpy(), frozen=True)
            kind = self._kinds[id(tensor)] = tensor.dtype, shape
        made = ir.Value(
            name=value.name,
            type=ir.TensorType(kind[0]),
            shape=kind[1],
            const_value=tensor,
            metadata_props=dict(metadata),
        )
        self.values[value] = made
        return made

    def _node(self, node: ir.Node) -> ir.Node:
        outputs = []
        for value in node.outputs:
            made = self.values.get(value)
            if made is None or made.producer() is not None:
                made = self.values[value] = _same(value)
            outputs.append(made)
        attributes = node.attributes.data
        if any(a.type in _BODIES for a in attributes.values()):
            attributes = {name: self._attribute(a) for name, a in attributes.items()}
        out = ir.Node(
            node.domain,
            node.op_type,
            [None if v is None else self._held(v) for v in node.inputs],
            overload=node.overload,
            outputs=outputs,
            version=node.version,
            name=node.name,
            doc_string=node.doc_string,
            metadata_props=dict(node.metadata_props),
        )
        out.attributes.data.update(attributes)
        if node.device_configurations:
            out.device_configurations = self._devices(node)
        _take_meta(node, out)
        return out

    def _attribute(self, attribute: ir.Attr) -> ir.Attr:
        bodies = [self.graph(g) for g in graphs_of(attribute)]
        if not bodies:
            return attribute
        single = attribute.type == ir.AttributeType.GRAPH
        return ir.Attr(attribute.name, attribute.type, bodies[0] if single else bodies, doc_string=attribute.doc_string)

    def _devices(self, node: ir.Node) -> tuple[Any, ...]:
        """Device configurations name values of the graph."""
        return tuple(
            replace(
                one,
                sharding_specs=tuple(
                    spec if spec.value is None else replace(spec, value=self.values.get(spec.value, spec.value))
                    for spec in one.sharding_specs
                ),
            )
            for one in node.device_configurations
        )


_BODIES = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def _same(value: ir.Value) -> ir.Value:
    """A value of which the same is said."""
    made = ir.Value(
        name=value.name,
        type=value.type,
        shape=None if value.shape is None else value.shape.copy(),
        doc_string=value.doc_string,
        const_value=value.const_value,
        metadata_props=dict(value.metadata_props),
    )
    _take_meta(value, made)
    return made


def _take_meta(source: Any, made: Any) -> None:
    if getattr(source, "_metadata", True) is None:
        return  # to ask for ``meta`` would make a store, for every value
    if source.meta:
        made.meta.update(source.meta)
        made.meta._invalid_keys.update(source.meta._invalid_keys)
