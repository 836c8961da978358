"""The IR version of a file: the lowest that carries what is in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx
import onnx.helper

from netferry.errors import UsageError
from netferry.schemas.ir import ir
from netferry.schemas.metadata import NODE_METADATA_IR, all_graphs, all_nodes

_TYPE_IR = {
    "FLOAT8E4M3FN": 9, "FLOAT8E4M3FNUZ": 9, "FLOAT8E5M2": 9, "FLOAT8E5M2FNUZ": 9, "UINT4": 10, "INT4": 10,
    "FLOAT4E2M1": 11, "FLOAT8E8M0": 12, "UINT2": 13, "INT2": 13, "FLOAT6E2M3": 14, "FLOAT6E3M2": 14,
}  # fmt: skip
"""element types and the IR version that brought them (comments of onnx.proto's ``Version``)"""


def choose_ir_version(model: ir.Model, wanted: int | None) -> int:
    """Return ``wanted`` where it carries the model, or the lowest that does for None.

    The lowest is that of the ONNX release which brought the opset (21: IR 10), raised for element types, functions,
    initializers that are no inputs, and metadata of nodes that others wrote.

    Raises:
        UsageError: ``wanted`` cannot carry the model, or is not known to the installed onnx.
    """
    needs = dict(_needs(model))
    lowest = max(needs)
    if wanted is None:
        if _foreign_metadata(model):
            lowest = max(lowest, NODE_METADATA_IR)
        return lowest
    if wanted > onnx.IR_VERSION:
        raise UsageError(f"IR version {wanted} is not known to onnx {onnx.__version__} (up to {onnx.IR_VERSION})")
    if wanted < lowest:
        raise UsageError(
            f"IR version {wanted} cannot carry {needs[lowest]}", hint=f"--ir-version {lowest} is the lowest that can"
        )
    return wanted


def _needs(model: ir.Model) -> Iterator[tuple[int, str]]:
    """IR versions that something in the model needs, with that something."""
    yield 3, "a model"
    for domain, version in model.opset_imports.items():
        if domain in ("", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training"):
            opset = onnx.helper.make_opsetid(domain, version)
            yield onnx.helper.find_min_ir_version_for([opset], ignore_unknown=True), f"opset {version}"
    for graph in all_graphs(model):
        inputs = {value.name for value in graph.inputs}
        if any(name not in inputs for name in graph.initializers):
            yield 4, "initializers that are not inputs"
    if model.functions:
        yield 8, "functions"
    if any(function.overload for function in model.functions.values()):
        yield 10, "overloaded functions"
    if model.device_configurations:
        yield 11, "device configurations"
    for dtype in _types(model):
        if dtype.name in _TYPE_IR:
            yield _TYPE_IR[dtype.name], f"the element type {dtype.name}"


def _types(model: ir.Model) -> set[ir.DataType]:
    found: set[ir.DataType | None] = set()
    for graph in all_graphs(model):
        found.update(value.dtype for value in (*graph.inputs, *graph.initializers.values()))
    for node in all_nodes(model):
        found.update(value.dtype for value in node.outputs)
        for attribute in node.attributes.values():
            if not attribute.is_ref() and attribute.type == ir.AttributeType.TENSOR:
                found.add(attribute.as_tensor().dtype)
            elif not attribute.is_ref() and attribute.name == "to" and attribute.type == ir.AttributeType.INT:
                found.update(t for t in ir.DataType if t.value == attribute.as_int())
    return {dtype for dtype in found if dtype is not None}


def _foreign_metadata(model: ir.Model) -> bool:
    def foreign(props: Mapping[str, str]) -> bool:
        return any(not key.startswith("netferry.") for key in props)

    return (
        any(foreign(function.metadata_props) for function in model.functions.values())
        or any(
            foreign(graph.metadata_props)
            or any(foreign(value.metadata_props) for value in graph.inputs)
            or any(
                foreign(value.metadata_props)
                or (value.const_value is not None and foreign(value.const_value.metadata_props))
                for value in graph.initializers.values()
            )
            for graph in all_graphs(model)
        )
        or any(
            foreign(node.metadata_props) or any(foreign(value.metadata_props) for value in node.outputs)
            for node in all_nodes(model)
        )
    )
