"""Copies of graphs."""

from __future__ import annotations

from netferry.schemas.ir import ir


def copied(model: ir.Model) -> ir.Model:
    """Return a copy of a model: tensors are shared, all else is its own.

    onnx_ir refuses to clone values that nothing in the graph makes; sparse initializers are such (see
    converters/onnx/sparse.py), and get values of their own here.
    """
    graph = model.graph.clone(allow_outer_scope_values=True)
    functions = [function.clone() for function in model.functions.values()]
    out = ir.Model(
        graph,
        ir_version=model.ir_version,
        producer_name=model.producer_name,
        producer_version=model.producer_version,
        domain=model.domain,
        model_version=model.model_version,
        doc_string=model.doc_string,
        functions=functions,
        metadata_props=dict(model.metadata_props),
        device_configurations=model.device_configurations,
    )
    out.meta.update(model.meta)
    own: dict[ir.Value, ir.Value] = {}
    for node in out.graph.all_nodes():
        for i, value in enumerate(node.inputs):
            if value is None or value.producer() or value.is_graph_input() or value.is_initializer():
                continue
            if value not in own:
                own[value] = ir.Value(name=value.name, type=value.type, shape=value.shape)
            node.replace_input_with(i, own[value])
    return out
