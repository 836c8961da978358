"""Rewritings of ONNX models: how tensors are kept, where they lie, and what lies around the graph."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.converters.onnx.rewriting import DATA, GRAPH, ODD_NAMES, Case, graphs, holders, rewrite, tensors

_WIDE: dict[int, tuple[str, str]] = {
    TensorProto.FLOAT: ("float_data", "<f4"), TensorProto.COMPLEX64: ("float_data", "<f4"),
    TensorProto.DOUBLE: ("double_data", "<f8"), TensorProto.COMPLEX128: ("double_data", "<f8"),
    TensorProto.INT64: ("int64_data", "<i8"), TensorProto.UINT64: ("uint64_data", "<u8"),
    TensorProto.UINT32: ("uint64_data", "<u4"), TensorProto.INT32: ("int32_data", "<i4"),
    TensorProto.INT16: ("int32_data", "<i2"), TensorProto.UINT16: ("int32_data", "<u2"),
    TensorProto.FLOAT16: ("int32_data", "<u2"), TensorProto.BFLOAT16: ("int32_data", "<u2"),
    TensorProto.INT8: ("int32_data", "<i1"),
}  # fmt: skip
"""element type -> typed field, and how its raw bytes read; all others: int32_data, byte by byte"""


def raw(tensor: onnx.TensorProto) -> None:
    """Keep the values of a tensor in raw_data."""
    if tensor.HasField("raw_data") or tensor.data_type == TensorProto.STRING or tensor.external_data:
        return
    name, kind = _WIDE.get(tensor.data_type, ("int32_data", "u1"))
    values = np.array(getattr(tensor, name), np.dtype(kind) if kind[1] == "f" else np.int64)
    if kind == "<u8":
        values = np.array(getattr(tensor, name), np.uint64)
    tensor.raw_data = values.astype(kind).tobytes()
    tensor.ClearField(name)


def typed(tensor: onnx.TensorProto) -> None:
    """Keep the values of a tensor in the field of its type."""
    if not tensor.HasField("raw_data"):
        return
    name, kind = _WIDE.get(tensor.data_type, ("int32_data", "u1"))
    getattr(tensor, name).extend(np.frombuffer(tensor.raw_data, kind).tolist())
    tensor.ClearField("raw_data")


@rewrite(DATA)
def fields_of_tensors(case: Case, rng: random.Random) -> None:
    for tensor in tensors(case.model):
        rng.choice([raw, typed])(tensor)


@rewrite(DATA)
def values_in_other_files(case: Case, rng: random.Random) -> None:
    """External data: one or several files, folders, offsets, lengths and offsets left out, checksums."""
    files: dict[str, bytearray] = {}
    places = rng.sample(
        ["w.bin", "sub/w.bin", "a/b/c.data", "gewichte für ü.bin", "./dot.bin", "sub//two.bin"], rng.randint(1, 3)
    )
    places = [f"{place}{len(list(case.folder.rglob('*')))}" for place in places]  # others may have been there before
    lengthless: list[onnx.TensorProto] = []
    bare = any(not v.type.tensor_type.HasField("shape") for v in case.graph.output)
    for tensor in tensors(case.model):
        if tensor.data_type == TensorProto.STRING or tensor.external_data or rng.random() < 0.4:
            continue
        if bare and tensor.data_type == TensorProto.INT64:
            continue  # sizes that decide shapes which are told nowhere: neither onnx nor onnxruntime reads them there
        raw(tensor)
        place = rng.choice(places)
        content = files.setdefault(place, bytearray())
        content += bytes(rng.choice([0, 0, 1, 3, 64]))
        if rng.random() < 0.3:
            content += bytes(-len(content) % 4096)
        entries: list[tuple[str, object]] = [("location", place)]
        if content or rng.random() < 0.5:
            entries.append(("offset", len(content)))
        content += tensor.raw_data
        entries.append(("length", len(tensor.raw_data)))
        if rng.random() < 0.3:
            entries.append(("checksum", "0" * 40))
        rng.shuffle(entries)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in entries:
            tensor.external_data.add(key=key, value=str(value))
        lengthless = [t for t in lengthless if t.external_data and _location(t) != place]
        lengthless += [tensor] if rng.random() < 0.5 else []
    for tensor in lengthless:  # the last ones of their files
        kept = [e for e in tensor.external_data if e.key != "length"]
        del tensor.external_data[:]
        tensor.external_data.extend(kept)
    for place, content in files.items():
        path = case.folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _location(tensor: onnx.TensorProto) -> str:
    return next(e.value for e in tensor.external_data if e.key == "location")


def _constant(tensor: onnx.TensorProto, opset: int, rng: random.Random) -> onnx.NodeProto:
    """A Constant node of the tensor's values, in one of the forms that the opset has for them."""
    forms: list[dict[str, Any]] = [{"value": TensorProto.FromString(tensor.SerializeToString())}]
    if tensor.data_type not in (TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING) or tensor.external_data:
        return helper.make_node("Constant", [], [tensor.name], **forms[0])
    values = numpy_helper.to_array(tensor)
    words: dict[int, str] = {TensorProto.FLOAT: "float", TensorProto.INT64: "int", TensorProto.STRING: "string"}
    word = words[tensor.data_type]
    if opset >= 12 and values.ndim == 0:
        forms.append({f"value_{word}": values.item()})
    if opset >= 12 and values.ndim == 1 and values.size:
        forms.append({f"value_{word}s": values.tolist()})
    if (
        opset >= 11 and word == "float" and values.ndim in (1, 2) and 0 < values.size < 3000
    ):  # onnxruntime: no more axes
        forms.append({"sparse_value": sparse(tensor, rng)})
    return helper.make_node("Constant", [], [tensor.name], **rng.choice(forms))


def sparse(tensor: onnx.TensorProto, rng: random.Random) -> onnx.SparseTensorProto:
    """A dense tensor as a sparse one; zeros of either sign stay where they are told from each other."""
    values = numpy_helper.to_array(tensor)
    at = np.flatnonzero((values.view(np.uint32) != 0).ravel())
    places = at if rng.random() < 0.5 else np.stack(np.unravel_index(at, values.shape), -1)
    return helper.make_sparse_tensor(
        numpy_helper.from_array(values.ravel()[at], tensor.name),
        numpy_helper.from_array(places.astype(np.int64), f"{tensor.name}_at"), values.shape,
    )  # fmt: skip


def _movable(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    inputs = {v.name for v in graph.input}
    return [t for t in graph.initializer if t.name not in inputs]


@rewrite(GRAPH)
def initializers_to_constants(case: Case, rng: random.Random) -> None:
    for graph in list(graphs(case.model)):
        for tensor in _movable(graph):
            if rng.random() < 0.6 and (case.opset >= 9 or tensor.data_type == TensorProto.FLOAT):
                graph.node.insert(0, _constant(tensor, case.opset, rng))
                graph.initializer.remove(tensor)


@rewrite(GRAPH)
def constants_to_initializers(case: Case, rng: random.Random) -> None:
    for graph in list(graphs(case.model)):
        for node in list(graph.node):
            if (
                node.op_type == "Constant"
                and node.attribute
                and node.attribute[0].name == "value"
                and rng.random() < 0.7
            ):
                graph.initializer.add().CopyFrom(node.attribute[0].t)
                graph.initializer[-1].name = node.output[0]
                graph.node.remove(node)


@rewrite(DATA)
def initializers_made_sparse(case: Case, rng: random.Random) -> None:
    for tensor in _movable(case.graph):
        plain = tensor.data_type == TensorProto.FLOAT and tensor.dims and not tensor.external_data
        if plain and np.prod(tensor.dims) and rng.random() < 0.4:
            case.graph.sparse_initializer.append(sparse(tensor, rng))
            case.graph.initializer.remove(tensor)


@rewrite(DATA)
def initializers_as_inputs(case: Case, rng: random.Random) -> None:
    """Defaults that a caller may override; before IR version 4 all initializers have to be inputs."""
    declared = {v.name for v in case.graph.input}
    for tensor in case.graph.initializer:
        if tensor.name not in declared and (case.model.ir_version < 4 or rng.random() < 0.6):
            value = helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            case.graph.input.insert(rng.randint(0, len(case.graph.input)), value)


@rewrite(DATA)
def nodes_out_of_order(case: Case, rng: random.Random) -> None:
    for holder in holders(case.model):
        nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in holder.node]
        rng.shuffle(nodes)
        del holder.node[:]
        holder.node.extend(nodes)


@rewrite(DATA)
def what_nobody_uses(case: Case, rng: random.Random) -> None:
    """Initializers, nodes, functions, operator sets and value_info."""
    idle = case.fresh("idle")
    if case.model.ir_version < 4:
        return
    case.graph.initializer.append(
        numpy_helper.from_array(np.arange(rng.choice([0, 1, 5, 600]), dtype=np.float32), idle)
    )
    if rng.random() < 0.5:
        case.graph.node.append(helper.make_node("Neg", [idle], [case.fresh("idle_out")]))
    if rng.random() < 0.5:
        case.graph.value_info.append(helper.make_tensor_value_info(case.fresh("nobody"), TensorProto.INT8, ["?"]))
    present = {o.domain for o in case.model.opset_import}
    for domain, version in (("com.microsoft", 1), ("ai.onnx.ml", 3), ("org.example.größe", 7), ("ai.onnx.training", 1)):
        if domain not in present and rng.random() < 0.5:
            case.model.opset_import.append(helper.make_opsetid(domain, version))
    if rng.random() < 0.5:
        case.model.ir_version = max(case.model.ir_version, 8)
        body = [helper.make_node("Identity", ["a"], ["c"])]
        function = helper.make_function(
            "idle", f"f{len(case.model.functions)}", ["a"], ["c"], body, [helper.make_opsetid("", case.opset)]
        )
        case.model.functions.append(function)
        if "idle" not in present:
            case.model.opset_import.append(helper.make_opsetid("idle", 1))


@rewrite(DATA)
def words_everywhere(case: Case, rng: random.Random) -> None:
    """Documentation, metadata, producers, annotations."""
    m = case.model
    m.doc_string, m.graph.doc_string = "日本語 \x00 " * 50, rng.choice(ODD_NAMES)
    m.producer_name, m.domain, m.model_version = (
        rng.choice(["", "pytorch", "tf2onnx", "ü"]),
        "org.ü",
        rng.choice([-1, 1 << 62]),
    )
    m.metadata_props.add(key=rng.choice(ODD_NAMES), value="{not json")
    told: list[Any] = [*m.graph.node, *m.graph.initializer, *m.graph.input, *m.graph.output, *m.graph.value_info]
    for message in told:
        if rng.random() < 0.5:
            message.doc_string = rng.choice(ODD_NAMES)
        if m.ir_version >= 10 and rng.random() < 0.5:
            message.metadata_props.add(key=rng.choice(ODD_NAMES), value=rng.choice(ODD_NAMES))
    if m.graph.initializer:
        note = m.graph.quantization_annotation.add(tensor_name=m.graph.initializer[0].name)
        note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value=m.graph.initializer[0].name)


@rewrite(DATA)
def another_ir_version(case: Case, rng: random.Random) -> None:
    case.model.ir_version = rng.randint(case.model.ir_version, max(case.model.ir_version, 13))


@rewrite(DATA)
def training_information(case: Case, rng: random.Random) -> None:
    floats = [t for t in case.graph.initializer if t.data_type == TensorProto.FLOAT]
    if not floats:
        return
    tensor, new = rng.choice(floats), case.fresh("new")
    case.model.ir_version = max(case.model.ir_version, 7)
    step = case.model.training_info.add()
    value = helper.make_tensor_value_info(new, tensor.data_type, list(tensor.dims))
    step.algorithm.CopyFrom(helper.make_graph([helper.make_node("Neg", [tensor.name], [new])], "step", [], [value]))
    step.update_binding.add(key=tensor.name, value=new)
